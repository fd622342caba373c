"""Lists of extended sources in the layout of the LAT catalogues: shapes and spectra.

``sky.extended`` names a file with a table of shapes: the LAT list of extended sources, or a source
catalogue with a table ExtendedSources. Spectra are those of the catalogue's rows; the list alone
has photon fluxes only, so ``list.fits@catalogue.fits`` names a catalogue beside it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from geminga.arrays import Float64
from geminga.config import Config, data_path
from geminga.errors import InputError
from geminga.files import read_parquet
from geminga.geometry import lon_lat, unit_vectors
from geminga.sky.formats.fits_input import (
    column_name,
    galactic_from_equatorial,
    open_fits,
    require_columns,
)
from geminga.sky.spectra import LOG_PARABOLA, PLEC, photon_flux
from geminga.tables import EXTENDED

_LOG = logging.getLogger(__name__)
PARQUET = ".parquet"
"""Catalogues that were ingested end in this."""

DISK, GAUSSIAN, MAP = "disk", "gaussian", "map"
R68_SIGMA = float(np.sqrt(-2.0 * np.log(0.32)))
"""Radius in sigma that holds 68 % of a two-dimensional Gaussian: what the lists give."""

R95_R68 = float(np.sqrt(np.log(0.05) / np.log(0.32)))
STAND_IN_INDEX = 2.2
"""Photon index of a source of the list that no catalogue has; half of DR2's have 2.0 to 2.4."""

_SHAPE_COLUMNS = ["Source_Name", "Model_Form", "Model_SemiMajor", "Model_SemiMinor", "Model_PosAng"]
_SPECTRUM = ("form", "norm", "pivot_mev", "index", "curvature", "exp_index")
_LP_COLUMNS = ["PL_Flux_Density", "PL_Index", "LP_Flux_Density", "LP_Index", "LP_beta"]
_PLEC_COLUMNS = ["PLEC_Flux_Density", "PLEC_Index", "PLEC_Expfactor", "PLEC_Exp_Index"]


@dataclass(frozen=True)
class Shape:
    """Where the emission of an extended source lies.

    Attributes
    ----------
    name : str
    lon_deg, lat_deg : float
        Galactic centre.
    kind : str
        DISK, GAUSSIAN (semi-axes hold 68 %) or MAP.
    major_deg, minor_deg, angle_deg : float
        Semi-axes, and the angle of the major one from celestial north to the east.
    template : Path or None
        Image of a MAP.
    stands_in : bool
        Whether the disk stands in for an image that is not there.
    """

    name: str
    lon_deg: float
    lat_deg: float
    kind: str
    major_deg: float
    minor_deg: float
    angle_deg: float
    template: Path | None = None
    stands_in: bool = False

    @property
    def radius_deg(self) -> float:
        """Angle from the centre within which the source lies."""
        return self.major_deg * (R95_R68 if self.kind == GAUSSIAN else 1.0)


@dataclass(frozen=True, eq=False)
class ExtendedList:
    """Extended sources: shapes, spectra (columns of TRUTH; one row each) and their origin."""

    shapes: tuple[Shape, ...]
    spectra: pd.DataFrame
    origin: str

    def table(self) -> pd.DataFrame:
        """Return the table EXTENDED."""
        return _table(self.shapes, photon_flux(self.spectra, 1e3, 1e6))


def read_extended(config: Config, name: str) -> ExtendedList:
    """Read a list of extended sources and their spectra.

    Parameters
    ----------
    config : Config
        For the data folder.
    name : str
        List or catalogue, or ``list@catalogue``.

    Raises
    ------
    InputError
        If a file is missing or lacks columns, or a source has no position, extent or flux.
    """
    first, *rest = (part.strip() for part in name.split("@"))
    path = data_path(config, first)
    shapes, listed = read_shapes(path)
    rows = catalog_spectra(data_path(config, rest[0]) if rest else path)
    spectra, without = [], []
    for shape, (other, flux) in zip(shapes, listed, strict=True):
        row = rows.get(other) or rows.get(shape.name)
        if row is None:
            if not flux > 0:
                raise InputError(
                    str(path),
                    f"has no photon flux for {shape.name}, and no catalogue has its spectrum",
                    "name a catalogue that has it: list.fits@catalogue.fits",
                )
            row = _power_law(flux, 1e3, 1e5, STAND_IN_INDEX)
            without.append(shape.name)
        spectra.append(row)
    origin = f"{len(shapes)} sources of {name}"
    if without:
        some = f"{len(without)} of them" if len(without) > 4 else ", ".join(without)
        origin += f"; an index of {STAND_IN_INDEX} stands in for the spectra of {some}"
    disks = [s.name for s in shapes if s.stands_in]
    if disks:
        origin += f"; disks stand in for the templates of {', '.join(disks)}"
    _LOG.info("extended sources: %s", origin)
    return ExtendedList(tuple(shapes), pd.DataFrame(spectra, columns=list(_SPECTRUM)), origin)


def extended_file(table: Path) -> Path:
    """Return where the extended sources of an ingested catalogue are, beside its sources."""
    return table.with_name(f"{table.stem}_extended{PARQUET}")


def extended_areas(path: Path) -> pd.DataFrame:
    """Return the table EXTENDED of a catalogue, fluxes NaN; empty if it has no table of shapes.

    The catalogue is a FITS file, or the table of sources that ``geminga ingest`` made of one.

    Raises
    ------
    InputError
        If the file cannot be read or its table of shapes lacks columns.
    """
    if path.suffix == PARQUET:
        beside = extended_file(path)
        return EXTENDED.check(read_parquet(beside), str(beside))
    with open_fits(path) as hdus:
        known = _shape_table(hdus) is not None
    if not known:
        _LOG.warning("%s has no table of extended sources; none of its sources is masked", path)
        return EXTENDED.empty()
    shapes, _ = read_shapes(path)
    return _table(shapes, np.full(len(shapes), np.nan))


def template_paths(config: Config, name: str) -> list[Path]:
    """Return the image files that sources of a list take their shape from."""
    shapes, _ = read_shapes(data_path(config, name.split("@")[0].strip()))
    return [shape.template for shape in shapes if shape.template is not None]


def _table(shapes: tuple[Shape, ...] | list[Shape], flux: Float64) -> pd.DataFrame:
    return EXTENDED.frame(
        {
            "name": [s.name for s in shapes],
            "lon_deg": [s.lon_deg for s in shapes],
            "lat_deg": [s.lat_deg for s in shapes],
            "radius_deg": [s.radius_deg for s in shapes],
            "s1": flux,
        }
    )


def _shape_table(hdus: Any) -> Any:
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU) and column_name(hdu, "Model_Form") is not None:
            return hdu
    return None


def read_shapes(path: Path) -> tuple[list[Shape], list[tuple[str, float]]]:
    """Return shapes, and for each the name in 4FGL and photon flux that the list gives.

    Raises
    ------
    InputError
        If the file cannot be read or has no sound table of shapes.
    """
    where = str(path)
    with open_fits(path) as hdus:
        hdu = _shape_table(hdus)
        if hdu is None:
            raise InputError(
                where,
                "has no table of extended sources with a column Model_Form",
                "name the LAT list of extended sources or a catalogue with its table",
            )
        names, forms, major, minor, angle = (
            hdu.data[c] for c in require_columns(hdu, _SHAPE_COLUMNS, where)
        )
        lon, lat = _positions(hdu, where)
        functions = _optional(hdu, "Spatial_Function", "")
        images = _optional(hdu, "Spatial_Filename", "")
        other = _optional(hdu, "Name_4FGL", "")
        flux = _optional(hdu, "Photon_Flux", np.nan)
        shapes = []
        for k, name in enumerate(_texts(names)):
            size = float(major[k]), float(minor[k])
            if not all(np.isfinite(v) for v in (lon[k], lat[k], *size)) or min(size) <= 0:
                raise InputError(where, f"{name} has no position or extent", "remove it")
            kind, image, stands_in = _kind(
                str(forms[k]).strip(), str(functions[k]).strip(), str(images[k]).strip(), path
            )
            shapes.append(
                Shape(
                    *(name, float(lon[k]), float(lat[k]), kind, *size),
                    float(np.nan_to_num(angle[k])),
                    image,
                    stands_in,
                )
            )
        listed = [(str(o).strip(), float(f)) for o, f in zip(other, flux, strict=True)]
    return shapes, listed


def _kind(form: str, function: str, image: str, path: Path) -> tuple[str, Path | None, bool]:
    """Return the kind of a shape, its image and whether a disk stands in for one."""
    if function in ("SpatialMap", "") and image:
        # In the lists the file is named with the folder of the archive it came in.
        file = path.parent / "Templates" / Path(image).name
        if file.is_file():
            return MAP, file, False
    if "gauss" in form.lower():
        return GAUSSIAN, None, False
    return DISK, None, "disk" not in form.lower()


def _positions(hdu: Any, where: str) -> tuple[Float64, Float64]:
    if column_name(hdu, "GLON") is not None:
        pair = require_columns(hdu, ["GLON", "GLAT"], where)
        lon, lat = (np.asarray(hdu.data[c], dtype=np.float64) for c in pair)
        return lon % 360.0, lat
    pair = require_columns(hdu, ["RAJ2000", "DEJ2000"], where)
    ra, dec = (np.asarray(hdu.data[c], dtype=np.float64) for c in pair)
    return lon_lat(galactic_from_equatorial(unit_vectors(ra, dec)))


def _optional(hdu: Any, name: str, missing: object) -> NDArray[Any]:
    column = column_name(hdu, name)
    return np.full(len(hdu.data), missing) if column is None else np.asarray(hdu.data[column])


def _texts(values: Any) -> list[str]:
    return [str(value).strip() for value in values]


Spectrum = tuple[str, float, float, float, float, float]


def _power_law(flux: float, emin_mev: float, emax_mev: float, index: float) -> Spectrum:
    """Return the power law of a photon flux between two energies, pivot at the lower one."""
    share = (1.0 - (emax_mev / emin_mev) ** (1.0 - index)) / (index - 1.0)
    return LOG_PARABOLA, flux / (emin_mev * share), emin_mev, index, 0.0, 0.0


def catalog_spectra(path: Path) -> dict[str, Spectrum]:
    """Return the spectra of a catalogue by source name and by name of the extended source.

    Spectra are those of the columns of 4FGL, 3FHL or 2FHL; a file with none of them gives none.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with open_fits(path) as hdus:
        for hdu in hdus:
            if not isinstance(hdu, fits.BinTableHDU):
                continue
            if column_name(hdu, "SpectrumType") and column_name(hdu, "PL_Flux_Density"):
                return _rows_4fgl(hdu, str(path))
            if column_name(hdu, "SpectrumType") and column_name(hdu, "PowerLaw_Index"):
                return _rows_3fhl(hdu, str(path))
            if column_name(hdu, "Flux50") and column_name(hdu, "Spectral_Index"):
                flux, index = (np.asarray(hdu.data[c]) for c in ("Flux50", "Spectral_Index"))
                return {
                    # A flux above 50 GeV with the index there: nothing is known below.
                    name: _power_law(float(f), 5e4, 2e6, float(i))
                    for name, f, i in zip(_texts(hdu.data["Source_Name"]), flux, index, strict=True)
                    if f > 0 and np.isfinite(i)
                }
    return {}


def _rows_4fgl(hdu: Any, where: str) -> dict[str, Spectrum]:
    columns = ["Source_Name", "SpectrumType", "Pivot_Energy", *_LP_COLUMNS, *_PLEC_COLUMNS]
    spelt = require_columns(hdu, columns, where)
    data = {c: hdu.data[n] for c, n in zip(columns, spelt, strict=True)}
    own = _texts(_optional(hdu, "Extended_Source_Name", ""))
    result: dict[str, Spectrum] = {}
    for k, kind in enumerate(_texts(data["SpectrumType"])):

        def value(column: str, row: int = k) -> float:
            return float(data[column][row])

        pivot = value("Pivot_Energy")
        if kind == "PowerLaw":
            row = LOG_PARABOLA, value("PL_Flux_Density"), pivot, value("PL_Index"), 0.0, 0.0
        elif kind == "LogParabola":
            row = (
                *(LOG_PARABOLA, value("LP_Flux_Density"), pivot),
                *(value("LP_Index"), value("LP_beta"), 0.0),
            )
        else:
            row = (
                *(PLEC, value("PLEC_Flux_Density"), pivot, value("PLEC_Index")),
                *(value("PLEC_Expfactor"), value("PLEC_Exp_Index")),
            )
        if np.isfinite(row[1:]).all() and row[1] > 0:
            result[str(data["Source_Name"][k]).strip()] = row
            if own[k]:
                result[own[k]] = row
    return result


def _rows_3fhl(hdu: Any, where: str) -> dict[str, Spectrum]:
    """Return the spectra of 3FHL (Ajello et al. 2017, ApJS 232, 18), energies in GeV.

    Spectral_Index and beta are those of the log parabola in every row; a power law's index is in
    a column of its own.
    """
    columns = [
        *("Source_Name", "Extended_Source_Name", "SpectrumType", "Pivot_Energy", "Flux_Density"),
        *("PowerLaw_Index", "Spectral_Index", "beta"),
    ]
    data = [hdu.data[n] for n in require_columns(hdu, columns, where)]
    result: dict[str, Spectrum] = {}
    for name, own, kind, pivot, density, power, index, beta in zip(*data, strict=True):
        curved = str(kind).strip() == "LogParabola"
        slope, curvature = (float(index), float(beta)) if curved else (float(power), 0.0)
        row = (LOG_PARABOLA, float(density) / 1e3, float(pivot) * 1e3, slope, curvature, 0.0)
        if np.isfinite(row[1:]).all() and row[1] > 0:
            result[str(name).strip()] = row
            if str(own).strip():
                result[str(own).strip()] = row
    return result
