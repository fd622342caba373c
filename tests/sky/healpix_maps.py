"""Maps of counts as FITS files, for the tests that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from astropy.io import fits

NSIDE = 16
KEV = [1e6, 3e6, 10e6, 30e6]
"""Channel edges: 1-3, 3-10 and 10-30 GeV, which fill the bands 1-3 and 3-30 GeV."""


def write_map(
    path: Path,
    counts: Any,
    edges_kev: list[float] | None = KEV,
    pixels: Any = None,
    names: list[str] | None = None,
    **header: object,
) -> Path:
    columns = [] if pixels is None else [fits.Column("PIX", "J", array=np.asarray(pixels))]
    for number, values in enumerate(counts, start=1):
        name = f"CHANNEL{number}" if names is None else names[number - 1]
        columns.append(fits.Column(name, "D", array=np.asarray(values, dtype=float)))
    skymap = fits.BinTableHDU.from_columns(columns, name="SKYMAP")
    skymap.header.update(PIXTYPE="HEALPIX", ORDERING="RING", COORDSYS="GAL", NSIDE=NSIDE)
    for key, value in header.items():
        if value is None:
            skymap.header.remove(key)
        else:
            skymap.header[key] = value
    hdus = [fits.PrimaryHDU(), skymap]
    if edges_kev is not None:
        low, high = np.array(edges_kev[:-1]), np.array(edges_kev[1:])
        columns = [
            fits.Column("E_MIN", "E", array=low, unit="keV"),
            fits.Column("E_MAX", "E", array=high, unit="keV"),
        ]
        hdus.append(fits.BinTableHDU.from_columns(columns, name="EBOUNDS"))
    fits.HDUList(hdus).writeto(path)
    return path


def random_counts(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).poisson(0.7, size=(channels, hp.nside2npix(NSIDE)))
