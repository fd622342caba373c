"""Figures of one part of the sky as functions of the bootstrap's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from geminga.arrays import Bool, Float64, Int64
from geminga.evaluation.bootstrap import Units
from geminga.evaluation.ranked import RankedList

FINE_PER_DECADE = 50
"""Bins of the monotone fit of completeness; finer than any feature of the curve."""

CURVE_POINTS = 60
SCORE_BINS = 12


@dataclass(frozen=True)
class Latitude:
    """Part of the sky with low <= |b| < high (90 inclusive), in degrees."""

    name: str
    low_deg: float
    high_deg: float

    def holds(self, lat_deg: Float64) -> Bool:
        """Return which latitudes lie inside."""
        b = np.abs(lat_deg)
        return (b >= self.low_deg) & ((b < self.high_deg) | (self.high_deg >= 90.0))


LATITUDES = (
    Latitude("all", 0.0, 90.0),
    Latitude("|b| > 20", 20.0, 90.0),
    Latitude("|b| 10-20", 10.0, 20.0),
    Latitude("|b| < 10", 0.0, 10.0),
    Latitude("|b| < 20", 0.0, 20.0),
)


class Part:
    """A search in one part of the sky, ready to be weighted.

    Detections and sources each belong to the part they lie in themselves; the score cut at a
    purity is that of the part.

    Attributes
    ----------
    sources, detections : int
        Numbers in the part.
    curve_cuts : Float64 (K,)
        Cuts of the curve over the score, falling; at most CURVE_POINTS.
    score_edges, score_bins : Float64 (S + 1,), int
        Edges and number of score bins with about equal numbers of detections.
    source_counts : mapping
        Sources per bin, by column of `edges`.
    detection_columns : tuple of str
        Columns of `edges` that the detections have themselves.
    """

    def __init__(
        self,
        ranked: RankedList,
        units: Units,
        latitude: Latitude,
        purities: Sequence[float],
        levels: Sequence[float],
        edges: dict[str, Float64],
    ) -> None:
        d, s = ranked.detections, ranked.sources
        d = d[latitude.holds(d["lat_deg"].to_numpy(np.float64))]
        d = d.iloc[np.argsort(-d["score"].to_numpy(np.float64), kind="stable")]
        s = s[latitude.holds(s["lat_deg"].to_numpy(np.float64))]
        self.detections, self.sources = len(d), len(s)
        self.purities, self.levels, self.edges = tuple(purities), tuple(levels), edges
        self._d_unit, self._s_unit = units.of(d), units.of(s)
        self._score = d["score"].to_numpy(np.float64)
        self._true = d["is_true"].to_numpy(np.float64)
        self._duplicate = d["is_duplicate"].to_numpy(np.float64)
        # Where a cut may lie: after the last of equal scores.
        self._ends = np.flatnonzero(np.append(self._score[1:] != self._score[:-1], True)[: len(d)])
        self._found = s["found_score"].to_numpy(np.float64)
        self._s_bins = {name: _bins(s, name, edges[name]) for name in edges}
        self.source_counts = {
            name: np.bincount(bins, minlength=len(edges[name]))[:-1]
            for name, bins in self._s_bins.items()
        }
        self.detection_columns = tuple(
            name for name in edges if name in d.columns and d[name].notna().any()
        )
        self._d_bins = {name: _bins(d, name, edges[name]) for name in self.detection_columns}
        kept = self._ends[_spread(len(self._ends), CURVE_POINTS)]
        self.curve_cuts, self._curve = self._score[kept], kept
        self.score_edges = np.unique(self._score[_spread(len(d), SCORE_BINS + 1)])
        if len(self.score_edges) == 1:  # all scores are equal
            self.score_edges = np.repeat(self.score_edges, 2)
        self.score_bins = max(len(self.score_edges) - 1, 0)
        place = np.searchsorted(self.score_edges, self._score, side="right") - 1
        self._score_bin = np.clip(place, 0, max(self.score_bins - 1, 0))
        flux = s["s1"].to_numpy(np.float64)
        self._lit = np.isfinite(flux) & (flux > 0)
        self._log_flux = np.log10(flux[self._lit])
        fine = np.floor(self._log_flux * FINE_PER_DECADE).astype(np.int64)
        _, self._fine = np.unique(fine, return_inverse=True)
        number = np.bincount(self._fine)
        self._fine_x = np.bincount(self._fine, self._log_flux) / np.maximum(number, 1)

    def cut(self, weights: Float64, purity: float) -> float:
        """Return the loosest cut at which the purity is at least `purity`; inf if none is."""
        true, every = self._above(weights)
        good = np.flatnonzero((every > 0) & (true >= purity * every * (1.0 - 1e-12)))
        return float(self._score[self._ends[good[-1]]]) if len(good) else np.inf

    def _above(self, weights: Float64) -> tuple[Float64, Float64]:
        w = weights[self._d_unit]
        return np.cumsum(w * self._true)[self._ends], np.cumsum(w)[self._ends]

    def figures(self, weights: Float64) -> dict[str, Float64]:
        """Return every figure of the part, by name; ``<purity>/...`` those at a working point."""
        w_d, w_s = weights[self._d_unit], weights[self._s_unit]
        total = w_s.sum()
        out: dict[str, Float64] = {}
        for purity in self.purities:
            cut = self.cut(weights, purity)
            key, kept = f"{purity:g}", w_d * (self._score >= cut)
            found = w_s * ((self._found >= cut) & (self._found > -np.inf))
            out[f"{key}/cut"] = np.array(cut)
            out[f"{key}/detections"] = kept.sum()
            out[f"{key}/purity"] = _share((kept * self._true).sum(), kept.sum())
            out[f"{key}/duplicates"] = (kept * self._duplicate).sum()
            out[f"{key}/duplicate_share"] = _share(out[f"{key}/duplicates"], kept.sum())
            out[f"{key}/completeness"] = _share(found.sum(), total)
            for name, place in self._s_bins.items():
                size = len(self.edges[name])
                n = _sums(place, w_s, size)[:-1]
                out[f"{key}/completeness/{name}"] = _share(_sums(place, found, size)[:-1], n)
            for name, place in self._d_bins.items():
                size = len(self.edges[name])
                n = _sums(place, kept, size)[:-1]
                out[f"{key}/detections/{name}"] = n
                true = _sums(place, kept * self._true, size)[:-1]
                out[f"{key}/purity/{name}"] = _share(true, n)
            out[f"{key}/crossings"] = self._crossings(w_s[self._lit], found[self._lit])
        true, every = np.cumsum(w_d * self._true), np.cumsum(w_d)
        out["curve/purity"] = _share(true[self._curve], every[self._curve])
        order = np.argsort(-self._found, kind="stable")
        gained = np.append(0.0, np.cumsum(w_s[order]))
        reach = np.searchsorted(-self._found[order], -self.curve_cuts, side="right")
        out["curve/completeness"] = _share(gained[reach], np.full(len(reach), total))
        bins = self.score_bins
        n = _sums(self._score_bin, w_d, bins)
        out["score/detections"] = n
        out["score/purity"] = _share(_sums(self._score_bin, w_d * self._true, bins), n)
        return out

    def _crossings(self, weight: Float64, found: Float64) -> Float64:
        bins = len(self._fine_x)
        return flux_crossings(
            self._fine_x,
            _sums(self._fine, weight, bins),
            _sums(self._fine, found, bins),
            self.levels,
        )


def flux_crossings(
    log_flux: Float64, weight: Float64, found: Float64, levels: Sequence[float]
) -> Float64:
    """Return the flux at which completeness reaches each level and stays there.

    Completeness is fitted as a function that never falls with flux (isotonic least squares,
    SciPy), weighted by the number of sources. Between its steps it is interpolated
    linearly in the logarithm: from the brightest bin of the last step below a level to the
    faintest bin of the first step at or above it.

    Parameters
    ----------
    log_flux : Float64 (n,)
        Decimal logarithm of the flux of each fine bin, rising.
    weight, found : Float64 (n,)
        Weighted sources and found sources in each.
    levels : sequence of float
        Completeness asked for, L levels.

    Returns
    -------
    Float64 (L,)
        Flux; NaN where the level is never reached; the faintest flux at hand where completeness
        is there already (the crossing lies below).
    """
    held = weight > 0
    x, w = log_flux[held], weight[held]
    if not len(x):
        return np.full(len(levels), np.nan)
    fit = isotonic_regression(found[held] / w, weights=w).x
    # Equal within rounding is reached.
    fit = np.asarray(fit, dtype=np.float64) + 1e-12
    out = []
    for level in levels:
        first = int(np.searchsorted(fit, level))
        if first == len(fit):
            out.append(np.nan)
        elif first == 0:
            out.append(10.0 ** x[0])
        else:
            share = (level - fit[first - 1]) / (fit[first] - fit[first - 1])
            out.append(10.0 ** (x[first - 1] + share * (x[first] - x[first - 1])))
    return np.array(out)


def _bins(frame: pd.DataFrame, name: str, edges: Float64) -> Int64:
    """Return the bin of each row; beyond the edges the end bins, unknown values the last + 1."""
    values = frame[name].to_numpy(np.float64)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return np.asarray(np.where(np.isnan(values), len(edges) - 1, place), dtype=np.int64)


def _spread(size: int, most: int) -> Int64:
    """Return at most `most` places from the first to the last of `size`, evenly spaced."""
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.round(np.linspace(0, size - 1, min(size, most))).astype(np.int64))


def _sums(bins: Int64, weights: Float64, size: int) -> Float64:
    """Return the sum of weights in each of `size` bins."""
    return np.bincount(bins, weights, size)[:size].astype(np.float64)


def _share(part: Float64, whole: Float64) -> Float64:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    out = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
