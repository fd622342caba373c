"""Patch records: the images, frame and target of each patch as columns of arrays.

The columns are what Ray Data and Parquet carry. The target of each patch is a mask at the finest
resolution; the images are expected counts, drawn Poisson when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Float32
from geminga.bands import Band, pixel_sizes
from geminga.config import Config
from geminga.errors import InputError
from geminga.patches.grid import PatchGrid
from geminga.patches.render import expected_images
from geminga.patches.targets import disk_targets
from geminga.sky.sky import Sky


def image_columns(bands: Sequence[Band]) -> tuple[str, ...]:
    """Return the names of the image columns, one per band."""
    return tuple(f"band_{number}" for number in range(len(bands)))


def record_schema(bands: Sequence[Band]) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape (of one record) and type of every column, in order."""
    sizes = pixel_sizes(bands)
    top = max(sizes)
    images = {
        name: ((n, n), np.dtype(np.float32))
        for name, n in zip(image_columns(bands), sizes, strict=True)
    }
    return {
        "sky_id": ((), np.dtype(np.int64)),
        "patch_id": ((), np.dtype(np.int64)),
        "frame": ((3, 3), np.dtype(np.float64)),
        **images,
        "target": ((top, top), np.dtype(np.uint8)),
    }


def make_records(
    sky: Sky, grid: PatchGrid, config: Config, patch_ids: Sequence[int]
) -> dict[str, NDArray[Any]]:
    """Render some patches of a simulated sky.

    Parameters
    ----------
    sky : Sky
        Simulated sky.
    grid : PatchGrid
        Patches of that sky.
    config : Config
        Gives the bands and the radius of the target disks.
    patch_ids : sequence of int
        Patches to render.

    Returns
    -------
    dict of arrays
        One array per column of `record_schema`, first axis the patch.

    Raises
    ------
    ValueError
        If a patch number is outside the grid: a fault of the caller.
    """
    ids = np.asarray(patch_ids, dtype=np.int64).reshape(-1)
    if len(ids) and (ids.min() < 0 or ids.max() >= len(grid)):
        raise ValueError(f"patch numbers {ids.min()} to {ids.max()} of {len(grid)} patches")
    frames = grid.frames[ids]
    images = expected_images(sky, frames, grid.size_deg)
    table = sky.sources.table
    target = disk_targets(
        frames,
        grid.size_deg,
        table["lon_deg"].to_numpy(dtype=np.float64),
        table["lat_deg"].to_numpy(dtype=np.float64),
        config.top_pixels,
        config.patches.target_radius_px,
    )
    columns: dict[str, NDArray[Any]] = {
        "sky_id": np.full(len(ids), sky.sky_id, dtype=np.int64),
        "patch_id": ids,
        "frame": frames,
        **dict(zip(image_columns(config.bands), images, strict=True)),
        "target": target,
    }
    return {
        name: np.ascontiguousarray(columns[name], dtype=dtype)
        for name, (_, dtype) in record_schema(config.bands).items()
    }


def images_from_records(
    columns: Mapping[str, NDArray[Any]], bands: Sequence[Band]
) -> tuple[Float32, ...]:
    """Return the images of records, one array (n, n_b, n_b) per band.

    Raises
    ------
    InputError
        If the records were made with other bands.
    """
    names = image_columns(bands)
    stored = [name for name in columns if name.startswith("band_")]
    if set(stored) != set(names):
        raise InputError(
            "patch records",
            f"have {len(stored)} band images {sorted(stored)} for {len(names)} bands",
            "make the patches anew with this configuration",
        )
    images = []
    for name, n in zip(names, pixel_sizes(bands), strict=True):
        image = np.asarray(columns[name], dtype=np.float32)
        if image.shape[1:] != (n, n):
            raise InputError(
                "patch records",
                f"column {name} has images of shape {image.shape[1:]}, the bands {(n, n)}",
                "make the patches anew with this configuration",
            )
        images.append(image)
    return tuple(images)
