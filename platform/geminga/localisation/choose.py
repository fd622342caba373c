"""Choosing the score cut of a search on validation skies."""

from __future__ import annotations

import logging

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.errors import InputError

log = logging.getLogger(__name__)


def _curve(scores: Float64, is_true: Bool) -> tuple[Float64, Int64, Float64]:
    """Return cuts, true detections kept and purity, one per distinct score, highest cut first."""
    scores, is_true = np.asarray(scores, np.float64), np.asarray(is_true, np.bool_)
    if scores.shape != is_true.shape or scores.ndim != 1:
        raise InputError(
            "detections", f"{scores.shape} scores, {is_true.shape} flags", "one flag per score"
        )
    if np.isnan(scores).any():
        raise InputError("detections", "a score is NaN", "leave such detections out")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else order
    true = np.cumsum(is_true[order], dtype=np.int64)[last]
    return ranked[last], true, true / (last + 1.0)


def score_cut(scores: Float64, is_true: Bool, purity_floor: float) -> float:
    """Return the smallest score cut that keeps the purity of the detections at the floor.

    Parameters
    ----------
    scores : Float64, shape (n,)
        Scores of the detections of validation skies.
    is_true : Bool, shape (n,)
        Whether each has a true source as its partner.
    purity_floor : float
        Wanted share of true detections among those with ``score >= cut``.

    Returns
    -------
    float
        The cut; the cut of the best purity, the smallest if there are several, where the floor is
        not reached; 0 without any detection. Both are logged as warnings.

    Raises
    ------
    InputError
        If the arrays differ in length or a score is NaN.
    """
    cuts, _, purity = _curve(scores, is_true)
    if len(cuts) == 0:
        log.warning("no validation detection to choose a score cut from: every detection is kept")
        return 0.0
    reached = np.flatnonzero(purity >= purity_floor)
    if len(reached):
        return float(cuts[reached[-1]])
    best = np.flatnonzero(purity == purity.max())[-1]
    log.warning(
        "no score cut reaches purity %.3f on the validation skies: cut %.4g of the best, %.3f",
        purity_floor,
        cuts[best],
        purity[best],
    )
    return float(cuts[best])


def completeness_at_purity(
    scores: Float64, is_true: Bool, n_true: int, purity: float
) -> tuple[float, float]:
    """Return the highest completeness at a purity of at least `purity`, and its score cut.

    Parameters
    ----------
    scores, is_true : shape (n,)
        Scores of the detections, and whether each has a true source as its partner.
    n_true : int
        Number of true sources that could have been found.
    purity : float
        Wanted share of true detections.

    Returns
    -------
    completeness, cut : float
        (0, inf) if no cut reaches the purity; completeness is NaN without true sources.

    Raises
    ------
    InputError
        If the arrays differ in length, a score is NaN, or there are more true detections than
        true sources.
    """
    cuts, true, reached_purity = _curve(scores, is_true)
    if len(true) and true[-1] > n_true:
        raise InputError(
            "n_true", f"{n_true} is below the {true[-1]} true detections", "match one to one"
        )
    reached = np.flatnonzero(reached_purity >= purity)
    if n_true == 0:
        return float("nan"), float(cuts[reached[-1]]) if len(reached) else float("inf")
    if len(reached) == 0:
        return 0.0, float("inf")
    return float(true[reached[-1]] / n_true), float(cuts[reached[-1]])
