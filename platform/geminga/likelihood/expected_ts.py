"""The photon limit: the test statistic that every true source is expected to reach."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.compiled import compiled
from geminga.geometry import unit_vectors
from geminga.likelihood.limits import LEAST_BACKGROUND
from geminga.patches.grid import PatchGrid
from geminga.patches.render import expected_images
from geminga.patches.single_sources import source_images
from geminga.sky.sky import Sky


def expected_ts(sky: Sky, grid: PatchGrid, with_sources: bool = False) -> Float64:
    """Return the test statistic expected of every true source with the true background.

    2 sum [(s + b) ln(1 + s / b) - s] over the pixels of all channels, of the patch whose centre is
    nearest to the source: what the likelihood ratio gives for the expected (Asimov) counts s + b
    (Cowan et al. 2011, Eur. Phys. J. C 71, 1554, section 3.2).

    Parameters
    ----------
    sky : Sky
    grid : PatchGrid
        A source outside its nearest patch counts with the photons that fall inside.
    with_sources : bool
        The other sources belong to the background: a limit for methods that do not take
        neighbours apart. Else every source stands alone on the diffuse emission.

    Returns
    -------
    Float64 (n,)
        In the order of ``sky.sources.table``.
    """
    result = np.zeros(len(sky.sources.table))
    nearest = nearest_patches(sky, grid)
    beneath = sky if with_sources else without_sources(sky)
    for patch in np.unique(nearest):
        rows = np.flatnonzero(nearest == patch)
        frame = grid.frames[patch]
        background = expected_images(beneath, frame[None], grid.size_deg)
        for channel, whole in enumerate(background):
            pixels = whole.shape[1]
            own = source_images(sky, rows, frame, grid.size_deg, pixels, channel)
            result[rows] += _asimov(own, whole[0], with_sources, LEAST_BACKGROUND)
    return result


def nearest_patches(sky: Sky, grid: PatchGrid) -> Int64:
    """Return the patch whose centre is nearest to each source, shape (n,)."""
    table = sky.sources.table
    vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    return np.asarray(np.argmax(vectors @ grid.frames[:, 0].T, axis=1), dtype=np.int64)


def without_sources(sky: Sky) -> Sky:
    """Return the diffuse and extended emission of a sky alone."""
    return sky.with_sources(np.empty(0, np.int64))


@compiled
def _asimov(own: Float32, whole: Float32, contains_own: bool, least: float) -> Float64:
    """Return the expected test statistic of images (m, n, n) over a background (n, n)."""
    result = np.zeros(len(own))
    for i in range(len(own)):
        for row in range(own.shape[1]):
            for column in range(own.shape[2]):
                s = np.float64(own[i, row, column])
                if s <= 0.0:
                    continue
                b = np.float64(whole[row, column]) - (s if contains_own else 0.0)
                ratio = s / max(b, least)
                # Where s is small against b the two terms cancel: their series does not.
                if ratio < 1e-4:
                    result[i] += s * ratio * (1.0 - ratio / 3.0)
                else:
                    result[i] += 2.0 * s * ((1.0 + 1.0 / ratio) * np.log1p(ratio) - 1.0)
    return result
