"""Event lists for the tests of ingestion, and what reading them whole gives."""

from __future__ import annotations

import gzip
from pathlib import Path

import healpy as hp
import numpy as np
from astropy.io import fits
from ft1_files import bits, event_columns, write_events

from geminga.arrays import Int64
from geminga.config import Config, ObservedConfig
from geminga.sky.formats.ft1 import read_events

NSIDE = 64


def events(path: Path, n: int = 3000, seed: int = 0, start: float = 1000.0) -> Path:
    """Write n events in the 1000 s from `start`; a few of every kind that a cut drops."""
    rng = np.random.default_rng(seed)
    columns = event_columns(max(n, 1))
    columns = {name: (form, values[:n]) for name, (form, values) in columns.items()}
    lon, lat = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    columns["L"], columns["B"] = ("E", lon), ("E", lat)
    del columns["RA"], columns["DEC"]
    columns["ENERGY"] = ("E", 1000.0 * 10.0 ** rng.uniform(-0.2, 1.8, n))
    columns["TIME"] = ("D", start + np.sort(rng.uniform(0, 1000, n)))
    columns["ZENITH_ANGLE"] = ("E", rng.uniform(0, 120, n))
    columns["EVENT_CLASS"] = (
        "32X",
        np.array([bits(7, 10) if i % 3 else bits(7) for i in range(n)]).reshape(-1, 32),
    )
    dss = [("ENERGY", "MeV", "500:500000"), ("BIT_MASK(EVENT_CLASS,128,P8R2)", "", "1:1")]
    target = path.with_suffix("") if path.suffix == ".gz" else path
    write_events(
        target, columns, dss, gti=[(start, start + 400), (start + 500, start + 1000)],
        TSTART=start, TSTOP=start + 1000,
    )  # fmt: skip
    if target != path:
        path.write_bytes(gzip.compress(target.read_bytes(), mtime=0))
        target.unlink()
    return path


def whole(paths: list[Path], config: Config, **cuts: object) -> Int64:
    """Return the counts (channels, npix) of lists that are read whole."""
    cuts = {"event_class_bits": (10,), **cuts}
    one_year = config.model_copy(update={"sky": config.sky.model_copy(update={"years": 1})})
    asked = ObservedConfig(events=tuple(map(str, paths)), **cuts)
    photons = read_events(paths, asked, one_year)
    pixel = hp.vec2pix(NSIDE, *photons.xyz.astype(np.float64).T)
    shape = (len(config.channels), hp.nside2npix(NSIDE))
    key = photons.channel.astype(np.int64) * shape[1] + pixel
    return np.bincount(key, minlength=shape[0] * shape[1]).reshape(shape)


def counted(maps: tuple[Path, ...]) -> Int64:
    """Return the counts (channels, npix) of maps."""
    return np.array([fits.getdata(path, "SKYMAP")["CHANNEL1"] for path in maps])


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
