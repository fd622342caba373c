"""The convex part of a local fit: fluxes of sources at fixed places, none below zero."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.compiled import compiled
from geminga.likelihood.positive import solve
from geminga.likelihood.stamps import Stamps, add_sources

ITERATIONS = 40
SCORING_STEPS = 4
"""First steps with the expected curvature, which are good from anywhere; then the true one."""
HALVINGS = 30
GAIN = 1e-6
"""An iteration that can raise lnL by less than this is the last."""


def fit_amplitudes(
    counts: Float64,
    base: Float64,
    stamps: Stamps,
    per_unit: Float64,
    start: Float64,
    layout: Int64,
    which: Bool | None = None,
) -> Float64:
    """Maximise the Poisson likelihood over non-negative amplitudes (m,).

    The likelihood is concave, so that the maximum is the only one. Newton's steps are projected
    on the positive amplitudes and halved until lnL rises (Bertsekas 1982, SIAM J. Control Optim.
    20, 221).

    Parameters
    ----------
    counts : Float64 (N,)
        Counts of all pixels of all channels.
    base : Float64 (N,)
        Expected counts of everything that is not fitted, above zero.
    stamps : Stamps
    per_unit : Float64 (m, C)
        Expected counts of a source of amplitude one.
    start : Float64 (m,)
        First guess.
    layout : Int64 (2, C)
        Pixels per side and start of each channel.
    which : Bool (m,), optional
        Sources that are fitted; the others do not exist here.
    """
    chosen = np.ones(len(start), np.bool_) if which is None else which
    # In counts, all amplitudes are of the same kind.
    unit = np.maximum(per_unit.sum(axis=1), np.finfo(float).tiny)
    per_count = np.ascontiguousarray(per_unit / unit[:, None])
    rows = np.flatnonzero(chosen)
    fitted = _fit(
        counts,
        base,
        stamps.values,
        stamps.box[rows],
        stamps.begin[rows],
        per_count[rows],
        np.maximum(start * unit, 0.0)[rows],
        layout,
    )
    result = start.copy()
    result[rows] = fitted / unit[rows]
    return result


@compiled
def log_ratio(counts: Float64, mu: Float64, other: Float64) -> float:
    """Return ln of the likelihood of expected counts `mu` over that of `other`."""
    total = 0.0
    for p in range(len(counts)):
        if mu[p] != other[p]:
            if counts[p] > 0.0:
                total += counts[p] * np.log(mu[p] / other[p])
            total -= mu[p] - other[p]
    return total


@compiled
def _covered(box: Int64, layout: Int64, pixels: int) -> Int64:
    """Return the pixels that any of the sources' images reach."""
    inside = np.zeros(pixels, np.bool_)
    for s in range(len(box)):
        for c in range(layout.shape[1]):
            for row in range(box[s, c, 0], box[s, c, 1]):
                start = layout[1, c] + row * layout[0, c]
                inside[start + box[s, c, 2] : start + box[s, c, 3]] = True
    return np.flatnonzero(inside)


@compiled
def _ratio_at(counts: Float64, mu: Float64, other: Float64, pixels: Int64) -> float:
    total = 0.0
    for p in pixels:
        if counts[p] > 0.0:
            total += counts[p] * np.log(mu[p] / other[p])
        total -= mu[p] - other[p]
    return total


@compiled
def _fit(
    counts: Float64,
    base: Float64,
    values: Float64,
    box: Int64,
    begin: Int64,
    per_count: Float64,
    start: Float64,
    layout: Int64,
) -> Float64:
    m = len(start)
    a = start.copy()
    pixels = _covered(box, layout, len(base))
    mu = base.copy()
    add_sources(mu, values, box, begin, per_count * a.reshape(m, 1), layout)
    new = mu.copy()
    residual = np.empty_like(mu)
    weight = np.empty_like(mu)
    for iteration in range(ITERATIONS):
        for p in pixels:
            ratio = counts[p] / mu[p]
            residual[p] = ratio - 1.0
            weight[p] = (1.0 if iteration < SCORING_STEPS else ratio + 1e-3) / mu[p]
        gradient = slopes(residual, values, box, begin, per_count, layout)
        free = np.flatnonzero((a > 0.0) | (gradient > 0.0))
        if len(free) == 0:
            break
        g = gradient[free]
        h = overlaps(weight, values, box[free], begin[free], per_count[free], layout)
        step = solve(h, g)
        if 0.5 * (g * step).sum() < GAIN:
            break
        size = 1.0
        gained = 0.0
        for _ in range(HALVINGS):
            trial = a.copy()
            trial[free] = np.maximum(a[free] + size * step, 0.0)
            expected = (gradient * (trial - a)).sum()
            for p in pixels:
                new[p] = base[p]
            add_sources(new, values, box, begin, per_count * trial.reshape(m, 1), layout)
            change = _ratio_at(counts, new, mu, pixels)
            if expected > 0.0 and change >= 1e-4 * expected:
                gained = change
                break
            size *= 0.5
        if gained == 0.0:
            break
        a = trial
        mu, new = new, mu
        if gained < GAIN:
            break
    return a


@compiled
def slopes(
    residual: Float64,
    values: Float64,
    box: Int64,
    begin: Int64,
    per_count: Float64,
    layout: Int64,
) -> Float64:
    """Return sum over pixels of residual times each source's image, (m,)."""
    result = np.zeros(len(box))
    for s in range(len(box)):
        for c in range(layout.shape[1]):
            if per_count[s, c] == 0.0:
                continue
            total = 0.0
            at = begin[s, c]
            for row in range(box[s, c, 0], box[s, c, 1]):
                start = layout[1, c] + row * layout[0, c]
                for p in range(start + box[s, c, 2], start + box[s, c, 3]):
                    total += residual[p] * values[0, at]
                    at += 1
            result[s] += per_count[s, c] * total
    return result


@compiled
def _overlap(
    weight: Float64,
    values: Float64,
    box: Int64,
    begin: Int64,
    per_count: Float64,
    layout: Int64,
    i: int,
    j: int,
) -> float:
    """Return sum over pixels of weight times the images of two sources."""
    result = 0.0
    for c in range(layout.shape[1]):
        factor = per_count[i, c] * per_count[j, c]
        if factor == 0.0:
            continue
        r0 = max(box[i, c, 0], box[j, c, 0])
        r1 = min(box[i, c, 1], box[j, c, 1])
        c0 = max(box[i, c, 2], box[j, c, 2])
        c1 = min(box[i, c, 3], box[j, c, 3])
        total = 0.0
        for row in range(r0, r1):
            start = layout[1, c] + row * layout[0, c]
            wide_i = box[i, c, 3] - box[i, c, 2]
            wide_j = box[j, c, 3] - box[j, c, 2]
            at_i = begin[i, c] + (row - box[i, c, 0]) * wide_i - box[i, c, 2]
            at_j = begin[j, c] + (row - box[j, c, 0]) * wide_j - box[j, c, 2]
            for column in range(c0, c1):
                total += (
                    weight[start + column] * values[0, at_i + column] * values[0, at_j + column]
                )
        result += factor * total
    return result


@compiled
def overlaps(
    weight: Float64, values: Float64, box: Int64, begin: Int64, per_count: Float64, layout: Int64
) -> Float64:
    """Return sums over pixels of weight times the images of every two sources, (m, m)."""
    m = len(box)
    result = np.empty((m, m))
    for i in range(m):
        for j in range(i + 1):
            result[i, j] = _overlap(weight, values, box, begin, per_count, layout, i, j)
            result[j, i] = result[i, j]
        # A source without pixels has no curvature, and no slope either.
        result[i, i] = result[i, i] * (1.0 + 1e-9) + 1e-12
    return result
