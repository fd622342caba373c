"""Names and equatorial positions of sources."""

from __future__ import annotations

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord

from geminga.arrays import Float64


def galactic_to_icrs(lon_deg: Float64, lat_deg: Float64) -> tuple[Float64, Float64]:
    """Return right ascension and declination (ICRS, degrees) of Galactic directions."""
    if not len(lon_deg):
        return np.zeros(0), np.zeros(0)
    icrs = SkyCoord(l=lon_deg * units.deg, b=lat_deg * units.deg, frame="galactic").icrs
    return np.asarray(icrs.ra.deg, dtype=np.float64), np.asarray(icrs.dec.deg, dtype=np.float64)


def source_names(ra_deg: Float64, dec_deg: Float64, prefix: str = "GEM") -> list[str]:
    """Return IAU-style names ``GEM JHHMM.m+DDMM`` of positions.

    Digits are cut off, not rounded (IAU specifications for nomenclature). Sources that share a
    name all get a letter, ``a`` for the first.
    """
    # One part in 1e9 of a digit lets 05h34.5m, kept in binary degrees, still read 0534.5.
    tenths = np.floor((np.asarray(ra_deg) % 360.0) * 40.0 + 1e-9).astype(np.int64) % 14400
    arcmin = np.floor(np.abs(dec_deg) * 60.0 + 1e-9).astype(np.int64)
    plain = [
        f"{prefix} J{t // 600:02d}{t % 600 // 10:02d}.{t % 10}{'-' if d < 0 else '+'}"
        f"{a // 60:02d}{a % 60:02d}"
        for t, a, d in zip(tenths, arcmin, np.asarray(dec_deg), strict=True)
    ]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(plain):
        rows.setdefault(name, []).append(row)
    for name, same in rows.items():
        for place, row in enumerate(same if len(same) > 1 else []):
            plain[row] = name + _letters(place)
    return plain


def _letters(place: int) -> str:
    text = chr(ord("a") + place % 26)
    return text if place < 26 else _letters(place // 26 - 1) + text
