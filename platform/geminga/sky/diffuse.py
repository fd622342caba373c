"""Expected counts of the diffuse emission: intensity times exposure, smeared with the PSF."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import healpy
import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.bands import edges_mev
from geminga.classes import DIFFUSE_COMPONENTS, EXTENDED, INTERSTELLAR, ISOTROPIC
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

_LOG = logging.getLogger(__name__)
BUILTIN = "builtin"
PSF_INDEX = 2.4
"""Spectral index of interstellar emission for the choice of its PSF."""


@dataclass(frozen=True)
class DiffuseCounts:
    """Expected counts per steradian over the whole observing time, exposure and PSF folded in.

    Attributes
    ----------
    interstellar : Float32 (M, C, npix)
        Of each interstellar model (RING, Galactic).
    models : tuple of str (M,)
        Names of the models, as configured.
    isotropic : Float32 (C, npix)
    isotropic_left : Float64 (C,)
        Part of the isotropic emission that is left where ``sky.depth`` turns some of it into
        sources.
    extended : Float32 (C, npix), or (C, 0) without extended sources
    nside : int
    origin : dict
        Origin of each component.
    """

    interstellar: Float32
    models: tuple[str, ...]
    isotropic: Float32
    isotropic_left: Float64
    extended: Float32
    nside: int
    origin: dict[str, str]

    @classmethod
    def of_maps(cls, interstellar: Float32, isotropic: Float32) -> DiffuseCounts:
        """Return diffuse counts of one interstellar and an isotropic map, both (C, npix)."""
        return cls(
            np.asarray(interstellar, dtype=np.float32)[None],
            ("given",),
            np.asarray(isotropic, dtype=np.float32),
            np.ones(len(isotropic)),
            np.zeros((len(isotropic), 0), dtype=np.float32),
            int(healpy.npix2nside(isotropic.shape[1])),
            {INTERSTELLAR: "given", ISOTROPIC: "given", EXTENDED: "none"},
        )

    def component(self, name: str, model: int, channel: int) -> Float32:
        """Return the map of a component (npix,); `model` chooses the interstellar one."""
        if name == INTERSTELLAR:
            values = self.interstellar[model, channel]
        elif name == ISOTROPIC:
            values = self.isotropic[channel]
        elif self.extended.shape[1] == 0:
            values = np.zeros(healpy.nside2npix(self.nside), dtype=np.float32)
        else:
            values = self.extended[channel]
        return np.asarray(values)

    def save(self, path: Path) -> None:
        """Write the maps as one npz file."""
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                interstellar=self.interstellar,
                models=np.array(self.models),
                isotropic=self.isotropic,
                isotropic_left=self.isotropic_left,
                extended=self.extended,
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
        names = ("interstellar", "models", "isotropic", "isotropic_left", "extended", "origin")
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                content = {name: arrays[name] for name in names}
            nside = int(healpy.npix2nside(content["isotropic"].shape[-1]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                str(path), f"is not a file of diffuse counts ({error})", "compute it anew"
            ) from error
        return cls(
            content["interstellar"],
            tuple(str(name) for name in content["models"]),
            content["isotropic"],
            content["isotropic_left"],
            content["extended"],
            nside,
            dict(zip(DIFFUSE_COMPONENTS, (str(n) for n in content["origin"]), strict=True)),
        )


def model_names(config: Config) -> tuple[str, ...]:
    """Return the interstellar models of training skies, then that of test skies if another."""
    test = config.sky.test_interstellar
    names = config.sky.interstellar
    return names if test is None or test in names else (*names, test)


def diffuse_counts(config: Config, response: Response) -> DiffuseCounts:
    """Compute the diffuse counts of a configuration.

    Counts per steradian are the integral over a channel's energies of intensity times exposure
    at every direction; interstellar ones are then convolved with the PSF of the channel by
    spherical harmonics.

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
    if config.sky.isotropic == BUILTIN:
        isotropic = builtin_isotropic(config.response.irf)
    else:
        isotropic = read_isotropic(data_path(config, config.sky.isotropic))
    _check_model(isotropic, response)
    channels = range(len(response.channels))
    flat = np.empty((len(channels), healpy.nside2npix(nside)), dtype=np.float32)
    for channel in channels:
        flat[channel] = isotropic_integral(isotropic, response, channel, nside)
    names, origins = model_names(config), []
    counts = np.empty((len(names), *flat.shape), dtype=np.float32)
    for number, name in enumerate(names):
        model = _interstellar(config, name)
        _check_model(model, response)
        origins.append(model.origin)
        for channel in channels:
            whole = interstellar_integral(model, response, channel, nside)
            window = response.psf.harmonic(channel, PSF_INDEX, 2 * nside)
            counts[number, channel] = convolve(whole, window)
    return DiffuseCounts(
        counts,
        names,
        flat,
        np.ones(len(channels)),
        np.zeros((len(channels), 0), dtype=np.float32),
        nside,
        {INTERSTELLAR: "; ".join(origins), ISOTROPIC: isotropic.origin, EXTENDED: "none"},
    )


def _interstellar(config: Config, name: str) -> Interstellar:
    if name == BUILTIN:
        model = builtin_interstellar()
        _LOG.info("interstellar emission: %s", model.origin)
        return model
    return MapCube(data_path(config, name))


def _check_model(model: Interstellar | Isotropic, response: Response) -> None:
    """Check a model's energies against the bands."""
    edges = edges_mev(response.channels)
    first, last, end = edges[:, 0].min(), edges[:, 0].max(), edges[:, 1].max()
    check_range(model.energy_mev, first, last, model.origin)
    if model.energy_mev[-1] < end:
        _LOG.info(
            "%s ends at %.4g GeV; a power law goes on to %.4g GeV",
            model.origin,
            model.energy_mev[-1] / 1e3,
            end / 1e3,
        )


def isotropic_integral(model: Isotropic, response: Response, channel: int, nside: int) -> Float32:
    """Integrate isotropic intensity times exposure over a channel's energies, shape (npix,)."""
    nodes = response.nodes[channel]
    weight = model.at(nodes.energy_mev) * nodes.weight
    exposure = response.exposures[channel]
    seen = interpolate_energy(
        exposure.maps_cm2_s.astype(np.float64), exposure.energy_mev, nodes.energy_mev
    )
    # The sum over energies commutes with the interpolation between pixels.
    return np.asarray(_to_nside(weight @ seen, nside), dtype=np.float32)


def interstellar_integral(
    model: Interstellar, response: Response, channel: int, nside: int
) -> Float32:
    """Integrate interstellar intensity times exposure over a channel's energies, shape (npix,)."""
    nodes = response.nodes[channel]
    exposure = response.exposures[channel]
    seen = interpolate_energy(
        exposure.maps_cm2_s.astype(np.float64), exposure.energy_mev, nodes.energy_mev
    )
    planes = _Planes(model, nside)
    total = np.zeros(healpy.nside2npix(nside))
    for energy, step, values in zip(nodes.energy_mev, nodes.weight, seen, strict=True):
        total += planes.at(energy) * _to_nside(values, nside) * step
    return total.astype(np.float32)


def _to_nside(values: Float64, nside: int) -> Float64:
    """Interpolate a HEALPix map at the pixel centres of another resolution, shape (npix,)."""
    pixel, weight = _interpolation(int(healpy.npix2nside(len(values))), nside)
    return _spread(values, pixel, weight)


@lru_cache(maxsize=1)
def _interpolation(coarse: int, nside: int) -> tuple[Int64, Float64]:
    theta, phi = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)))
    pixel, weight = healpy.get_interp_weights(coarse, theta, phi)
    return pixel, weight


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
