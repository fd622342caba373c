"""Patches of part of the sky: which pixels count as not observed, records in small groups."""

from __future__ import annotations

import healpy as hp
import numpy as np
import pytest

from geminga.config import Config
from geminga.geometry import tangent_frames, unit_vectors
from geminga.patches.covered import (
    PATCHES_PER_GROUP,
    covered_records,
    outside_columns,
    outside_masks,
)
from geminga.patches.grid import make_grid
from geminga.patches.project import bin_photons
from geminga.patches.records import image_columns
from geminga.sky.coverage import NPIX, NSIDE, Coverage, whole_sky
from geminga.sky.photons import Photons


@pytest.fixture(scope="module")
def north() -> Coverage:
    """All cells whose centres are north of 0.03 deg of latitude."""
    _, lat = hp.pix2ang(NSIDE, np.arange(NPIX), nest=True, lonlat=True)
    return Coverage(lat > 0.03)


FRAMES = np.asarray(tangent_frames(np.array([30.0, 30.0]), np.array([0.0, 40.0])))


@pytest.mark.parametrize("pixels", [32, 64, 100, 128])
def test_pixels_cut_by_the_border_are_not_observed(north: Coverage, pixels: int) -> None:
    outside = outside_masks(north, FRAMES, 10.0, pixels)
    assert outside.shape == (2, pixels, pixels)
    assert not outside[1].any()
    low = (np.arange(pixels) / pixels - 0.5) * 10.0  # southern edge of each row
    rows = outside[0].any(axis=1)
    assert rows[low < 0.03].all()
    # Not more than a cell and a pixel of the raster are given away.
    assert not rows[low > 0.03 + 0.25].any()


def test_all_of_the_sky_has_no_outside() -> None:
    assert not outside_masks(whole_sky(), FRAMES, 10.0, 32).any()


def test_records_hold_counts_and_masks(north: Coverage, config2: Config) -> None:

    grid = make_grid(2, 10.0)
    rng = np.random.default_rng(2)
    lon, lat = rng.uniform(0, 360, 4000), rng.uniform(0, 80, 4000)
    vectors = unit_vectors(lon, lat).astype(np.float32)
    channel = rng.integers(0, 2, 4000).astype(np.int8)
    photons = Photons(vectors, channel, np.zeros(4000, np.int8))
    ids = np.arange(3, 3 + PATCHES_PER_GROUP + 2)
    groups = list(covered_records(photons, north, grid, ids, config2, 7))
    assert [len(group["frame"]) for group in groups] == [PATCHES_PER_GROUP, 2]
    joined = {name: np.concatenate([g[name] for g in groups]) for name in groups[0]}
    np.testing.assert_array_equal(joined["patch_id"], ids)
    assert (joined["sky_id"] == 7).all()
    wanted = bin_photons(photons, grid.frames[ids], 10.0, config2.channels)
    masks = outside_columns(config2.channels)
    for image, mask, counts, channel in zip(
        image_columns(config2.channels), masks, wanted, config2.channels, strict=True
    ):
        np.testing.assert_array_equal(joined[image], counts)
        np.testing.assert_array_equal(
            joined[mask], outside_masks(north, grid.frames[ids], 10.0, channel.pixels)
        )
    everywhere = next(covered_records(photons, whole_sky(), grid, ids, config2, 7))
    assert not set(masks) & set(everywhere)
