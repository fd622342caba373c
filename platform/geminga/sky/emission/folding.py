"""Intensity times exposure, integrated over the energies of the channels, and the PSF."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import healpy
import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.response import Response, interpolate_energy
from geminga.sky.emission.diffuse_models import Interstellar, Isotropic

_EMPTY = -92.0
"""ln of what stands for no intensity (1e-40): finite, and far below any."""


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


def interstellar_integrals(model: Interstellar, response: Response, nside: int) -> Float32:
    """Integrate interstellar intensity times exposure over all channels' energies.

    Planes of the model are gone through once, in rising energy, whatever the number of channels;
    two are held at a time, and those that no channel needs are not read.

    Returns
    -------
    Float32 (C, npix)
        Counts per steradian before the PSF.
    """
    # What every true energy adds to: channels with its weight, by the exposure they share.
    uses: dict[float, dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for channel, nodes in enumerate(response.nodes):
        for energy, step in zip(nodes.energy_mev, nodes.weight, strict=True):
            if step != 0.0:
                uses[float(energy)][id(response.exposures[channel])].append((channel, float(step)))
    exposures = {id(e): e for e in response.exposures}
    energies = sorted(uses)
    seen = {}
    for key, exposure in exposures.items():
        mine = [e for e in energies if key in uses[e]]
        maps = interpolate_energy(
            exposure.maps_cm2_s.astype(np.float64), exposure.energy_mev, np.array(mine)
        )
        seen[key] = dict(zip(mine, maps, strict=True))
    planes = Planes(model, nside)
    total = np.zeros((len(response.channels), healpy.nside2npix(nside)), dtype=np.float32)
    for energy in energies:
        intensity = planes.at(energy)
        for key, users in uses[energy].items():
            product = intensity * _to_nside(seen[key].pop(energy), nside)
            for channel, step in users:
                total[channel] += (step * product).astype(np.float32)
    return total


class Planes:
    """The two planes of a model around an energy; energies are asked for in rising order.

    Parameters
    ----------
    model : Interstellar
    nside : int
        Resolution of the planes.
    """

    def __init__(self, model: Interstellar, nside: int) -> None:
        self._model = model
        self._nside = nside
        self._log_energy = np.log(model.energy_mev)
        self._logs: dict[int, Float64] = {}

    def at(self, energy_mev: float) -> Float64:
        """Return the intensity (npix,), log-log between planes; the end pieces go on straight."""
        x = np.log(energy_mev)
        nodes = self._log_energy
        low = int(np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2))
        kept = self._logs
        self._logs = {n: kept[n] for n in (low, low + 1) if n in kept}
        del kept
        for plane in (low, low + 1):
            if plane not in self._logs:
                self._logs[plane] = self._log_plane(plane)
        below, above = self._logs[low], self._logs[low + 1]
        weight = (x - nodes[low]) / (nodes[low + 1] - nodes[low])
        value = np.exp((1.0 - weight) * below + weight * above)
        if not 0.0 <= weight <= 1.0:
            # A power law through nothing leads anywhere: the nearer plane goes on as it is.
            nearer = above if weight > 1.0 else below
            hollow = np.minimum(below, above) <= _EMPTY
            value = np.where(hollow, np.exp(nearer), value)
        return np.asarray(value)

    def _log_plane(self, plane: int) -> Float64:
        intensity = self._model.plane(plane, self._nside)
        # An empty pixel stays (almost) empty; its logarithm must not be infinite.
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(intensity), _EMPTY)


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
