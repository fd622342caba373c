"""Workers that look through event lists and count their photons, and that read catalogues."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from geminga.config import Config, ObservedConfig
from geminga.distributed.work import KEPT, Piece
from geminga.errors import InputError
from geminga.evaluation.reference import read_reference_catalog
from geminga.files import file_digest, is_whole, write_parquet
from geminga.sky.emission.extended import extended_areas, extended_file
from geminga.sky.formats.ft1_rows import RowCuts
from geminga.sky.formats.ft1_stream import EventTable, examine_events, locate_events, open_rows
from geminga.sky.formats.selection import read_selection
from geminga.sky.partial_counts import CountGrid, check_part, count_rows


def part_file(folder: Path, digest: str, first: int, last: int) -> Path:
    """Return where the counts of a range of rows of a file are kept."""
    return folder / f"{digest}_{first:012d}_{last:012d}.parquet"


def row_ranges(first: int, last: int, rows: int) -> list[tuple[int, int]]:
    """Return ranges of at most `rows` rows that make up rows `first` to `last`."""
    return [(start, min(start + rows, last)) for start in range(first, last, rows)]


@lru_cache(maxsize=8)
def _located(path: str, version: tuple[int, int]) -> EventTable:
    """Find the events of a file once per process; `version` tells a new file from an old one."""
    return locate_events(Path(path))


class EventExaminer:
    """Checks that an event list is complete, and tells what is to be known before it is counted."""

    def __call__(self, piece: Piece) -> Piece:
        """Examine the file ``path``."""
        path = Path(str(piece["path"]))
        table, good_times = examine_events(path)
        # Looked at before the digest is made: a file that changes later is found out.
        status = path.stat()
        return {
            "digest": file_digest(path),
            "bytes": status.st_size,
            "stamp": status.st_mtime_ns,
            "rows": table.rows,
            "zipped": table.zipped,
            "header": table.header.tostring(),
            "good_times": json.dumps(good_times.tolist()),
        }


class EventCounter:
    """Counts the photons of ranges of rows; a range that was counted before is left as it is.

    Parameters
    ----------
    config_json : str
        Gives the channels.
    grid : CountGrid
    folder : str
        Where the counts go, a file for every range.
    rows : int
        Rows of a range.
    """

    def __init__(self, config_json: str, grid: CountGrid, folder: str, rows: int) -> None:
        self.config = Config.model_validate_json(config_json)
        self.grid, self.folder, self.rows = grid, Path(folder), rows

    def __call__(self, piece: Piece) -> Piece:
        """Count rows ``first`` to ``last`` of ``path``, cut as ``observed`` says.

        Raises
        ------
        InputError
            If the file is damaged, or is no longer the one that was examined.
        """
        path, digest = Path(str(piece["path"])), str(piece["digest"])
        todo = [
            (first, last)
            for first, last in row_ranges(int(piece["first"]), int(piece["last"]), self.rows)
            if not is_whole(part_file(self.folder, digest, first, last), check_part)
        ]
        if todo:
            status = path.stat()
            table = _located(str(path), (status.st_size, status.st_mtime_ns))
            observed = ObservedConfig.model_validate_json(str(piece["observed"]))
            selection = read_selection(table.header, str(path), say=False)
            cuts = RowCuts.of(table.hdu(), observed, self.config, selection, str(path))
            with open_rows(table) as reader:
                for first, last in todo:
                    counts = count_rows(reader, cuts, self.grid, first, last)
                    _check_unchanged(path, int(piece["bytes"]), int(piece["stamp"]))
                    counts.save(part_file(self.folder, digest, first, last))
        return {"path": str(path), "first": int(piece["first"]), KEPT: not todo}


def _check_unchanged(path: Path, size: int, stamp: int) -> None:
    """Check that counts are of the file whose digest they are kept under."""
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (size, stamp):
        raise InputError(
            str(path), "has changed while it was read", "ingest it again once it is complete"
        )


class CatalogueReader:
    """Reads a source catalogue into the tables REFERENCE and EXTENDED."""

    def __call__(self, piece: Piece) -> Piece:
        """Read the FITS file ``path`` into the Parquet file ``target`` and one beside it."""
        path, target = Path(str(piece["path"])), Path(str(piece["target"]))
        sources = read_reference_catalog(path, path.name)
        write_parquet(extended_file(target), extended_areas(path))
        write_parquet(target, sources)
        return {"sources": len(sources)}
