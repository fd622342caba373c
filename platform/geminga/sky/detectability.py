"""How significant a source can be expected to be, without any images."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.response import BandPsf
from geminga.response.king import bracket

_SOURCES_AT_ONCE = 512
_REACH_DEG = 5.0
"""Beyond it the PSF of the lowest energies holds a few per cent of the photons, all drowned."""


def local_ts(psf: BandPsf, counts: Float64, index: Float64, background_per_sr: Float64) -> Float64:
    """Return the test statistic expected of sources on a flat background.

    2 sum int [(s + b) ln(1 + s / b) - s] dOmega over the channels, s being the counts per
    steradian that the PSF spreads: the Asimov likelihood ratio (Cowan et al. 2011, Eur. Phys. J.
    C 71, 1554, section 3.2). `geminga.likelihood.expected_ts` is the same over the pixels of
    patches, with the shape of the background.

    Parameters
    ----------
    psf : BandPsf
    counts : Float64 (n, C)
        Expected counts of each source and channel.
    index : Float64 (n, C)
        Photon index that chooses the PSF.
    background_per_sr : Float64 (n, C)
        Expected counts per steradian of everything else at the source.

    Returns
    -------
    Float64 (n,)
    """
    radius = np.radians(psf.radius_deg[psf.radius_deg <= _REACH_DEG])
    ring = _ring_areas(radius)
    background = np.maximum(background_per_sr, np.finfo(float).tiny)
    result = np.zeros(len(counts))
    for channel in range(counts.shape[1]):
        profiles = psf.density_per_sr[channel][:, : len(radius)]
        for start in range(0, len(counts), _SOURCES_AT_ONCE):
            rows = slice(start, start + _SOURCES_AT_ONCE)
            shapes = [_between(profiles, psf.spectral_index, i) for i in index[rows, channel]]
            beneath = background[rows, channel]
            ratio = counts[rows, channel, None] * np.array(shapes) / beneath[:, None]
            # Where s is small against b the two terms cancel: their series does not.
            gain = np.where(
                ratio < 1e-4,
                0.5 * ratio**2 * (1.0 - ratio / 3.0),
                (1.0 + ratio) * np.log1p(ratio) - ratio,
            )
            result[rows] += 2.0 * beneath * (gain @ ring)
    return result


def _between(profiles: Float64, nodes: Float64, index: float) -> Float64:
    low, high, weight = bracket(nodes, float(index))
    return np.asarray((1.0 - weight) * profiles[low] + weight * profiles[high])


def _ring_areas(radius: Float64) -> Float64:
    """Return the solid angle that each radius stands for, from and to halfway to the next."""
    edges = np.concatenate([radius[:1], 0.5 * (radius[1:] + radius[:-1]), radius[-1:]])
    return np.asarray(2.0 * np.pi * (np.cos(edges[:-1]) - np.cos(edges[1:])))
