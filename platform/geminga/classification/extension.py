"""Whether the counts around a candidate suit a point source there, and how much they exceed it."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.compiled import compiled

RING_DEG = 0.2
"""The extended source is a ring of this radius, with the spread of a Gaussian of 0.14 deg."""
RING = tuple(
    (RING_DEG * float(np.cos(a)), RING_DEG * float(np.sin(a))) for a in np.arange(8) * np.pi / 4.0
)
DIFFUSE_PRIOR = 0.3
"""Standard deviation of the diffuse emission of a channel about what the search found."""
_ITERATIONS = 12
_NORM_LIMITS = (0.1, 10.0)


def fit_norms(
    counts: Float64, own: Float64, diffuse: Float64, others: Float64
) -> tuple[Float64, Float64]:
    """Fit one norm of the candidate and one of each channel's diffuse emission (Poisson).

    Parameters
    ----------
    counts, own, diffuse, others : Float64 (n, C, q)
        Counts of every pixel, and those expected of the candidate, the diffuse emission and the
        neighbours. A pixel where nothing is expected is left out.

    Returns
    -------
    Float64 (n,)
        Norm of the candidate.
    Float64 (n, C)
        Norms of the diffuse emission.
    """
    norm, levels = np.ones(len(counts)), np.ones(counts.shape[:2])
    _fit_norms(counts, own, diffuse, others, norm, levels)
    return norm, levels


def extension_significance(
    counts: Float64, own: Float64, ring: Float64, diffuse: Float64, others: Float64, r2: Float64
) -> Float64:
    """Return how much better a wider source fits, in standard deviations, (n,).

    A score test: lnL's slope towards a source spread over a ring of `RING_DEG`, over its standard
    deviation. What a change of the source's counts, of the diffuse emission's level or of its bend
    could do is projected out in each channel. NaN where there is nothing to tell.

    Parameters
    ----------
    counts, own, diffuse, others : Float64 (n, C, q)
        As in `fit_norms`, with the norms fitted.
    ring : Float64 (n, C, q)
        Expected counts of the candidate as a ring.
    r2 : Float64 (C, q)
        Squared distance from the middle.
    """
    result = np.full(len(counts), np.nan)
    _score(counts, own, ring, diffuse, others, r2, result)
    return result


@compiled
def _fit_norms(
    counts: Float64,
    own: Float64,
    diffuse: Float64,
    others: Float64,
    norm: Float64,
    levels: Float64,
) -> None:
    channels, pixels = own.shape[1], own.shape[2]
    slope, along, across = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    for m in range(len(own)):
        for _ in range(_ITERATIONS):
            g, f = 0.0, 0.0
            for c in range(channels):
                slope[c] = (1.0 - levels[m, c]) / DIFFUSE_PRIOR**2
                along[c], across[c] = 1.0 / DIFFUSE_PRIOR**2, 0.0
                for q in range(pixels):
                    s, d = own[m, c, q], diffuse[m, c, q]
                    mu = norm[m] * s + levels[m, c] * d + others[m, c, q]
                    if mu > 0.0:
                        pull = counts[m, c, q] / mu - 1.0
                        g += s * pull
                        f += s * s / mu
                        slope[c] += d * pull
                        along[c] += d * d / mu
                        across[c] += s * d / mu
                g -= across[c] * slope[c] / along[c]
                f -= across[c] ** 2 / along[c]
            step = 0.0
            if f > 0.0:
                target = min(max(norm[m] + g / f, 0.5 * norm[m]), 2.0 * norm[m])
                step = min(max(target, _NORM_LIMITS[0]), _NORM_LIMITS[1]) - norm[m]
            norm[m] += step
            for c in range(channels):
                move = levels[m, c] + (slope[c] - across[c] * step) / along[c]
                levels[m, c] = min(max(move, _NORM_LIMITS[0]), _NORM_LIMITS[1])


@compiled
def _score(
    counts: Float64,
    own: Float64,
    ring: Float64,
    diffuse: Float64,
    others: Float64,
    r2: Float64,
    result: Float64,
) -> None:
    channels, pixels = own.shape[1], own.shape[2]
    basis, weight = np.zeros((4, pixels)), np.zeros(pixels)
    for m in range(len(own)):
        score, information = 0.0, 0.0
        for c in range(channels):
            for q in range(pixels):
                s, d = own[m, c, q], diffuse[m, c, q]
                mu = s + d + others[m, c, q]
                weight[q] = 1.0 / mu if mu > 0.0 else 0.0
                basis[0, q], basis[1, q], basis[2, q] = s, d, d * r2[c, q]
                basis[3, q] = ring[m, c, q] - s
            # Gram-Schmidt with the metric of the counts: the last one is left for the test.
            before, norm2 = 0.0, 0.0
            for i in range(4):
                before = 0.0
                for q in range(pixels):
                    before += weight[q] * basis[i, q] ** 2
                for j in range(i):
                    length2, product = 0.0, 0.0
                    for q in range(pixels):
                        length2 += weight[q] * basis[j, q] ** 2
                        product += weight[q] * basis[i, q] * basis[j, q]
                    if length2 > 0.0:
                        for q in range(pixels):
                            basis[i, q] -= product / length2 * basis[j, q]
                norm2 = 0.0
                for q in range(pixels):
                    norm2 += weight[q] * basis[i, q] ** 2
                # What is left of one that the others make up is rounding.
                if norm2 < 1e-9 * before:
                    basis[i, :] = 0.0
                    norm2 = 0.0
            for q in range(pixels):
                if weight[q] > 0.0:
                    score += basis[3, q] * (counts[m, c, q] * weight[q] - 1.0)
            information += norm2
        if information > 0.0:
            result[m] = score / np.sqrt(information)
