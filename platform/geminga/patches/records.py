"""Patch records: the images, frame and target of each patch as columns of arrays.

The columns are what workers and Parquet carry. The target of each patch is a mask at the finest
resolution; the images are expected counts, drawn Poisson when they are used. They are rounded to
the values that a file can hold before anything is drawn from them (`geminga.patches.quantise`), so
that patches in memory and on disk are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geminga.arrays import Float32
from geminga.bands import Band, pixel_sizes
from geminga.config import Config
from geminga.errors import InputError
from geminga.patches.grid import PatchGrid
from geminga.patches.quantise import quantised
from geminga.patches.render import expected_images
from geminga.patches.store import IMAGE_PREFIX
from geminga.patches.targets import disk_targets
from geminga.sky.labelled import labelled
from geminga.sky.sky import Sky


def image_columns(channels: Sequence[Band]) -> tuple[str, ...]:
    """Return the names of the image columns, one per channel."""
    return tuple(f"{IMAGE_PREFIX}{number}" for number in range(len(channels)))


def record_schema(
    channels: Sequence[Band], images: Sequence[DTypeLike] | None = None
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape (of one record) and type of every column, in order.

    Parameters
    ----------
    channels : sequence of Channel
        What the images are of.
    images : sequence of types, optional
        Type of the images of each channel: float32 by default, as expected counts have and all
        images once they are read; unsigned integers where photons are counted.
    """
    sizes = pixel_sizes(channels)
    top = max(sizes)
    kinds = [np.float32] * len(sizes) if images is None else images
    columns = {
        name: ((n, n), np.dtype(kind))
        for name, n, kind in zip(image_columns(channels), sizes, kinds, strict=True)
    }
    return {
        "sky_id": ((), np.dtype(np.int64)),
        "patch_id": ((), np.dtype(np.int64)),
        "frame": ((3, 3), np.dtype(np.float64)),
        **columns,
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
        Gives the channels and the radius of the target disks.
    patch_ids : sequence of int
        Patches to render.

    Returns
    -------
    dict of arrays
        One array per column of `record_schema`, first axis the patch.

    Raises
    ------
    InputError
        If a pixel is expected to count more than can be stored, or no number.
    ValueError
        If a patch number is outside the grid: a fault of the caller.
    """
    ids = np.asarray(patch_ids, dtype=np.int64).reshape(-1)
    if len(ids) and (ids.min() < 0 or ids.max() >= len(grid)):
        raise ValueError(f"patch numbers {ids.min()} to {ids.max()} of {len(grid)} patches")
    frames = grid.frames[ids]
    images = expected_images(sky, frames, grid.size_deg)
    names = image_columns(config.channels)
    table = labelled(sky.sources.table, config.sky)
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
        **{
            name: quantised(image, f"sky {sky.sky_id}, {name}")
            for name, image in zip(names, images, strict=True)
        },
        "target": target,
    }
    return {
        name: np.ascontiguousarray(columns[name], dtype=dtype)
        for name, (_, dtype) in record_schema(config.channels).items()
    }


def images_from_records(
    columns: Mapping[str, NDArray[Any]], channels: Sequence[Band]
) -> tuple[Float32, ...]:
    """Return the images of records, one array (n, n_c, n_c) per channel.

    Raises
    ------
    InputError
        If the records were made with other channels.
    """
    names = image_columns(channels)
    stored = [name for name in columns if name.startswith(IMAGE_PREFIX)]
    if set(stored) != set(names):
        raise InputError(
            "patch records",
            f"have {len(stored)} images {sorted(stored)} for {len(names)} channels",
            "make the patches anew with this configuration",
        )
    images = []
    for name, n in zip(names, pixel_sizes(channels), strict=True):
        image = np.asarray(columns[name], dtype=np.float32)
        if image.shape[1:] != (n, n):
            raise InputError(
                "patch records",
                f"column {name} has images of shape {image.shape[1:]}, the channels {(n, n)}",
                "make the patches anew with this configuration",
            )
        images.append(image)
    return tuple(images)
