"""From the fitted sources of overlapping patches to one list for the sky."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geminga.arrays import Bool, Float64
from geminga.geometry import unit_vectors
from geminga.patches.grid import PatchGrid

SLACK_DEG = 0.15
"""A patch also keeps sources that another one holds this much deeper: each finds the source at a
place of its own, and near the border both might leave it to the other."""
GAP_DEG = 0.4
"""Patches of 10 deg leave gaps between their corners, 0.05 % of the sky, few of them deeper than this:
what shines from there into a patch is a source of the nearest one."""
SAME_DEG = 0.15
"""Sources of two patches within this distance are one."""


def sky_list(sources: pd.DataFrame, grid: PatchGrid) -> pd.DataFrame:
    """Keep every source once: from the patch that holds it deepest.

    Parameters
    ----------
    sources : DataFrame
        Rows with the columns of PATCH_SOURCES, of all patches of one sky, in any order; a patch
        may have fitted sources that it shares with others.
    grid : PatchGrid

    Returns
    -------
    DataFrame
        A part of the rows, by falling TS (then patch and position): no two of different patches
        are closer than 0.15 deg.
    """
    columns = ["ts", "patch_id", "x_deg", "y_deg"]
    order = np.lexsort([-s if n == "ts" else s for n, s in sources[columns].items()][::-1])
    ranked = sources.iloc[order]
    vectors = unit_vectors(ranked["lon_deg"].to_numpy(), ranked["lat_deg"].to_numpy())
    edge = ranked["edge_deg"].to_numpy()
    keep = edge >= deepest_edge(vectors, grid) - SLACK_DEG
    ranked, vectors, edge = ranked[keep], vectors[keep], edge[keep]
    kept = _once(vectors, edge, ranked["patch_id"].to_numpy())
    return ranked[kept].reset_index(drop=True)


def deepest_edge(vectors: Float64, grid: PatchGrid) -> Float64:
    """Return how deep the best patch holds each direction (n, 3): degrees from its nearest edge."""
    best = np.full(len(vectors), -np.inf)
    half = grid.size_deg / 2.0
    reach = np.cos(np.radians(np.sqrt(2.0) * half))
    for frame in grid.frames:
        near = np.flatnonzero(vectors @ frame[0] > reach)
        local = vectors[near] @ frame.T
        offset = np.degrees(np.abs(local[:, 1:]).max(axis=1, initial=0.0) / local[:, 0])
        best[near] = np.maximum(best[near], half - offset)
    return best


def depth_deg(vectors: Float64, frames: Float64, size_deg: float) -> Float64:
    """Return how deep patches (P, 3, 3) hold directions (n, 3), degrees from the edge (P, n).

    Negative outside, down to minus infinity beyond the plane.
    """
    local = np.einsum("pij,nj->pin", frames, vectors)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.degrees(np.abs(local[:, 1:]).max(axis=1) / local[:, 0])
    return np.asarray(np.where(local[:, 0] > 0.0, size_deg / 2.0 - offset, -np.inf))


def _once(vectors: Float64, edge: Float64, patch: np.ndarray) -> Bool:
    """Return which of several patches' views of one source to keep: the deepest, then the first."""
    keep = np.ones(len(vectors), dtype=np.bool_)
    if not len(vectors):
        return keep
    chord = 2.0 * np.sin(np.radians(SAME_DEG) / 2.0)
    pairs = cKDTree(vectors).query_pairs(chord, output_type="ndarray")
    pairs = pairs[patch[pairs[:, 0]] != patch[pairs[:, 1]]]
    # By distance: of two sources of a patch the nearer one is what the other patch sees.
    distance = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)
    paired: set[tuple[int, int]] = set()
    for a, b in pairs[np.lexsort([pairs[:, 1], pairs[:, 0], distance])]:
        one, other = (int(a), int(patch[b])), (int(b), int(patch[a]))
        if one in paired or other in paired:
            continue
        paired |= {one, other}
        # Rows are by falling TS: of equal depth the surer one stays.
        keep[b if edge[a] >= edge[b] else a] = False
    return keep
