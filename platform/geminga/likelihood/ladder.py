"""The fluxes at which a TS map is computed, and the maximum between them."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.compiled import compiled

STEP = 2.0
"""Ratio of neighbouring fluxes: the maximum is then found to 1 % of the TS; see `best_flux`."""
LOWEST_TS = 2.0
"""Expected TS of the faintest flux, where the background is low."""
HEADROOM = 2.0
"""The last flux over that of the highest TS expected: a source at the edge, or beside another that
is not in the background, has a lower TS for its flux."""
MOST_STEPS = 12
"""Backgrounds that differ more within a patch get wider steps."""


def flux_ladder(
    low: Float64, high: Float64, width: Float64, per_flux: Float64, top_ts: float
) -> Float64:
    """Return fluxes between barely noticed and certain, evenly spaced in the logarithm.

    Parameters
    ----------
    low, high : Float64 (C,)
        Background per pixel of each channel, where it is low and where it is high.
    width : Float64 (T, C)
        Pixels over which each template spreads, 1 / sum k^2.
    per_flux : Float64 (T, C)
        Counts per unit of flux.
    top_ts : float
        Expected TS where the background is high of the last flux but for `HEADROOM`.

    Returns
    -------
    Float64 (T, L)
        In the unit of 1 / `per_flux`; zeros for a template without counts in any channel.
    """
    ends = np.array(
        [
            (
                _flux_of_ts(low, width[t], per_flux[t], LOWEST_TS),
                HEADROOM * _flux_of_ts(high, width[t], per_flux[t], top_ts),
            )
            for t in range(len(per_flux))
        ]
    )
    seen = ends[:, 0] > 0
    if not seen.any():
        return np.zeros((len(per_flux), 2))
    ends[seen, 1] = np.maximum(ends[seen, 1], STEP * ends[seen, 0])
    span = float(np.log(ends[seen, 1] / ends[seen, 0]).max())
    steps = min(int(np.ceil(span / np.log(STEP))) + 1, MOST_STEPS)
    part = np.linspace(0.0, 1.0, steps)
    fluxes = np.zeros((len(per_flux), steps))
    # Templates' spans differ a little; all get the widest, downwards from their top.
    fluxes[seen] = ends[seen, 1:] * np.exp(-span * (1.0 - part))
    return fluxes


@compiled
def _flux_of_ts(background: Float64, width: Float64, per_flux: Float64, ts: float) -> float:
    """Return the flux whose expected TS over flat images of `width` pixels is `ts`; 0 for none."""
    if not np.any(per_flux > 0):
        return 0.0
    low, high = -300.0, 300.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        flux = np.exp(middle)
        total = 0.0
        for c in range(len(per_flux)):
            share = flux * per_flux[c] / (width[c] * background[c])
            # Below 1e-4 the difference would lose its digits.
            excess = 0.5 * share**2 if share < 1e-4 else (1 + share) * np.log1p(share) - share
            total += 2.0 * width[c] * background[c] * excess
        if total < ts:
            low = middle
        else:
            high = middle
    return float(np.exp(0.5 * (low + high)))


@compiled
def best_flux(fluxes: Float64, values: Float64) -> tuple[float, float]:
    """Return the flux of the highest likelihood ratio and its logarithm, (0, 0) if it is not above 0.

    Parameters
    ----------
    fluxes : Float64 (L,)
        Rising, L >= 2.
    values : Float64 (L,)
        ln of the likelihood ratio of each flux to no flux; concave, 0 at flux 0.

    Notes
    -----
    A cubic in the square root of the flux through the highest point, its neighbours and the
    next one is maximised; flux 0 counts as a point. Steps of a factor of two: off by less than
    1 % of the maximum for Poisson sums between few photons on no background and many on much.
    Nothing is known above the last flux: it is returned if the values still rise there.
    """
    count = len(fluxes)
    top = 0
    for i in range(1, count):
        if values[i] > values[top]:
            top = i
    # Point 0 is flux 0, so that the highest is point top + 1 of count + 1.
    first = min(top, count - 3) if count >= 3 else 0
    points = 4 if count >= 3 else 3
    x = np.zeros(4)
    y = np.zeros(4)
    for i in range(points):
        if first + i > 0:
            x[i] = np.sqrt(fluxes[first + i - 1])
            y[i] = values[first + i - 1]
    # Newton's divided differences.
    for order in range(1, points):
        for i in range(points - 1, order - 1, -1):
            y[i] = (y[i] - y[i - 1]) / (x[i] - x[i - order])
    low = 0.0 if top == 0 else np.sqrt(fluxes[top - 1])
    # The cubic's derivative is a z^2 + b z + c; falling through 0 there is the maximum.
    c3 = y[3] if points == 4 else 0.0
    a = 3.0 * c3
    b = 2.0 * (y[2] - c3 * (x[0] + x[1] + x[2]))
    c = y[1] - y[2] * (x[0] + x[1]) + c3 * (x[0] * x[1] + x[0] * x[2] + x[1] * x[2])
    inner = b * b - 4.0 * a * c
    if inner >= 0.0:
        root = np.sqrt(inner)
        z = 2.0 * c / (root - b) if b < 0.0 else (-b - root) / (2.0 * a if a != 0.0 else 1.0)
        if low <= z <= np.sqrt(fluxes[min(top + 1, count - 1)]):
            value = _newton(x, y, points, z)
            if value > max(values[top], 0.0):
                return z * z, value
    return (fluxes[top], values[top]) if values[top] > 0.0 else (0.0, 0.0)


@compiled
def _newton(x: Float64, coefficients: Float64, points: int, at: float) -> float:
    value = coefficients[points - 1]
    for i in range(points - 2, -1, -1):
        value = value * (at - x[i]) + coefficients[i]
    return float(value)
