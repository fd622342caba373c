"""HEALPix templates of interstellar emission, and models made of them.

A template is named by its file, ``map.npy``, ``map.npy.gz`` or a FITS HEALPix map. A template of
counts, with the exposure folded in, names the exposure after ``@``
(``counts.npy.gz@exposure.npy.gz``) and is divided by it. Templates joined by ``+`` make a model.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from scipy.optimize import nnls

from geminga.arrays import Float64
from geminga.config import Config, data_path
from geminga.errors import InputError
from geminga.sky.emission.diffuse_models import Interstellar, check_intensity
from geminga.sky.formats.fits_input import open_fits

_LOG = logging.getLogger(__name__)
_NUMPY = (".npy", ".npy.gz")
_REMEDY = "give a HEALPix map of the whole sky, RING, in Galactic coordinates"
_FIT_NSIDE = 32
_SMOOTH_RATIO = 0.5


def template_files(name: str) -> tuple[str, ...]:
    """Return the files that a template or a model of templates is made of, as configured."""
    return tuple(f.strip() for part in name.split("+") for f in part.split("@"))


def is_template(config: Config, name: str) -> bool:
    """Return whether a model is made of HEALPix templates (else it is a map cube)."""
    if "+" in name or "@" in name or name.endswith(_NUMPY):
        return True
    with open_fits(data_path(config, name)) as hdus:
        return any(_is_healpix(hdu) for hdu in hdus)


def read_template(config: Config, name: str) -> Float64:
    """Read one template, divided by the exposure if one is named after ``@``.

    Parameters
    ----------
    config : Config
        For the data folder.
    name : str
        File, or counts and exposure: ``counts.npy.gz@exposure.npy.gz``.

    Returns
    -------
    Float64 (npix,)
        RING, Galactic.

    Raises
    ------
    InputError
        If a file is missing, not a HEALPix map of the whole sky in this order and frame, or holds
        values that are negative or not finite, or the exposure is of another resolution.
    """
    first, *rest = template_files(name)
    values = read_healpix(data_path(config, first))
    if len(rest) > 1:
        raise InputError(name, "names two exposures", "write counts.npy.gz@exposure.npy.gz")
    for other in rest:
        exposure = read_healpix(data_path(config, other))
        if len(exposure) != len(values):
            raise InputError(
                name,
                f"has an exposure of {len(exposure)} pixels and a template of {len(values)}",
                "give both with the same nside",
            )
        if (exposure <= 0).any():
            raise InputError(other, "holds an exposure of zero", "give one above 0 everywhere")
        values = values / exposure
    return values


def read_healpix(path: Path) -> Float64:
    """Read a HEALPix map of intensities, RING and Galactic, from a numpy or FITS file, (npix,)."""
    values = _read_numpy(path) if path.name.endswith(_NUMPY) else _read_fits(path)
    where = str(path)
    if values.ndim != 1 or not healpy.isnpixok(len(values)):
        raise InputError(where, f"has shape {values.shape}, no HEALPix map", _REMEDY)
    values = np.asarray(values, dtype=np.float64)
    check_intensity(values, where)
    if not values.any():
        raise InputError(where, "is zero everywhere", _REMEDY)
    if _looks_nested(values):
        raise InputError(where, "is in NESTED order by the look of it", _REMEDY)
    return values


def _read_numpy(path: Path) -> Float64:
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            values = np.load(stream, allow_pickle=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(str(path), f"is not a numpy array ({error})", _REMEDY) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise InputError(str(path), "does not hold one array of numbers", _REMEDY)
    return np.asarray(values)


def _is_healpix(hdu: fits.hdu.base.ExtensionHDU) -> bool:
    return str(hdu.header.get("PIXTYPE", "")).strip().upper() == "HEALPIX"


def _read_fits(path: Path) -> Float64:
    where = str(path)
    with open_fits(path) as hdus:
        hdu = next((h for h in hdus if _is_healpix(h)), None)
        if hdu is None or not isinstance(hdu, fits.BinTableHDU):
            raise InputError(where, "has no table with PIXTYPE HEALPIX", _REMEDY)
        values = np.asarray(hdu.data.field(0), dtype=np.float64).ravel()
        order = str(hdu.header.get("ORDERING", "")).strip().upper()
        frame = str(hdu.header.get("COORDSYS", "G")).strip().upper()
    if order not in ("RING", "NESTED", "NEST"):
        raise InputError(where, f"has ORDERING {order!r}", _REMEDY)
    if not frame.startswith("G"):
        raise InputError(where, f"has COORDSYS {frame!r}", _REMEDY)
    if not healpy.isnpixok(len(values)):
        raise InputError(where, f"has {len(values)} pixels, no HEALPix map", _REMEDY)
    if order != "RING":
        values = healpy.reorder(values, n2r=True)
    return np.asarray(values)


def _looks_nested(values: Float64) -> bool:
    """Return whether a map is much smoother when its pixels are taken in the nested order.

    A numpy file does not say how its pixels are ordered; emission that changes from pixel to
    pixel of the whole sky at random is none.
    """
    nside = int(healpy.npix2nside(len(values)))
    if nside < 4:
        return False
    pixel = np.arange(len(values))
    steps = []
    for nested in (False, True):
        beside = healpy.get_all_neighbours(nside, pixel, nest=nested)[0]
        inside = beside >= 0
        steps.append(np.abs(values[pixel[inside]] - values[beside[inside]]).mean())
    return bool(steps[1] < _SMOOTH_RATIO * steps[0])


@dataclass(frozen=True)
class TemplateModel:
    """Interstellar emission as a sum of templates, each with a spectrum of its own.

    Attributes
    ----------
    energy_mev : Float64 (E,)
    spectra : Float64 (E, K)
        Factor of each template at the energies.
    templates : Float64 (K, npix)
        RING, Galactic.
    origin : str
    """

    energy_mev: Float64
    spectra: Float64
    templates: Float64
    origin: str

    def plane(self, number: int, nside: int) -> Float64:
        """Return one plane's intensity at the HEALPix pixels of `nside`, shape (npix,)."""
        whole = self.spectra[number] @ self.templates
        if nside <= int(healpy.get_nside(whole)):
            return np.asarray(healpy.ud_grade(whole, nside))
        lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
        return np.asarray(healpy.get_interp_val(whole, lon, lat, lonlat=True))


def template_model(config: Config, name: str, reference: Interstellar) -> TemplateModel:
    """Build a model of templates.

    The templates give the morphology. At every energy of `reference` they get the non-negative
    factors that bring their sum nearest to its intensity (least squares of relative differences
    over the sky), which fixes the unknown norms and lets gas and inverse Compton emission have
    spectra of their own; the sum is then scaled to the reference's intensity averaged over the
    sky. A PSF folded into a template is left in it.

    Parameters
    ----------
    config : Config
        For the data folder.
    name : str
        Templates joined by ``+``.
    reference : Interstellar
        Model whose spectrum is taken: the built-in one.

    Raises
    ------
    InputError
        If a template cannot be used, or they differ in resolution.
    """
    parts = name.split("+")
    maps = [read_template(config, part) for part in parts]
    if len({len(m) for m in maps}) > 1:
        raise InputError(
            name, f"has templates of {[len(m) for m in maps]} pixels", "give one resolution to all"
        )
    templates = np.array([m / m.mean() for m in maps])
    coarse = np.array([healpy.ud_grade(m, _FIT_NSIDE) for m in templates])
    spectra = np.empty((len(reference.energy_mev), len(maps)))
    for number in range(len(spectra)):
        wanted = reference.plane(number, _FIT_NSIDE)
        weight = 1.0 / wanted
        factors, _ = nnls((coarse * weight).T, wanted * weight)
        # Every template has mean 1: the sum of the factors is the mean intensity.
        spectra[number] = factors * (wanted.mean() / factors.sum())
    origin = (
        f"templates {name}, spectra and norm from {reference.origin}"
        if all("@" in part for part in parts)
        else f"templates {name} as they are (no exposure named), spectra and norm from "
        f"{reference.origin}"
    )
    _LOG.info("interstellar emission: %s", origin)
    return TemplateModel(np.asarray(reference.energy_mev), spectra, templates, origin)
