"""A sky with the sources of a LAT catalogue instead of drawn ones.

Point sources have their catalogued positions and spectra; extended ones are maps with the shapes
of the catalogue's own table. Nothing is drawn and nothing is normalised: the sky is what the
catalogue, the diffuse models and the response say.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from geminga.arrays import Float64
from geminga.bands import edges_mev
from geminga.classes import DIFFUSE_COMPONENTS, EXTENDED, ISOTROPIC
from geminga.config import Config
from geminga.errors import InputError
from geminga.response import Response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.emission.extended import ExtendedList, Shape, catalog_spectra, read_shapes
from geminga.sky.emission.extended_maps import extended_counts
from geminga.sky.emission.interstellar import draw_interstellar
from geminga.sky.formats.fits_input import column_name, open_fits, require_columns
from geminga.sky.populations.sources import S_BAND_MAX_MEV, SourceSet
from geminga.sky.sky import Sky, expected_counts
from geminga.sky.spectra import energy_flux, photon_flux
from geminga.tables import TRUTH

_LOG = logging.getLogger(__name__)
_SPECTRUM = ("form", "norm", "pivot_mev", "index", "curvature", "exp_index")
_CLASS_COLUMNS = ("CLASS1", "CLASS")
_REMEDY = "name a LAT source catalogue (4FGL, 3FHL or 2FHL)"
UNASSOCIATED = "unassociated"
"""Class of rows whose class is empty or ``unk``."""


@dataclass(frozen=True, eq=False)
class CatalogueSources:
    """The sources of a catalogue.

    Attributes
    ----------
    points : DataFrame
        TRUTH, brightest ``s_band`` first; ``class_name`` is the catalogue's, in lower case.
    names : tuple of str (n,)
        The catalogue's name of each point source.
    extended : ExtendedList
        Sources with a shape.
    """

    points: pd.DataFrame
    names: tuple[str, ...]
    extended: ExtendedList


def read_catalogue_sources(path: Path, emin_mev: float) -> CatalogueSources:
    """Read positions, classes, spectra and shapes of a catalogue's sources.

    Parameters
    ----------
    path : Path
        4FGL, 3FHL or 2FHL FITS file, possibly gzipped.
    emin_mev : float
        Start of the column ``s_band``.

    Raises
    ------
    InputError
        If the file is missing or no catalogue, or a row has no position or spectrum.
    """
    spectra = catalog_spectra(path)
    names, own, kinds, lon, lat = _rows(path)
    for row, name in enumerate(names):
        if name not in spectra or not np.isfinite([lon[row], lat[row]]).all():
            raise InputError(str(path), f"{name} has no position or spectrum", _REMEDY)
    shapes = {shape.name: shape for shape in _shapes(path)}
    shaped = np.array([name in shapes for name in own], dtype=bool)
    extended = ExtendedList(
        tuple(shapes[own[row]] for row in np.flatnonzero(shaped)),
        pd.DataFrame([spectra[names[r]] for r in np.flatnonzero(shaped)], columns=list(_SPECTRUM)),
        f"{int(shaped.sum())} sources of {path.name}",
    )
    rows = np.flatnonzero(~shaped)
    frame = pd.DataFrame([spectra[names[r]] for r in rows], columns=list(_SPECTRUM))
    bright = photon_flux(frame, emin_mev, S_BAND_MAX_MEV)
    order = np.argsort(-bright, kind="stable")
    frame, rows = frame.iloc[order].reset_index(drop=True), rows[order]
    points = TRUTH.frame(
        {
            **{name: frame[name].to_numpy() for name in _SPECTRUM},
            "sky_id": np.zeros(len(rows), dtype=np.int64),
            "source_id": np.arange(len(rows)),
            "class_name": [kinds[r] for r in rows],
            "lon_deg": lon[rows],
            "lat_deg": lat[rows],
            "s1": photon_flux(frame, 1e3, 1e6),
            "s10": photon_flux(frame, 1e4, 1e6),
            "fe100": energy_flux(frame, 1e2, 1e5),
            "s_band": bright[order],
        }
    )
    stands = [shape.name for shape in extended.shapes if shape.stands_in]
    _LOG.info(
        "%s: %d point sources, %d extended%s",
        path.name,
        len(points),
        len(extended.shapes),
        f" (disks stand in for the templates of {', '.join(stands)})" if stands else "",
    )
    return CatalogueSources(points, tuple(names[r] for r in rows), extended)


def catalogue_sky(config: Config, response: Response, diffuse: DiffuseCounts, path: Path) -> Sky:
    """Return what the telescope is expected to count of a catalogue's sources.

    Parameters
    ----------
    config : Config
        Channels and sky; interstellar emission is the model of the test skies, every norm is 1
        and every source steady.
    response : Response
    diffuse : DiffuseCounts
        Of the same configuration; its extended sources are replaced by the catalogue's.
    path : Path
        Catalogue.

    Returns
    -------
    Sky
        Its classes are those of the catalogue.

    Raises
    ------
    InputError
        As `read_catalogue_sources`.
    """
    emin_mev = float(edges_mev(config.bands)[:, 0].min())
    found = read_catalogue_sources(path, emin_mev)
    points, shaped = found.points, found.extended
    counts, index = expected_counts(points, response)
    if shaped.shapes:
        diffuse = dataclasses.replace(
            diffuse,
            extended=extended_counts(shaped, response, diffuse.nside),
            extended_sources=shaped.table(),
            origin={**diffuse.origin, EXTENDED: shaped.origin},
        )
    number = sky_id(Split.TEST, 0)
    model, norm, distortion = draw_interstellar(config, diffuse.models, number)
    norm = norm[:, None] * np.ones(len(response.channels))
    norm[DIFFUSE_COMPONENTS.index(ISOTROPIC)] *= diffuse.isotropic_left
    lon, lat = (points[name].to_numpy() for name in ("lon_deg", "lat_deg"))
    return Sky(
        number,
        config.channels,
        tuple(sorted(set(points["class_name"]))),
        SourceSet(points, np.ones((len(points), config.sky.years))),
        counts,
        index,
        response.year_share.at(lon, lat),
        diffuse,
        model,
        norm,
        distortion,
        response.psf,
        response.year_share,
    )


def _rows(path: Path) -> tuple[list[str], list[str], list[str], Float64, Float64]:
    """Return names, names of extended sources, classes and Galactic positions of every row."""
    with open_fits(path) as hdus:
        for hdu in hdus:
            if not isinstance(hdu, fits.BinTableHDU):
                continue
            classes = next((c for c in _CLASS_COLUMNS if column_name(hdu, c)), None)
            if classes is None:
                continue
            columns = ["Source_Name", "GLON", "GLAT", classes]
            name, lon, lat, kind = (hdu.data[c] for c in require_columns(hdu, columns, str(path)))
            names = [str(v).strip() for v in name]
            extended = column_name(hdu, "Extended_Source_Name")
            # 2FHL names its extended sources as it names the rows.
            own = names if extended is None else [str(v).strip() for v in hdu.data[extended]]
            kinds = [str(v).strip().lower() for v in kind]
            kinds = [UNASSOCIATED if v in ("", "unk") else v for v in kinds]
            return names, own, kinds, np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    raise InputError(str(path), "has no table with a column CLASS or CLASS1", _REMEDY)


def _shapes(path: Path) -> list[Shape]:
    with open_fits(path) as hdus:
        known = any(
            isinstance(hdu, fits.BinTableHDU) and column_name(hdu, "Model_Form") for hdu in hdus
        )
    if not known:
        _LOG.warning("%s has no table of shapes: all its sources are taken as points", path.name)
        return []
    return read_shapes(path)[0]
