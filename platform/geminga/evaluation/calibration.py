"""Calibration of scores that claim to be probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.evaluation.bootstrap import Bootstrapped, Estimate, Units, bootstrap

BINS = 10


@dataclass(frozen=True)
class ScoreCalibration:
    """Claimed probability against the share of true detections.

    Attributes
    ----------
    column : str
        Column taken as the probability: ``probability``, else ``score``.
    low, high : tuple of float
        Edges of the bins that hold detections.
    n : tuple of int
        Detections in each.
    mean : tuple of float
        Mean claimed probability.
    purity, purity_error : tuple of float
        Share of true detections.
    expected_error : Estimate
        Expected calibration error: mean of |purity - mean| weighted by n (Guo et al. 2017). Never
        below what noise in the bins makes of it, hence a little above zero for a perfect list.
    largest_error : Estimate
        Largest |purity - mean| of the bins.
    brier : Estimate
        Mean squared difference of claim and outcome.
    """

    column: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    mean: tuple[float, ...]
    purity: tuple[float, ...]
    purity_error: tuple[float, ...]
    expected_error: Estimate
    largest_error: Estimate
    brier: Estimate


def probability_column(detections: pd.DataFrame) -> str | None:
    """Return the column that can be a probability: ``probability``, or ``score`` from 0 to 1."""
    for name in ("probability", "score"):
        if name in detections.columns and len(detections):
            values = detections[name].to_numpy(np.float64)
            if ((values >= 0) & (values <= 1)).all():
                return name
    return None


def score_calibration(
    detections: pd.DataFrame, units: Units, bins: int = BINS
) -> ScoreCalibration | None:
    """Compare claimed probabilities of detections with what they turned out to be.

    Parameters
    ----------
    detections : DataFrame
        ``detections`` of a `geminga.evaluation.ranked.RankedList`.
    units : Units
        Resamples.
    bins : int
        Bins of equal width from 0 to 1.

    Returns
    -------
    ScoreCalibration or None
        None if no column lies between 0 and 1 everywhere, or there is no detection.
    """
    column = probability_column(detections)
    if column is None:
        return None
    result = score_bootstrap(detections, column, units, bins)
    n = np.bincount(_places(detections[column].to_numpy(np.float64), bins), minlength=bins)
    held = np.flatnonzero(n)
    edges = np.linspace(0.0, 1.0, bins + 1)

    def kept(values: Float64) -> tuple[float, ...]:
        return tuple(float(v) for v in values[held])

    return ScoreCalibration(
        column,
        kept(edges[:-1]),
        kept(edges[1:]),
        tuple(int(v) for v in n[held]),
        kept(result.value["mean"]),
        kept(result.value["purity"]),
        kept(result.error("purity")),
        result.estimate("expected"),
        result.estimate("largest"),
        result.estimate("brier"),
    )


def score_bootstrap(
    detections: pd.DataFrame, column: str, units: Units, bins: int = BINS
) -> Bootstrapped:
    """Return what `score_calibration` gives of the probabilities in a column, with resamples."""
    claim = detections[column].to_numpy(np.float64)
    true = detections["is_true"].to_numpy(np.float64)
    unit = units.of(detections)
    place = _places(claim, bins)

    def statistic(weights: Float64) -> dict[str, Float64]:
        w = weights[unit]
        n = np.bincount(place, w, bins)
        mean, purity = np.full(bins, np.nan), np.full(bins, np.nan)
        np.divide(np.bincount(place, w * claim, bins), n, out=mean, where=n > 0)
        np.divide(np.bincount(place, w * true, bins), n, out=purity, where=n > 0)
        gap = np.abs(purity - mean)[n > 0]
        empty = np.array(np.nan)
        total = n.sum()
        return {
            "mean": mean,
            "purity": purity,
            "expected": np.sum(gap * n[n > 0]) / total if total else empty,
            "largest": gap.max() if total else empty,
            "brier": np.sum(w * (claim - true) ** 2) / total if total else empty,
        }

    return bootstrap(statistic, units)


def _places(claim: Float64, bins: int) -> Int64:
    return np.minimum((claim * bins).astype(np.int64), bins - 1)
