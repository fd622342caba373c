"""Poisson fits of the sources in one patch: positions, fluxes and photon indices together.

Fluxes alone are a convex problem (`amplitudes`); everything together is fitted in steps uphill
from there (`climb`). The photon index has a Gaussian prior, which keeps sources of a few photons
near what most sources are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from geminga.arrays import Bool, Float64
from geminga.likelihood.amplitudes import fit_amplitudes
from geminga.likelihood.climb import GAIN, climb
from geminga.likelihood.local_problem import PatchData, Sources, patch_data, place_sources
from geminga.likelihood.measure import PatchFit, measure
from geminga.likelihood.source_model import (
    LEAST_CONTAINMENT,
    TAIL_COUNTS,
    SourceModel,
    Spectra,
)
from geminga.sections import LikelihoodConfig

ROUNDS = 2
"""Fits with images laid out anew for the fluxes found, ..."""
GROWTH = 1.2
"""... if any has grown by more than this: images hold all but some counts."""
ROUGH_GAIN = 0.1
"""lnL that one more step of a source must promise in a fit that is not the last."""


def fit_patch(
    counts: Sequence[ArrayLike],
    background: Sequence[ArrayLike],
    x_deg: Float64,
    y_deg: Float64,
    flux: Float64,
    index: Float64,
    model: SourceModel,
    spectra: Spectra,
    settings: LikelihoodConfig,
) -> PatchFit:
    """Fit all sources of a patch.

    Parameters
    ----------
    counts, background : sequence of (n_c, n_c), one per channel
        Photons, and expected counts of everything but these sources.
    x_deg, y_deg : Float64 (m,)
        Plane coordinates to start from, degrees.
    flux, index : Float64 (m,)
        First guesses: ph/cm2/s between 1 and 1000 GeV, photon index. A flux of zero is as good
        as any.
    model : SourceModel
        From `make_source_model`.
    spectra : Spectra
        From `make_spectra`, for the middle of the patch or for each source.
    settings : LikelihoodConfig
        Its fields ``fit_...`` are used.

    Returns
    -------
    PatchFit
        In the order given. A source whose flux comes out zero stays at its start.

    Raises
    ------
    ValueError
        If shapes do not agree, numbers are not finite, or the spectra do not reach the limits
        of the index.
    """
    data = patch_data(counts, background, model, spectra)
    sources, converged = best_fit(data, x_deg, y_deg, flux, index, settings)
    return measure(data, sources, converged, settings)


def best_fit(
    data: PatchData,
    x_deg: Float64,
    y_deg: Float64,
    flux: Float64,
    index: Float64,
    settings: LikelihoodConfig,
    to_the_end: bool = True,
) -> tuple[Sources, Bool]:
    """Fit all sources of a patch; see `fit_patch`.

    Parameters
    ----------
    data : PatchData
    x_deg, y_deg, flux, index : Float64 (m,)
        Where to start.
    settings : LikelihoodConfig
    to_the_end : bool
        Otherwise the fit ends where little is left to gain: for what is fitted again anyway.

    Returns
    -------
    sources : Sources
    converged : Bool (m,)
    """
    low, high = settings.fit_index_limits
    spectra = data.spectra
    if low < spectra.index[0] - 1e-9 or high > spectra.index[-1] + 1e-9:
        raise ValueError(
            f"spectra for indices {spectra.index[0]:g} to {spectra.index[-1]:g}, "
            f"fits from {low:g} to {high:g}"
        )
    sources = place_sources(data, x_deg, y_deg, flux, np.clip(index, low, high))
    start = sources.x_deg, sources.y_deg
    converged = np.ones(len(sources.flux), np.bool_)
    rounds, gain = (ROUNDS, GAIN) if to_the_end else (1, ROUGH_GAIN)
    for _ in range(rounds if len(converged) else 0):
        fluxes = refit_fluxes(data, sources)
        sources = place_sources(data, sources.x_deg, sources.y_deg, fluxes, sources.index)
        laid_out = sources.counts
        sources, converged = climb(data, sources, start, settings, gain)
        grown = sources.counts > np.maximum(
            GROWTH * laid_out, TAIL_COUNTS / (1 - LEAST_CONTAINMENT)
        )
        if not grown.any():
            break
    return sources, converged


def refit_fluxes(data: PatchData, sources: Sources) -> Float64:
    """Return the fluxes (m,) that fit best at the places and indices there are."""
    return fit_amplitudes(
        data.counts, data.background, sources.stamps, sources.per_flux, sources.flux, data.layout
    )
