"""Steps uphill of all sources of a patch at once.

Fisher scoring with Levenberg and Marquardt's damping: steps from the expected curvature of lnL in
(x, y, ln flux, index) of each source, no longer than half the width of the PSF that the source is
seen with, and taken only if lnL rises.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64
from geminga.likelihood.amplitudes import log_ratio
from geminga.likelihood.curvature import normal_equations
from geminga.likelihood.local_problem import PatchData, Sources
from geminga.likelihood.positive import solve
from geminga.sections import LikelihoodConfig

STEP_OF_CORE = 0.5
"""Longest step in position, of the PSF's effective width (`_core_deg`)."""
LONGEST_LN_FLUX = 1.0
LONGEST_INDEX = 0.5
GAIN = 1e-3
"""A source whose step promises less lnL than this stays where it is."""
FIRST_DAMPING = 1e-3
LAST_DAMPING = 1e4


def climb(
    data: PatchData,
    sources: Sources,
    start: tuple[Float64, Float64],
    settings: LikelihoodConfig,
    least_gain: float = GAIN,
) -> tuple[Sources, Bool]:
    """Step uphill until no source gains anything.

    Parameters
    ----------
    data : PatchData
    sources : Sources
        Where to start. Their images are drawn over.
    start : Float64 (m,), Float64 (m,)
        Plane coordinates that none may go farther from than ``settings.fit_max_shift_deg``.
    settings : LikelihoodConfig
    least_gain : float
        Sources that promise to gain less lnL by a step are at rest.

    Returns
    -------
    sources : Sources
        Those of flux zero as they were.
    converged : Bool (m,)
        Came to rest, within that distance.
    """
    mu = data.background + sources.images(data.layout)
    damping = FIRST_DAMPING
    restless = sources.flux > 0.0
    moving = restless
    for _ in range(settings.fit_iterations):
        gradient, fisher = normal_equations(
            data.counts,
            mu,
            sources.stamps.values,
            sources.stamps.box,
            sources.stamps.begin,
            sources.counts,
            sources.slope,
            data.layout,
            restless,
        )
        _add_prior(gradient, fisher, sources.index, settings)
        free = _free(gradient, sources, start, restless, settings)
        if not free.any():
            break
        rises = False
        while damping <= LAST_DAMPING:
            step = _solve(gradient, fisher, free, damping).reshape(-1, 4)
            gain = 0.5 * np.maximum(step * gradient.reshape(-1, 4), 0.0).sum(axis=1)
            moving = gain > least_gain
            if not moving.any():
                return sources, _settled(sources, start, settings)
            trial = _step(data, sources, start, step * moving[:, None], fisher, settings)
            new_mu = data.background + trial.images(data.layout)
            gained = log_ratio(data.counts, new_mu, mu)
            gained += _prior(trial.index, settings) - _prior(sources.index, settings)
            if gained > 0.0:
                rises = True
                break
            sources.stamps.draw(sources.x_deg, sources.y_deg, sources.index, moving)
            damping *= 10.0
        if not rises:
            break
        sources, mu = trial, new_mu
        damping = max(damping / 10.0, 1e-9)
        if gained < least_gain:
            return sources, _settled(sources, start, settings)
    return sources, _settled(sources, start, settings) & ~moving


def _settled(sources: Sources, start: tuple[Float64, Float64], settings: LikelihoodConfig) -> Bool:
    """Return which sources lie within the distance they may go."""
    shift = np.hypot(sources.x_deg - start[0], sources.y_deg - start[1])
    return np.asarray(shift < 0.999 * settings.fit_max_shift_deg)


def _prior(index: Float64, settings: LikelihoodConfig) -> float:
    mean, width = settings.fit_index_prior
    return float(-0.5 * (((index - mean) / width) ** 2).sum())


def _add_prior(
    gradient: Float64, fisher: Float64, index: Float64, settings: LikelihoodConfig
) -> None:
    mean, width = settings.fit_index_prior
    at = np.arange(3, len(gradient), 4)
    gradient[at] -= (index - mean) / width**2
    fisher[at, at] += 1.0 / width**2


def _free(
    gradient: Float64,
    sources: Sources,
    start: tuple[Float64, Float64],
    restless: Bool,
    settings: LikelihoodConfig,
) -> Bool:
    """Return which parameters (4 m,) may change: not those that push against their limits."""
    free = np.repeat(restless[:, None], 4, axis=1)
    g = gradient.reshape(-1, 4)
    dx, dy = sources.x_deg - start[0], sources.y_deg - start[1]
    far = np.hypot(dx, dy) >= 0.999 * settings.fit_max_shift_deg
    outward = far & (g[:, 0] * dx + g[:, 1] * dy > 0.0)
    free[outward, :2] = False
    low, high = settings.fit_index_limits
    free[(sources.index <= low) & (g[:, 3] < 0.0), 3] = False
    free[(sources.index >= high) & (g[:, 3] > 0.0), 3] = False
    return free.ravel()


def _solve(gradient: Float64, fisher: Float64, free: Bool, damping: float) -> Float64:
    """Return the damped step (4 m,), zero where nothing may change."""
    step = np.zeros(len(gradient))
    rows = np.flatnonzero(free)
    h = fisher[np.ix_(rows, rows)]
    diagonal = np.einsum("ii->i", h)
    diagonal *= 1.0 + damping
    diagonal += 1e-9
    step[rows] = solve(h, gradient[rows])
    return step


def _core_deg(fisher: Float64) -> Float64:
    """Return the effective width of the PSF each source is seen with, degrees (m,).

    The information on the position of a source is that on ln flux, over the square of this.
    """
    d = np.diagonal(fisher).reshape(-1, 4)
    return np.asarray(np.sqrt(2.0 * d[:, 2] / np.maximum(d[:, 0] + d[:, 1], 1e-30)))


def _step(
    data: PatchData,
    sources: Sources,
    start: tuple[Float64, Float64],
    step: Float64,
    fisher: Float64,
    settings: LikelihoodConfig,
) -> Sources:
    """Return the sources after a step (m, 4), cut to what is trusted and allowed."""
    length = np.hypot(step[:, 0], step[:, 1])
    longest = STEP_OF_CORE * _core_deg(fisher)
    scale = np.minimum(1.0, longest / np.maximum(length, 1e-30))
    dx = sources.x_deg + scale * step[:, 0] - start[0]
    dy = sources.y_deg + scale * step[:, 1] - start[1]
    back = np.minimum(1.0, settings.fit_max_shift_deg / np.maximum(np.hypot(dx, dy), 1e-30))
    low, high = settings.fit_index_limits
    index = sources.index + np.clip(step[:, 3], -LONGEST_INDEX, LONGEST_INDEX)
    change = np.exp(np.clip(step[:, 2], -LONGEST_LN_FLUX, LONGEST_LN_FLUX))
    moving = (step != 0.0).any(axis=1)
    return sources.moved(
        data,
        np.where(moving, start[0] + back * dx, sources.x_deg),
        np.where(moving, start[1] + back * dy, sources.y_deg),
        sources.flux * change,
        np.clip(index, low, high),
        moving,
    )
