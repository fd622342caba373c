"""Errors of fitted sources, from the curvature of lnL."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64, Int64
from geminga.compiled import compiled
from geminga.likelihood.curvature import equations_of, position_slopes
from geminga.likelihood.local_problem import PatchData, Sources
from geminga.likelihood.positive import inverse
from geminga.sections import LikelihoodConfig

CURVATURE_RATIO = (0.1, 4.0)
"""Limits of observed over expected curvature in position."""


def errors_of(
    data: PatchData, sources: Sources, mu: Float64, settings: LikelihoodConfig, rows: Int64
) -> tuple[Float64, Float64, Float64]:
    """Return errors of flux and index (n,) and covariances of position (n, 2, 2) of some rows."""
    m = len(sources.flux)
    shining = sources.flux > 0.0
    _, fisher = equations_of(data, sources, mu, shining)
    diagonal = np.einsum("ii->i", fisher)
    # No position or flux is less certain than this, so that the matrix has an inverse.
    diagonal[0::4] += 1.0 / settings.fit_max_shift_deg**2
    diagonal[1::4] += 1.0 / settings.fit_max_shift_deg**2
    diagonal[2::4] += 1e-4
    diagonal[3::4] += 1.0 / settings.fit_index_prior[1] ** 2
    covariance = inverse(fisher) if m else fisher
    variance = np.diagonal(covariance)
    flux_error = sources.flux * np.sqrt(variance[2::4])
    if not shining.all():
        flux_error[~shining] = one_sided(data, sources, mu)[~shining]
    at = 4 * rows[:, None] + np.arange(2)
    blocks = at[:, :, None], at[:, None, :]
    position = covariance[blocks]
    stretch = _stretch(data, sources, mu, fisher[blocks], position, rows)
    index_error = np.sqrt(variance[3::4])
    return flux_error[rows], index_error[rows], stretch @ position @ stretch.transpose(0, 2, 1)


def _stretch(
    data: PatchData,
    sources: Sources,
    mu: Float64,
    expected: Float64,
    covariance: Float64,
    rows: Int64,
) -> Float64:
    """Return matrices (n, 2, 2) that turn expected errors of position into observed ones.

    The photons of a faint source constrain its position better or worse than photons of such a
    source do on average, and less far out than at the maximum: the curvature is taken from the
    slopes of lnL one standard deviation to each side, all other parameters held. The matrix is
    E^-1/2 W^-1/2 E^1/2 with W = E^-1/2 O E^-1/2, of expected and observed curvature E and O.
    """
    moved = sources.stamps.copy()
    which = np.zeros(len(sources.flux), np.bool_)
    which[rows] = True
    x0, y0 = sources.x_deg, sources.y_deg
    observed = np.empty_like(expected)
    for axis in range(2):
        sigma = np.sqrt(covariance[:, axis, axis])
        shift = np.zeros(len(which))
        slopes = []
        for sign in (1.0, -1.0):
            shift[rows] = sign * sigma
            x, y = (x0 + shift, y0) if axis == 0 else (x0, y0 + shift)
            moved.draw(x, y, sources.index, which)
            slopes.append(
                position_slopes(
                    data.counts,
                    mu,
                    sources.stamps.values,
                    moved.values,
                    moved.box[rows],
                    moved.begin[rows],
                    sources.counts[rows],
                    data.layout,
                )
            )
        observed[:, axis] = (slopes[1] - slopes[0]) / (2.0 * sigma[:, None])
    observed = 0.5 * (observed + observed.transpose(0, 2, 1))
    value, vector = np.linalg.eigh(expected)
    root = vector * np.sqrt(value)[:, None] @ vector.transpose(0, 2, 1)
    back = vector / np.sqrt(value)[:, None] @ vector.transpose(0, 2, 1)
    ratio, vector = np.linalg.eigh(back @ observed @ back)
    ratio = np.clip(ratio, *CURVATURE_RATIO)
    middle = vector / np.sqrt(ratio)[:, None] @ vector.transpose(0, 2, 1)
    return np.asarray(back @ middle @ root)


def one_sided(data: PatchData, sources: Sources, mu: Float64) -> Float64:
    """Return the flux (m,) at which a source that is not there has lost 1/2 in lnL."""
    stamps = sources.stamps
    gradient, curvature = slope_and_curvature(
        data.counts, mu, stamps.values, stamps.box, stamps.begin, sources.per_flux, data.layout
    )
    return half_lost(gradient, curvature)


def half_lost(gradient: Float64, curvature: Float64) -> Float64:
    """Solve curvature e^2 / 2 - gradient e = 1 / 2 for e > 0, the gradient not positive."""
    g = np.minimum(gradient, 0.0)
    # The stable form: of no curvature, 1 / (2 |g|) is left.
    return np.asarray(1.0 / np.maximum(-g + np.sqrt(g * g + curvature), 1e-300))


@compiled
def slope_and_curvature(
    counts: Float64,
    mu: Float64,
    values: Float64,
    box: Int64,
    begin: Int64,
    per_unit: Float64,
    layout: Int64,
) -> tuple[Float64, Float64]:
    """Return the slope and the observed curvature of lnL in each amplitude, (m,) each."""
    slope, curvature = np.zeros(len(box)), np.zeros(len(box))
    for s in range(len(box)):
        for c in range(layout.shape[1]):
            at = begin[s, c]
            for row in range(box[s, c, 0], box[s, c, 1]):
                start = layout[1, c] + row * layout[0, c]
                for p in range(start + box[s, c, 2], start + box[s, c, 3]):
                    v = per_unit[s, c] * values[0, at]
                    slope[s] += (counts[p] / mu[p] - 1.0) * v
                    curvature[s] += counts[p] * (v / mu[p]) ** 2
                    at += 1
    return slope, curvature
