"""Matching of detections with sources: one to one, or as the published method did it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geminga.arrays import Float64, Int64
from geminga.errors import InputError
from geminga.geometry import separation_deg, unit_vectors
from geminga.tables import MATCHES


def match(
    candidates: pd.DataFrame,
    truth: pd.DataFrame,
    radius_deg: float,
    brightness_column: str = "s1",
) -> pd.DataFrame:
    """Pair detections with sources, each used at most once.

    The brightest source of all first takes the nearest detection that is still free and not
    farther than the radius, then the next brightest, and so on. A duplicate detection of a source
    therefore counts as false. Sources of equal brightness go in row order, detections at equal
    distance in row order. Only rows of the same ``sky_id`` are paired when both tables have one.

    Parameters
    ----------
    candidates : DataFrame
        Detections with ``lon_deg`` and ``lat_deg`` (table CANDIDATES).
    truth : DataFrame
        Sources with ``lon_deg``, ``lat_deg`` and the brightness (table TRUTH).
    radius_deg : float
        Largest distance of a pair in degrees, inclusive.
    brightness_column : str
        Column of `truth` that ranks the sources, larger first; NaN ranks last.

    Returns
    -------
    DataFrame
        Table MATCHES: every source in row order (matched or missed), then the false detections in
        row order. Row numbers are positions, not index labels.

    Raises
    ------
    InputError
        If the radius is not positive or a column is missing.
    """
    candidate_xyz, source_xyz, brightness = _checked(
        candidates, truth, radius_deg, brightness_column
    )

    partner = np.full(len(truth), -1, dtype=np.int64)
    separation = np.full(len(truth), np.nan)
    for rows_c, rows_s in _skies(candidates, truth):
        _match_sky(
            candidate_xyz, source_xyz, brightness, radius_deg, rows_c, rows_s, partner, separation
        )

    false = np.setdiff1d(np.arange(len(candidates)), partner)
    return MATCHES.frame(
        {
            "candidate": np.concatenate([partner, false]),
            "source": np.concatenate([np.arange(len(truth)), np.full(len(false), -1)]),
            "separation_deg": np.concatenate([separation, np.full(len(false), np.nan)]),
        }
    )


def match_thesis(
    candidates: pd.DataFrame,
    truth: pd.DataFrame,
    radius_deg: float,
    brightness_column: str = "s1",
) -> pd.DataFrame:
    """Pair every detection with the brightest source near it, as the thesis did.

    Many detections may claim one source, and each of them counts as true: duplicates raise the
    purity. Kept to compare with published figures; `match` is the measure.

    Parameters
    ----------
    candidates, truth, radius_deg, brightness_column
        As in `match`.

    Returns
    -------
    DataFrame
        Table MATCHES: every source in row order, once per detection that claims it or once as
        missed, then the false detections in row order.

    Raises
    ------
    InputError
        As `match`.
    """
    near = near_pairs(candidates, truth, radius_deg, brightness_column)
    # Pairs are sorted by detection, then brightest source first.
    first = np.flatnonzero(np.diff(near.candidate, prepend=-1))
    claimed = near.source[first]
    missed = np.setdiff1d(np.arange(len(truth)), claimed)
    false = np.setdiff1d(np.arange(len(candidates)), near.candidate)
    source = np.concatenate([claimed, missed])
    candidate = np.concatenate([near.candidate[first], np.full(len(missed), -1)])
    separation = np.concatenate([near.separation_deg[first], np.full(len(missed), np.nan)])
    order = np.lexsort((candidate, source))
    return MATCHES.frame(
        {
            "candidate": np.concatenate([candidate[order], false]),
            "source": np.concatenate([source[order], np.full(len(false), -1)]),
            "separation_deg": np.concatenate([separation[order], np.full(len(false), np.nan)]),
        }
    )


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Detections and sources not farther apart than a radius.

    Sorted by detection, then by `rank` of the source.

    Attributes
    ----------
    candidate, source : Int64 (n,)
        Row numbers.
    rank : Int64 (n,)
        Place of the source when all are sorted brightest first, equals in row order.
    separation_deg : Float64 (n,)
        Distance of the pair.
    """

    candidate: Int64
    source: Int64
    rank: Int64
    separation_deg: Float64


def near_pairs(
    candidates: pd.DataFrame,
    truth: pd.DataFrame,
    radius_deg: float,
    brightness_column: str = "s1",
) -> NearPairs:
    """Return every detection with every source within the radius (inclusive) on the same sky.

    Parameters
    ----------
    candidates, truth, radius_deg, brightness_column
        As in `match`.

    Raises
    ------
    InputError
        As `match`.
    """
    candidate_xyz, source_xyz, brightness = _checked(
        candidates, truth, radius_deg, brightness_column
    )
    rank = np.empty(len(truth), dtype=np.int64)
    rank[np.argsort(-_ranked(brightness), kind="stable")] = np.arange(len(truth))
    rows: list[Int64] = []
    partners: list[Int64] = []
    for rows_c, rows_s in _skies(candidates, truth):
        if not len(rows_c) or not len(rows_s):
            continue
        near = cKDTree(source_xyz[rows_s]).query_ball_point(
            candidate_xyz[rows_c], _chord(radius_deg)
        )
        rows.append(np.repeat(rows_c, [len(one) for one in near]))
        partners += [rows_s[np.array(one, dtype=np.int64)] for one in near]
    candidate = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    source = np.concatenate([np.zeros(0, dtype=np.int64), *partners])
    angle = separation_deg(candidate_xyz[candidate], source_xyz[source])
    close = angle <= radius_deg * (1.0 + 1e-9)
    candidate, source, angle = candidate[close], source[close], angle[close]
    order = np.lexsort((rank[source], candidate))
    return NearPairs(candidate[order], source[order], rank[source[order]], angle[order])


def _checked(
    candidates: pd.DataFrame, truth: pd.DataFrame, radius_deg: float, brightness_column: str
) -> tuple[Float64, Float64, Float64]:
    """Return directions of both tables and the sources' brightness."""
    if not 0 < radius_deg < 180:
        raise InputError("match radius", f"{radius_deg} deg", "use a value above 0 and below 180")
    candidate_xyz = _directions(candidates, "candidates")
    source_xyz = _directions(truth, "truth")
    if brightness_column not in truth.columns:
        raise InputError(
            "truth", f"has no column {brightness_column}", f"rank by one of {list(truth.columns)}"
        )
    return candidate_xyz, source_xyz, truth[brightness_column].to_numpy(dtype=np.float64)


def _chord(radius_deg: float) -> float:
    # A slightly wider search, then the exact angle: the chord alone loses pairs to rounding.
    return float(2.0 * np.sin(np.radians(radius_deg) / 2.0) * (1.0 + 1e-9) + 1e-12)


def _ranked(brightness: Float64) -> Float64:
    return np.where(np.isnan(brightness), -np.inf, brightness)


def _directions(frame: pd.DataFrame, where: str) -> Float64:
    missing = [name for name in ("lon_deg", "lat_deg") if name not in frame.columns]
    if missing:
        raise InputError(where, f"has no column {', '.join(missing)}", "give Galactic degrees")
    return unit_vectors(
        frame["lon_deg"].to_numpy(dtype=np.float64), frame["lat_deg"].to_numpy(dtype=np.float64)
    )


def _skies(candidates: pd.DataFrame, truth: pd.DataFrame) -> list[tuple[Int64, Int64]]:
    """Return the rows of both tables of each sky that has both."""
    if "sky_id" not in candidates.columns or "sky_id" not in truth.columns:
        return [(np.arange(len(candidates)), np.arange(len(truth)))]
    sky_c, sky_s = candidates["sky_id"].to_numpy(), truth["sky_id"].to_numpy()
    shared = np.intersect1d(sky_c, sky_s)
    return [(np.flatnonzero(sky_c == sky), np.flatnonzero(sky_s == sky)) for sky in shared]


def _match_sky(
    candidate_xyz: Float64,
    source_xyz: Float64,
    brightness: Float64,
    radius_deg: float,
    rows_c: Int64,
    rows_s: Int64,
    partner: Int64,
    separation: Float64,
) -> None:
    if not len(rows_c) or not len(rows_s):
        return
    tree = cKDTree(candidate_xyz[rows_c])
    near = tree.query_ball_point(source_xyz[rows_s], _chord(radius_deg))
    rank = _ranked(brightness[rows_s])
    free = np.ones(len(rows_c), dtype=bool)
    for s in np.argsort(-rank, kind="stable"):
        options = np.array(sorted(near[s]), dtype=np.int64)
        options = options[free[options]]
        if not len(options):
            continue
        angle = separation_deg(candidate_xyz[rows_c[options]], source_xyz[rows_s[s]])
        best = int(np.argmin(angle))
        if angle[best] > radius_deg * (1.0 + 1e-9):
            continue
        free[options[best]] = False
        partner[rows_s[s]] = rows_c[options[best]]
        separation[rows_s[s]] = angle[best]
