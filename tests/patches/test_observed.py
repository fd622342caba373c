"""Records of counted photons look like simulated ones and hold every photon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config
from geminga.geometry import from_plane, lon_lat
from geminga.patches.grid import PatchGrid, make_grid
from geminga.patches.observed import counted_records
from geminga.patches.project import bin_photons
from geminga.patches.records import images_from_records, record_schema
from geminga.patches.store import PATCHES_PER_GROUP, group_sizes, read_group, write_records
from geminga.sky.photons import Photons, empty_photons

SKY = 2_000_000


@pytest.fixture(scope="module")
def grid() -> PatchGrid:
    """48 patches: a full row group and half of another."""
    return make_grid(2, 10.0)


def photons_on_sphere(n: int, bands: int) -> Photons:
    rng = np.random.default_rng(3)
    xyz = rng.normal(size=(n, 3))
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    band = rng.integers(0, bands, n).astype(np.int8)
    return Photons(xyz.astype(np.float32), band, np.zeros(n, dtype=np.int8))


def joined(groups: list[dict[str, np.ndarray[Any, Any]]]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.concatenate([g[name] for g in groups]) for name in groups[0]}


def test_columns_follow_the_schema_of_simulated_records(config2: Config, grid: PatchGrid) -> None:
    groups = list(counted_records(photons_on_sphere(1000, 2), grid, config2, SKY))
    assert [len(g["patch_id"]) for g in groups] == [PATCHES_PER_GROUP, 48 - PATCHES_PER_GROUP]
    for group in groups:
        schema = record_schema(config2.channels, [np.uint8, np.uint8])
        assert list(group) == list(schema)
        for name, (shape, dtype) in schema.items():
            assert group[name].shape[1:] == shape
            assert group[name].dtype == dtype
    whole = joined(groups)
    np.testing.assert_array_equal(whole["patch_id"], np.arange(48))
    np.testing.assert_array_equal(whole["frame"], grid.frames)
    assert set(whole["sky_id"]) == {SKY}


def test_every_photon_is_counted_in_its_patches(config2: Config, grid: PatchGrid) -> None:
    photons = photons_on_sphere(20_000, 2)
    whole = joined(list(counted_records(photons, grid, config2, SKY)))
    images = images_from_records(whole, config2.channels)
    counted = bin_photons(photons, grid.frames, grid.size_deg, config2.channels)
    for number, (image, counts) in enumerate(zip(images, counted, strict=True)):
        np.testing.assert_array_equal(image, counts.astype(np.float32))
        covering = grid.covers(*photons.select(photons.channel == number).lon_lat())
        assert image.sum() == covering.sum()


def test_photons_of_a_source_are_in_its_disk(config2: Config, grid: PatchGrid) -> None:
    xyz = from_plane(grid.frames[37], np.array([1.8]), np.array([-1.2]))
    lon, lat = lon_lat(xyz)
    truth = pd.DataFrame({"lon_deg": lon, "lat_deg": lat})
    photons = Photons(
        np.repeat(xyz.astype(np.float32), 9, axis=0), np.ones(9, np.int8), np.zeros(9, np.int8)
    )
    whole = joined(list(counted_records(photons, grid, config2, SKY, truth)))
    assert [whole[f"image_{b}"].sum() for b in range(2)] == [0.0, 9.0]
    patch, row, column = np.argwhere(whole["image_1"])[0]
    # East is to the right, north is where row numbers grow: 64 pixels over 10 degrees.
    assert (patch, row, column) == (37, round(31.5 - 1.2 * 6.4), round(31.5 + 1.8 * 6.4))
    assert whole["target"][patch, row, column] == 1
    assert set(np.flatnonzero(whole["target"].any(axis=(1, 2)))) == {37}


def test_targets_are_empty_without_sources(config2: Config, grid: PatchGrid) -> None:
    photons = photons_on_sphere(1000, 2)
    none = pd.DataFrame({"lon_deg": [], "lat_deg": []}, dtype="float64")
    for truth in (None, none):
        whole = joined(list(counted_records(photons, grid, config2, SKY, truth)))
        assert whole["target"].sum() == 0


def test_no_photons_give_empty_images_that_can_be_kept(
    config2: Config, grid: PatchGrid, tmp_path: Path
) -> None:
    path = tmp_path / "patches.parquet"
    groups = list(counted_records(empty_photons(), grid, config2, SKY))
    assert write_records(path, groups) == 48
    assert group_sizes(path) == [len(g["patch_id"]) for g in groups]
    back = read_group(path, 1)
    for name, values in groups[1].items():
        np.testing.assert_array_equal(back[name], values)
    assert back["image_1"].sum() == 0
