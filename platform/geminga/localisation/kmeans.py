"""The older search: k-means with every number of clusters, the best number kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.config import LocalisationConfig
from geminga.localisation.scores import checked_maps, disk_kernel_scores, score_at
from geminga.localisation.tables import check_patches, patch_detections
from geminga.seeds import Stage, generator

_STARTS = 2
"""Starts of k-means (k-means++ seeding) for each k; the tightest is taken."""


def overlap_with_disks(mask: Bool, centres: Float64, radius_px: float) -> float:
    """Return how well disks around the centres cover the mask: intersection over union.

    Parameters
    ----------
    mask : Bool, shape (n, n)
        Pixels taken as source.
    centres : Float64, shape (k, 2)
        Row and column of the centres.
    radius_px : float
        Radius of the disks.

    Returns
    -------
    float
        1 if the disks are the mask. Too few centres leave pixels of the mask uncovered, too many
        put disks beyond it: either lowers the value, so it needs no penalty on k.
    """
    axis = np.arange(mask.shape[0], dtype=np.float64)
    rows = (axis[None, :] - centres[:, 0, None]) ** 2
    columns = (axis[None, :] - centres[:, 1, None]) ** 2
    disks = np.any(rows[:, :, None] + columns[:, None, :] < radius_px**2, axis=0)
    return float(np.count_nonzero(mask & disks) / np.count_nonzero(mask | disks))


def best_clusters(
    mask: Bool, radius_px: float, max_clusters: int, rng: np.random.Generator
) -> tuple[Float64, Int64]:
    """Cluster the pixels of a mask with every k from 1 to `max_clusters`; keep the best.

    Returns
    -------
    centres : Float64, shape (k, 2)
        Row and column of the centres of the k with the largest `overlap_with_disks`, the
        smallest such k.
    pixels : Int64, shape (k,)
        Pixels of each cluster.
    """
    points = np.argwhere(mask).astype(np.float64)
    best, centres, labels = -1.0, np.empty((0, 2)), np.empty(0, np.int64)
    for k in range(1, min(max_clusters, len(points)) + 1):
        means = KMeans(k, n_init=_STARTS, random_state=int(rng.integers(2**31))).fit(points)
        quality = overlap_with_disks(mask, means.cluster_centers_, radius_px)
        if quality > best:
            best, centres, labels = quality, means.cluster_centers_, means.labels_
    return centres, np.bincount(labels, minlength=len(centres)).astype(np.int64)


def kmeans_sources(
    maps: Float32,
    sky_id: int,
    patch_ids: Int64,
    frames: Float64,
    size_deg: float,
    settings: LocalisationConfig,
    seed: int,
) -> pd.DataFrame:
    """Find sources in network output by k-means, the method before threshold clustering.

    Pixels above ``kmeans_pixel_threshold`` are clustered with every k up to
    ``kmeans_max_clusters``; the k whose disks of radius ``kernel_radius_px`` overlap best with
    these pixels is kept. Centres are the positions; their score is the disk-kernel score there.

    Parameters
    ----------
    maps, sky_id, patch_ids, frames, size_deg, settings
        As for `geminga.localisation.cluster.find_sources`.
    seed : int
        Root seed of the run; each patch has its own stream.

    Returns
    -------
    pandas.DataFrame
        PATCH_DETECTIONS.

    Raises
    ------
    InputError
        If shapes disagree or a value of `maps` is not finite.
    """
    maps = checked_maps(maps)
    check_patches(len(maps), patch_ids, frames)
    found = [np.empty((0, 5))]
    with threadpool_limits(limits=1):  # threads add in any order, and positions would follow
        for number, image in enumerate(maps):
            mask = np.asarray(image > settings.kmeans_pixel_threshold)
            if not mask.any():
                continue
            rng = generator(seed, Stage.KMEANS, sky_id, int(patch_ids[number]))
            centres, pixels = best_clusters(
                mask, settings.kernel_radius_px, settings.kmeans_max_clusters, rng
            )
            scores = disk_kernel_scores(image[None], settings.kernel_radius_px)[0]
            strength = score_at(scores, centres[:, 0], centres[:, 1])
            part = np.column_stack([np.full(len(centres), number), centres, strength, pixels])
            found.append(part[np.lexsort((centres[:, 1], centres[:, 0]))])
    patch, row, column, score, group_pixels = np.concatenate(found).T
    return patch_detections(
        sky_id,
        patch_ids,
        frames,
        size_deg,
        maps.shape[1],
        patch.astype(np.int64),
        row,
        column,
        score,
        group_pixels.astype(np.int64),
    )
