"""What a fit says of each source: errors, TS, photons of each channel, goodness."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.compiled import compiled
from geminga.likelihood.amplitudes import fit_amplitudes, overlaps
from geminga.likelihood.local_problem import PatchData, Sources
from geminga.likelihood.positive import inverse
from geminga.likelihood.removal import source_ts, ts_alone
from geminga.likelihood.stamps import Stamps, add_sources
from geminga.likelihood.uncertainty import errors_of, half_lost, slope_and_curvature
from geminga.sections import LikelihoodConfig

CORE_SHARE = 0.05
"""Pixels enter a source's goodness where it has this part of its brightest pixel."""


@dataclass(frozen=True, eq=False)
class PatchFit:
    """Sources of one patch after a fit; m sources, C channels.

    Attributes
    ----------
    x_deg, y_deg : Float64 (m,)
        Plane coordinates, degrees.
    flux, flux_error : Float64 (m,)
        ph/cm2/s between 1 and 1000 GeV; where the flux is zero, the error is the flux at which
        lnL has fallen by 1/2.
    index, index_error : Float64 (m,)
        Photon index; the prior's width is part of the error.
    ts : Float64 (m,)
        2 ln of the likelihood ratio to the source's absence, neighbours within 1 deg refitted in
        flux, those within 0.3 deg in everything. The prior is no part of it.
    position_covariance : Float64 (m, 2, 2)
        Of (x, y), degrees squared, all other parameters of all sources free.
    counts, counts_error : Float64 (m, C)
        Counts fitted to each channel by itself, all sources free; errors like `flux_error`.
    band_flux, band_flux_error : Float64 (m, C)
        The same in ph/cm2/s between the limits of each channel.
    goodness : Float64 (m,)
        Sum of weighted ((n - mu)^2 - mu) over the pixels where the source shines, in standard
        deviations: about normal for a point source, large for what is not one.
    converged : Bool (m,)
        Came to rest, within the distance from its start that is allowed.
    model_images : tuple of Float32 (n_c, n_c)
        Expected counts of all sources together.
    """

    x_deg: Float64
    y_deg: Float64
    flux: Float64
    flux_error: Float64
    index: Float64
    index_error: Float64
    ts: Float64
    position_covariance: Float64
    counts: Float64
    counts_error: Float64
    band_flux: Float64
    band_flux_error: Float64
    goodness: Float64
    converged: Bool
    model_images: tuple[Float32, ...]

    def __len__(self) -> int:
        return len(self.x_deg)

    def part(self, rows: Int64) -> PatchFit:
        """Return some of the sources; the model images stay those of all."""
        chosen = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name != "model_images"
        }
        return PatchFit(**chosen, model_images=self.model_images)


def measure(
    data: PatchData,
    sources: Sources,
    converged: Bool,
    settings: LikelihoodConfig,
    rows: Int64 | None = None,
) -> PatchFit:
    """Return all that is told of sources at their best fit, or of some of them (by their rows).

    Every source takes part in the errors and counts of the others, whether it is told of or not.
    """
    which = np.arange(len(sources.flux)) if rows is None else rows
    image = sources.images(data.layout)
    mu = data.background + image
    flux_error, index_error, covariance = errors_of(data, sources, mu, settings, which)
    counts, counts_error = (found[which] for found in channel_counts(data, sources))
    share = data.spectra.band_share(sources.index, data.model.edges_mev)
    per_count = (share / np.maximum(sources.per_flux, np.finfo(float).tiny))[which]
    stamps = sources.stamps
    goodness = _goodness(
        data.counts, mu, stamps.values, stamps.box[which], stamps.begin[which], data.layout
    )
    return PatchFit(
        sources.x_deg[which],
        sources.y_deg[which],
        sources.flux[which],
        flux_error,
        sources.index[which],
        index_error,
        source_ts(data, sources, mu, settings, which),
        covariance,
        counts,
        counts_error,
        counts * per_count,
        counts_error * per_count,
        goodness,
        converged[which],
        _model_images(image, data.layout),
    )


def outline(data: PatchData, sources: Sources, converged: Bool) -> PatchFit:
    """Return what costs next to nothing to tell: errors and channels are not a number.

    The TS is that of each source with all others as they are, and so too high where it has
    neighbours.
    """
    image = sources.images(data.layout)
    m, channels = sources.counts.shape
    one, each = np.full(m, np.nan), np.full((m, channels), np.nan)
    return PatchFit(
        sources.x_deg,
        sources.y_deg,
        sources.flux,
        one,
        sources.index,
        one,
        ts_alone(data, sources, data.background + image),
        np.full((m, 2, 2), np.nan),
        each,
        each,
        each,
        each,
        one,
        converged,
        _model_images(image, data.layout),
    )


def _model_images(image: Float64, layout: Int64) -> tuple[Float32, ...]:
    return tuple(
        image[start : start + n * n].reshape(n, n).astype(np.float32) for n, start in layout.T
    )


def channel_counts(data: PatchData, sources: Sources) -> tuple[Float64, Float64]:
    """Fit the counts of all sources in each channel by itself; return them and errors (m, C)."""
    start = sources.counts
    result, error = np.zeros_like(start), np.zeros_like(start)
    unit = np.ones((len(start), 1))
    for c, (n, begin) in enumerate(data.layout.T):
        pixels = slice(begin, begin + n * n)
        layout = np.array([[n], [0]], dtype=np.int64)
        stamps = Stamps(
            sources.stamps.model,
            np.ascontiguousarray(sources.stamps.box[:, c : c + 1]),
            np.ascontiguousarray(sources.stamps.begin[:, c : c + 1]),
            sources.stamps.values,
        )
        counts, base = data.counts[pixels], data.background[pixels]
        fitted = fit_amplitudes(counts, base, stamps, unit, start[:, c], layout)
        mu = base.copy()
        add_sources(mu, stamps.values, stamps.box, stamps.begin, fitted[:, None], layout)
        gradient, observed = slope_and_curvature(
            counts, mu, stamps.values, stamps.box, stamps.begin, unit, layout
        )
        result[:, c], error[:, c] = fitted, half_lost(gradient, observed)
        rows = np.flatnonzero(fitted > 0.0)
        if len(rows):
            expected = overlaps(
                1.0 / mu, stamps.values, stamps.box[rows], stamps.begin[rows], unit[rows], layout
            )
            error[rows, c] = np.sqrt(np.diagonal(inverse(expected)))
    return result, error


@compiled
def _goodness(
    counts: Float64, mu: Float64, values: Float64, box: Int64, begin: Int64, layout: Int64
) -> Float64:
    """Return `PatchFit.goodness`.

    The weight 1 / (mu + 1/2) is close to the best for (n - mu)^2 - mu, whose variance is
    2 mu^2 + mu, and lets no pixel of few expected counts decide alone.
    """
    result = np.zeros(len(box))
    for s in range(len(box)):
        total, variance = 0.0, 0.0
        for c in range(layout.shape[1]):
            wide = box[s, c, 3] - box[s, c, 2]
            size = (box[s, c, 1] - box[s, c, 0]) * wide
            if size <= 0:
                continue
            own = values[0, begin[s, c] : begin[s, c] + size]
            least = CORE_SHARE * own.max()
            for k in range(size):
                if own[k] < least:
                    continue
                row, column = box[s, c, 0] + k // wide, box[s, c, 2] + k % wide
                p = layout[1, c] + row * layout[0, c] + column
                w = 1.0 / (mu[p] + 0.5)
                total += w * ((counts[p] - mu[p]) ** 2 - mu[p])
                variance += w * w * (2.0 * mu[p] ** 2 + mu[p])
        if variance > 0.0:
            result[s] = total / np.sqrt(variance)
    return result
