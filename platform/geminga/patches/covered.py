"""Patch records of photons that cover part of the sky: counts, and the pixels without data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from geminga.arrays import Bool, Float64, Int64
from geminga.bands import Band, pixel_sizes
from geminga.config import Config
from geminga.patches.grid import PatchGrid
from geminga.patches.project import bin_photons
from geminga.patches.records import image_columns
from geminga.patches.spread import bin_pixel_counts
from geminga.sky.coverage import Coverage
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts

PATCHES_PER_GROUP = 8
"""Patches of a row group: small pieces keep all cores busy to the end and tell the time left."""
_AT_ONCE = 128
"""Counts of as many patches are held at a time: 30 MB for six bands."""
_STEP_DEG = 0.08
"""Raster on which the border of the data is followed: finer than the cells of a coverage."""


def outside_columns(channels: Sequence[Band]) -> tuple[str, ...]:
    """Return the names of the columns that say which pixels were not observed, one per channel."""
    return tuple(f"outside_{number}" for number in range(len(channels)))


def outside_masks(coverage: Coverage, frames: Float64, size_deg: float, pixels: int) -> Bool:
    """Return which pixels of patches were not observed in full, (P, n, n).

    A pixel at the border counts as not observed if any part of it is, or lies within the width of
    a coverage's cell: photons that are missing in half of a pixel make the other half stand out.

    Parameters
    ----------
    coverage : Coverage
    frames : Float64 (P, 3, 3)
        Frames of the patches.
    size_deg : float
        Width of a patch in degrees.
    pixels : int
        Pixels per side, n.
    """
    if coverage.whole:
        return np.zeros((len(frames), pixels, pixels), dtype=np.bool_)
    fine = max(1, math.ceil(size_deg / pixels / _STEP_DEG - 1e-9))
    outside = ~coverage.masks(frames, size_deg, pixels * fine)
    grown = binary_dilation(outside, structure=np.ones((1, 3, 3), dtype=np.bool_))
    blocks = grown.reshape(len(frames), pixels, fine, pixels, fine)
    return np.asarray(blocks.any(axis=(2, 4)))


def covered_records(
    photons: Photons | PixelCounts,
    coverage: Coverage,
    grid: PatchGrid,
    ids: Int64,
    config: Config,
    sky_id: int,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield groups of records of some patches: counts and, if need be, the pixels without data.

    Parameters
    ----------
    photons : Photons or PixelCounts
        Photons are counted, those of pixels are spread over them: images of unsigned integers, or
        of float32.
    coverage : Coverage
        Of all of the sky, it leaves out the columns of `outside_columns`.
    grid : PatchGrid
    ids : Int64 (P,)
        Numbers of the patches.
    config : Config
    sky_id : int
    """
    images, masks = image_columns(config.channels), outside_columns(config.channels)
    for first in range(0, len(ids), _AT_ONCE):
        part = ids[first : first + _AT_ONCE]
        where = grid.frames[part], grid.size_deg, config.channels
        counts: Sequence[NDArray[Any]]
        if isinstance(photons, PixelCounts):
            counts = bin_pixel_counts(photons, *where)
        else:
            counts = bin_photons(photons, *where)
        for start in range(0, len(part), PATCHES_PER_GROUP):
            group = part[start : start + PATCHES_PER_GROUP]
            frames = grid.frames[group]
            record: dict[str, NDArray[Any]] = {
                "sky_id": np.full(len(group), sky_id, dtype=np.int64),
                "patch_id": group,
                "frame": frames,
            }
            for name, image in zip(images, counts, strict=True):
                record[name] = image[start : start + PATCHES_PER_GROUP]
            if not coverage.whole:
                sizes = pixel_sizes(config.channels)
                outside = {n: outside_masks(coverage, frames, grid.size_deg, n) for n in set(sizes)}
                record |= {name: outside[n] for name, n in zip(masks, sizes, strict=True)}
            yield record
