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
    channels : Float32 (n, C, p, p)
        Counts of each channel over all years, each with its own width.
    yearly : Float32 (n, Y, p, p)
        Counts of each year, summed over the channels from ``images.yearly_min_gev`` up.
    lat_deg : Float64 (n,)
        Galactic latitude.
    """

    channels: Float32
    yearly: Float32
    lat_deg: Float64

    def __len__(self) -> int:
        return len(self.lat_deg)

    def stack(self) -> Float32:
        """Return all images of each detection, shape (n, C + Y, p, p): channels, then years."""
        return np.concatenate([self.channels, self.yearly], axis=1)


def yearly_channels(config: Config) -> list[int]:
    """Return the numbers of the channels that enter the yearly images."""
    return [
        number
        for number, channel in enumerate(config.channels)
        if channel.emin_gev >= config.images.yearly_min_gev
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
        Channels, years and image settings.
    """
    settings = config.images
    n, pixels, years = len(lon_deg), settings.pixels, config.sky.years
    frames = tangent_frames(lon_deg, lat_deg)
    count = len(config.channels)
    images = render_tangent(sky, frames, config.image_box_deg, [pixels] * count)
    chosen = yearly_channels(config)
    yearly = np.zeros((n, years, pixels, pixels), dtype=np.float32)
    for image in render_tangent(
        sky,
        frames,
        [settings.yearly_box_deg] * len(chosen),
        [pixels] * len(chosen),
        channels=chosen,
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
        Photons of the whole sky, numbered by the channels and years of this configuration.
    lon_deg, lat_deg : Float64 (n,)
        Galactic directions.
    config : Config
        Channels, years and image settings.

    Raises
    ------
    InputError
        If the photons have a channel or year that the configuration does not know.
    """
    settings = config.images
    n, pixels, years = len(lon_deg), settings.pixels, config.sky.years
    count = len(config.channels)
    for name, values, limit in (("channel", photons.channel, count), ("year", photons.year, years)):
        if len(values) and int(values.max()) >= limit:
            raise InputError(
                "photons",
                f"have {name} {int(values.max())}, the configuration has {limit}",
                "read or draw the photons with this configuration",
            )
    frames = tangent_frames(lon_deg, lat_deg)
    images = bin_tangent(photons, frames, config.image_box_deg, [pixels] * count)
    harder = photons.select(np.isin(photons.channel, yearly_channels(config)))
    merged = Photons(harder.xyz, np.zeros_like(harder.channel), harder.year, harder.origin)
    (yearly,) = bin_tangent(
        merged, frames, [settings.yearly_box_deg], [pixels], per_year=True, years=years
    )
    counts = np.stack(images, axis=1) if n else np.zeros((0, count, pixels, pixels))
    return SourceImages(
        counts.astype(np.float32), yearly.astype(np.float32), np.asarray(lat_deg, dtype=np.float64)
    )
