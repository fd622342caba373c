"""How well the sources of a real catalogue are told apart, by the classes the catalogue gives them.

What is asked is always one group of classes against another, each with equal weight: so the figures
do not depend on how many of each a catalogue happens to have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.evaluation.bootstrap import Estimate, scatter
from geminga.seeds import Stage, generator

RESAMPLES = 200
BINS = 10
_FLUX_BINS, _LATITUDE_BINS = 6, 4

Groups = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Title, classes of the first group, classes of the second."""

CONTRASTS: tuple[Groups, ...] = (
    ("BLL against FSRQ", ("BLL",), ("FSRQ",)),
    ("PSR against AGN", ("PSR",), ("BLL", "FSRQ")),
    ("galactic against AGN", ("PSR", "PWN+SNR"), ("BLL", "FSRQ")),
    ("PSR against PWN+SNR", ("PSR",), ("PWN+SNR",)),
)


@dataclass(frozen=True)
class ContrastFigures:
    """One group of classes against another.

    Attributes
    ----------
    title : str
    positive, negative : int
        Sources of each group.
    auc : Estimate
        Chance that a source of the first group scores higher than one of the second.
    balanced_accuracy : Estimate
        Mean of the shares of each group that are put into it.
    effective : float
        Sources that would give as small errors if all weighed alike, (sum w)^2 / sum w^2.
    covered : float
        Part of the sources weighted to that lie where the test has any; 1 without weights.
    """

    title: str
    positive: int
    negative: int
    auc: Estimate
    balanced_accuracy: Estimate
    effective: float
    covered: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-like tree."""
        return asdict(self)


@dataclass(frozen=True)
class Reliability:
    """Probability of the most probable class against how often it is right.

    Attributes
    ----------
    n : tuple of int
        Sources in each bin that has any.
    claimed, right : tuple of float
        Mean probability and share of right ones.
    error : Estimate
        Expected calibration error (Guo et al. 2017).
    brier : Mapping of str to float
        Mean squared difference between probability and outcome, by class.
    """

    n: tuple[int, ...]
    claimed: tuple[float, ...]
    right: tuple[float, ...]
    error: Estimate
    brier: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-like tree."""
        return asdict(self)


def contrasts_of(classes: Sequence[str]) -> tuple[Groups, ...]:
    """Return the contrasts that these classes allow: CONTRASTS, or each class against the others."""
    known = tuple(c for c in CONTRASTS if {*c[1], *c[2]} <= set(classes))
    if known or len(classes) < 2:
        return known
    return tuple(
        (f"{name} against the others", (name,), tuple(c for c in classes if c != name))
        for name in classes
    )


def group_score(flat: Float64, classes: Sequence[str], groups: Groups) -> Float64:
    """Return the probability of the first group if both, and all classes of each, are as frequent.

    Parameters
    ----------
    flat : Float64 (n, K)
        Probabilities for an equal mix of the classes.
    """
    first, second = (
        flat[:, [classes.index(name) for name in names]].mean(axis=1) for names in groups[1:]
    )
    return np.asarray(first / np.maximum(first + second, 1e-300))


def contrast(
    groups: Groups,
    classes: Sequence[str],
    flat: Float64,
    truth: Sequence[str],
    seed: int,
    shift: tuple[Float64, Float64] | None = None,
    resamples: int = RESAMPLES,
) -> ContrastFigures | None:
    """Measure one group against another.

    Parameters
    ----------
    flat : Float64 (n, K)
        Probabilities for an equal mix of the classes.
    truth : sequence of str
        Class of each source; others than those of the groups are left out.
    shift : tuple of Float64 (n, 2) and (m, 2), optional
        log flux and |b| of the sources, and of those whose distribution they are weighted to.

    Returns
    -------
    ContrastFigures or None
        None without sources of both groups.
    """
    names = np.asarray(truth, dtype=object)
    positive = np.isin(names, groups[1])
    chosen = np.flatnonzero(positive | np.isin(names, groups[2]))
    positive = positive[chosen]
    if positive.all() or not positive.any():
        return None
    score = group_score(flat[chosen], classes, groups)
    weights, covered = np.ones(len(chosen)), 1.0
    if shift is not None:
        weights, covered = shift_weights(shift[0][chosen], shift[1])
    if not (weights[positive].sum() > 0 and weights[~positive].sum() > 0):
        return None
    rng = generator(seed, Stage.BOOTSTRAP, len(chosen))
    draws = np.full((resamples, 2), np.nan)
    members = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    for row in draws:
        again = np.concatenate([rng.choice(m, len(m)) for m in members])
        if all(weights[again][positive[again] == side].sum() > 0 for side in (True, False)):
            row[:] = _figures(score[again], positive[again], weights[again])
    value, error = _figures(score, positive, weights), scatter(draws)
    return ContrastFigures(
        groups[0],
        int(positive.sum()),
        int((~positive).sum()),
        Estimate(value[0], float(error[0])),
        Estimate(value[1], float(error[1])),
        float(weights.sum() ** 2 / (weights**2).sum()),
        covered,
    )


def shift_weights(features: Float64, wanted: Float64) -> tuple[Float64, float]:
    """Return weights (n,) that give sources another distribution of flux and latitude.

    The ratio of the two histograms, in bins of equal numbers of the wanted sources: six of flux,
    four of latitude.

    Parameters
    ----------
    features, wanted : Float64 (n, 2), (m, 2)
        log flux and |b|.

    Returns
    -------
    weights : Float64 (n,)
    covered : float
        Part of the wanted sources in bins that have any of the sources.
    """
    finite = np.isfinite(wanted).all(axis=1)
    own = np.isfinite(features).all(axis=1)
    if not finite.any():
        return np.ones(len(features)), 0.0
    place, target = np.zeros(len(features), np.int64), np.zeros(int(finite.sum()), np.int64)
    for column, bins in enumerate((_FLUX_BINS, _LATITUDE_BINS)):
        inner = np.quantile(wanted[finite, column], np.linspace(0, 1, bins + 1)[1:-1])
        place = place * bins + np.searchsorted(inner, features[:, column])
        target = target * bins + np.searchsorted(inner, wanted[finite, column])
    number = _FLUX_BINS * _LATITUDE_BINS
    have = np.bincount(place[own], minlength=number)
    want = np.bincount(target, minlength=number) / finite.sum()
    ratio = np.divide(want, have, out=np.zeros(number), where=have > 0)
    return np.where(own, ratio[place], 0.0), float(want[have > 0].sum())


def area_under_curve(score: Float64, positive: Bool, weights: Float64) -> float:
    """Return the weighted chance that a positive scores higher than a negative; ties count half."""
    _, level = np.unique(score, return_inverse=True)
    up = np.bincount(level, weights * positive, level.max() + 1)
    down = np.bincount(level, weights * ~positive, level.max() + 1)
    below = np.cumsum(down) - down
    return float((up * (below + 0.5 * down)).sum() / (up.sum() * down.sum()))


def roc_curve(score: Float64, positive: Bool) -> tuple[Float64, Float64]:
    """Return the shares of negatives and of positives kept by every cut, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    kept, last = positive[order], np.r_[np.diff(score[order]) != 0, True]
    true = np.r_[0.0, np.cumsum(kept)[last] / max(positive.sum(), 1)]
    false = np.r_[0.0, np.cumsum(~kept)[last] / max((~positive).sum(), 1)]
    return false, true


def reliability(
    probabilities: Float64,
    classes: Sequence[str],
    truth: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
) -> Reliability | None:
    """Compare the probability of the most probable class with how often it is right.

    Sources of no class of ours are left out; None if there is no other.
    """
    number = {name: k for k, name in enumerate(classes)}
    label = np.array([number.get(name, -1) for name in truth], dtype=np.int64)
    known = np.flatnonzero(label >= 0)
    if not len(known):
        return None
    p, label = probabilities[known], label[known]
    top = p.max(axis=1)
    right = (p.argmax(axis=1) == label).astype(np.float64)
    place = np.minimum((top * BINS).astype(np.int64), BINS - 1)
    n, claimed, share = _bins(place, top, right)
    rng = generator(seed, Stage.BOOTSTRAP, len(known), 1)
    draws = np.array(
        [
            _expected_error(place[r], top[r], right[r])
            for r in _resampled(rng, len(known), resamples)
        ]
    )
    brier = {name: float(np.mean((p[:, k] - (label == k)) ** 2)) for k, name in enumerate(classes)}
    held = n > 0
    return Reliability(
        tuple(int(v) for v in n[held]),
        tuple(float(v) for v in claimed[held]),
        tuple(float(v) for v in share[held]),
        Estimate(_expected_error(place, top, right), float(scatter(draws))),
        brier,
    )


def confusion(probabilities: Float64, classes: Sequence[str], truth: Sequence[str]) -> Int64:
    """Return how many sources of each class (rows) are taken for each class (columns)."""
    out = np.zeros((len(classes), len(classes)), dtype=np.int64)
    best = probabilities.argmax(axis=1)
    for row, name in enumerate(classes):
        mine = np.array([t == name for t in truth], dtype=np.bool_)
        out[row] = np.bincount(best[mine], minlength=len(classes))
    return out


def _figures(score: Float64, positive: Bool, weights: Float64) -> tuple[float, float]:
    shares = [
        float((weights * mine * hit).sum() / (weights * mine).sum())
        for mine, hit in ((positive, score > 0.5), (~positive, score <= 0.5))
    ]
    return area_under_curve(score, positive, weights), 0.5 * sum(shares)


def _bins(place: Int64, top: Float64, right: Float64) -> tuple[Int64, Float64, Float64]:
    n = np.bincount(place, minlength=BINS)
    safe = np.maximum(n, 1)
    return n, np.bincount(place, top, BINS) / safe, np.bincount(place, right, BINS) / safe


def _expected_error(place: Int64, top: Float64, right: Float64) -> float:
    n, claimed, share = _bins(place, top, right)
    return float((n * np.abs(claimed - share)).sum() / n.sum())


def _resampled(rng: np.random.Generator, n: int, resamples: int) -> list[Int64]:
    return [rng.integers(0, n, n) for _ in range(resamples)]
