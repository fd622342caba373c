"""Figures of classified candidates as functions of the bootstrap's weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from geminga.arrays import Float64, Int64
from geminga.evaluation.class_metrics import Classified, Comparison

KEPT = 0.95
"""Share of the true sources that is kept where FAKE recall is given."""

KEPT_CURVE = (
    0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999,
)  # fmt: skip
"""Shares of the true sources kept at which the curve of FAKE recall is given."""

CURVE_BINS = 10
"""Bins of equal width of the reliability curves."""

_TINY = 1e-300


class Sums:
    """Sums of values by unit, to be weighted: every figure here is a function of such sums."""

    def __init__(self, unit: Int64, place: Int64, size: int, units: int) -> None:
        self._index = unit * size + place
        self._shape = (units, size)

    def __call__(self, values: Float64 | None = None) -> Float64:
        """Return the sums, shape (units, size); of ones without values."""
        number = self._shape[0] * self._shape[1]
        flat = np.bincount(self._index, values, number).astype(np.float64)
        return flat.reshape(self._shape)


class PartFigures:
    """Classified candidates of one part (of the sky, of the fluxes), ready to be weighted.

    Parameters
    ----------
    classified : Classified
        Candidates of the part.
    unit : Int64 (n,)
        The bootstrap's unit of each.
    units : int
        Number of units.
    comparisons : sequence of Comparison
        All of classes that exist.
    areas : bool
        Whether to give the area under the curve of each comparison, which takes most of the time.
    """

    def __init__(
        self,
        classified: Classified,
        unit: Int64,
        units: int,
        comparisons: Sequence[Comparison],
        areas: bool = True,
    ) -> None:
        c, k = classified, len(classified.class_names)
        self._true, self._areas = len(c.true_classes), areas
        self._natural = _cells(unit, c.label, c.probabilities.argmax(axis=1), k, units)
        self._flat = _cells(unit, c.label, c.probabilities_flat.argmax(axis=1), k, units)
        true = c.label < self._true
        best = c.probabilities_flat[true, : self._true].argmax(axis=1)
        self._flat_true = _cells(unit[true], c.label[true], best, self._true, units)
        self._pairs = {x.name: _Pair(c, unit, units, x) for x in comparisons}
        self._fake = _Fake(c, unit) if c.has_fake else None

    def figures(self, weights: Float64) -> dict[str, Float64]:
        """Return all figures from the weight of every unit."""
        natural = np.einsum("u,utp->tp", weights, self._natural)
        shares = _shares(np.einsum("u,utp->tp", weights, self._flat))
        shares_true = _shares(np.einsum("u,utp->tp", weights, self._flat_true))
        total = natural.sum()
        result = {
            "confusion_natural": natural,
            "confusion": shares,
            "precision_natural": _ratio(np.diagonal(natural), natural.sum(axis=0)),
            "recall_natural": _ratio(np.diagonal(natural), natural.sum(axis=1)),
            "f1_natural": f1_scores(natural),
            "macro_f1_natural": _mean(f1_scores(natural)),
            "accuracy_natural": _ratio(np.diagonal(natural).sum(), total),
            "precision": _ratio(np.diagonal(shares), np.nansum(shares, axis=0)),
            "recall": np.diagonal(shares).copy(),
            "f1": f1_scores(shares),
            "recall_true": np.diagonal(shares_true).copy(),
            "f1_true": f1_scores(shares_true),
            "macro_f1_true": _mean(f1_scores(shares_true)),
        }
        if self._fake is not None:
            result["macro_f1"] = _mean(f1_scores(shares))
            result |= self._fake.figures(weights)
        for name, pair in self._pairs.items():
            result[f"balanced_accuracy/{name}"] = pair.accuracy(weights)
            if self._areas:
                result[f"auc/{name}"] = pair.area(weights)
        return result


def f1_scores(confusion: Float64) -> Float64:
    """Return F1 of every class, 2 tp / (2 tp + fp + fn), shape (K,); NaN without members.

    Parameters
    ----------
    confusion : Float64 (K, K)
        [true, predicted]; numbers, or shares of a row; empty rows may be NaN.
    """
    filled = np.nan_to_num(confusion)
    rows = filled.sum(axis=1)
    score = _ratio(2.0 * np.diagonal(filled), rows + filled.sum(axis=0))
    return np.where(rows > 0, score, np.nan)


class _Pair:
    """One comparison: balanced accuracy and the area under the curve of its score."""

    def __init__(self, c: Classified, unit: Int64, units: int, comparison: Comparison) -> None:
        sides = [
            np.array([c.class_names.index(name) for name in names], dtype=np.int64)
            for names in (comparison.first, comparison.second)
        ]
        asked = np.isin(c.label, np.concatenate(sides))
        if comparison.s1_cut > 0:
            asked &= c.s1_true > comparison.s1_cut
        self._unit = unit[asked]
        self._first = np.isin(c.label[asked], sides[0])
        # Mean, not sum, of the classes: groups of different size are equally probable beforehand.
        a, b = (
            np.log(np.maximum(c.probabilities_flat[asked][:, s].mean(axis=1), _TINY)) for s in sides
        )
        # A tie is half right, as a coin would be.
        right = np.where(a == b, 0.5, (a > b) == self._first)
        place = self._first.astype(np.int64)
        by = Sums(self._unit, place, 2, units)
        self._right, self._number = by(right), by()
        values, self._place = np.unique(a - b, return_inverse=True)
        self._size = len(values)

    def accuracy(self, weights: Float64) -> Float64:
        return np.asarray(_ratio(weights @ self._right, weights @ self._number).mean())

    def area(self, weights: Float64) -> Float64:
        w = weights[self._unit]
        of_first = np.bincount(self._place, w * self._first, self._size)
        of_second = np.bincount(self._place, w * ~self._first, self._size)
        below = np.cumsum(of_second) - 0.5 * of_second
        return _ratio(np.sum(of_first * below), of_first.sum() * of_second.sum())


class _Fake:
    """FAKE against all true sources, ranked by the natural probability of FAKE."""

    def __init__(self, c: Classified, unit: Int64) -> None:
        claim = c.probabilities[:, -1]
        order = np.argsort(claim, kind="stable")
        self._claim, self._unit = claim[order], unit[order]
        self._is_fake = c.label[order] == len(c.class_names) - 1
        # Candidates of equal claim are kept or dropped together.
        self._last = np.searchsorted(self._claim, self._claim, side="right") - 1

    def figures(self, weights: Float64) -> dict[str, Float64]:
        w = weights[self._unit]
        true, fake = np.cumsum(w * ~self._is_fake), np.cumsum(w * self._is_fake)
        levels = np.array((KEPT, *KEPT_CURVE))
        if not len(w) or true[-1] <= 0 or fake[-1] <= 0:
            nothing = np.full(len(levels), np.nan)
            return {"fake_recall": nothing[0], "fake_curve": nothing[1:]}
        first = np.searchsorted(true, levels * true[-1] * (1.0 - 1e-12))
        recall = 1.0 - fake[self._last[np.minimum(first, len(w) - 1)]] / fake[-1]
        return {"fake_recall": np.asarray(recall[0]), "fake_curve": recall[1:]}


class CalibrationFigures:
    """Claimed probabilities (natural prior) against what candidates turned out to be.

    The expected calibration error (Guo et al. 2017, arXiv:1706.04599) in bins of equal number,
    ``ece`` of the most probable class, ``ece_class`` of each class (K,); Brier score ``brier`` (K,)
    of each class and ``brier_sum``, the sum. Candidates of equal claim share a bin.

    The curves ``reliability/`` of each class, (K, CURVE_BINS), have bins of equal width instead:
    nearly all claims of a rare class are near 0, and bins of equal number would all lie there.

    Attributes
    ----------
    bins : int
        Bins at most.
    """

    def __init__(self, classified: Classified, unit: Int64, units: int, bins: int = 15) -> None:
        c, k = classified, len(classified.class_names)
        self.bins = bins
        best = c.probabilities.argmax(axis=1)
        claims = [c.probabilities[:, j] for j in range(k)]
        claims.append(c.probabilities[np.arange(len(c)), best])
        outcomes = [c.label == j for j in range(k)] + [c.label == best]
        parts, curves = [], []
        equal = np.linspace(0.0, 1.0, CURVE_BINS + 1)[1:-1]
        for claim, outcome in zip(claims, outcomes, strict=True):
            hit = outcome.astype(np.float64)
            place = np.searchsorted(_inner_edges(claim, bins), claim, side="right")
            by = Sums(unit, place, bins, units)
            parts.append(np.stack([by(), by(claim), by(hit), by((claim - hit) ** 2)]))
            by = Sums(unit, np.searchsorted(equal, claim, side="right"), CURVE_BINS, units)
            curves.append(np.stack([by(), by(claim), by(hit)]))
        self._sums = np.stack(parts, axis=2)
        self._curves = np.stack(curves[:-1], axis=2)

    def figures(self, weights: Float64) -> dict[str, Float64]:
        """Return all figures from the weight of every unit."""
        n, claim, hit, square = np.einsum("u,qukb->qkb", weights, self._sums)
        total = n.sum(axis=1)
        error = _ratio(np.abs(claim - hit).sum(axis=1), total)
        brier = _ratio(square.sum(axis=1)[:-1], total[:-1])
        n, claim, hit = np.einsum("u,qukb->qkb", weights, self._curves)
        return {
            "ece": np.asarray(error[-1]),
            "ece_class": error[:-1],
            "ece_classes": np.asarray(error[:-1].mean()),
            "brier": brier,
            "brier_sum": np.asarray(brier.sum()),
            "reliability/claim": _ratio(claim, n),
            "reliability/share": _ratio(hit, n),
            "reliability/n": n,
        }


def _inner_edges(claim: Float64, bins: int) -> Float64:
    if not len(claim):
        return np.zeros(0)
    return np.unique(np.quantile(claim, np.linspace(0.0, 1.0, bins + 1)[1:-1]))


def _cells(unit: Int64, true: Int64, predicted: Int64, k: int, units: int) -> Float64:
    return Sums(unit, true * k + predicted, k * k, units)().reshape(units, k, k)


def _shares(counts: Float64) -> Float64:
    return _ratio(counts, counts.sum(axis=1, keepdims=True))


def _ratio(part: ArrayLike, whole: ArrayLike) -> Float64:
    a, b = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result = np.full(a.shape, np.nan)
    np.divide(a, b, out=result, where=b > 0)
    return result


def _mean(values: Float64) -> Float64:
    held = values[np.isfinite(values)]
    return np.asarray(held.mean() if len(held) else np.nan)
