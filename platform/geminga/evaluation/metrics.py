"""Figures of merit: pixel accuracy, position error, purity and completeness over the score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float32, Float64, Int64, UInt8
from geminga.evaluation.counts import LATITUDES, MatchCounts, score_edges
from geminga.evaluation.rates import rate_array
from geminga.geometry import tangent_frames, unit_vectors


@dataclass(frozen=True)
class PixelCounts:
    """Agreement of a mask with its target, pixel by pixel; merges with `+`."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    def __add__(self, other: PixelCounts) -> PixelCounts:
        """Merge the counts of two sets of patches."""
        return PixelCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def pixels(self) -> int:
        """Number of pixels counted."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    def accuracy(self) -> float:
        """Share of pixels that agree; NaN without pixels."""
        agree = self.true_positive + self.true_negative
        return agree / self.pixels if self.pixels else math.nan

    def empty_accuracy(self) -> float:
        """Accuracy Acc0 of predicting no source anywhere."""
        empty = self.true_negative + self.false_positive
        return empty / self.pixels if self.pixels else math.nan

    def adjusted_accuracy(self) -> float:
        """Return (Acc - Acc0) / (1 - Acc0): 0 for predicting nothing, 1 for the target itself.

        This is (TP - FP) / (TP + FN); NaN when no pixel of the target is set. Source: the
        thesis' measure of MIUN (0.39 there).
        """
        positive = self.true_positive + self.false_negative
        return (self.true_positive - self.false_positive) / positive if positive else math.nan


def count_pixels(output: Float32, target: UInt8, threshold: float = 0.5) -> PixelCounts:
    """Compare network output with its target.

    Parameters
    ----------
    output : Float32 (..., n, n)
        Network output, 0 to 1.
    target : UInt8, same shape
        1 within a source's disk.
    threshold : float
        Output from which a pixel counts as source.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if np.shape(output) != np.shape(target):
        raise ValueError(f"output {np.shape(output)} and target {np.shape(target)} differ")
    predicted, true = np.asarray(output) >= threshold, np.asarray(target) > 0
    tp = int(np.count_nonzero(predicted & true))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(true)) - tp
    return PixelCounts(tp, fp, fn, predicted.size - tp - fp - fn)


@dataclass(frozen=True, eq=False)
class Offsets:
    """Found minus true position of matched pairs, degrees on the sky; merges with `+`."""

    east_deg: Float64
    north_deg: Float64

    def __add__(self, other: Offsets) -> Offsets:
        """Join two sets of pairs."""
        return Offsets(
            np.concatenate([self.east_deg, other.east_deg]),
            np.concatenate([self.north_deg, other.north_deg]),
        )

    @property
    def separation_deg(self) -> Float64:
        """Distance of each pair in degrees."""
        return np.hypot(self.east_deg, self.north_deg)


def empty_offsets() -> Offsets:
    """Return offsets of no pairs."""
    return Offsets(np.zeros(0), np.zeros(0))


def position_offsets(
    candidates: pd.DataFrame, truth: pd.DataFrame, matches: pd.DataFrame
) -> Offsets:
    """Return found minus true position of every matched pair (east is rising longitude).

    The offset points along the great circle from source to detection and has its length.
    """
    paired = matches[(matches["candidate"] >= 0) & (matches["source"] >= 0)]
    if not len(paired):
        return empty_offsets()
    found = candidates.iloc[paired["candidate"].to_numpy()]
    true = truth.iloc[paired["source"].to_numpy()]
    frames = tangent_frames(
        true["lon_deg"].to_numpy(np.float64), true["lat_deg"].to_numpy(np.float64)
    )
    vectors = unit_vectors(
        found["lon_deg"].to_numpy(np.float64), found["lat_deg"].to_numpy(np.float64)
    )
    local = np.einsum("nij,nj->ni", frames, vectors)
    sine = np.hypot(local[:, 1], local[:, 2])
    angle = np.degrees(np.arctan2(sine, local[:, 0]))
    scale = np.divide(angle, sine, out=np.zeros_like(angle), where=sine > 0)
    return Offsets(local[:, 1] * scale, local[:, 2] * scale)


@dataclass(frozen=True)
class LocalisationError:
    """Accuracy of positions.

    Attributes
    ----------
    n : int
        Pairs measured.
    median_deg, radius68_deg : float
        Distances within which 50 and 68 % of the detections lie; NaN without pairs.
    bias_east_deg, bias_north_deg : float
        Mean offset.
    bias_error_deg : float
        Standard error of the mean offset along one axis; NaN below two pairs.
    """

    n: int
    median_deg: float
    radius68_deg: float
    bias_east_deg: float
    bias_north_deg: float
    bias_error_deg: float


def localisation_error(offsets: Offsets) -> LocalisationError:
    """Return median, 68 % radius and mean offset of matched pairs."""
    n = len(offsets.east_deg)
    if n == 0:
        return LocalisationError(0, *(math.nan,) * 5)
    median, radius68 = np.quantile(offsets.separation_deg, [0.5, 0.68])
    # Exact sums: the same figures whatever order the skies were joined in.
    east, north = math.fsum(offsets.east_deg) / n, math.fsum(offsets.north_deg) / n
    squares = math.fsum((offsets.east_deg - east) ** 2) + math.fsum(
        (offsets.north_deg - north) ** 2
    )
    error = math.sqrt(squares / 2.0 / (n - 1) / n) if n > 1 else math.nan
    return LocalisationError(n, float(median), float(radius68), east, north, error)


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """Purity and completeness of the detections with at least a score.

    Attributes
    ----------
    score : Float64 (S,)
        Cuts, rising: only those at which a detection is lost.
    purity, completeness, purity_error, completeness_error : Float64 (S,)
        Of the detections at or above the cut.
    """

    score: Float64
    purity: Float64
    completeness: Float64
    purity_error: Float64
    completeness_error: Float64


def score_curve(
    counts: MatchCounts, latitude: str = "all", purity_counts: MatchCounts | None = None
) -> ScoreCurve:
    """Return purity and completeness as the score cut rises.

    Detections and sources stay paired as they were matched without a cut.

    Parameters
    ----------
    counts : MatchCounts
        Counts against the truth.
    latitude : str
        One of LATITUDES.
    purity_counts : MatchCounts, optional
        Counts of the same search against a wider list that decides what is false: for a real sky,
        completeness is asked against one catalogue and purity against several.
    """
    rows = {"all": [0, 1], "low": [0], "high": [1]}
    if latitude not in rows:
        raise ValueError(f"latitude {latitude!r} is not one of {LATITUDES}")
    which = rows[latitude]
    wide = counts if purity_counts is None else purity_counts

    found = _from_above(counts.score_true[which].sum(axis=0))
    true = _from_above(wide.score_true[which].sum(axis=0))
    false = _from_above(wide.score_false[which].sum(axis=0))
    held = (wide.score_true + wide.score_false)[which].sum(axis=0) > 0
    total = np.full(held.sum(), counts.sources[which].sum(), dtype=np.int64)
    purity = rate_array(true[held], (true + false)[held])
    completeness = rate_array(found[held], total)
    return ScoreCurve(
        score_edges()[:-1][held], purity.value, completeness.value, purity.error, completeness.error
    )


def _from_above(counts: Int64) -> Int64:
    """Return the counts in each bin and all above it."""
    return np.cumsum(counts[::-1])[::-1]


@dataclass(frozen=True)
class WorkingPoint:
    """The loosest score cut that reaches a purity.

    Attributes
    ----------
    purity_floor : float
        Purity asked for.
    score : float
        Detections with at least this score are kept; inf when no cut reaches the purity.
    completeness, completeness_error, purity : float
        At the cut. Completeness is 0 when no cut reaches the purity, NaN without true sources.
    """

    purity_floor: float
    score: float
    completeness: float
    completeness_error: float
    purity: float


def completeness_at_purity(
    counts: MatchCounts,
    purity_floor: float,
    latitude: str = "all",
    purity_counts: MatchCounts | None = None,
) -> WorkingPoint:
    """Return the loosest score cut at which the purity is at least `purity_floor`.

    The cut is the lower edge of a score bin, so ``score >= cut`` keeps exactly what was counted.
    Arguments as in `score_curve`.
    """
    curve = score_curve(counts, latitude, purity_counts)
    good = np.flatnonzero(curve.purity >= purity_floor)
    if not len(good):
        total = counts.rates().completeness.n[LATITUDES.index(latitude)]
        nothing = 0.0 if total else math.nan
        return WorkingPoint(purity_floor, math.inf, nothing, nothing, math.nan)
    first = int(good[0])
    return WorkingPoint(
        purity_floor,
        float(curve.score[first]),
        float(curve.completeness[first]),
        float(curve.completeness_error[first]),
        float(curve.purity[first]),
    )
