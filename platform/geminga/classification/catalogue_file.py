"""A gamma-ray catalogue's own columns, as somebody else measured them: bands, years, positions.

Made for the layout of 4FGL (Abdollahi et al. 2020, ApJS 247, 33, table 12), which the catalogues
of this platform share: arrays ``Flux_Band`` and ``Flux_History`` with errors down and up in
``Unc_*``, and a table ``EnergyBounds`` of the bands.
"""

from __future__ import annotations

import gzip
import logging
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from geminga.arrays import Bool, Float64
from geminga.classification.evidence import Evidence, without
from geminga.errors import InputError

_LOG = logging.getLogger(__name__)

NAME = "Source_Name"
FLUX_BAND, FLUX_HISTORY = "Flux_Band", "Flux_History"
BOUNDS = "EnergyBounds"
TEXTS = ("ASSOC1", "CLASS1", "CLASS")
_REMEDY = "name a catalogue with the columns of 4FGL, such as gll_psc_v27.fit.gz"

FILE_CLASSES: Mapping[str, str] = {
    "bll": "BLL",
    "fsrq": "FSRQ",
    "psr": "PSR",
    "msp": "PSR",
    "snr": "PWN+SNR",
    "pwn": "PWN+SNR",
    "spp": "PWN+SNR",
}
"""Class of each designation of 4FGL's CLASS1, in lower case (identified sources are in upper case);
every other designation belongs to none. Used to test a classification, never to train it."""

UNASSOCIATED = ("", "unk")
UNCERTAIN_BLAZAR = "bcu"


@dataclass(frozen=True, eq=False)
class Fluxes:
    """Fluxes with errors, as a file has them.

    Attributes
    ----------
    value : Float64 (n, k)
        ph/cm2/s; NaN where nothing was measured.
    error : Float64 (n, k)
        One standard deviation; NaN where nothing was measured.
    is_limit : Bool (n, k)
        Where the file has no lower error.
    """

    value: Float64
    error: Float64
    is_limit: Bool

    @classmethod
    def of(cls, value: Float64, low: Float64, high: Float64) -> Fluxes:
        """Make them of fluxes and their errors down and up (n, k).

        Where there is no lower error the flux is compatible with zero; 4FGL's upper error is then
        half of the distance from the flux to its 95 % limit, again one standard deviation: yearly
        fluxes of DR2's pulsars, which are steady, scatter by 1.02 of the errors taken like this.
        """
        is_limit = ~np.isfinite(low) & np.isfinite(high)
        error = np.where(is_limit, high, 0.5 * (np.abs(low) + high))
        measured = np.isfinite(value) & np.isfinite(error) & (error > 0)
        return cls(
            np.where(measured, value, np.nan),
            np.where(measured, error, np.nan),
            is_limit & measured,
        )

    def __len__(self) -> int:
        return len(self.value)

    @property
    def measured(self) -> Bool:
        """Where there is a flux, (n, k)."""
        return np.isfinite(self.value)

    def significance(self) -> Float64:
        """Return the root of the summed squares of flux over error, negative fluxes as 0, (n,)."""
        ratio = np.where(self.measured, self.value / np.where(self.measured, self.error, 1.0), 0.0)
        return np.asarray(np.sqrt((np.maximum(ratio, 0.0) ** 2).sum(axis=1)))


@dataclass(frozen=True, eq=False)
class CatalogueFile:
    """What a catalogue says of its n sources.

    Attributes
    ----------
    path : Path
    names : tuple of str
    lon_deg, lat_deg : Float64 (n,)
        Galactic position.
    edges_gev : Float64 (C, 2)
        Energies of the bands.
    systematic : Float64 (C,)
        Relative systematic error of each band, 0 where the file states none.
    bands : Fluxes (n, C)
    years : Fluxes (n, Y)
        Y is 0 if the file has no light curves.
    texts : mapping of str to tuple of str
        The columns of TEXTS that the file has.
    """

    path: Path
    names: tuple[str, ...]
    lon_deg: Float64
    lat_deg: Float64
    edges_gev: Float64
    systematic: Float64
    bands: Fluxes
    years: Fluxes
    texts: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def usable(self) -> Bool:
        """Rows that have a position and the flux of a band, (n,)."""
        placed = np.isfinite(self.lon_deg) & (np.abs(self.lat_deg) <= 90.0)
        return placed & self.bands.measured.any(axis=1)

    @property
    def designations(self) -> tuple[str, ...]:
        """4FGL's class of each row in lower case, empty where it has none."""
        given = self.texts.get("CLASS1", ("",) * len(self))
        return tuple(text.lower() for text in given)

    def evidence(self) -> Evidence:
        """Return the usable rows as evidence: no images, no detection, bands and years as they are."""
        rows = self.usable
        n = int(rows.sum())
        return to_evidence(
            self.lon_deg[rows],
            self.lat_deg[rows],
            self.edges_gev,
            self.systematic,
            Fluxes(self.bands.value[rows], self.bands.error[rows], self.bands.is_limit[rows]),
            Fluxes(self.years.value[rows], self.years.error[rows], self.years.is_limit[rows])
            if self.years.value.shape[1]
            else Fluxes(np.zeros((n, 0)), np.zeros((n, 0)), np.zeros((n, 0), np.bool_)),
        )


def to_evidence(
    lon_deg: Float64,
    lat_deg: Float64,
    edges_gev: Float64,
    systematic: Float64,
    bands: Fluxes,
    years: Fluxes,
) -> Evidence:
    """Return evidence of measured fluxes: errors with the systematic ones, years over their mean.

    Parameters
    ----------
    lon_deg, lat_deg : Float64 (n,)
    edges_gev : Float64 (C, 2)
    systematic : Float64 (C,)
        Relative; added in quadrature.
    bands : Fluxes (n, C)
    years : Fluxes (n, Y)
        The mean is that of the years measured; where it is not positive there is no light curve.
    """
    n = len(lon_deg)
    error = np.sqrt(bands.error**2 + (systematic * bands.value) ** 2)
    seen = years.measured
    number = seen.sum(axis=1)
    total = np.where(seen, years.value, 0.0).sum(axis=1)
    mean = np.where((number > 0) & (total > 0), total / np.maximum(number, 1), np.nan)[:, None]
    return Evidence(
        lon_deg=np.asarray(lon_deg, np.float64),
        lat_deg=np.asarray(lat_deg, np.float64),
        edges_gev=edges_gev,
        band_flux=bands.value,
        band_flux_error=error,
        year_ratio=years.value / mean,
        year_ratio_error=years.error / mean,
        detection=without(n)["detection"],
        stamps=without(n)["stamps"].astype(np.float32),
    )


def read_catalogue(path: Path) -> CatalogueFile:
    """Read the columns that tell classes apart.

    Parameters
    ----------
    path : Path
        FITS file, possibly gzipped.

    Raises
    ------
    InputError
        If the file is missing or no readable FITS file, lacks a column or the bands' edges, has no
        rows, or its bands do not match their edges.
    """
    where = str(path)
    columns, bounds = _tables(path)
    n = len(columns[FLUX_BAND])
    if not n:
        raise InputError(where, "has no rows", _REMEDY)
    bands = _fluxes(where, columns, FLUX_BAND)
    edges, systematic = _edges(where, bounds, bands.value.shape[1])
    years = Fluxes(np.zeros((n, 0)), np.zeros((n, 0)), np.zeros((n, 0), np.bool_))
    lacking = [c for c in (FLUX_HISTORY, f"Unc_{FLUX_HISTORY}") if c not in columns]
    if lacking:
        _LOG.warning(
            "%s has no column %s: classified without light curves", path.name, " and ".join(lacking)
        )
    else:
        years = _fluxes(where, columns, FLUX_HISTORY)
    return CatalogueFile(
        path=path,
        names=_texts(columns[NAME]),
        lon_deg=_numbers(where, columns, "GLON"),
        lat_deg=_numbers(where, columns, "GLAT"),
        edges_gev=edges,
        systematic=systematic,
        bands=bands,
        years=years,
        texts={name: _texts(columns[name]) for name in TEXTS if name in columns},
    )


def _tables(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns of the first table with fluxes of bands, and of the table of edges."""
    where = str(path)
    try:
        with warnings.catch_warnings():
            # A shortened file is only a warning to astropy.
            warnings.simplefilter("error")
            content = path.read_bytes()
            if content[:2] == b"\x1f\x8b":
                content = gzip.decompress(content)
            with fits.open(BytesIO(content)) as hdus:
                tables = [
                    (h.name, {name: np.array(h.data[name]) for name in h.columns.names})
                    for h in hdus
                    if isinstance(h, fits.BinTableHDU)
                ]
    except FileNotFoundError as error:
        raise InputError(where, "does not exist", _REMEDY) from error
    except (
        *(OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError),
        *(Warning, fits.VerifyError),
    ) as error:
        text = " ".join(str(error).split())
        raise InputError(where, f"is not a readable FITS file ({text})", _REMEDY) from error
    if not tables:
        raise InputError(where, "holds no table", _REMEDY)
    columns = next((c for _, c in tables if FLUX_BAND in c), tables[0][1])
    needed = (NAME, "GLON", "GLAT", FLUX_BAND, f"Unc_{FLUX_BAND}")
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(where, f"has no column {', '.join(missing)}", _REMEDY)
    bounds = next((c for name, c in tables if name.lower() == BOUNDS.lower()), None)
    if bounds is None or not {"LowerEnergy", "UpperEnergy"} <= set(bounds):
        raise InputError(
            where,
            f"has no table {BOUNDS} with LowerEnergy and UpperEnergy, so its bands are unknown",
            _REMEDY,
        )
    return columns, bounds


def _fluxes(where: str, columns: Mapping[str, Any], name: str) -> Fluxes:
    value = _numbers(where, columns, name)
    value = value[:, None] if value.ndim == 1 else value  # one band is a plain number to FITS
    error = _numbers(where, columns, f"Unc_{name}")
    if value.ndim != 2 or error.size != 2 * value.size:
        raise InputError(
            where,
            f"{name} has shape {value.shape}, Unc_{name} {error.shape}",
            "give n rows of one flux, and of two errors, for each band or year",
        )
    error = error.reshape(*value.shape, 2)
    return Fluxes.of(value, error[..., 0], error[..., 1])


def _numbers(where: str, columns: Mapping[str, Any], name: str) -> Float64:
    values = columns[name]
    if values.dtype.kind not in "fiu":
        raise InputError(where, f"column {name} holds {values.dtype}, not numbers", _REMEDY)
    return np.asarray(values, np.float64)


def _edges(where: str, bounds: Mapping[str, Any], channels: int) -> tuple[Float64, Float64]:
    """Return the edges in GeV (C, 2) and relative systematic errors (C,) of the bands.

    The table has a row for each band, or, in 4FGL, one for each event type of each band.
    """
    low, high = (_numbers(where, bounds, f"{end}Energy") for end in ("Lower", "Upper"))
    rows = np.arange(len(low))
    if len(low) != channels:
        _, first = np.unique(np.stack([low, high], 1), axis=0, return_index=True)
        rows = np.sort(first)
    if len(rows) != channels:
        raise InputError(
            where,
            f"{FLUX_BAND} has {channels} bands, but {BOUNDS} {len(rows)}",
            "give the edges of each band",
        )
    edges = np.stack([low, high], axis=1)[rows] / 1e3
    if not (np.isfinite(edges).all() and (edges[:, 0] > 0).all() and (np.diff(edges) > 0).all()):
        raise InputError(where, f"{BOUNDS} has edges {edges.tolist()} GeV", "let them rise from 0")
    systematic = np.zeros(channels)
    if "SysRel" in bounds:
        systematic = np.nan_to_num(_numbers(where, bounds, "SysRel")[rows])
    return edges, systematic


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(
        (v.decode("ascii", "replace") if isinstance(v, bytes) else str(v)).strip() for v in values
    )
