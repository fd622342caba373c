"""Reading the response files of the Fermi Science Support Center (CALDB)."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.response.king import PARAMETERS, KingTable, bracket

# Event types of one file hold every photon once; types of different files overlap.
EVENT_TYPE_FILES = {
    "FRONT": "FB",
    "BACK": "FB",
    "PSF0": "PSF",
    "PSF1": "PSF",
    "PSF2": "PSF",
    "PSF3": "PSF",
}
CM2_PER_M2 = 1e4


@dataclass(frozen=True)
class AreaTable:
    """Effective area of one event type: `area_cm2` (C, E) at bin centres in cos theta and energy."""

    event_type: str
    energy_mev: Float64
    costheta: Float64
    area_cm2: Float64

    def at(self, energy_mev: float, costheta: Float64) -> Float64:
        """Return the effective area in cm2, linear in ln E and cos theta, shape of `costheta`."""
        low, high, weight = bracket(np.log(self.energy_mev), float(np.log(energy_mev)))
        column = (1.0 - weight) * self.area_cm2[:, low] + weight * self.area_cm2[:, high]
        return np.asarray(np.interp(costheta, self.costheta, column))


@contextmanager
def open_fits(path: Path, remedy: str) -> Iterator[Any]:
    """Open a FITS file; a missing, truncated or other file raises InputError.

    Raises
    ------
    InputError
        If the file, or anything read from it inside the block, is not sound FITS.
    """
    try:
        # Memory mapping would put off the discovery of a truncated file past this block.
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*truncated", category=AstropyUserWarning)
            with fits.open(path, memmap=False) as hdus:
                yield hdus
    except FileNotFoundError as error:
        raise InputError(str(path), "not found", remedy) from error
    except (
        OSError,
        TypeError,
        ValueError,
        IndexError,
        EOFError,
        zlib.error,
        AstropyUserWarning,
    ) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(str(path), f"is not a sound FITS file ({text})", remedy) from error


def check_event_types(event_types: Sequence[str]) -> None:
    """Raise InputError unless the types are known, distinct and do not overlap."""
    known = ", ".join(EVENT_TYPE_FILES)
    if not event_types:
        raise InputError("response.event_types", "no event type given", f"choose from {known}")
    for name in event_types:
        if name not in EVENT_TYPE_FILES:
            raise InputError(
                "response.event_types", f"unknown event type {name!r}", f"choose from {known}"
            )
    if len(set(event_types)) != len(event_types):
        raise InputError(
            "response.event_types", f"{list(event_types)} repeats a type", "name each once"
        )
    if len({EVENT_TYPE_FILES[name] for name in event_types}) > 1:
        raise InputError(
            "response.event_types",
            f"{list(event_types)} counts photons twice",
            "use FRONT and BACK, or PSF0 to PSF3, not both",
        )


def caldb_file(folder: Path, kind: str, irf: str, partition: str) -> Path:
    """Return the path of ``<kind>_<irf>_<partition>.fits`` in a folder or below it.

    Raises
    ------
    InputError
        If there is none; the message lists the classes that are there.
    """
    name = f"{kind}_{irf}_{partition}.fits"
    if (folder / name).is_file():
        return folder / name
    below = sorted(folder.rglob(name))
    if below:
        return below[0]
    there = sorted(
        {
            p.name[len(kind) + 1 : -len(partition) - 6]
            for p in folder.rglob(f"{kind}_*_{partition}.fits")
        }
    )
    key, remedy = "response.irf", f"classes there: {', '.join(there) or 'none'}"
    if kind == "edisp":
        key, remedy = "the energy dispersion of", f"{remedy}; name one in response.dispersion_irf"
    raise InputError(f"{folder}", f"has no {name} for {key} {irf!r}", remedy)


def read_king(folder: Path, irf: str, event_type: str) -> KingTable:
    """Read the PSF parameters of one event type from ``psf_<irf>_FB.fits`` or ``_PSF.fits``.

    Raises
    ------
    InputError
        If the file is missing or unsound, or lacks a table or column.
    """
    path = caldb_file(folder, "psf", irf, EVENT_TYPE_FILES[event_type])
    with open_fits(path, "use the psf_* file of the LAT calibration database") as hdus:
        table = read_table(hdus, f"RPSF_{event_type}", path)
        energy, costheta = read_axes(table, path)
        parameters = {
            name: read_column(table, name, path).reshape(len(costheta), len(energy))
            for name in PARAMETERS
        }
        for name in ("SCORE", "STAIL", "GCORE", "GTAIL"):
            if np.any(parameters[name] <= 0.0):
                raise InputError(str(path), f"column {name} is not positive", "fetch the file anew")
        scale = read_column(
            read_table(hdus, f"PSF_SCALING_PARAMS_{event_type}", path), "PSFSCALE", path
        ).ravel()
    return KingTable(
        event_type,
        energy,
        costheta,
        parameters,
        (float(scale[0]), float(scale[1]), float(scale[2])),
    )


def read_area(folder: Path, irf: str, event_type: str) -> AreaTable:
    """Read the effective area of one event type from ``aeff_<irf>_FB.fits`` or ``_PSF.fits``.

    The dependence on azimuth averages out over months. The correction for livetime fraction is
    within 1 % of one at the LAT's usual fraction of 0.9 and is left out.

    Raises
    ------
    InputError
        As for `read_king`.
    """
    path = caldb_file(folder, "aeff", irf, EVENT_TYPE_FILES[event_type])
    with open_fits(path, "use the aeff_* file of the LAT calibration database") as hdus:
        table = read_table(hdus, f"EFFECTIVE AREA_{event_type}", path)
        energy, costheta = read_axes(table, path)
        area = read_column(table, "EFFAREA", path).reshape(len(costheta), len(energy))
        if np.any(area < 0.0):
            raise InputError(str(path), "column EFFAREA is negative", "fetch the file anew")
    return AreaTable(event_type, energy, costheta, area * CM2_PER_M2)


def read_table(hdus: Any, name: str, path: Path) -> Any:
    """Return the data of a named table of an open file, or raise InputError."""
    for hdu in hdus:
        if hdu.name == name:
            return hdu.data
    raise InputError(
        str(path),
        f"has no table {name}",
        f"tables there: {', '.join(h.name for h in hdus if h.name != 'PRIMARY') or 'none'}",
    )


def read_column(table: Any, name: str, path: Path) -> Float64:
    """Return a column's first row as numbers, or raise InputError if it is not there or not finite."""
    if name not in table.names:
        raise InputError(
            str(path), f"has no column {name}", f"columns there: {', '.join(table.names)}"
        )
    values = np.asarray(table[name][0], dtype=np.float64)
    if not np.all(np.isfinite(values)):
        raise InputError(str(path), f"column {name} holds NaN", "fetch the file anew")
    return values


def read_axes(table: Any, path: Path) -> tuple[Float64, Float64]:
    """Return bin centres in energy (MeV, geometric) and cos theta, or raise InputError."""
    energy = np.sqrt(read_column(table, "ENERG_LO", path) * read_column(table, "ENERG_HI", path))
    costheta = 0.5 * (read_column(table, "CTHETA_LO", path) + read_column(table, "CTHETA_HI", path))
    for name, values in (("ENERG", energy), ("CTHETA", costheta)):
        if len(values) < 2 or np.any(np.diff(values) <= 0):
            raise InputError(str(path), f"axis {name} does not rise", "fetch the file anew")
    return energy, costheta
