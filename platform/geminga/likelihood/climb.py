"""Steps uphill of all sources of a patch at once.

Fisher scoring: steps from the expected curvature of lnL in (x, y, ln flux, index) of each source,
no longer than half the width of the PSF that the source is seen with, and taken only if lnL rises.
How the gradient of a source has changed along its last step corrects its curvature for the next.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64
from geminga.likelihood.amplitudes import log_ratio
from geminga.likelihood.curvature import equations_of
from geminga.likelihood.local_problem import PatchData, Sources
from geminga.likelihood.positive import solve
from geminga.sections import LikelihoodConfig

STEP_OF_CORE = 0.5
"""Longest step in position, of the PSF's effective width (`_core_deg`)."""
LONGEST_LN_FLUX = 1.0
LONGEST_INDEX = 0.5
GAIN = 1e-3
"""A source whose step promises less lnL than this stays where it is."""
DAMPING = 1e-3
TRIALS = 6
"""Steps tried, each shorter than the last, before a fit is left where it is."""
STIFFNESS = (0.5, 10.0)
"""Limits of the curvature along a step that raised lnL, relative to the expected one, ..."""
MOST = 100.0
"""... and along one that did not."""


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
    restless = sources.flux > 0.0
    moving = restless
    stiffness = np.ones(len(restless))
    equations = _equations(data, sources, mu, restless, settings)
    for _ in range(settings.fit_iterations):
        gradient, fisher = equations
        free = _free(gradient, sources, start, restless, settings)
        if not free.any():
            break
        gained = 0.0
        for _ in range(TRIALS):
            step = _solve(gradient, fisher, free, stiffness).reshape(-1, 4)
            gain = 0.5 * np.maximum(step * gradient.reshape(-1, 4), 0.0).sum(axis=1)
            moving = gain > least_gain
            if not moving.any():
                return sources, _settled(sources, start, settings)
            trial = _step(data, sources, start, step * moving[:, None], fisher, settings)
            new_mu = data.background + trial.images(data.layout)
            gained = log_ratio(data.counts, new_mu, mu)
            gained += _prior(trial.index, settings) - _prior(sources.index, settings)
            equations = _equations(data, trial, new_mu, restless, settings)
            found = _stiffness(sources, trial, gradient, equations[0], fisher, moving)
            if gained > 0.0:
                stiffness = np.where(moving, np.clip(found, *STIFFNESS), stiffness)
                break
            # Those that went too far go less far; all, if none is seen to.
            harder = moving & (found > 1.2 * stiffness)
            stiffness[harder] = np.minimum(np.maximum(found[harder], 2.0 * stiffness[harder]), MOST)
            stiffness[moving & ~harder] *= 1.0 if harder.any() else 4.0
            sources.stamps.draw(sources.x_deg, sources.y_deg, sources.index, moving)
        if gained <= 0.0:
            break
        sources, mu = trial, new_mu
        if gained < least_gain:
            return sources, _settled(sources, start, settings)
    return sources, _settled(sources, start, settings) & ~moving


def _equations(
    data: PatchData, sources: Sources, mu: Float64, restless: Bool, settings: LikelihoodConfig
) -> tuple[Float64, Float64]:
    """Return gradient (4 m) and expected curvature (4 m, 4 m) of lnL and the prior."""
    gradient, fisher = equations_of(data, sources, mu, restless)
    _add_prior(gradient, fisher, sources.index, settings)
    return gradient, fisher


def _stiffness(
    before: Sources,
    after: Sources,
    gradient: Float64,
    new_gradient: Float64,
    fisher: Float64,
    moving: Bool,
) -> Float64:
    """Return found over expected curvature along the step of each source; 1 where none was made.

    The photons of a faint source may bend lnL far more than such photons do on average.
    """
    m = len(moving)
    flux = np.log(np.maximum(after.flux, 1e-300) / np.maximum(before.flux, 1e-300))
    step = np.stack(
        [after.x_deg - before.x_deg, after.y_deg - before.y_deg, flux, after.index - before.index],
        axis=1,
    )
    lost = (step * (gradient - new_gradient).reshape(m, 4)).sum(axis=1)
    at = 4 * np.arange(m)[:, None] + np.arange(4)
    blocks = fisher[at[:, :, None], at[:, None, :]]
    expected = np.einsum("mi,mij,mj->m", step, blocks, step)
    return np.where(moving & (expected > 0.0), lost / np.maximum(expected, 1e-300), 1.0)


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


def _solve(gradient: Float64, fisher: Float64, free: Bool, stiffness: Float64) -> Float64:
    """Return the step (4 m,), zero where nothing may change.

    The curvature of each source is multiplied by its stiffness (m,).
    """
    step = np.zeros(len(gradient))
    rows = np.flatnonzero(free)
    root = np.sqrt(stiffness)[rows // 4]
    h = fisher[np.ix_(rows, rows)] * root * root[:, None]
    diagonal = np.einsum("ii->i", h)
    diagonal *= 1.0 + DAMPING
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
