"""Rate of ingestion in events a second, against a bare loop of astropy and numpy.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_ingest.py [--rows 4000000] [--rounds 3]``. The
list is drawn at random, with the columns of a real one (ENERGY, L, B, ZENITH_ANGLE, TIME, classes
and types as bits, as many bytes more). The loop reads it by a million rows, cuts on energy, class
and zenith angle, and counts in dense maps: no check of a value, of the file or of its selection.
Ways take turns; ratios are medians of the rounds. ``ingest`` looks through the file, counts, merges
and writes maps; ``counting`` is the counting of its pieces alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import healpy as hp
import numpy as np
from astropy.io import fits

from geminga.config import Config, ObservedConfig
from geminga.distributed.session import close_ray, ray_session
from geminga.pipeline.ingest import IngestRequest, ingest
from geminga.sky.formats.ft1_rows import RowCuts
from geminga.sky.formats.ft1_stream import locate_events, open_rows
from geminga.sky.formats.selection import read_selection
from geminga.sky.partial_counts import CountGrid, count_rows

EDGES_GEV = (0.3, 0.5, 1.0, 2.0, 7.0, 20.0, 2000.0)
CLASS_BIT = 10


def configuration(workers: int) -> Config:
    """Return six bands of all events."""
    bands = [
        {"emin_gev": low, "emax_gev": high, "nside": 64, "pixels": 32}
        for low, high in pairwise(EDGES_GEV)
    ]
    return Config.model_validate(
        {
            "name": "bench",
            "bands": bands,
            "images": {"box_deg": [1.0] * len(bands)},
            "response": {"event_types": ["FRONT+BACK"]},
            "run": {"workers": workers},
        }
    )


def write_list(path: Path, rows: int) -> None:
    """Write a list of random events in order of time."""
    rng = np.random.default_rng(1)
    bits = np.zeros((rows, 32), dtype=np.bool_)
    bits[:, 31 - CLASS_BIT] = rng.random(rows) < 0.7
    types = np.zeros((rows, 32), dtype=np.bool_)
    types[np.arange(rows), 31 - rng.integers(0, 2, rows)] = True
    dip = np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    columns = [
        fits.Column("ENERGY", "E", unit="MeV", array=100.0 * rng.random(rows) ** (-1 / 1.4)),
        fits.Column("L", "E", unit="deg", array=rng.uniform(0, 360, rows)),
        fits.Column("B", "E", unit="deg", array=dip),
        fits.Column("ZENITH_ANGLE", "E", unit="deg", array=rng.uniform(0, 110, rows)),
        fits.Column("TIME", "D", unit="s", array=np.sort(rng.uniform(0, 1e8, rows))),
        fits.Column("EVENT_CLASS", "32X", array=bits),
        fits.Column("EVENT_TYPE", "32X", array=types),
        fits.Column("OTHERS", "12E", array=np.zeros((rows, 12), np.float32)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="EVENTS")
    hdu.header.update(TSTART=0.0, TSTOP=1e8)
    hdu.header.update(DSTYP1="ENERGY", DSUNI1="MeV", DSVAL1="100:3000000")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


def bare(path: Path, nside: int) -> int:
    """Count the list with astropy, healpy and numpy alone."""
    edges = np.array(EDGES_GEV) * 1e3
    maps = np.zeros((len(edges) - 1, hp.nside2npix(nside)), dtype=np.int32)
    with fits.open(path, memmap=True) as hdus:
        data = hdus["EVENTS"].data
        for start in range(0, len(data), 1_000_000):
            part = data[start : start + 1_000_000]
            band = np.searchsorted(edges, part["ENERGY"], side="right") - 1
            keep = (band >= 0) & (band < len(maps)) & (part["ZENITH_ANGLE"] <= 105.0)
            keep &= part["EVENT_CLASS"][:, 31 - CLASS_BIT]
            pixel = hp.ang2pix(nside, part["L"][keep], part["B"][keep], lonlat=True)
            np.add.at(maps, (band[keep], pixel), 1)
    return int(maps.sum())


def counting(path: Path, nside: int, rows: int) -> int:
    """Count the pieces of the list in this process, and keep none."""
    config = configuration(1)
    table = locate_events(path)
    observed = ObservedConfig(events=(str(path),), event_class_bits=(CLASS_BIT,))
    one_year = config.model_copy(update={"sky": config.sky.model_copy(update={"years": 1})})
    selection = read_selection(table.header, str(path), say=False)
    cuts = RowCuts.of(table.hdu(), observed, one_year, selection, str(path))
    grid = CountGrid(nside, len(config.channels))
    total = 0
    with open_rows(table) as reader:
        for first in range(0, table.rows, rows):
            part = count_rows(reader, cuts, grid, first, min(first + rows, table.rows))
            total += int(part.count.sum())
    return total


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--piece-rows", type=int, default=1_000_000)
    parser.add_argument("--nside", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench_ingest_"))
    path = folder / "events.fits"

    def whole(workers: int) -> int:
        out = folder / f"out{workers}"
        request = IngestRequest((path,), out, nside=options.nside, piece_rows=options.piece_rows)
        done = ingest(request, configuration(workers))
        shutil.rmtree(out)
        return done.photons

    ways: dict[str, Callable[[], int]] = {
        "bare loop": lambda: bare(path, options.nside),
        "counting": lambda: counting(path, options.nside, options.piece_rows),
        "ingest, 1 worker": lambda: whole(1),
        "ingest, 2 workers": lambda: whole(2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    photons = set()
    try:
        write_list(path, options.rows)
        size = path.stat().st_size / 1e6
        with ray_session(2):
            whole(2)
        for turn in range(options.rounds):
            for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
                start = time.monotonic()
                photons.add(ways[name]())
                seconds[name].append(time.monotonic() - start)
    finally:
        close_ray()
        shutil.rmtree(folder)
    if len(photons) != 1:
        raise SystemExit(f"counts differ: {photons}")
    print(
        f"{options.rows} events, {size:.0f} MB, {photons.pop()} in maps of nside {options.nside}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':20s}{'seconds':>9s}{'events/s':>12s}{'of the loop':>13s}")
    for name, mine in seconds.items():
        ratio = statistics.median(b / m for b, m in zip(seconds["bare loop"], mine, strict=True))
        middle = statistics.median(mine)
        print(f"{name:20s}{middle:9.2f}{options.rows / middle:12.0f}{ratio:13.2f}")


if __name__ == "__main__":
    main()
