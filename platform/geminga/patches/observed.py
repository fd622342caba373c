"""Patch records of a photon list: the columns of simulated ones, with counts for images.

Every channel's counts have the smallest unsigned type that holds them all; a file gives them back
as float32, like expected counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from geminga.config import Config
from geminga.patches.grid import PatchGrid
from geminga.patches.project import bin_photons
from geminga.patches.records import image_columns
from geminga.patches.store import PATCHES_PER_GROUP
from geminga.patches.targets import disk_targets
from geminga.sky.photons import Photons


def counted_records(
    photons: Photons,
    grid: PatchGrid,
    config: Config,
    sky_id: int,
    truth: pd.DataFrame | None = None,
) -> Iterator[dict[str, np.ndarray[Any, np.dtype[Any]]]]:
    """Yield groups of patch records whose images are the photons in each pixel.

    Parameters
    ----------
    photons : Photons
        Photons of the whole sky.
    grid : PatchGrid
        Where to cut.
    config : Config
        Settings of the run.
    sky_id : int
        Sky the photons belong to.
    truth : DataFrame, optional
        Sources for the target masks (columns ``lon_deg``, ``lat_deg``); masks are empty without.
    """
    images = {
        name: image.astype(np.min_scalar_type(int(image.max(initial=0))), copy=False)
        for name, image in zip(
            image_columns(config.channels),
            bin_photons(photons, grid.frames, grid.size_deg, config.channels),
            strict=True,
        )
    }
    count, top = len(grid.frames), config.top_pixels
    for first in range(0, count, PATCHES_PER_GROUP):
        ids = np.arange(first, min(first + PATCHES_PER_GROUP, count), dtype=np.int64)
        if truth is None:
            target = np.zeros((len(ids), top, top), dtype=np.uint8)
        else:
            target = disk_targets(
                grid.frames[ids],
                grid.size_deg,
                truth["lon_deg"].to_numpy(),
                truth["lat_deg"].to_numpy(),
                top,
                config.patches.target_radius_px,
            )
        yield {
            "sky_id": np.full(len(ids), sky_id, dtype=np.int64),
            "patch_id": ids,
            "frame": grid.frames[ids],
            **{name: image[ids] for name, image in images.items()},
            "target": target,
        }
