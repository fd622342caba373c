"""Event lists too large for memory, counted into maps: ``geminga ingest --events``."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from geminga import storage
from geminga.arrays import Float64
from geminga.config import Config, ObservedConfig
from geminga.distributed.ingest import EventCounter, EventExaminer, part_file, row_ranges
from geminga.distributed.session import ray_session
from geminga.distributed.work import Piece, Worker, run_here, run_pieces
from geminga.errors import InputError
from geminga.files import remove_temporaries
from geminga.pipeline.ingested import (
    MAPS,
    Ingestion,
    SeenFile,
    State,
    alone_in,
    joined,
    overlap_s,
    read_state,
)
from geminga.pipeline.ingested_maps import map_name, write_maps
from geminga.response.event_types import class_bit
from geminga.sky.formats.fits_input import column_name
from geminga.sky.formats.ft1_rows import CUTS, RowCuts
from geminga.sky.formats.ft1_stream import EventTable
from geminga.sky.formats.selection import check_selection, read_selection
from geminga.sky.partial_counts import MOST_COUNTS, CountGrid, read_totals

_LOG = logging.getLogger(__name__)
NSIDE = 2048
"""Pixels of 0.029 deg: positions from maps this fine are as good as from events, or nearly
(docs/method.md, known limits)."""
PIECE_ROWS = 4_000_000
"""Rows of a piece: a second of work or more, against hundredths of one to hand it out."""
MAX_TIME_BINS = 127
PARTS = ".parts"
_OPEN_S = 1e12
"""Stands for an open end of a time range: some 30,000 years of mission."""


@dataclass(frozen=True)
class IngestRequest:
    """What a user asks for.

    Attributes
    ----------
    events : tuple of Path
        FT1 event lists, plain or gzipped.
    out : Path
        Folder of the results: new ones, or those of an earlier call, to which the files are added
        that it has not seen.
    start_s, stop_s : float, optional
        Times to take, mission elapsed time; without the second.
    time_bins : int
        Equal parts of that time to make maps of as well.
    nside : int
        Of the maps; finer than any model's is no harm.
    piece_rows : int
        Rows that a worker reads at a time.
    """

    events: tuple[Path, ...]
    out: Path
    start_s: float | None = None
    stop_s: float | None = None
    time_bins: int = 1
    nside: int = NSIDE
    piece_rows: int = PIECE_ROWS


@dataclass(frozen=True)
class Ingested:
    """What an ingestion did.

    Attributes
    ----------
    new_files, files : int
        Files added, and files in the maps.
    rows, photons : int
        In all of them.
    maps : tuple of Path
        The maps of the whole time, one for each channel.
    """

    new_files: int
    files: int
    rows: int
    photons: int
    maps: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class _File:
    """A new event list."""

    path: Path
    zipped: bool
    stamp: int
    seen: SeenFile
    good_times: Float64
    observed: ObservedConfig


def ingest(request: IngestRequest, config: Config) -> Ingested:
    """Count the photons of event lists in HEALPix pixels, whatever the length of the lists.

    Photons are selected as `geminga.sky.formats.ft1.read_events` does, by ranges of rows, which in
    a list in order of time are ranges of time. The maps are the same bytes for any sizes of
    pieces, any number of workers, and whether files came in one call or one after another.

    Parameters
    ----------
    request : IngestRequest
    config : Config
        Gives channels, workers, and in its section `observed`, if it has one, cuts on event class,
        zenith angle and time; without it the event class is that of the response.

    Raises
    ------
    InputError
        If a file is missing, damaged or no event list, given twice or in part ingested before, or
        cut narrower than the channels need; if `out` cannot be written, was made with other
        settings, is damaged, or is being added to by another process. What was there before is left
        as it was.
    """
    ingestion = _checked(request, config)
    maps = request.out / MAPS
    with alone_in(request.out):
        _recover(request.out)
        state = State((), {}, np.empty((0, 2)))
        if storage.exists(maps):
            state = read_state(storage.here(maps), ingestion)
        new = _new_files(request, ingestion, state)
        if new:
            parts = _count(new, request, ingestion)
            state = _added(state, new, parts, ingestion)
            write_maps(maps, parts, state, ingestion)
        storage.remove(request.out / PARTS)
    paths = tuple(maps / map_name(channel, request.nside) for channel in config.channels)
    rows, photons = state.passed.get("read", 0), state.passed.get(CUTS[-1], 0)
    _LOG.info("%d new file(s): %d of %d events in the maps", len(new), photons, rows)
    return Ingested(len(new), len(state.files), rows, photons, paths)


def _checked(request: IngestRequest, config: Config) -> Ingestion:
    """Check what can be checked before any file is opened."""
    if not request.events:
        raise InputError("--events", "names no file", "give at least one FT1 event list")
    paths = [path.resolve() for path in request.events]
    for number, path in enumerate(paths):
        if not path.is_file():
            raise InputError(str(request.events[number]), "does not exist", "name an FT1 file")
        if path in paths[:number]:
            raise InputError("--events", f"{path.name} is given twice", "name each file once")
    observed = config.observed
    start, stop = request.start_s, request.stop_s
    if observed is not None and observed.time_range_met_s is not None:
        # An end that is not asked for stays where the configuration has it.
        first, last = observed.time_range_met_s
        start, stop = first if start is None else start, last if stop is None else stop
    for name, value in (("--from", start), ("--to", stop)):
        if value is not None and not abs(value) < _OPEN_S:
            raise InputError(name, f"{value} is no mission elapsed time", "give seconds")
    if start is not None and stop is not None and stop <= start:
        raise InputError("--to", f"{stop:g} is not after --from {start:g}", "exchange them")
    if not 1 <= request.time_bins <= MAX_TIME_BINS:
        raise InputError("--time-bins", f"{request.time_bins}", f"give 1 to {MAX_TIME_BINS}")
    if request.time_bins > 1 and (start is None or stop is None):
        raise InputError(
            "--time-bins", "divides a time without ends", "give --from and --to as well"
        )
    nside = request.nside
    if nside < 1 or nside & (nside - 1) or nside > 8192:
        raise InputError("--nside", f"{nside}", "give a power of two up to 8192")
    if request.piece_rows < 1:
        raise InputError("--piece-rows", f"{request.piece_rows}", "give 1 or more")
    check_folder(request.out)
    bits = (class_bit(config.response.irf),) if observed is None else observed.event_class_bits
    zenith = None if observed is None else observed.max_zenith_deg
    return Ingestion(config, nside, bits, zenith, (start, stop), request.time_bins)


def check_folder(out: Path) -> None:
    """Check that a folder of results can be made and written.

    Raises
    ------
    InputError
        If it cannot.
    """
    if out.exists() and not out.is_dir():
        raise InputError("--out", f"{out} is a file", "name a folder")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError("--out", f"{there} is no folder to write into", "choose another")


def _recover(out: Path) -> None:
    """Tidy up after a call that was killed; put back maps that it had just moved aside."""
    aside = sorted(out.glob(f".{MAPS}.*.old")) if out.is_dir() else []
    if aside and not (out / MAPS).exists():
        _LOG.warning("%s: maps of an interrupted call put back", out)
        aside[-1].rename(out / MAPS)
    if out.is_dir():
        remove_temporaries(out)


def _new_files(request: IngestRequest, ingestion: Ingestion, state: State) -> list[_File]:
    """Examine the files and return those that were not seen, in order of time."""
    config = ingestion.config
    pieces = [{"path": str(path.resolve())} for path in request.events]
    answers = _each(EventExaminer, (), pieces, config, "event lists", "file")
    known = {file.sha256: file.file for file in state.files}
    given: dict[str, Path] = {}
    new = []
    for path, answer in zip(request.events, answers, strict=True):
        digest = str(answer["digest"])
        if digest in given:
            raise InputError(
                str(path), f"holds the same bytes as {given[digest]}", "give each list once"
            )
        given[digest] = path
        if digest in known:
            _LOG.info("%s was ingested before (as %s): left out", path.name, known[digest])
            continue
        new.append(_opened(path, answer, ingestion))
    new.sort(key=lambda file: _order(file.seen))
    _check_times(new, state)
    return new


def _opened(path: Path, answer: Mapping[str, Any], ingestion: Ingestion) -> _File:
    """Compare a file's own selection with the one asked for, as `read_events` does."""
    where, config = str(path), ingestion.config
    table = EventTable(path, False, fits.Header.fromstring(str(answer["header"])), 0)
    hdu = table.hdu()
    bits = ingestion.class_bits
    if bits and config.observed is None and column_name(hdu, "EVENT_CLASS") is None:
        _LOG.warning(
            "%s has no column EVENT_CLASS: its events are taken to be %s",
            where,
            config.response.irf,
        )
        bits = ()
    start, stop = ingestion.time_range_s
    times = (-_OPEN_S if start is None else start, _OPEN_S if stop is None else stop)
    observed = ObservedConfig(
        events=(where,),
        event_class_bits=bits,
        max_zenith_deg=ingestion.max_zenith_deg,
        time_range_met_s=None if start is None and stop is None else times,
    )
    selection = read_selection(table.header, where)
    check_selection(selection, where, config.channels, observed)
    RowCuts.of(hdu, observed, _timeless(config), selection, where)
    if not table.rows:
        _LOG.warning("%s holds not one event", where)
    good = joined([np.array(json.loads(str(answer["good_times"]))).reshape(-1, 2)], (None, None))
    seen = SeenFile.of(path, answer, selection, good)
    return _File(path, bool(answer["zipped"]), int(answer["stamp"]), seen, good, observed)


def _timeless(config: Config) -> Config:
    """Return a configuration whose photons need no time: the parts of a time are our own."""
    return config.model_copy(update={"sky": config.sky.model_copy(update={"years": 1})})


def _check_times(new: Sequence[_File], state: State) -> None:
    """Look for photons that would be counted twice: times that are in the maps already."""
    reached = state.good_times
    # By its name a list is the same one, zipped or not.
    names = {_plain(file): file for file in state.files}
    for file in new:
        twice = overlap_s(file.good_times, reached)
        known = names.get(_plain(file.seen))
        timeless = file.seen.start_s is None and file.seen.rows > 0
        if known is not None and (twice > 1.0 or timeless or known.start_s is None):
            told = f"{twice:.0f} s of it" if twice > 1.0 else "it does not say which times of it"
            raise InputError(
                str(file.path),
                f"has changed: {told} were ingested under the name {known.file} before",
                "ingest all lists into a new folder, or give a list of the new times alone",
            )
        if timeless and names:
            _LOG.warning(
                "%s does not say its times: counted twice if other files hold its events",
                file.path,
            )
        if twice > 1.0:
            _LOG.warning(
                "%s covers %.0f s that other files cover as well: right if they hold other events, "
                "counted twice if not",
                file.path,
                twice,
            )
        names[_plain(file.seen)] = file.seen
        reached = joined([reached, file.good_times], (None, None))


def _each(
    worker: Worker,
    arguments: Sequence[Any],
    pieces: Sequence[Piece],
    config: Config,
    label: str,
    unit: str,
) -> list[dict[str, Any]]:
    """Do pieces, one alone in this process: Ray would take longer to start than most."""
    if len(pieces) < 2:
        return run_here(worker, arguments, pieces, label, unit)
    with ray_session():
        return run_pieces(worker, arguments, pieces, config.run.workers, label, unit)


def _count(files: Sequence[_File], request: IngestRequest, ingestion: Ingestion) -> list[Path]:
    """Count the photons of ranges of rows; return where the counts are."""
    config = _timeless(ingestion.config)
    grid, rows = _grid(ingestion), request.piece_rows
    # Counts made with other settings are of no use; those of an interrupted call are.
    asked = json.dumps(ingestion.selection(), sort_keys=True).encode()
    folder = (request.out / PARTS / hashlib.sha256(asked).hexdigest()[:12]).resolve()
    pieces: list[Piece] = []
    parts: list[Path] = []
    for file in files:
        every = row_ranges(0, file.seen.rows, rows)
        parts += [part_file(folder, file.seen.sha256, *part) for part in every]
        # gzip has no places to jump to: whoever reads its last rows reads all.
        whole = [(0, file.seen.rows)] if file.zipped and every else every
        common: Piece = {
            "path": str(file.path.resolve()),
            "digest": file.seen.sha256,
            "bytes": file.seen.bytes,
            "stamp": file.stamp,
            "observed": file.observed.model_dump_json(),
        }
        pieces += [{**common, "first": first, "last": last} for first, last in whole]
    arguments = (config.model_dump_json(), grid, str(folder), rows)
    _each(EventCounter, arguments, pieces, config, "events", "piece")
    return parts


def _grid(ingestion: Ingestion) -> CountGrid:
    start, stop = ingestion.time_range_s
    channels, bins = len(ingestion.config.channels), ingestion.time_bins
    return CountGrid(ingestion.nside, channels, bins, start or 0.0, stop or 0.0)


def _added(
    state: State, new: Sequence[_File], parts: Sequence[Path], ingestion: Ingestion
) -> State:
    """Return the state after new files."""
    names = ("read", *CUTS)
    passed = {name: state.passed.get(name, 0) for name in names}
    for part in parts:
        rows, left = read_totals(storage.here(part))
        for name, number in zip(names, (rows, *left), strict=True):
            passed[name] += number
    if passed[CUTS[-1]] > MOST_COUNTS:
        raise InputError(
            "--events", f"{passed[CUTS[-1]]:,} photons", f"maps hold at most {MOST_COUNTS:,}"
        )
    files = tuple(sorted((*state.files, *(file.seen for file in new)), key=_order))
    good = joined([state.good_times, *(f.good_times for f in new)], ingestion.time_range_s)
    return replace(state, files=files, passed=passed, good_times=good)


def _plain(file: SeenFile) -> str:
    return file.file.removesuffix(".gz")


def _order(file: SeenFile) -> tuple[float, str]:
    return (-np.inf if file.start_s is None else file.start_s, file.sha256)
