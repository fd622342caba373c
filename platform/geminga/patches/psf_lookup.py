"""The PSF in the form the rendering loops read: a table without searches, a reach per source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from geminga.arrays import Float64, Int64
from geminga.response import BandPsf

FIRST_CHORD2 = 2.0**-30
"""Squared chord (radian^2) of the first node: 0.0018 deg, where every PSF is flat."""
NODE_BITS = 6
"""Nodes per factor of two of the squared chord, as a power of two: 1.1 % of the angle each."""
BIT_SHIFT = 23 - NODE_BITS
FIRST_BITS = int(np.float32(FIRST_CHORD2).view(np.int32))
MAX_LEFT_OUT_COUNTS = 0.005
"""Counts of one source that may be left out beyond its reach."""
MAX_LEFT_OUT_BACKGROUND = 1e-4
"""Or: the share of the faintest diffuse emission below which a source's tail is left out."""


@dataclass(frozen=True)
class PsfLookup:
    """The PSF of one channel at nodes that are found without a search or a root.

    The nodes are single-precision numbers whose bit patterns are evenly spaced: straight in the
    squared chord within each factor of two, and logarithmic from one to the next. The number of a
    node is ``(bits of float32(chord^2) - FIRST_BITS) >> BIT_SHIFT``.

    Attributes
    ----------
    density_per_sr : Float64 (K, nodes)
        PSF of each spectral index, zero at the end.
    core_rad : Float64 (K,)
        Radius at which the PSF has fallen to half its peak.
    """

    density_per_sr: Float64
    core_rad: Float64


def node_chord2(count: int) -> Float64:
    """Return the squared chord of the first nodes, shape (count,)."""
    bits = FIRST_BITS + (np.arange(count, dtype=np.int32) << BIT_SHIFT)
    return np.asarray(bits.astype(np.int32).view(np.float32), dtype=np.float64)


@lru_cache(maxsize=64)
def psf_lookup(psf: BandPsf, channel: int) -> PsfLookup:
    """Resample one channel's PSF on the lookup nodes."""
    chord = 2.0 * np.sin(np.minimum(np.radians(psf.radius_deg), np.pi) / 2.0)
    count = 2 + (int(np.float32(chord[-1] ** 2).view(np.int32)) - FIRST_BITS >> BIT_SHIFT)
    grid = np.sqrt(node_chord2(count))
    density = np.empty((len(psf.spectral_index), count))
    core = np.empty(len(density))
    for k, profile in enumerate(psf.density_per_sr[channel]):
        floor = profile.max() * 1e-12
        # Cubic and monotone in the logarithm: straight lines between the PSF's nodes would
        # change its integral by some parts in a thousand.
        spline = PchipInterpolator(np.sqrt(chord), np.log(np.maximum(profile, floor)))
        density[k] = np.exp(spline(np.sqrt(np.minimum(grid, chord[-1]))))
        density[k, grid >= chord[-1]] = 0.0
        core[k] = grid[np.argmax(density[k] < 0.5 * density[k, 0])]
    return PsfLookup(density, np.maximum(core, 1e-6))


def index_weights(psf: BandPsf, spectral_index: Float64) -> tuple[Int64, Float64]:
    """Return the lower neighbour (n,) of each spectral index and the weight (n,) of the upper.

    The PSF of an index between two nodes is the mean of the nodes' PSFs with these weights;
    an index beyond the nodes takes the last one.
    """
    nodes = psf.spectral_index
    if len(nodes) == 1:
        return np.zeros(len(spectral_index), np.int64), np.zeros(len(spectral_index))
    x = np.clip(np.nan_to_num(spectral_index, nan=2.0), nodes[0], nodes[-1])
    low = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    return low.astype(np.int64), (x - nodes[low]) / (nodes[low + 1] - nodes[low])


def reach_rad(
    psf: BandPsf, band: int, counts: Float64, spectral_index: Float64, background_per_sr: float
) -> Float64:
    """Return how far each source has to be followed, radian, shape (n,).

    Beyond it lie fewer than `MAX_LEFT_OUT_COUNTS` of the source, or every direction gets less
    than `MAX_LEFT_OUT_BACKGROUND` of `background_per_sr`, whichever is nearer. A source
    without counts has a negative reach.
    """
    radius = np.radians(psf.radius_deg)
    low, _ = index_weights(psf, spectral_index)
    result = np.full(len(counts), -1.0)
    for k in range(len(psf.spectral_index)):
        # The softer neighbour of an index is the broader one: following it is on the safe side.
        upper = min(k + 1, len(psf.spectral_index) - 1)
        mine = np.flatnonzero((low == k) & (counts > 0))
        if not len(mine):
            continue
        n = counts[mine]
        left = np.maximum(
            1.0 - psf.containment[band, k] / psf.containment[band, k, -1],
            1.0 - psf.containment[band, upper] / psf.containment[band, upper, -1],
        )
        # Both fall with radius, so that the first radius where they are small enough is sought
        # in the reversed, rising arrays.
        far = np.maximum.accumulate(left[::-1])
        by_counts = np.searchsorted(far, MAX_LEFT_OUT_COUNTS / n, side="right")
        density = np.maximum(psf.density_per_sr[band, k], psf.density_per_sr[band, upper])
        faint = np.maximum.accumulate(density[::-1])
        by_background = np.searchsorted(
            faint, MAX_LEFT_OUT_BACKGROUND * background_per_sr / n, side="right"
        )
        steps = np.maximum(np.maximum(by_counts, by_background) - 1, 0)
        result[mine] = radius[len(radius) - 1 - np.minimum(steps, len(radius) - 1)]
    return result
