"""Reading lists of detections and of true sources, ours or of others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from geminga.arrays import Float64
from geminga.catalogue import CONF_68, CONF_95
from geminga.catalogue.ellipses import covariance_of
from geminga.errors import InputError
from geminga.files import read_parquet
from geminga.geometry import lon_lat, unit_vectors
from geminga.likelihood.position_errors import COVARIANCE, TAIL
from geminga.sky.formats.fits_input import galactic_from_equatorial, open_fits, unit_factor

_LOG = logging.getLogger(__name__)

GALACTIC = (("lon_deg", "lat_deg"), ("glon", "glat"), ("lon", "lat"), ("l", "b"))
EQUATORIAL = (("ra_deg", "dec_deg"), ("raj2000", "dej2000"), ("ra", "dec"))
SCORES = ("score", "probability", "sqrt_ts", "ts", "significance", "signif_avg")
FLUXES: Mapping[str, tuple[str, ...]] = {
    "s1": ("s1", "flux1000"),
    "s10": ("s10", "flux10000"),
    "ts": ("expected_ts", "ts"),
}
"""Names under which a table may hold photon fluxes above 1 and 10 GeV (cm-2 s-1), and TS."""


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns of a file by lower-case name, with the unit that each states."""

    where: str
    values: Mapping[str, NDArray[Any]]
    units: Mapping[str, str]

    def numbers(self, name: str, unit: str = "") -> Float64:
        """Return a column as numbers, in `unit` if one is asked for."""
        values = self.values[name]
        if not values.size:  # a CSV file without rows does not say what its columns hold
            return np.zeros(0)
        if values.ndim != 1 or values.dtype.kind not in "fiub":
            raise InputError(
                self.where, f"column {name} holds {values.dtype} values", "give one number a row"
            )
        factor = unit_factor(self.units.get(name), unit, self.where) if unit else 1.0
        return np.asarray(values, dtype=np.float64) * factor

    def first(self, names: Sequence[str]) -> str | None:
        """Return the first of the names that is a column."""
        return next((name for name in names if name in self.values), None)

    def pair(self, pairs: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
        """Return the first pair of names that are both columns."""
        return next((p for p in pairs if p[0] in self.values and p[1] in self.values), None)


def read_detections(path: Path) -> pd.DataFrame:
    """Read a list of detections.

    Parameters
    ----------
    path : Path
        FITS table (a catalogue of ours, of the LAT, or any other), Parquet (table CANDIDATES or
        any other) or CSV. Positions come from the first pair of columns of GALACTIC, else of
        EQUATORIAL (ICRS), the score from the first of SCORES; case does not matter.

    Returns
    -------
    DataFrame
        ``lon_deg``, ``lat_deg``, ``score``, and where the file has them ``sky_id``,
        ``probability``, ``position_error_deg`` (one axis), COVARIANCE and ``position_tail`` (the
        region of 95 % over that of a Gaussian), ``s1``, ``s10``, ``ts``.

    Raises
    ------
    InputError
        If the file cannot be read, has no positions or no score, or holds one that is not finite.
    """
    columns = _read(path)
    data = _positions(columns)
    score = columns.first(SCORES)
    if score is None:
        raise InputError(
            columns.where, f"has no score among its columns {_names(columns)}",
            f"name one of {', '.join(SCORES)}",
        )  # fmt: skip
    data["score"] = columns.numbers(score)
    _finite(columns.where, "score", data["score"])
    if score != "score":
        _LOG.info("%s: the score is column %s", path, score)
    if "probability" in columns.values:
        data["probability"] = columns.numbers("probability")
    data |= _known_fluxes(columns) | _position_errors(columns, data)
    return pd.DataFrame(data)


def read_truth(path: Path) -> pd.DataFrame:
    """Read a list of true sources.

    Parameters
    ----------
    path : Path
        As in `read_detections`: table TRUTH, a catalogue in 4FGL's format (Flux1000 is S1), or
        any table of positions with ``s1``.

    Returns
    -------
    DataFrame
        ``lon_deg``, ``lat_deg``, ``s1``; ``s10`` and expected ``ts`` (column ``expected_ts`` or
        ``ts``) and ``sky_id`` where the file has them.

    Raises
    ------
    InputError
        If the file cannot be read, or has no positions or no S1.
    """
    columns = _read(path)
    data = _positions(columns) | _known_fluxes(columns)
    if "s1" not in data:
        raise InputError(
            columns.where, f"has no photon flux above 1 GeV among {_names(columns)}",
            f"name one of {', '.join(FLUXES['s1'])}",
        )  # fmt: skip
    return pd.DataFrame(data)


def _read(path: Path) -> _Columns:
    name = path.name.lower().removesuffix(".gz")
    where = str(path)
    if name.endswith(".parquet"):
        return _from_frame(where, read_parquet(path))
    if name.endswith(".csv"):
        try:
            return _from_frame(where, pd.read_csv(path, skipinitialspace=True))
        except (OSError, ValueError) as error:
            text = " ".join(str(error).split())
            raise InputError(
                where, f"is not a readable CSV file ({text})", "write it anew"
            ) from error
    if name.endswith((".fits", ".fit")):
        with open_fits(path) as hdus:
            table = next((h for h in hdus if isinstance(h, fits.BinTableHDU)), None)
            if table is None:
                raise InputError(where, "holds no FITS table", "name a list of sources")
            names = [str(n) for n in table.columns.names]
            values = {n.strip().lower(): np.array(table.data[n]) for n in names}
            units = {str(c.name).strip().lower(): c.unit or "" for c in table.columns}
        return _Columns(where, values, units)
    raise InputError(where, f"ends in {path.suffix!r}", "name a .fits, .parquet or .csv file")


def _from_frame(where: str, frame: pd.DataFrame) -> _Columns:
    values = {str(n).strip().lower(): frame[n].to_numpy() for n in frame.columns}
    return _Columns(where, values, {})


def _names(columns: _Columns) -> str:
    return ", ".join(list(columns.values)[:30])


def _finite(where: str, name: str, values: Float64) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(where, f"{name} of row {row} is {values[row]}", "leave such rows out")


def _positions(columns: _Columns) -> dict[str, Any]:
    """Return Galactic positions, and the number of the sky where the table has one."""
    pair = columns.pair(GALACTIC)
    equatorial = pair is None
    pair = pair or columns.pair(EQUATORIAL)
    if pair is None:
        choices = " or ".join(f"{a}, {b}" for a, b in (*GALACTIC, *EQUATORIAL))
        raise InputError(
            columns.where, f"has no positions among its columns {_names(columns)}",
            f"name them {choices}",
        )  # fmt: skip
    lon, lat = (columns.numbers(name, "deg") for name in pair)
    for name, values in zip(pair, (lon, lat), strict=True):
        _finite(columns.where, name, values)
    if (np.abs(lat) > 90.0).any():
        bad = lat[np.abs(lat) > 90.0][0]
        raise InputError(columns.where, f"{pair[1]} is {bad}", "give degrees from -90 to 90")
    if equatorial:
        lon, lat = lon_lat(galactic_from_equatorial(unit_vectors(lon, lat)))
        _LOG.info("%s: positions %s, %s are taken as ICRS", columns.where, *pair)
    data: dict[str, Any] = {"lon_deg": lon % 360.0, "lat_deg": lat}
    if "sky_id" in columns.values:
        data["sky_id"] = columns.numbers("sky_id").astype(np.int64)
    return data


def _known_fluxes(columns: _Columns) -> dict[str, Float64]:
    data = {}
    for name, choices in FLUXES.items():
        column = columns.first(choices)
        if column is not None:
            data[name] = columns.numbers(column)
    return data


def _position_errors(columns: _Columns, data: Mapping[str, Float64]) -> dict[str, Float64]:
    """Return claimed position errors: a covariance, an ellipse or a circle; NaN where unknown."""
    if all(name in columns.values for name in COVARIANCE):
        given = [*COVARIANCE, *(name for name in (TAIL,) if name in columns.values)]
        return {name: columns.numbers(name) for name in given}
    found: dict[str, tuple[Float64, ...]] = {}
    for level, factor in (("68", CONF_68), ("95", CONF_95)):
        names = [f"conf_{level}_{part}" for part in ("semimajor", "semiminor", "posang")]
        if all(name in columns.values for name in names):
            major, minor, angle = (columns.numbers(name, "deg") for name in names)
            found[level] = major / factor, minor / factor, angle
    if found:
        sigma = next(iter(found.values()))
        covariance = covariance_of(data["lon_deg"], data["lat_deg"], *sigma)
        result = dict(zip(COVARIANCE, covariance.T, strict=True))
        if len(found) == 2:
            with np.errstate(divide="ignore", invalid="ignore"):
                result[TAIL] = found["95"][0] / found["68"][0]
        return result
    circles = (
        ("position_error_deg", 1.0),
        ("conf_68_radius", CONF_68),
        ("conf_95_radius", CONF_95),
    )
    for name, factor in circles:
        if name in columns.values:
            one = columns.numbers(name, "deg") / factor
            return {"position_error_deg": np.where(np.isfinite(one) & (one > 0), one, np.nan)}
    return {}
