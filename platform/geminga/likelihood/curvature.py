"""Slopes and curvatures of lnL in the parameters of all sources of a patch."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.compiled import compiled
from geminga.likelihood.local_problem import PatchData, Sources


def equations_of(
    data: PatchData, sources: Sources, mu: Float64, which: Bool
) -> tuple[Float64, Float64]:
    """Return gradient and expected curvature of lnL for the sources of a mask; `normal_equations`.

    `mu` (N,) are the expected counts with all sources.
    """
    stamps = sources.stamps
    return normal_equations(
        data.counts,
        mu,
        stamps.values,
        stamps.box,
        stamps.begin,
        sources.counts,
        sources.slope,
        data.layout,
        which,
    )


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


@compiled
def position_slopes(
    counts: Float64,
    mu: Float64,
    values: Float64,
    moved: Float64,
    box: Int64,
    begin: Int64,
    amplitude: Float64,
    layout: Int64,
) -> Float64:
    """Return slopes of lnL in each source's (x, y), (m, 2), where it alone has moved.

    `values` are the images at the places that `mu` was made with, `moved` those elsewhere.
    """
    result = np.zeros((len(box), 2))
    for s in range(len(box)):
        for c in range(layout.shape[1]):
            a = amplitude[s, c]
            at = begin[s, c]
            for row in range(box[s, c, 0], box[s, c, 1]):
                start = layout[1, c] + row * layout[0, c]
                for p in range(start + box[s, c, 2], start + box[s, c, 3]):
                    there = max(mu[p] + a * (moved[0, at] - values[0, at]), 1e-12)
                    residual = a * (counts[p] / there - 1.0)
                    result[s, 0] += residual * moved[1, at]
                    result[s, 1] += residual * moved[2, at]
                    at += 1
    return result
