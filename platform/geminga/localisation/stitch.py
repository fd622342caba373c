"""From detections in overlapping patches to one list for the sky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geminga.arrays import Float64, Int64
from geminga.compiled import compiled
from geminga.config import LocalisationConfig
from geminga.errors import InputError
from geminga.geometry import lon_lat, unit_vectors
from geminga.tables import CANDIDATES, PATCH_DETECTIONS

if TYPE_CHECKING:
    from geminga.patches.grid import PatchGrid

_EDGE_FRACTION = 0.1
"""Detections nearer to a patch's edge than this fraction of its width lose weight."""

_LEAST_EDGE_WEIGHT = 0.1

_PRIOR_FREEDOM = 4.0
"""Degrees of freedom that the scatter of the whole sky brings to that of one source."""


def _edge_distance(detections: pd.DataFrame, size_deg: float) -> Float64:
    """Return the distance of each detection to the nearest edge of its patch, in degrees."""
    x, y = detections["x_deg"].to_numpy(), detections["y_deg"].to_numpy()
    return np.asarray(0.5 * size_deg - np.maximum(np.abs(x), np.abs(y)))


def _neighbours(xyz: Float64, radius_deg: float) -> tuple[Int64, Int64]:
    """Return for each direction those within the radius, as (first index, indices) in CSR form."""
    n = len(xyz)
    chord = 2.0 * np.sin(np.radians(radius_deg) / 2.0)
    pairs = np.asarray(cKDTree(xyz).query_pairs(chord, output_type="ndarray"), np.int64)
    one = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort((other, one))
    first = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=n))])
    return first.astype(np.int64), other[order]


@compiled
def _merge(xyz: Float64, patch: Int64, first: Int64, others: Int64) -> Int64:
    """Return for each detection the index of the one that absorbs it, itself if none does.

    Detections are in order of falling strength. Each free one takes, from every other patch, the
    nearest free detection, unless a free detection of its own patch is nearer to that one.
    """
    n = patch.size
    owner = np.full(n, -1, np.int64)
    for seed in range(n):
        if owner[seed] >= 0:
            continue
        owner[seed] = seed
        for i in range(first[seed], first[seed + 1]):
            member = others[i]
            if owner[member] >= 0 or patch[member] == patch[seed]:
                continue
            distance = np.sum((xyz[member] - xyz[seed]) ** 2)
            best = True
            for j in range(first[seed], first[seed + 1]):  # nearer one of the member's patch
                rival = others[j]
                if rival == member or patch[rival] != patch[member]:
                    continue
                if owner[rival] == seed:
                    best = False
                elif owner[rival] < 0:
                    d = np.sum((xyz[rival] - xyz[seed]) ** 2)
                    best = best and (distance < d or (distance == d and member < rival))
            for j in range(first[member], first[member + 1]):  # nearer one of the seed's patch
                rival = others[j]
                if rival != seed and owner[rival] < 0 and patch[rival] == patch[seed]:
                    best = best and distance <= np.sum((xyz[rival] - xyz[member]) ** 2)
            if best:
                owner[member] = seed
    return owner


def stitch(
    detections: pd.DataFrame,
    grid: PatchGrid,
    settings: LocalisationConfig,
    pixel_deg: float | None = None,
) -> pd.DataFrame:
    """Merge the detections of overlapping patches of one sky.

    Detections closer than ``edge_margin_deg`` to the edge of their patch are dropped where
    another patch sees the place away from its own edge. The strongest detection left absorbs the
    nearest within ``merge_radius_deg`` from each other patch, then the next strongest, and so on;
    two detections of one patch are never merged.

    Parameters
    ----------
    detections : pandas.DataFrame
        PATCH_DETECTIONS of one sky, in any order: the result is the same.
    grid : PatchGrid
        The patches that were searched.
    settings : LocalisationConfig
        ``merge_radius_deg`` and ``edge_margin_deg``.
    pixel_deg : float, optional
        Pixel size of the maps that were searched, for the floor of the position error; a quarter
        of the merging radius if not given.

    Returns
    -------
    pandas.DataFrame
        CANDIDATES, strongest first. The position is the mean of the unit vectors weighted by
        score, less near a patch's edge, where disks are cut and pull inwards. The score is the
        mean over the patches that could have seen the place, 0 for those that did not: those
        that hold it deeper than the margin and half the merging radius, and those that did see
        it. The position error is the scatter of the patches' positions over sqrt(n_patches), the
        scatter of few patches being drawn towards that of the whole sky; at least
        ``pixel_deg / (2 sqrt(n_patches))``. Patches share photons, so it leaves out the part of
        the Poisson error that is common to them.

    Raises
    ------
    InputError
        If the detections are of more than one sky, or the table lacks a column.
    """
    detections = PATCH_DETECTIONS.check(detections, "patch detections")
    skies = np.unique(detections["sky_id"].to_numpy())
    if len(skies) > 1:
        raise InputError("patch detections", f"of {len(skies)} skies", "stitch one sky at a time")
    if len(detections) == 0:
        return CANDIDATES.empty()

    edge = _edge_distance(detections, grid.size_deg)
    near_edge = np.flatnonzero(edge < settings.edge_margin_deg)
    keep = np.ones(len(detections), dtype=np.bool_)
    keep[near_edge] = (
        grid.covers(
            detections["lon_deg"].to_numpy()[near_edge],
            detections["lat_deg"].to_numpy()[near_edge],
            settings.edge_margin_deg,
        )
        == 0
    )
    columns = {name: detections[name].to_numpy()[keep] for name in PATCH_DETECTIONS.names}
    order = np.lexsort((columns["y_deg"], columns["x_deg"], columns["patch_id"], -columns["score"]))
    score, patch = columns["score"][order], columns["patch_id"][order]
    xyz = unit_vectors(columns["lon_deg"], columns["lat_deg"])[order]
    weight = score * np.clip(
        edge[keep][order] / (_EDGE_FRACTION * grid.size_deg), _LEAST_EDGE_WEIGHT, 1.0
    )

    seeds, member_of = np.unique(
        _merge(xyz, patch, *_neighbours(xyz, settings.merge_radius_deg)), return_inverse=True
    )
    n_candidates = len(seeds)
    n_patches = np.bincount(member_of, minlength=n_candidates)
    mean = np.zeros((n_candidates, 3))
    np.add.at(mean, member_of, weight[:, None] * xyz)
    lon, lat = lon_lat(mean)
    centre = unit_vectors(lon, lat)

    could_see = grid.covers(lon, lat, settings.edge_margin_deg + settings.merge_radius_deg / 2)
    n_covering = np.maximum(could_see, n_patches)
    offset = np.degrees(np.linalg.norm(xyz - centre[member_of], axis=1))
    floor = settings.merge_radius_deg / 4.0 if pixel_deg is None else pixel_deg
    mean_score = np.bincount(member_of, score, n_candidates) / n_covering
    # Equal scores are ordered by the seeds' order, which does not depend on that of the input.
    ranked = np.argsort(-mean_score, kind="stable")
    return CANDIDATES.frame(
        {
            "sky_id": np.full(n_candidates, skies[0]),
            "lon_deg": lon[ranked],
            "lat_deg": lat[ranked],
            "position_error_deg": _position_error(offset, member_of, n_patches, floor)[ranked],
            "score": mean_score[ranked],
            "n_patches": n_patches[ranked],
            "n_patches_covering": n_covering[ranked],
        }
    )


def _position_error(
    offset_deg: Float64, member_of: Int64, n_patches: Int64, pixel_deg: float
) -> Float64:
    """Return the error of each mean position along one axis, in degrees.

    The variance of one detection along one axis is estimated from the 2 (n - 1) degrees of
    freedom of its own patches and ``_PRIOR_FREEDOM`` of the pooled value of the sky.
    """
    squares = np.bincount(member_of, offset_deg**2, len(n_patches))
    freedom = 2.0 * (n_patches - 1)
    pooled = float(squares.sum() / freedom.sum()) if freedom.sum() > 0 else 0.0
    variance = (squares + _PRIOR_FREEDOM * pooled) / (freedom + _PRIOR_FREEDOM)
    return np.asarray(np.sqrt(np.maximum(variance, (pixel_deg / 2.0) ** 2) / n_patches))
