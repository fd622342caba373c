"""Position error of matched pairs: its size and bias by flux, and the errors claimed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.evaluation.bootstrap import Bootstrapped, Estimate, Units, bootstrap
from geminga.evaluation.metrics import position_offsets
from geminga.evaluation.ranked import Matching, in_order, ranked_match
from geminga.likelihood.position_errors import COVARIANCE, TAIL

INSIDE = (0.6827, 0.95)
"""Probabilities of the claimed regions that are checked."""


def matched_pairs(
    candidates: Sequence[pd.DataFrame],
    truth: Sequence[pd.DataFrame],
    cut: float,
    radius_deg: float,
    matching: Matching = "one-to-one",
) -> pd.DataFrame:
    """Match the detections at or above a cut; return one row per found source.

    Parameters
    ----------
    candidates, truth : sequence of DataFrame
        One of each per sky, as in `geminga.evaluation.ranked.ranked_list`. An error of a
        position is read from the columns COVARIANCE, else from ``position_error_deg`` (one axis).
    cut : float
        Score.
    radius_deg, matching
        As in `geminga.evaluation.ranked.ranked_match`; with ``thesis`` the nearest detection
        that claims the source.

    Returns
    -------
    DataFrame
        ``sky``, ``lon_deg``, ``lat_deg``, ``s1`` of the source; ``east_deg``, ``north_deg`` found
        minus true; ``pull_1``, ``pull_2``: the offset along the axes of the error ellipse in
        units of its standard deviations, NaN where no error is claimed; ``tail`` the radius of
        the claimed region of 95 % over that of a Gaussian, 1 where nothing is said of it.
    """
    rows = [
        _sky_pairs(seen, true, sky, cut, radius_deg, matching)
        for sky, (seen, true) in enumerate(zip(candidates, truth, strict=True))
    ]
    return pd.concat(rows, ignore_index=True)


def _sky_pairs(
    seen: pd.DataFrame,
    true: pd.DataFrame,
    sky: int,
    cut: float,
    radius_deg: float,
    matching: Matching,
) -> pd.DataFrame:
    seen, true = in_order(seen, "score"), in_order(true, "s1")
    seen = seen[seen["score"].to_numpy(np.float64) >= cut]
    partner = ranked_match(seen, true, radius_deg, matching).partner
    source = np.flatnonzero(partner >= 0)
    pairs = pd.DataFrame({"source": source, "candidate": partner[source]})
    offsets = position_offsets(seen, true, pairs)
    # In the plane of the detection, where its own ellipse is given: true minus found.
    back = position_offsets(
        true, seen, pairs.rename(columns={"source": "candidate", "candidate": "source"})
    )
    matched = seen.iloc[partner[source]]
    pull = _pulls(back.east_deg, back.north_deg, matched)
    tail = matched[TAIL].to_numpy(np.float64) if TAIL in matched else np.ones(len(source))
    return pd.DataFrame(
        {
            "sky": np.full(len(source), sky, dtype=np.int64),
            **{n: true[n].to_numpy(np.float64)[source] for n in ("lon_deg", "lat_deg", "s1")},
            "east_deg": offsets.east_deg,
            "north_deg": offsets.north_deg,
            "pull_1": pull[:, 0],
            "pull_2": pull[:, 1],
            "tail": np.where(np.isfinite(tail), tail, 1.0),
        }
    )


def _pulls(east: Float64, north: Float64, seen: pd.DataFrame) -> Float64:
    """Return offsets (n, 2) along the axes of each error ellipse over their standard deviations."""
    n = len(east)
    covariance = np.full((n, 2, 2), np.nan)
    if "position_error_deg" in seen.columns:
        variance = seen["position_error_deg"].to_numpy(np.float64) ** 2
        covariance = variance[:, None, None] * np.eye(2)
    if all(name in seen.columns for name in COVARIANCE):
        xx, xy, yy = (seen[name].to_numpy(np.float64) for name in COVARIANCE)
        ellipse = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
        given = np.isfinite(ellipse).all(axis=(1, 2))
        covariance[given] = ellipse[given]
    out = np.full((n, 2), np.nan)
    finite = np.isfinite(covariance).all(axis=(1, 2))
    if not finite.any():
        return out
    value, axis = np.linalg.eigh(covariance[finite])
    along = np.einsum("nij,ni->nj", axis, np.stack([east, north], -1)[finite])
    good = (value > 0).all(axis=1)
    out[np.flatnonzero(finite)[good]] = along[good] / np.sqrt(value[good])
    return out


@dataclass(frozen=True)
class PositionBin:
    """Position error of the sources in a range of flux.

    Attributes
    ----------
    low, high : float
        S1 in ph/cm2/s, low inclusive; 0 to inf is every source.
    n : int
        Matched pairs.
    median_deg, radius68_deg, radius95_deg : Estimate
        Distances within which 50, 68 and 95 % lie; none can exceed the match radius.
    bias_east_deg, bias_north_deg : Estimate
        Mean found minus true position.
    """

    low: float
    high: float
    n: int
    median_deg: Estimate
    radius68_deg: Estimate
    radius95_deg: Estimate
    bias_east_deg: Estimate
    bias_north_deg: Estimate


_FIGURES = ("median_deg", "radius68_deg", "radius95_deg", "bias_east_deg", "bias_north_deg")


def position_bins(
    pairs: pd.DataFrame, units: Units, ranges: Sequence[tuple[float, float]]
) -> tuple[PositionBin, ...]:
    """Return the position error in each range of S1, with bootstrap errors of these pairs."""
    return tuple(_position_bin(pairs, units, low, high) for low, high in ranges)


def _position_bin(pairs: pd.DataFrame, units: Units, low: float, high: float) -> PositionBin:
    s1 = pairs["s1"].to_numpy(np.float64)
    # Every source, also of unknown flux, belongs to the range from 0 to inf.
    rows = (s1 >= low) & (s1 < high) if (low, high) != (0.0, np.inf) else np.full(len(s1), True)
    part = pairs[rows]
    result = _offset_bootstrap(part, units)
    return PositionBin(low, high, len(part), *(result.estimate(name) for name in _FIGURES))


def position_bootstrap(pairs: pd.DataFrame, units: Units) -> Bootstrapped:
    """Return the position figures of all pairs with their resamples, under their own names."""
    size, claims = _offset_bootstrap(pairs, units), _claim_bootstrap(_with_claim(pairs), units)
    return Bootstrapped(
        {**size.value, **claims.value}, {**size.draws, **claims.draws}, size.inflation
    )


def _offset_bootstrap(part: pd.DataFrame, units: Units) -> Bootstrapped:
    unit = units.of(part)
    east, north = (part[n].to_numpy(np.float64) for n in ("east_deg", "north_deg"))
    order = np.argsort(np.hypot(east, north), kind="stable")
    distance = np.hypot(east, north)[order]

    def statistic(weights: Float64) -> dict[str, Float64]:
        w = weights[unit]
        times = w[order].astype(np.int64)
        if not times.sum():
            return {name: np.array(np.nan) for name in _FIGURES}
        values = np.quantile(np.repeat(distance, times), [0.5, 0.68, 0.95])
        bias = [np.array(np.sum(w * axis) / w.sum()) for axis in (east, north)]
        return dict(zip(_FIGURES, [*values, *bias], strict=True))

    return bootstrap(statistic, units)


@dataclass(frozen=True)
class PositionCalibration:
    """Whether positions are as good as claimed.

    Attributes
    ----------
    n, without_error : int
        Pairs with a claimed position error, and those without.
    inside_68, inside_95 : Estimate
        Share of true positions inside the claimed regions of 68.27 and 95 %.
    pull_mean_1, pull_mean_2 : Estimate
        Mean offset along minor and major axis in claimed standard deviations; 0 if unbiased.
    pull_rms : Estimate
        Root mean square of both; 1 if the claim is right.
    pull_width : Estimate
        The same from the median distance, blind to outliers.
    """

    n: int
    without_error: int
    inside_68: Estimate
    inside_95: Estimate
    pull_mean_1: Estimate
    pull_mean_2: Estimate
    pull_rms: Estimate
    pull_width: Estimate


def position_calibration(pairs: pd.DataFrame, units: Units) -> PositionCalibration:
    """Compare the claimed position errors with the true offsets.

    For a two-dimensional Gaussian the squared pull exceeds -2 ln(1 - p) with probability 1 - p;
    a list that says how long the tails are is held to its own region of 95 %.
    """
    good = _with_claim(pairs)
    result = _claim_bootstrap(good, units)
    return PositionCalibration(
        len(good), len(pairs) - len(good), *(result.estimate(name) for name in _CLAIMS)
    )


_CLAIMS = ("inside_68", "inside_95", "mean_1", "mean_2", "rms", "width")


def _with_claim(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs[pairs["pull_1"].notna()]


def _claim_bootstrap(good: pd.DataFrame, units: Units) -> Bootstrapped:
    unit = units.of(good)
    one, two = (good[n].to_numpy(np.float64) for n in ("pull_1", "pull_2"))
    square = one**2 + two**2
    limits = [-2.0 * np.log1p(-p) for p in INSIDE]
    inside = square <= limits[0], square <= limits[1] * good["tail"].to_numpy(np.float64) ** 2
    order: Int64 = np.argsort(square, kind="stable")

    def statistic(weights: Float64) -> dict[str, Float64]:
        w = weights[unit]
        if not w.sum():
            return {name: np.array(np.nan) for name in _CLAIMS}
        median = np.median(np.repeat(square[order], w[order].astype(np.int64)))
        values = [
            *(np.array(w[held].sum() / w.sum()) for held in inside),
            *(np.array(np.sum(w * axis) / w.sum()) for axis in (one, two)),
            np.sqrt(np.sum(w * square) / w.sum() / 2.0),
            np.sqrt(median / (2.0 * np.log(2.0))),
        ]
        return dict(zip(_CLAIMS, values, strict=True))

    return bootstrap(statistic, units)
