from __future__ import annotations

import numpy as np
import pytest

from geminga.bands import Band
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import random_rotation, tangent_frames
from geminga.patches.grid import PatchGrid, make_grid
from geminga.patches.project import bin_photons
from geminga.patches.records import (
    image_columns,
    images_from_records,
    make_records,
    record_schema,
)
from geminga.response import BandPsf, equal_shares
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.observe import draw_photons
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky
from geminga.tables import TRUTH

COUNTS = 5000.0
PER_SR = 1e5


def gaussian_psf(bands: int, sigma_deg: float) -> BandPsf:
    radius = np.concatenate([np.linspace(0.0, 3.0, 301), np.linspace(3.1, 30.0, 200)])
    shape = np.exp(-0.5 * (radius / sigma_deg) ** 2)
    angle = np.radians(radius)
    weight = shape * np.sin(angle)
    ring = 0.5 * np.diff(angle) * (weight[1:] + weight[:-1])
    total = 2 * np.pi * ring.sum()
    contained = np.concatenate([[0.0], np.cumsum(ring) / ring.sum()])
    wide = (bands, 2, len(radius))
    return BandPsf(
        radius,
        np.array([1.0, 4.0]),
        np.broadcast_to(shape / total, wide).copy(),
        np.broadcast_to(contained, wide).copy(),
    )


def small_sky(config: Config, lon: list[float], lat: list[float]) -> Sky:
    n, bands = len(lon), len(config.channels)
    numbers = {c.name: np.ones(n) for c in TRUTH.columns if c.dtype == "float64"}
    table = TRUTH.frame(
        numbers
        | {
            "sky_id": np.full(n, 7),
            "source_id": np.arange(n),
            "class_name": [config.classes[0]] * n,
            "form": ["log_parabola"] * n,
            "lon_deg": np.array(lon),
            "lat_deg": np.array(lat),
        }
    )
    diffuse = np.full((2, bands, 12 * 64**2), PER_SR / 2, dtype=np.float32)
    return Sky(
        7,
        config.channels,
        config.classes,
        SourceSet(table, np.ones((n, config.sky.years))),
        np.full((n, bands), COUNTS),
        np.full((n, bands), 2.0),
        np.full((n, config.sky.years), 1.0 / config.sky.years),
        DiffuseCounts.of_maps(*diffuse),
        0,
        np.ones((3, bands)),
        np.empty(0),
        gaussian_psf(bands, 0.2),
        equal_shares(config.sky.years),
    )


def one_patch(lon: float, lat: float, size_deg: float = 10.0) -> PatchGrid:
    frames = tangent_frames(np.array([lon]), np.array([lat]))
    return PatchGrid(frames, size_deg, np.eye(3))


def test_columns_follow_the_schema(config2: Config):
    sky = small_sky(config2, [10.0], [40.0])
    grid = make_grid(1, 10.0, random_rotation(np.random.default_rng(0)))
    records = make_records(sky, grid, config2, [3, 0, 11])
    schema = record_schema(config2.channels)
    assert list(records) == list(schema)
    for name, (shape, dtype) in schema.items():
        assert records[name].shape == (3, *shape)
        assert records[name].dtype == dtype
        assert records[name].flags.c_contiguous
    np.testing.assert_array_equal(records["patch_id"], [3, 0, 11])
    np.testing.assert_array_equal(records["sky_id"], [7, 7, 7])
    np.testing.assert_array_equal(records["frame"], grid.frames[[3, 0, 11]])


def test_a_patch_does_not_depend_on_its_company(config2: Config):
    sky = small_sky(config2, [10.0, 200.0], [40.0, -10.0])
    grid = make_grid(1, 10.0)
    together = make_records(sky, grid, config2, range(len(grid)))
    alone = make_records(sky, grid, config2, [5])
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], together[name][5])


def test_the_source_is_where_the_target_is(config2: Config):
    sky = small_sky(config2, [33.0], [-21.0])
    records = make_records(sky, one_patch(31.0, -20.0), config2, [0])
    rows, columns = np.nonzero(records["target"][0])
    radius = config2.patches.target_radius_px
    assert len(rows) == pytest.approx(np.pi * radius**2, rel=0.1)
    image = records["image_1"][0] - records["image_1"][0].min()
    brightest = np.unravel_index(image.argmax(), image.shape)
    assert abs(brightest[0] - rows.mean()) <= 1.0
    assert abs(brightest[1] - columns.mean()) <= 1.0


def test_expected_and_counted_images_agree(config2: Config):
    sky = small_sky(config2, [31.5], [-20.3])
    grid = one_patch(31.0, -20.0)
    images = images_from_records(make_records(sky, grid, config2, [0]), config2.channels)
    counted = bin_photons(draw_photons(sky, 1), grid.frames, grid.size_deg, config2.channels)
    for image, counts in zip(images, counted, strict=True):
        expected = image.astype(np.float64)
        assert expected.sum() > COUNTS
        assert counts.sum() == pytest.approx(expected.sum(), abs=5 * float(expected.sum()) ** 0.5)
        # Poisson counts around the right mean: chi-square per pixel near one.
        chi2 = np.sum((counts - expected) ** 2 / expected) / expected.size
        assert chi2 == pytest.approx(1.0, abs=5 * (2 / expected.size) ** 0.5)


def test_no_patches_give_empty_columns(config2: Config):
    sky = small_sky(config2, [10.0], [40.0])
    records = make_records(sky, make_grid(1, 10.0), config2, [])
    for name, (shape, dtype) in record_schema(config2.channels).items():
        assert records[name].shape == (0, *shape)
        assert records[name].dtype == dtype


def test_a_sky_without_sources_has_no_targets(config2: Config):
    records = make_records(small_sky(config2, [], []), make_grid(1, 10.0), config2, [2])
    assert records["target"].sum() == 0
    assert (records["image_0"] > 0).all()


def test_patch_numbers_outside_the_grid_are_refused(config2: Config):
    sky = small_sky(config2, [10.0], [40.0])
    for wrong in (-1, 12):
        with pytest.raises(ValueError, match="of 12 patches"):
            make_records(sky, make_grid(1, 10.0), config2, [wrong])


def test_images_come_back_in_channel_order(bands2: tuple[Band, ...]):
    assert image_columns(bands2) == ("image_0", "image_1")
    columns = {
        "image_1": np.ones((2, 64, 64), np.float32),
        "image_0": np.zeros((2, 32, 32), np.float32),
    }
    first, second = images_from_records(columns, bands2)
    assert first.shape == (2, 32, 32)
    assert second.shape == (2, 64, 64)


def test_records_of_other_channels_are_refused(bands2: tuple[Band, ...]):
    columns = {"image_0": np.zeros((2, 32, 32), np.float32)}
    with pytest.raises(InputError, match=r"have 1 images \['image_0'\] for 2 channels"):
        images_from_records(columns, bands2)
    columns["image_1"] = np.zeros((2, 16, 16), np.float32)
    with pytest.raises(InputError, match=r"image_1 has images of shape \(16, 16\)"):
        images_from_records(columns, bands2)
