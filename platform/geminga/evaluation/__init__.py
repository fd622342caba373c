"""Comparison with the truth: counts that merge, rates, figures and the report."""

from __future__ import annotations

from geminga.evaluation.confusion import ConfusionCounts, count_confusion, empty_confusion
from geminga.evaluation.counts import MatchCounts, Rates, count_matches, empty_counts
from geminga.evaluation.metrics import (
    LocalisationError,
    Offsets,
    PixelCounts,
    ScoreCurve,
    WorkingPoint,
    completeness_at_purity,
    count_pixels,
    empty_offsets,
    localisation_error,
    position_offsets,
    score_curve,
)
from geminga.evaluation.rates import Rate, RateArray, rate, rate_array
from geminga.evaluation.summary import RunSummary, SearchSummary, run_summary, search_summary
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.evaluation.yardstick_results import Yardstick

__all__ = [
    "ConfusionCounts",
    "LocalisationError",
    "MatchCounts",
    "Offsets",
    "PixelCounts",
    "Rate",
    "RateArray",
    "Rates",
    "RunSummary",
    "ScoreCurve",
    "SearchSummary",
    "WorkingPoint",
    "Yardstick",
    "YardstickSettings",
    "completeness_at_purity",
    "count_confusion",
    "count_matches",
    "count_pixels",
    "empty_confusion",
    "empty_counts",
    "empty_offsets",
    "localisation_error",
    "measure_searches",
    "position_offsets",
    "rate",
    "rate_array",
    "run_summary",
    "score_curve",
    "search_summary",
]
