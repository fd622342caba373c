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
    channels: Bool | None = None,
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
    channels : Bool (C,), optional
        Channels that are used.
    """
    chosen = np.ones(len(start), np.bool_) if which is None else which
    used = np.ones(per_unit.shape[1], np.bool_) if channels is None else channels
    # In counts, all amplitudes are of the same kind.
    unit = np.maximum((per_unit * used).sum(axis=1), np.finfo(float).tiny)
    per_count = np.ascontiguousarray(per_unit * used / unit[:, None])
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
        used,
    )
    result = start.copy()
    result[rows] = fitted / unit[rows]
    return result


@compiled
def log_likelihood(counts: Float64, mu: Float64) -> float:
    """Return the sum of n ln mu - mu."""
    total = 0.0
    for p in range(len(counts)):
        if counts[p] > 0.0:
            total += counts[p] * np.log(mu[p])
        total -= mu[p]
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
    used: Bool,
) -> Float64:
    m = len(start)
    a = start.copy()
    mu = base.copy()
    add_sources(mu, values, box, begin, per_count * a.reshape(m, 1), layout)
    height = _height(counts, mu, layout, used)
    residual = np.empty_like(mu)
    weight = np.empty_like(mu)
    for iteration in range(ITERATIONS):
        for p in range(len(mu)):
            ratio = counts[p] / mu[p] if counts[p] > 0.0 else 0.0
            residual[p] = ratio - 1.0
            weight[p] = (1.0 if iteration < SCORING_STEPS else ratio + 1e-3) / mu[p]
        gradient = slopes(residual, values, box, begin, per_count, layout)
        count = 0
        free = np.empty(m, np.int64)
        for s in range(m):
            if a[s] > 0.0 or gradient[s] > 0.0:
                free[count] = s
                count += 1
        if count == 0:
            break
        free = free[:count]
        h = np.empty((count, count))
        g = np.empty(count)
        for i in range(count):
            g[i] = gradient[free[i]]
            for j in range(i + 1):
                h[i, j] = overlap(weight, values, box, begin, per_count, layout, free[i], free[j])
                h[j, i] = h[i, j]
            # A source without pixels has no curvature, and no slope either.
            h[i, i] = h[i, i] * (1.0 + 1e-9) + 1e-12
        step = solve(h, g)
        if 0.5 * np.dot(g, step) < GAIN:
            break
        size = 1.0
        rises = False
        for _ in range(30):
            trial = a.copy()
            expected = 0.0
            for i in range(count):
                s = free[i]
                trial[s] = max(a[s] + size * step[i], 0.0)
                expected += g[i] * (trial[s] - a[s])
            mu[:] = base
            add_sources(mu, values, box, begin, per_count * trial.reshape(m, 1), layout)
            new = _height(counts, mu, layout, used)
            if new >= height + 1e-4 * expected and expected >= 0.0:
                rises = True
                break
            size *= 0.5
        if not rises:
            break
        gained = new - height
        a = trial
        height = new
        if gained < GAIN and iteration > 0:
            break
    return a


@compiled
def _height(counts: Float64, mu: Float64, layout: Int64, used: Bool) -> float:
    total = 0.0
    for c in range(layout.shape[1]):
        if used[c]:
            part = slice(layout[1, c], layout[1, c] + layout[0, c] ** 2)
            total += log_likelihood(counts[part], mu[part])
    return total


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
def overlap(
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
def normal_equations(
    counts: Float64,
    mu: Float64,
    values: Float64,
    box: Int64,
    begin: Int64,
    amplitude: Float64,
    slope: Float64,
    layout: Int64,
    which: Bool,
) -> tuple[Float64, Float64]:
    """Return gradient (4 m) and expected curvature (4 m, 4 m) of lnL in x, y, ln flux, index.

    `slope` (m, C) is the derivative of ln(counts) with the index; how the shape of the PSF
    changes with it is left out of the derivatives. Sources not chosen get zeros.
    """
    m = len(box)
    gradient = np.zeros(4 * m)
    fisher = np.zeros((4 * m, 4 * m))
    inverse = 1.0 / mu
    residual = counts * inverse - 1.0
    sums = np.empty((3, 3))
    jacobian = np.zeros((2, 4, 3))
    for i in range(m):
        if not which[i]:
            continue
        for c in range(layout.shape[1]):
            a = amplitude[i, c]
            if a == 0.0:
                continue
            gx, gy, gv = 0.0, 0.0, 0.0
            at = begin[i, c]
            for row in range(box[i, c, 0], box[i, c, 1]):
                start = layout[1, c] + row * layout[0, c]
                for p in range(start + box[i, c, 2], start + box[i, c, 3]):
                    gv += residual[p] * values[0, at]
                    gx += residual[p] * values[1, at]
                    gy += residual[p] * values[2, at]
                    at += 1
            gradient[4 * i] += a * gx
            gradient[4 * i + 1] += a * gy
            gradient[4 * i + 2] += a * gv
            gradient[4 * i + 3] += a * slope[i, c] * gv
            for j in range(i + 1):
                if not which[j] or amplitude[j, c] == 0.0:
                    continue
                r0 = max(box[i, c, 0], box[j, c, 0])
                r1 = min(box[i, c, 1], box[j, c, 1])
                c0 = max(box[i, c, 2], box[j, c, 2])
                c1 = min(box[i, c, 3], box[j, c, 3])
                if r1 <= r0 or c1 <= c0:
                    continue
                s00, s01, s02, s10, s11, s12, s20, s21, s22 = (
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                    0.0,
                )
                wide_i = box[i, c, 3] - box[i, c, 2]
                wide_j = box[j, c, 3] - box[j, c, 2]
                for row in range(r0, r1):
                    start = layout[1, c] + row * layout[0, c]
                    at_i = begin[i, c] + (row - box[i, c, 0]) * wide_i - box[i, c, 2]
                    at_j = begin[j, c] + (row - box[j, c, 0]) * wide_j - box[j, c, 2]
                    for column in range(c0, c1):
                        w = inverse[start + column]
                        v0 = w * values[0, at_i + column]
                        v1 = w * values[1, at_i + column]
                        v2 = w * values[2, at_i + column]
                        u0 = values[0, at_j + column]
                        u1 = values[1, at_j + column]
                        u2 = values[2, at_j + column]
                        s00 += v0 * u0
                        s01 += v0 * u1
                        s02 += v0 * u2
                        s10 += v1 * u0
                        s11 += v1 * u1
                        s12 += v1 * u2
                        s20 += v2 * u0
                        s21 += v2 * u1
                        s22 += v2 * u2
                sums[0, 0], sums[0, 1], sums[0, 2] = s00, s01, s02
                sums[1, 0], sums[1, 1], sums[1, 2] = s10, s11, s12
                sums[2, 0], sums[2, 1], sums[2, 2] = s20, s21, s22
                for end, s in ((0, i), (1, j)):
                    jacobian[end, 0, 1] = amplitude[s, c]
                    jacobian[end, 1, 2] = amplitude[s, c]
                    jacobian[end, 2, 0] = amplitude[s, c]
                    jacobian[end, 3, 0] = amplitude[s, c] * slope[s, c]
                for k in range(4):
                    for n in range(4):
                        value = 0.0
                        for p in range(3):
                            for q in range(3):
                                value += jacobian[0, k, p] * sums[p, q] * jacobian[1, n, q]
                        fisher[4 * i + k, 4 * j + n] += value
                        if i != j:
                            fisher[4 * j + n, 4 * i + k] += value
    return gradient, fisher
