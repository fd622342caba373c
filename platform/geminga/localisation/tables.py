"""Pixel positions in patches -> rows of the table of patch detections."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.errors import InputError
from geminga.geometry import from_plane, lon_lat, pixel_to_plane
from geminga.tables import PATCH_DETECTIONS


def check_patches(n_maps: int, patch_ids: Int64, frames: Float64) -> None:
    """Raise InputError unless there is one patch number and one frame for every map."""
    if len(patch_ids) != n_maps or frames.shape != (n_maps, 3, 3):
        raise InputError(
            "patches",
            f"{n_maps} maps with {len(patch_ids)} patch numbers and frames {frames.shape}",
            "give one number and one (3, 3) frame per map",
        )


def patch_detections(
    sky_id: int,
    patch_ids: Int64,
    frames: Float64,
    size_deg: float,
    pixels: int,
    patch: Int64,
    row: Float64,
    column: Float64,
    score: Float64,
    group_pixels: Int64,
) -> pd.DataFrame:
    """Build the PATCH_DETECTIONS table from pixel positions.

    Parameters
    ----------
    sky_id : int
        Sky of the patches.
    patch_ids, frames : shapes (patches,), (patches, 3, 3)
        Numbers and tangent frames of the patches.
    size_deg, pixels : float, int
        Width of a patch in degrees and in pixels of the map that was searched.
    patch : Int64, shape (n,)
        Row of `patch_ids` and `frames` of every detection.
    row, column : Float64, shape (n,)
        Fractional pixel position, 0 at the centre of the first pixel.
    score, group_pixels : shape (n,)
        Strength, and number of pixels it rests on.
    """
    x = pixel_to_plane(column, pixels, size_deg)
    y = pixel_to_plane(row, pixels, size_deg)
    # from_plane works on one frame or, with the frame axis first, on one frame per position.
    vectors = from_plane(np.moveaxis(np.asarray(frames, np.float64)[patch], 1, 0), x, y)
    lon, lat = lon_lat(vectors)
    return PATCH_DETECTIONS.frame(
        {
            "sky_id": np.full(len(patch), sky_id),
            "patch_id": np.asarray(patch_ids)[patch],
            "x_deg": x,
            "y_deg": y,
            "lon_deg": lon,
            "lat_deg": lat,
            "score": score,
            "group_pixels": group_pixels,
        }
    )
