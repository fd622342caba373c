"""Small images around detections: one per band, and one per year over the harder bands.

Each is a square of the tangent plane at the detection, north up, east to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float32, Float64
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import tangent_frames
from geminga.patches.project import bin_tangent
from geminga.patches.render import render_tangent
from geminga.sky.photons import Photons
from geminga.sky.sky import Sky


@dataclass(frozen=True)
class SourceImages:
    """Images of n detections.

    Attributes
    ----------
    bands : Float32 (n, B, p, p)
        Counts of each band over all years, each band with its own width.
    yearly : Float32 (n, Y, p, p)
        Counts of each year, summed over the bands from ``images.yearly_min_gev`` up.
    lat_deg : Float64 (n,)
        Galactic latitude.
    """

    bands: Float32
    yearly: Float32
    lat_deg: Float64

    def __len__(self) -> int:
        return len(self.lat_deg)

    def stack(self) -> Float32:
        """Return all images of each detection, shape (n, B + Y, p, p): bands, then years."""
        return np.concatenate([self.bands, self.yearly], axis=1)


def yearly_bands(config: Config) -> list[int]:
    """Return the numbers of the bands that enter the yearly images."""
    return [
        number
        for number, band in enumerate(config.bands)
        if band.emin_gev >= config.images.yearly_min_gev
    ]


def expected_source_images(
    sky: Sky, lon_deg: Float64, lat_deg: Float64, config: Config
) -> SourceImages:
    """Render expected counts of a simulated sky around directions.

    Parameters
    ----------
    sky : Sky
        Simulated sky of this configuration.
    lon_deg, lat_deg : Float64 (n,)
        Galactic directions.
    config : Config
        Bands, years and image settings.
    """
    settings = config.images
    n, pixels, years = len(lon_deg), settings.pixels, config.sky.years
    frames = tangent_frames(lon_deg, lat_deg)
    count = len(config.bands)
    images = render_tangent(sky, frames, settings.box_deg, [pixels] * count)
    chosen = yearly_bands(config)
    yearly = np.zeros((n, years, pixels, pixels), dtype=np.float32)
    for image in render_tangent(
        sky,
        frames,
        [settings.yearly_box_deg] * len(chosen),
        [pixels] * len(chosen),
        bands=chosen,
        per_year=True,
    ):
        yearly += image
    return SourceImages(
        np.stack(images, axis=1).astype(np.float32), yearly, np.asarray(lat_deg, dtype=np.float64)
    )


def counted_source_images(
    photons: Photons, lon_deg: Float64, lat_deg: Float64, config: Config
) -> SourceImages:
    """Count photons around directions.

    Parameters
    ----------
    photons : Photons
        Photons of the whole sky, numbered by the bands and years of this configuration.
    lon_deg, lat_deg : Float64 (n,)
        Galactic directions.
    config : Config
        Bands, years and image settings.

    Raises
    ------
    InputError
        If the photons have a band or year that the configuration does not know.
    """
    settings = config.images
    n, pixels, years = len(lon_deg), settings.pixels, config.sky.years
    count = len(config.bands)
    for name, values, limit in (("band", photons.band, count), ("year", photons.year, years)):
        if len(values) and int(values.max()) >= limit:
            raise InputError(
                "photons",
                f"have {name} {int(values.max())}, the configuration has {limit}",
                "read or draw the photons with this configuration",
            )
    frames = tangent_frames(lon_deg, lat_deg)
    images = bin_tangent(photons, frames, settings.box_deg, [pixels] * count)
    harder = photons.select(np.isin(photons.band, yearly_bands(config)))
    merged = Photons(harder.xyz, np.zeros_like(harder.band), harder.year, harder.origin)
    (yearly,) = bin_tangent(
        merged, frames, [settings.yearly_box_deg], [pixels], per_year=True, years=years
    )
    bands = np.stack(images, axis=1) if n else np.zeros((0, count, pixels, pixels))
    return SourceImages(
        bands.astype(np.float32), yearly.astype(np.float32), np.asarray(lat_deg, dtype=np.float64)
    )
