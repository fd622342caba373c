"""Source catalogues read into Parquet tables: ``geminga ingest --catalogs``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geminga.distributed.ingest import CatalogueReader
from geminga.distributed.session import ray_session
from geminga.distributed.work import run_here, run_pieces
from geminga.errors import InputError
from geminga.pipeline.ingest import check_folder
from geminga.sky.emission.extended import extended_file


def ingest_catalogs(catalogs: Sequence[Path], out: Path) -> list[tuple[Path, int]]:
    """Read catalogues, each into the tables REFERENCE and EXTENDED, where a run may name them.

    Parameters
    ----------
    catalogs : sequence of Path
        FITS files: 4FGL, 3FHL, 2FHL, or others with their columns.
    out : Path
        Gets ``<name>.parquet`` and ``<name>_extended.parquet``; older ones are replaced.

    Returns
    -------
    list of (Path, int)
        The tables of sources, with their lengths.

    Raises
    ------
    InputError
        If a file is no readable catalogue, two have the same name, or `out` cannot be written.
    """
    check_folder(out)
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path in catalogs:
        target = out / f"{path.name.split('.fit')[0]}.parquet"
        for table in (target, extended_file(target)):
            if table in taken:
                raise InputError(
                    "--catalogs",
                    f"{taken[table]} and {path} would both become {table.name}",
                    "rename one of them",
                )
            taken[table] = path
        targets[target] = path
    pieces = [
        {"path": str(path.absolute()), "target": str(target.absolute()), "name": str(path)}
        for target, path in targets.items()
    ]
    if len(pieces) == 1:
        rows = run_here(CatalogueReader, (), pieces, "catalogues", "file")
    else:
        with ray_session():
            rows = run_pieces(CatalogueReader, (), pieces, 0, "catalogues", "file")
    return [(target, int(row["sources"])) for target, row in zip(targets, rows, strict=True)]
