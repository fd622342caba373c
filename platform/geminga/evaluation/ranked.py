"""A list of detections against the truth at every score cut at once.

Detections enter in falling order of score, and the one-to-one matching is kept up to date. With
the matching of `geminga.matching.match` (each source in turn, brightest first, takes the nearest
detection still free) a further detection either gives a partner to one more source or to none:
whoever loses nothing but gains a nearer detection sets its old one free for those after it. So a
source that is found at a cut is found at every looser one. Each source has therefore *one* score
at which it is found first, each detection *one* answer to whether it adds a source, and purity
and completeness at any cut are exactly those of the list above the cut matched anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from geminga.arrays import Bool, Float64, Int64
from geminga.errors import InputError
from geminga.evaluation.extended import on_extended
from geminga.matching import NearPairs, near_pairs

Matching = Literal["one-to-one", "thesis"]
MATCHINGS: tuple[Matching, ...] = ("one-to-one", "thesis")

FURTHER = ("s10", "ts", "index")
"""What a list of sources may know besides positions and S1."""


@dataclass(frozen=True, eq=False)
class RankedMatch:
    """Outcome of a search on one sky, at every cut.

    Attributes
    ----------
    is_true : Bool (n,)
        One-to-one: the detection adds a found source when detections enter by falling score.
        Thesis: a source lies within the radius.
    is_duplicate : Bool (n,)
        The detection is near a source, but every source near it is found without it. False
        one-to-one, true in the thesis' way.
    found_score : Float64 (m,)
        Highest cut at which each source is found; -inf if it never is.
    partner : Int64 (m,)
        Detection of each source when the whole list is matched (thesis: the nearest of those that
        claim it); -1 without.
    """

    is_true: Bool
    is_duplicate: Bool
    found_score: Float64
    partner: Int64


def ranked_match(
    candidates: pd.DataFrame,
    truth: pd.DataFrame,
    radius_deg: float,
    matching: Matching = "one-to-one",
    brightness_column: str = "s1",
) -> RankedMatch:
    """Match a list of detections with the sources of a sky at every score cut.

    Detections of equal score enter in row order; any cut keeps all of them or none.

    Parameters
    ----------
    candidates : DataFrame
        With ``lon_deg``, ``lat_deg``, ``score``.
    truth : DataFrame
        With ``lon_deg``, ``lat_deg`` and the brightness.
    radius_deg : float
        Largest distance of a pair, inclusive.
    matching : str
        ``one-to-one``, or ``thesis``: see `geminga.matching.match_thesis`.
    brightness_column : str
        Ranks the sources.

    Raises
    ------
    InputError
        If a column is missing, a score is not finite, the radius or the matching cannot be used.
    """
    if matching not in MATCHINGS:
        raise InputError("matching", f"{matching!r}", f"use one of {', '.join(MATCHINGS)}")
    if "score" not in candidates.columns:
        raise InputError("candidates", "has no column score", "give each detection a score")
    score = candidates["score"].to_numpy(dtype=np.float64)
    if not np.isfinite(score).all():
        bad = score[~np.isfinite(score)][0]
        raise InputError("candidates", f"a score is {bad}", "leave such detections out")
    near = near_pairs(candidates, truth, radius_deg, brightness_column)
    order = np.argsort(-score, kind="stable")
    run = _one_to_one if matching == "one-to-one" else _claims
    return run(near, score, order, len(truth))


def _one_to_one(near: NearPairs, score: Float64, order: Int64, sources: int) -> RankedMatch:
    options: dict[int, list[tuple[int, int, float]]] = {}
    for c, s, rank, angle in zip(
        near.candidate.tolist(),
        near.source.tolist(),
        near.rank.tolist(),
        near.separation_deg.tolist(),
        strict=True,
    ):
        options.setdefault(c, []).append((rank, s, angle))
    partner = np.full(sources, -1, dtype=np.int64)
    distance = np.full(sources, np.inf)
    is_true = np.zeros(len(score), dtype=np.bool_)
    found_score = np.full(sources, -np.inf)
    for row in order.tolist():
        free, last = row, -1
        while free >= 0:
            for rank, s, angle in options.get(free, ()):
                # Sources before `last` saw more than this and chose already.
                if rank > last and (angle, free) < (distance[s], partner[s]):
                    free, partner[s] = int(partner[s]), free
                    distance[s], last = angle, rank
                    if free < 0:
                        is_true[row], found_score[s] = True, score[row]
                    break
            else:
                break
    is_duplicate = np.zeros(len(score), dtype=np.bool_)
    is_duplicate[near.candidate] = True
    return RankedMatch(is_true, is_duplicate & ~is_true, found_score, partner)


def _claims(near: NearPairs, score: Float64, order: Int64, sources: int) -> RankedMatch:
    first = np.flatnonzero(np.diff(near.candidate, prepend=-1))
    claim = np.full(len(score), -1, dtype=np.int64)
    angle = np.full(len(score), np.nan)
    claim[near.candidate[first]] = near.source[first]
    angle[near.candidate[first]] = near.separation_deg[first]
    is_true = claim >= 0
    found_score = np.full(sources, -np.inf)
    np.maximum.at(found_score, claim[is_true], score[is_true])
    partner = np.full(sources, -1, dtype=np.int64)
    claiming = np.flatnonzero(is_true)
    nearest = claiming[np.lexsort((claiming, -angle[claiming]))]
    # The last assignment to a source stands: the nearest (of equals the last row).
    partner[claim[nearest]] = nearest
    by_score = order[is_true[order]]
    _, earliest = np.unique(claim[by_score], return_index=True)
    is_duplicate = is_true.copy()
    is_duplicate[by_score[earliest]] = False
    return RankedMatch(is_true, is_duplicate, found_score, partner)


def in_order(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows in an order of their own, without ``sky_id``.

    By falling value of a column, then position: no figure depends on the order of a file, to the
    last bit. Tables are paired by place, whatever they call their sky.

    Raises
    ------
    InputError
        If the column or a position is missing.
    """
    missing = [name for name in (column, "lon_deg", "lat_deg") if name not in frame.columns]
    if missing:
        where = "candidates" if column == "score" else "truth"
        raise InputError(where, f"has no column {', '.join(missing)}", "add it")
    lat, lon, value = (frame[n].to_numpy(np.float64) for n in ("lat_deg", "lon_deg", column))
    frame = frame.drop(columns="sky_id", errors="ignore")
    return frame.iloc[np.lexsort((lat, lon, -value))].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class RankedList:
    """One search on all its skies, matched; rows of all skies one after the other.

    Attributes
    ----------
    detections : DataFrame
        The counted detections with ``sky`` (place in the list of skies, not its id), ``lon_deg``,
        ``lat_deg``, ``score``, ``is_true``, ``is_duplicate`` and further columns they came with.
    sources : DataFrame
        The truth with ``sky``, ``s1``, ``s10``, ``ts``, ``index`` (NaN where not known) and
        ``found_score``.
    left_out : int
        Detections on extended sources that match no point source: in no count.
    skies : int
        Number of skies.
    """

    detections: pd.DataFrame
    sources: pd.DataFrame
    left_out: int
    skies: int


def ranked_list(
    candidates: Sequence[pd.DataFrame],
    truth: Sequence[pd.DataFrame],
    radius_deg: float,
    matching: Matching = "one-to-one",
    extended: Sequence[pd.DataFrame] | None = None,
) -> RankedList:
    """Match a search with the truth of several skies.

    Parameters
    ----------
    candidates, truth : sequence of DataFrame
        One of each per sky, in the same order. Truth needs ``s1``; ``s10`` and the expected
        ``ts`` are used where given.
    radius_deg, matching
        As in `ranked_match`.
    extended : sequence of DataFrame, optional
        Table EXTENDED of each sky: detections inside (radius plus the match radius) that add no
        point source are neither true nor false, and left out.

    Raises
    ------
    InputError
        If the numbers of skies differ, there is none, or a table cannot be used.
    """
    if not truth or len(candidates) != len(truth):
        raise InputError(
            "skies", f"{len(candidates)} lists of detections, {len(truth)} of sources",
            "give one of each for every sky",
        )  # fmt: skip
    if extended is not None and len(extended) != len(truth):
        raise InputError(
            "skies", f"{len(extended)} lists of extended sources for {len(truth)} skies",
            "give one for every sky",
        )  # fmt: skip
    found, sources, left_out = [], [], 0
    for sky, (seen, true) in enumerate(zip(candidates, truth, strict=True)):
        seen, true = in_order(seen, "score"), in_order(true, "s1")
        result = ranked_match(seen, true, radius_deg, matching)
        seen = seen.assign(sky=sky, is_true=result.is_true, is_duplicate=result.is_duplicate)
        if extended is not None:
            keep = result.is_true | ~on_extended(seen, extended[sky], radius_deg)
            left_out += int((~keep).sum())
            seen = seen[keep]
        found.append(seen)
        known = {name: true[name] for name in FURTHER if name in true.columns}
        sources.append(
            pd.DataFrame(
                {
                    "sky": sky,
                    **{n: true[n].to_numpy(np.float64) for n in ("lon_deg", "lat_deg", "s1")},
                    **{n: known.get(n, pd.Series(np.nan, true.index)) for n in FURTHER},
                    "found_score": result.found_score,
                }
            ).astype(dict.fromkeys(FURTHER, np.float64))
        )
    return RankedList(
        pd.concat(found, ignore_index=True),
        pd.concat(sources, ignore_index=True),
        left_out,
        len(truth),
    )
