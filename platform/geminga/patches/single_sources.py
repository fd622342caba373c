"""Expected counts of single sources, each in an image of its own."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.geometry import pixel_solid_angle_sr, unit_vectors
from geminga.patches.psf_lookup import index_weights, psf_lookup, reach_rad
from geminga.patches.render import add_sources
from geminga.sky.sky import Sky


def source_images(
    sky: Sky, rows: Int64, frame: Float64, size_deg: float, pixels: int, channel: int
) -> Float32:
    """Return the expected counts of single sources, each in an image of its own.

    Parameters
    ----------
    sky : Sky
    rows : Int64 (m,)
        Rows of the sky's sources.
    frame : Float64 (3, 3)
        Rows (centre, east, north).
    size_deg, pixels : float, int
        Width and pixels per side of the images.
    channel : int

    Returns
    -------
    Float32 (m, pixels, pixels)
        As in `render_tangent`, all years together.
    """
    result = np.zeros((len(rows), 1, pixels, pixels), dtype=np.float32)
    table = sky.sources.table
    lon, lat = (table[name].to_numpy()[rows] for name in ("lon_deg", "lat_deg"))
    vectors = unit_vectors(lon, lat)
    counts, index = sky.source_counts[rows, channel], sky.source_psf_index[rows, channel]
    faintest = float(sky.diffuse_density(channel).min())
    reach = reach_rad(sky.psf, channel, counts, index, faintest)
    shares = sky.shares[rows].sum(axis=1, keepdims=True)
    lookup = psf_lookup(sky.psf, channel)
    low, weight = index_weights(sky.psf, index)
    for i in range(len(rows)):
        one = slice(i, i + 1)
        add_sources(
            result[one],
            np.ascontiguousarray(frame, dtype=np.float64)[None],
            float(np.radians(size_deg)),
            vectors[one],
            counts[one],
            reach[one],
            shares[one],
            lookup.density_per_sr,
            lookup.core_rad,
            low[one],
            weight[one],
        )
    images = result[:, 0]
    images *= pixel_solid_angle_sr(pixels, size_deg).astype(np.float32)
    return images
