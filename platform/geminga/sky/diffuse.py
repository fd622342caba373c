"""Expected counts of the diffuse emission: intensity times exposure, smeared with the PSF."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.bands import edges_mev
from geminga.classes import DIFFUSE_COMPONENTS
from geminga.config import Config, data_path
from geminga.errors import InputError
from geminga.files import atomic
from geminga.response import Response, interpolate_energy
from geminga.sky.diffuse_models import (
    Interstellar,
    Isotropic,
    builtin_interstellar,
    builtin_isotropic,
    check_range,
    read_isotropic,
)
from geminga.sky.mapcube import MapCube
from geminga.sky.quadrature import band_nodes

_LOG = logging.getLogger(__name__)
BUILTIN = "builtin"
PSF_INDEX = 2.4
"""Spectral index of interstellar emission for the choice of its PSF."""


@dataclass(frozen=True)
class DiffuseCounts:
    """Expected counts per steradian over the whole observing time.

    Attributes
    ----------
    counts_per_sr : Float32 (2, B, npix)
        Of the interstellar and the isotropic component (RING, Galactic), PSF folded in.
    nside : int
    origin : dict
        Origin of each component.
    """

    counts_per_sr: Float32
    nside: int
    origin: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the maps as one npz file."""
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                counts_per_sr=self.counts_per_sr,
                origin=np.array([self.origin[name] for name in DIFFUSE_COMPONENTS]),
            )

    @classmethod
    def load(cls, path: Path) -> DiffuseCounts:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged or of another kind.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                counts, names = arrays["counts_per_sr"], arrays["origin"]
            nside = int(healpy.npix2nside(counts.shape[-1]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                str(path), f"is not a file of diffuse counts ({error})", "compute it anew"
            ) from error
        origin = dict(zip(DIFFUSE_COMPONENTS, (str(n) for n in names), strict=True))
        return cls(counts, nside, origin)


def diffuse_counts(config: Config, response: Response) -> DiffuseCounts:
    """Compute the diffuse counts of a configuration.

    Counts per steradian are the integral over a band of intensity times exposure at every
    direction; interstellar ones are then convolved with the PSF of the band by spherical
    harmonics.

    Parameters
    ----------
    config : Config
    response : Response

    Raises
    ------
    InputError
        If a model file cannot be used or stops short of the bands.
    """
    nside = config.sky.diffuse_nside
    edges = edges_mev(config.bands)
    if config.sky.interstellar == BUILTIN:
        interstellar: Interstellar = builtin_interstellar()
        _LOG.info("interstellar emission: %s", interstellar.origin)
    else:
        interstellar = MapCube(data_path(config, config.sky.interstellar))
    if config.sky.isotropic == BUILTIN:
        isotropic = builtin_isotropic(config.response.irf)
    else:
        isotropic = read_isotropic(data_path(config, config.sky.isotropic))
    for model in (interstellar, isotropic):
        check_range(model.energy_mev, edges[0, 0], edges[-1, 0], model.origin)
        if model.energy_mev[-1] < edges[-1, 1]:
            _LOG.info(
                "%s ends at %.4g GeV; a power law goes on to %.4g GeV",
                model.origin,
                model.energy_mev[-1] / 1e3,
                edges[-1, 1] / 1e3,
            )
    counts = _band_integrals(interstellar, isotropic, response, nside)
    for band in range(len(config.bands)):
        window = response.psf.harmonic(band, PSF_INDEX, 2 * nside)
        counts[0, band] = convolve(counts[0, band], window)
    return DiffuseCounts(
        counts,
        nside,
        {
            DIFFUSE_COMPONENTS[0]: interstellar.origin,
            DIFFUSE_COMPONENTS[1]: isotropic.origin,
        },
    )


def _band_integrals(
    interstellar: Interstellar, isotropic: Isotropic, response: Response, nside: int
) -> Float32:
    """Integrate intensity times exposure over every band, shape (2, B, npix)."""
    npix = healpy.nside2npix(nside)
    counts = np.zeros((2, len(response.bands), npix), dtype=np.float32)
    exposure = response.exposure
    theta, phi = healpy.pix2ang(nside, np.arange(npix))
    pixel, weight = healpy.get_interp_weights(exposure.nside, theta, phi)
    planes = _Planes(interstellar, nside)
    for number, band in enumerate(response.bands):
        total = np.zeros((2, npix))
        energy, step = band_nodes(band)
        seen = interpolate_energy(
            exposure.maps_cm2_s.astype(np.float64), exposure.energy_mev, energy
        )
        flat = isotropic.at(energy)
        for e in range(len(energy)):
            per_intensity = _spread(seen[e], pixel, weight) * step[e]
            total[0] += planes.at(energy[e]) * per_intensity
            total[1] += flat[e] * per_intensity
        counts[:, number] = total
    return counts


def _spread(values: Float64, pixel: Int64, weight: Float64) -> Float64:
    """Interpolate a coarse HEALPix map with the weights of healpy, shape (n,)."""
    result = values[pixel[0]] * weight[0]
    for corner in range(1, len(pixel)):
        result += values[pixel[corner]] * weight[corner]
    return np.asarray(result)


class _Planes:
    """The two planes of a model around an energy; energies are asked for in rising order."""

    def __init__(self, model: Interstellar, nside: int) -> None:
        self._model = model
        self._nside = nside
        self._log_energy = np.log(model.energy_mev)
        self._logs: dict[int, Float64] = {}

    def at(self, energy_mev: float) -> Float64:
        """Return the intensity, log-log between planes, a power law above the last."""
        x = np.log(energy_mev)
        nodes = self._log_energy
        low = int(np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2))
        self._logs = {
            plane: self._logs[plane] if plane in self._logs else self._log_plane(plane)
            for plane in (low, low + 1)
        }
        weight = (x - nodes[low]) / (nodes[low + 1] - nodes[low])
        return np.asarray(np.exp((1.0 - weight) * self._logs[low] + weight * self._logs[low + 1]))

    def _log_plane(self, plane: int) -> Float64:
        intensity = self._model.plane(plane, self._nside)
        # An empty pixel stays (almost) empty; its logarithm must not be infinite.
        return np.log(np.maximum(intensity, 1e-40))


def convolve(values: Float32, window: Float64) -> Float32:
    """Convolve a HEALPix map (npix,) with a circular beam by spherical harmonics.

    Parameters
    ----------
    values : Float32 (npix,)
        Non-negative map, RING.
    window : Float64 (lmax + 1,)
        Legendre transform of the beam.

    Returns
    -------
    Float32 (npix,)
        Non-negative, with the sum of `values`.
    """
    nside = healpy.npix2nside(len(values))
    lmax = len(window) - 1
    original = values.astype(np.float64)
    alm = healpy.map2alm(original, lmax=lmax, iter=1)
    if window[-1] > 0.5:
        # A beam as narrow as the pixels: only what it takes away is transformed, so that
        # structure beyond lmax neither rings nor is lost.
        removed = healpy.alm2map(healpy.almxfl(alm, 1.0 - window), nside, lmax=lmax)
        smooth = original - removed
    else:
        smooth = healpy.alm2map(healpy.almxfl(alm, window), nside, lmax=lmax)
    smooth = np.maximum(smooth, 0.0)
    total = smooth.sum()
    if total > 0:
        smooth *= original.sum() / total
    return np.asarray(smooth, dtype=np.float32)
