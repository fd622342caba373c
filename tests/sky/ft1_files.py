"""Event lists as FITS files, for the tests that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits

from geminga.config import ObservedConfig

N = 40
DSS = [
    ("BIT_MASK(EVENT_CLASS,128,P8R2)", "DIMENSIONLESS", "1:1"),
    ("TIME", "s", "TABLE"),
    ("BIT_MASK(EVENT_TYPE,3,P8R2)", "DIMENSIONLESS", "1:1"),
    ("ENERGY", "MeV", "1000:500000"),
    ("ZENITH_ANGLE", "deg", "0:105"),
]


def bits(*numbers: int) -> np.ndarray:
    row = np.zeros(32, dtype=bool)
    row[[31 - number for number in numbers]] = True
    return row


def event_columns(n: int = N) -> dict[str, tuple[str, Any]]:
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    icrs = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    classes = np.array([bits(7, 10) if i % 4 == 0 else bits(7) for i in range(n)])
    types = np.array([bits(i % 2, 2 + i % 4) for i in range(n)])
    return {
        "ENERGY": ("E", np.where(np.arange(n) % 2, 2000.0, 20000.0)),
        "RA": ("E", icrs.ra.deg),
        "DEC": ("E", icrs.dec.deg),
        "L": ("E", lon),
        "B": ("E", lat),
        "ZENITH_ANGLE": ("E", np.linspace(0, 104, n)),
        "TIME": ("D", np.linspace(1000.0, 1999.0, n)),
        "EVENT_CLASS": ("32X", classes),
        "EVENT_TYPE": ("32X", types),
    }


def write_events(
    path: Path,
    columns: dict[str, tuple[str, Any]] | None = None,
    dss: list[tuple[str, str, str]] = DSS,
    gti: list[tuple[float, float]] | None = None,
    units: dict[str, str] | None = None,
    **header: object,
) -> Path:
    columns = event_columns() if columns is None else columns
    events = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, form, array=np.asarray(values), unit=(units or {}).get(name))
            for name, (form, values) in columns.items()
        ],
        name="EVENTS",
    )
    events.header["TSTART"], events.header["TSTOP"] = 1000.0, 2000.0
    for number, (kind, unit, value) in enumerate(dss, start=1):
        events.header[f"DSTYP{number}"] = kind
        events.header[f"DSUNI{number}"] = unit
        events.header[f"DSVAL{number}"] = value
    for key, value in header.items():
        if value is None:
            events.header.remove(key)
        else:
            events.header[key] = value
    hdus = [fits.PrimaryHDU(), events]
    if gti is not None:
        start, stop = np.array(gti).T
        hdus.append(
            fits.BinTableHDU.from_columns(
                [fits.Column("START", "D", array=start), fits.Column("STOP", "D", array=stop)],
                name="GTI",
            )
        )
    fits.HDUList(hdus).writeto(path)
    return path


def observed(**settings: Any) -> ObservedConfig:
    return ObservedConfig(events=("events.fits",), **settings)


def with_dss(kind: str, value: str, unit: str = "MeV") -> list[tuple[str, str, str]]:
    return [(kind, unit, value)]
