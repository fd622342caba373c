"""The TS of fitted sources: what the likelihood loses without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.compiled import compiled
from geminga.likelihood.amplitudes import fit_amplitudes, log_ratio
from geminga.likelihood.climb import climb
from geminga.likelihood.local_problem import PatchData, Sources
from geminga.likelihood.source_model import Spectra
from geminga.likelihood.stamps import Stamps, add_sources
from geminga.sections import LikelihoodConfig

NEIGHBOUR_DEG = 1.0
"""Sources this close take over what they can of a source that is removed, by their flux."""
CLOSE_DEG = 0.3
"""Brighter sources this close do so by their position and index too: one source, taken for two,
has no second half that counts, but it has the first."""


def ts_alone(data: PatchData, sources: Sources, mu: Float64) -> Float64:
    """Return the TS (m,) of each source with all others as they are."""
    stamps, counts = sources.stamps, sources.counts
    found = [
        _ts_alone(
            data.counts, mu, stamps.values, stamps.box[s], stamps.begin[s], counts[s], data.layout
        )
        for s in range(len(counts))
    ]
    return np.maximum(np.array(found, np.float64), 0.0)


def source_ts(
    data: PatchData, sources: Sources, mu: Float64, settings: LikelihoodConfig, rows: Int64
) -> Float64:
    """Return the TS of the sources of some rows, neighbours refitted without them.

    Parameters
    ----------
    data : PatchData
    sources : Sources
        At their best fit.
    mu : Float64 (N,)
        Expected counts with all of them.
    settings : LikelihoodConfig
    rows : Int64 (n,)

    Returns
    -------
    Float64 (n,)
    """
    counts = sources.counts
    total = counts.sum(axis=1)
    result = np.zeros(len(counts))
    apart = np.hypot(sources.x_deg[:, None] - sources.x_deg, sources.y_deg[:, None] - sources.y_deg)
    apart[:, sources.flux == 0.0] = np.inf
    np.fill_diagonal(apart, np.inf)
    stamps = sources.stamps
    for s in rows[sources.flux[rows] > 0.0]:
        near = np.flatnonzero(apart[s] < NEIGHBOUR_DEG)
        if not len(near):
            own = stamps.box[s], stamps.begin[s], counts[s]
            result[s] = _ts_alone(data.counts, mu, stamps.values, *own, data.layout)
            continue
        moving = (apart[s, near] < CLOSE_DEG) & (total[near] > total[s])
        without = _without(data, sources, mu, int(s), near, moving, settings)
        result[s] = 2.0 * log_ratio(data.counts, mu, without)
    return np.maximum(result[rows], 0.0)


def _without(
    data: PatchData,
    sources: Sources,
    mu: Float64,
    removed: int,
    near: Int64,
    close: Bool,
    settings: LikelihoodConfig,
) -> Float64:
    """Return the expected counts (N,) of the best fit without a source."""
    stamps, counts = sources.stamps, sources.counts
    rows = np.append(near, removed)
    base = mu.copy()
    add_sources(
        base, stamps.values, stamps.box[rows], stamps.begin[rows], -counts[rows], data.layout
    )
    np.maximum(base, data.background, out=base)
    around = _only(sources, near)
    around.flux = fit_amplitudes(
        data.counts, base, around.stamps, around.per_flux, around.flux, data.layout
    )
    if not close.any():
        return base + around.images(data.layout)
    far = _only(around, np.flatnonzero(~close))
    far.add_to(base, data.layout, far.counts)
    moving = _only(around, np.flatnonzero(close))
    moving.stamps = moving.stamps.copy()
    spectra = data.spectra
    if len(spectra.coefficients) > 1:
        spectra = Spectra(spectra.index, spectra.coefficients[near[close]])
    place = moving.x_deg, moving.y_deg
    moved, _ = climb(replace(data, background=base, spectra=spectra), moving, place, settings)
    return base + moved.images(data.layout)


def _only(sources: Sources, rows: Int64) -> Sources:
    """Return some of the sources; they share the images."""
    stamps = sources.stamps
    return Sources(
        sources.x_deg[rows],
        sources.y_deg[rows],
        sources.flux[rows],
        sources.index[rows],
        sources.per_flux[rows],
        sources.slope[rows],
        Stamps(stamps.model, stamps.box[rows], stamps.begin[rows], stamps.values),
    )


@compiled
def _ts_alone(
    counts: Float64,
    mu: Float64,
    values: Float64,
    box: Int64,
    begin: Int64,
    amplitude: Float64,
    layout: Int64,
) -> float:
    total = 0.0
    for c in range(layout.shape[1]):
        at = begin[c]
        for row in range(box[c, 0], box[c, 1]):
            start = layout[1, c] + row * layout[0, c]
            for p in range(start + box[c, 2], start + box[c, 3]):
                own = amplitude[c] * values[0, at]
                if counts[p] > 0.0:
                    total -= counts[p] * np.log1p(-own / mu[p])
                total -= own
                at += 1
    return 2.0 * total
