"""Counts of found and missed sources, true and false detections.

Whole numbers add exactly, so counts of patches, skies and workers merge in any order; rates are
derived from the sum, last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.errors import InputError
from geminga.evaluation.rates import RateArray, rate_array
from geminga.sections import EvaluationConfig

FORMAT = 1
FLUX_DECADES = (-14, -5)
"""Powers of ten in ph/cm2/s between which fluxes are binned; beyond, the end bins take them."""

SCORE_DECADES = (-3, 4)
SCORE_BINS_PER_DECADE = 200
LATITUDES = ("all", "low", "high")
"""First axis of rates: whole sky, |b| below and from the split on."""


@dataclass(frozen=True, eq=False)
class Rates:
    """Completeness and purity; the first axis is LATITUDES.

    Attributes
    ----------
    completeness, purity : RateArray (3,)
        Found / true sources and true / all detections.
    completeness_s1, completeness_s10 : RateArray (3, F)
        Completeness by flux bin.
    purity_score : RateArray (3, S)
        Purity of the detections in each score bin.
    """

    completeness: RateArray
    purity: RateArray
    completeness_s1: RateArray
    completeness_s10: RateArray
    purity_score: RateArray


@dataclass(frozen=True, eq=False)
class MatchCounts:
    """Histograms of a search against the truth; the axis of length 2 is |b| (below, above split).

    Attributes
    ----------
    latitude_split_deg : float
        Limit of the two latitude classes.
    flux_bins_per_decade : int
        Bins of `flux_edges`.
    sources, found : Int64 (2,)
        True sources and those with a detection.
    true_detections, false_detections : Int64 (2,)
        Detections by the latitude they were found at.
    s1_sources, s1_found, s10_sources, s10_found : Int64 (2, F)
        True and found sources by flux; a source of unknown (NaN) flux is in the totals alone.
    score_true, score_false : Int64 (2, S)
        Detections by score.
    """

    latitude_split_deg: float
    flux_bins_per_decade: int
    sources: Int64
    found: Int64
    true_detections: Int64
    false_detections: Int64
    s1_sources: Int64
    s1_found: Int64
    s10_sources: Int64
    s10_found: Int64
    score_true: Int64
    score_false: Int64

    @property
    def flux_edges(self) -> Float64:
        """Edges of the flux bins in ph/cm2/s, shape (F + 1,)."""
        return flux_edges(self.flux_bins_per_decade)

    def __add__(self, other: MatchCounts) -> MatchCounts:
        """Merge the counts of two parts of the sky.

        Raises
        ------
        ValueError
            If they were binned differently.
        """
        if self._binning() != other._binning():
            raise ValueError(f"counts binned {self._binning()} and {other._binning()} do not add")
        summed = {name: getattr(self, name) + getattr(other, name) for name in _HISTOGRAMS}
        return MatchCounts(self.latitude_split_deg, self.flux_bins_per_decade, **summed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MatchCounts) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def _binning(self) -> tuple[float, int]:
        return self.latitude_split_deg, self.flux_bins_per_decade

    def rates(self) -> Rates:
        """Return completeness and purity with binomial errors."""
        return Rates(
            rate_array(_all(self.found), _all(self.sources)),
            rate_array(
                _all(self.true_detections), _all(self.true_detections + self.false_detections)
            ),
            rate_array(_all(self.s1_found), _all(self.s1_sources)),
            rate_array(_all(self.s10_found), _all(self.s10_sources)),
            rate_array(_all(self.score_true), _all(self.score_true + self.score_false)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        tree: dict[str, Any] = {name: getattr(self, name).tolist() for name in _HISTOGRAMS}
        return {
            "format": FORMAT,
            "latitude_split_deg": self.latitude_split_deg,
            "flux_bins_per_decade": self.flux_bins_per_decade,
            **tree,
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], where: str = "match counts") -> MatchCounts:
        """Rebuild counts from `to_json`'s values, read from `where`.

        Raises
        ------
        InputError
            If they are of another version, incomplete or misshapen.
        """
        if tree.get("format") != FORMAT:
            raise InputError(where, f"has format {tree.get('format')!r}", f"needs format {FORMAT}")
        try:
            empty = empty_counts(
                EvaluationConfig(
                    latitude_split_deg=tree["latitude_split_deg"],
                    flux_bins_per_decade=tree["flux_bins_per_decade"],
                )
            )
            arrays = {name: np.array(tree[name], dtype=np.int64) for name in _HISTOGRAMS}
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(where, f"holds no match counts ({error})", "write it anew") from error
        for name, values in arrays.items():
            if values.shape != getattr(empty, name).shape:
                raise InputError(where, f"{name} has shape {values.shape}", "write it anew")
        return cls(empty.latitude_split_deg, empty.flux_bins_per_decade, **arrays)


_HISTOGRAMS = tuple(f.name for f in fields(MatchCounts) if f.type == "Int64")


def flux_edges(bins_per_decade: int) -> Float64:
    """Return the edges of the flux bins in ph/cm2/s."""
    low, high = FLUX_DECADES
    return 10.0 ** np.linspace(low, high, (high - low) * bins_per_decade + 1)


def score_edges() -> Float64:
    """Return the edges of the score bins: 0, then even in the logarithm."""
    low, high = SCORE_DECADES
    steps = 10.0 ** np.linspace(low, high, (high - low) * SCORE_BINS_PER_DECADE + 1)
    return np.concatenate([[0.0], steps])


def empty_counts(evaluation: EvaluationConfig) -> MatchCounts:
    """Return counts of nothing: the neutral element of `+`."""
    shape = {"s1": len(flux_edges(evaluation.flux_bins_per_decade)) - 1}
    shape["s10"], shape["score"] = shape["s1"], len(score_edges()) - 1
    zeros = {}
    for name in _HISTOGRAMS:
        bins = shape.get(name.split("_")[0])
        zeros[name] = np.zeros((2,) if bins is None else (2, bins), dtype=np.int64)
    return MatchCounts(evaluation.latitude_split_deg, evaluation.flux_bins_per_decade, **zeros)


def count_matches(
    candidates: pd.DataFrame,
    truth: pd.DataFrame,
    matches: pd.DataFrame,
    evaluation: EvaluationConfig,
) -> MatchCounts:
    """Count the outcome of a search.

    Parameters
    ----------
    candidates : DataFrame
        Detections (table CANDIDATES).
    truth : DataFrame
        Sources with ``lat_deg`` and, where known, ``s1`` and ``s10`` in ph/cm2/s. On a part of
        the sky both tables are restricted to it beforehand.
    matches : DataFrame
        Table MATCHES of the two (`geminga.matching.match`).
    evaluation : EvaluationConfig
        Latitude split and flux bins.

    Raises
    ------
    ValueError
        If the matches do not name every source and every candidate once.
    """
    source = matches["source"].to_numpy(dtype=np.int64)
    candidate = matches["candidate"].to_numpy(dtype=np.int64)
    for name, rows, size in (("source", source, len(truth)), ("candidate", candidate, None)):
        used = np.sort(rows[rows >= 0])
        size = len(candidates) if size is None else size
        if not np.array_equal(used, np.arange(size)):
            raise ValueError(f"matches name {len(used)} of {size} rows of {name}, or one twice")
    paired = (source >= 0) & (candidate >= 0)
    is_found = np.zeros(len(truth), dtype=bool)
    is_found[source[paired]] = True
    is_true = np.zeros(len(candidates), dtype=bool)
    is_true[candidate[paired]] = True

    split = evaluation.latitude_split_deg
    high_s = (np.abs(truth["lat_deg"].to_numpy(np.float64)) >= split).astype(np.int64)
    high_c = (np.abs(candidates["lat_deg"].to_numpy(np.float64)) >= split).astype(np.int64)
    edges_f = flux_edges(evaluation.flux_bins_per_decade)
    histograms = {
        "sources": np.bincount(high_s, minlength=2),
        "found": np.bincount(high_s[is_found], minlength=2),
        "true_detections": np.bincount(high_c[is_true], minlength=2),
        "false_detections": np.bincount(high_c[~is_true], minlength=2),
    }
    for name in ("s1", "s10"):
        flux = (
            truth[name].to_numpy(np.float64)
            if name in truth.columns
            else np.full(len(truth), np.nan)
        )
        histograms[f"{name}_sources"] = _histogram(flux, high_s, edges_f)
        histograms[f"{name}_found"] = _histogram(flux[is_found], high_s[is_found], edges_f)
    score, edges = candidates["score"].to_numpy(np.float64), score_edges()
    if np.isnan(score).any():
        raise ValueError("a candidate has no score (NaN)")
    histograms["score_true"] = _histogram(score[is_true], high_c[is_true], edges)
    histograms["score_false"] = _histogram(score[~is_true], high_c[~is_true], edges)
    return MatchCounts(
        split,
        evaluation.flux_bins_per_decade,
        **{name: values.astype(np.int64) for name, values in histograms.items()},
    )


def _histogram(values: Float64, row: Int64, edges: Float64) -> Int64:
    """Return counts (2, bins); values beyond the edges fall in the end bins, NaN in none."""
    known = ~np.isnan(values)
    bins = len(edges) - 1
    place = np.clip(np.searchsorted(edges, values[known], side="right") - 1, 0, bins - 1)
    return np.bincount(row[known] * bins + place, minlength=2 * bins).reshape(2, bins)


def _all(counts: Int64) -> Int64:
    """Return the counts with their sum over latitude in front: (2, ...) to (3, ...)."""
    return np.concatenate([counts.sum(axis=0, keepdims=True), counts])
