"""The threshold search on one list of photons: what a detection does without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from geminga.arrays import Bool, Float32
from geminga.config import Config
from geminga.localisation.significance import significance_sources
from geminga.localisation.stitch import stitch
from geminga.patches.grid import PatchGrid, make_grid
from geminga.patches.project import bin_photons
from geminga.seeds import Split, sky_id
from geminga.sky.coverage import Coverage
from geminga.sky.photons import Photons
from geminga.tables import CANDIDATES

_PATCHES_AT_ONCE = 128
"""Counts of as many patches are held at a time: 30 MB for six bands."""


def threshold_search(
    photons: Photons, coverage: Coverage, config: Config, model_folder: Path
) -> pd.DataFrame:
    """Search the covered patches of a sky for peaks of significance.

    Parameters
    ----------
    photons : Photons
    coverage : Coverage
        Patches without any of it are skipped. Pixels outside get their patch's mean, so that its
        border is no edge; detections there are dropped.
    config : Config
        Its localisation gives smoothing and threshold.
    model_folder : Path
        Not used: this search has no weights.

    Returns
    -------
    DataFrame
        CANDIDATES; the score is the significance in sigma.
    """
    grid = make_grid(config.patches.grid_nside, config.patches.size_deg)
    share = coverage.patch_shares(grid.frames, grid.size_deg)
    used = np.flatnonzero(share > 0)
    sky, found = sky_id(Split.TEST, 0), []
    for first in range(0, len(used), _PATCHES_AT_ONCE):
        ids = used[first : first + _PATCHES_AT_ONCE]
        frames = grid.frames[ids]
        images = [
            _filled(image.astype(np.float32), coverage.masks(frames, grid.size_deg, image.shape[1]))
            for image in bin_photons(photons, frames, grid.size_deg, config.channels)
        ]
        busy = np.sum([image.sum(axis=(1, 2)) for image in images], axis=0) > 0
        if busy.any():
            part = [image[busy] for image in images]
            found.append(
                significance_sources(
                    part, config.channels, sky, ids[busy], frames[busy], grid.size_deg,
                    config.localisation,
                )
            )  # fmt: skip
    if not found:
        return CANDIDATES.empty()
    searched = PatchGrid(grid.frames[used], grid.size_deg, grid.rotation)
    pixel_deg = grid.size_deg / config.top_pixels
    detections = pd.concat(found, ignore_index=True)
    candidates = stitch(detections, searched, config.localisation, pixel_deg)
    inside = coverage.holds(candidates["lon_deg"].to_numpy(), candidates["lat_deg"].to_numpy())
    return candidates[inside].reset_index(drop=True)


def _filled(images: Float32, mask: Bool) -> Float32:
    """Return images (P, n, n) with the mean of the covered pixels in the others."""
    if mask.all():
        return images
    covered = np.maximum(mask.sum(axis=(1, 2)), 1)
    mean = np.sum(images * mask, axis=(1, 2)) / covered
    return np.where(mask, images, mean[:, None, None]).astype(np.float32)
