"""The exact TS of one source at a fixed place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from geminga.likelihood.amplitudes import fit_amplitudes, log_ratio
from geminga.likelihood.local_problem import PatchData, patch_data, place_sources
from geminga.likelihood.source_model import SourceModel, Spectra

INDEX_TRIALS = 9


@dataclass(frozen=True)
class PlaceTs:
    """The likelihood ratio of a source at a place.

    Attributes
    ----------
    ts : float
        2 ln of the ratio of the likelihoods with and without it.
    flux : float
        ph/cm2/s between 1 and 1000 GeV.
    index : float
    """

    ts: float
    flux: float
    index: float


def ts_of(
    counts: Sequence[ArrayLike],
    background: Sequence[ArrayLike],
    x_deg: float,
    y_deg: float,
    model: SourceModel,
    spectra: Spectra,
    *,
    index: float | None = None,
    index_limits: tuple[float, float] = (1.0, 5.0),
    containment_counts: float = 1e3,
) -> PlaceTs:
    """Return the profile TS at a place: flux and photon index free, or the flux alone.

    Parameters
    ----------
    counts, background : sequence of (n_c, n_c), one per channel
    x_deg, y_deg : float
        Plane coordinates, degrees.
    model, spectra : SourceModel, Spectra
    index : float, optional
        Fixed photon index.
    index_limits : (float, float)
        Between which a free index lies.
    containment_counts : float
        The image of the source holds all but `source_model.TAIL_COUNTS` of so many counts.
    """
    data = patch_data(counts, background, model, spectra)
    if index is not None:
        return _at_index(data, x_deg, y_deg, index, containment_counts)
    trials = np.linspace(*index_limits, INDEX_TRIALS)
    found = [_at_index(data, x_deg, y_deg, float(g), containment_counts) for g in trials]
    best = int(np.argmax([f.ts for f in found]))
    if found[best].ts == 0.0:
        return found[best]
    refined = minimize_scalar(
        lambda g: -_at_index(data, x_deg, y_deg, float(g), containment_counts).ts,
        bounds=(trials[max(best - 1, 0)], trials[min(best + 1, len(trials) - 1)]),
        method="bounded",
        options={"xatol": 1e-3},
    )
    last = _at_index(data, x_deg, y_deg, float(refined.x), containment_counts)
    return last if last.ts > found[best].ts else found[best]


def _at_index(data: PatchData, x: float, y: float, index: float, holds: float) -> PlaceTs:
    per_flux, _ = data.spectra.at(np.array([index]))
    start = np.array([holds / per_flux.min()])
    source = place_sources(data, np.array([x]), np.array([y]), start, np.array([index]))
    flux = fit_amplitudes(
        data.counts, data.background, source.stamps, per_flux, 0.0 * start, data.layout
    )
    mu = data.background + source.images(data.layout, flux[:, None] * per_flux)
    gain = log_ratio(data.counts, mu, data.background)
    return PlaceTs(max(2.0 * gain, 0.0), float(flux[0]), index)
