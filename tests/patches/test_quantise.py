"""Expected counts as codes: what they cost in accuracy, in bytes and in detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import poisson

from geminga.config import Config, load_config
from geminga.errors import InputError
from geminga.localisation.significance import significance_sources
from geminga.patches.grid import PatchGrid, grid_for_sky
from geminga.patches.quantise import (
    MAX_CODE,
    MAX_COUNTS,
    MAX_RELATIVE_ERROR,
    MU0,
    code_values,
    decode,
    encode,
    pack,
    quantised,
    unpack,
)
from geminga.patches.records import image_columns, make_records
from geminga.patches.render import expected_images
from geminga.patches.store import read_group, write_records
from geminga.response import build_response
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, simulate_sky
from geminga.training.batches import draw_counts

LATITUDES_DEG = (0.0, 1.0, -8.0, 30.0, -45.0, 88.0)
BUDGET_BYTES = 25e6
"""A sky of 768 patches; all that a sky leaves on disk may take 100 MB."""


def test_every_code_stands_for_a_value_that_has_this_code() -> None:
    values = code_values()
    assert values.dtype == np.float32
    assert values[0] == 0.0
    assert (np.diff(values) > 0).all()
    assert values[-1] == pytest.approx(MAX_COUNTS, rel=1e-6)
    codes = np.arange(MAX_CODE + 1, dtype=np.uint16)
    np.testing.assert_array_equal(encode(values), codes)
    np.testing.assert_array_equal(decode(codes), values)
    np.testing.assert_array_equal(quantised(values), values)


def test_the_error_is_the_one_stated() -> None:
    mu = np.geomspace(1e-9, 0.999 * MAX_COUNTS, 400_000).astype(np.float32)
    error = np.abs(quantised(mu).astype(np.float64) - mu)
    assert (error / (mu.astype(np.float64) + MU0)).max() < MAX_RELATIVE_ERROR
    # Far below the Poisson noise: 0.8 % of it at 1,000 counts, less at fewer.
    faint = mu < 1000
    assert (error[faint] / np.sqrt(mu[faint])).max() < 0.008


def test_images_come_back_with_every_bit() -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(0, MAX_CODE + 1, (3, 7, 5)).astype(np.uint16)
    steps[0, 0, 0], steps[0, 0, 1], steps[1] = 0, MAX_CODE, 0
    smooth = quantised(rng.uniform(0.1, 0.2, (2, 16, 16)))
    for images in (decode(steps), smooth, np.zeros((0, 4, 4), np.float32)):
        packed = pack(images)
        assert packed.shape == (len(images), 2 * images.shape[1] * images.shape[2])
        back = unpack(packed, *images.shape[1:])
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, images)


def test_images_that_were_not_rounded_are_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not rounded to storable values"):
        pack(np.full((1, 2, 2), 0.1, np.float32))


@pytest.mark.parametrize("value", [-1e-3, np.nan, np.inf, 1e9])
def test_counts_that_are_no_counts_are_refused(value: float) -> None:
    image = np.full((4, 4), 0.5)
    image[2, 1] = value
    with pytest.raises(
        InputError, match=r"sky 3, image_1: has a pixel that is negative, not finite or too large"
    ):
        encode(image, "sky 3, image_1")


@pytest.fixture(scope="module")
def demo() -> Config:
    """Six bands at full resolution."""
    return load_config(Path(__file__).parents[2] / "jobs" / "configs" / "demo.yaml")


@pytest.fixture(scope="module")
def sky(demo: Config) -> Sky:
    response = build_response(demo)
    diffuse = diffuse_counts(demo, response)
    return simulate_sky(demo, response, load_population(demo.sky.population), diffuse, 0)


@pytest.fixture(scope="module")
def grid(demo: Config) -> PatchGrid:
    return grid_for_sky(demo, 0)


@pytest.fixture(scope="module")
def ids(grid: PatchGrid) -> list[int]:
    """Patches on the plane, at middle latitudes and at the pole."""
    _, lat = grid.centres()
    return [int(np.argmin(np.abs(lat - wanted))) for wanted in LATITUDES_DEG]


@pytest.fixture(scope="module")
def records(demo: Config, sky: Sky, grid: PatchGrid, ids: list[int]) -> dict[str, Any]:
    return make_records(sky, grid, demo, ids)


def detections(demo: Config, records: dict[str, Any], images: list[Any]) -> pd.DataFrame:
    return significance_sources(
        images,
        demo.channels,
        0,
        records["patch_id"],
        records["frame"],
        demo.patches.size_deg,
        demo.localisation,
    )


def test_total_counts_are_kept(
    demo: Config, sky: Sky, grid: PatchGrid, ids: list[int], records: dict[str, Any]
) -> None:
    exact = expected_images(sky, grid.frames[ids], grid.size_deg)
    for name, image in zip(image_columns(demo.channels), exact, strict=True):
        stored, wanted = records[name].astype(np.float64), image.astype(np.float64)
        assert (np.abs(stored - wanted) <= MAX_RELATIVE_ERROR * (wanted + MU0)).all()
        assert stored.sum() == pytest.approx(wanted.sum(), rel=1e-5)


def test_what_is_stored_is_what_was_made_and_fits_the_budget(
    demo: Config, records: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "patches.parquet"
    write_records(path, [records])
    back = read_group(path, 0)
    for name, values in records.items():
        assert back[name].dtype == values.dtype
        np.testing.assert_array_equal(back[name], values)
    # No detection can differ: the same draws, then the same search.
    drawn = [draw_counts(r, demo, 3) for r in (records, back)]
    found = [
        detections(demo, records, [d[name] for name in image_columns(demo.channels)]) for d in drawn
    ]
    assert len(found[0]) > 20
    pd.testing.assert_frame_equal(found[0], found[1], check_exact=True)
    # A third of these patches are on the plane, more than of a sky's, and are the largest.
    assert path.stat().st_size / len(records["patch_id"]) * 768 < BUDGET_BYTES


def test_rounding_does_not_change_what_is_detected(
    demo: Config, sky: Sky, grid: PatchGrid, ids: list[int], records: dict[str, Any]
) -> None:
    """One draw of the exact and of the rounded counts: the same quantile in every pixel."""
    rng = np.random.default_rng(8)
    exact, rounded = [], []
    names = image_columns(demo.channels)
    images = expected_images(sky, grid.frames[ids], grid.size_deg)
    for name, image in zip(names, images, strict=True):
        quantile = rng.random(image.shape)
        exact.append(poisson.ppf(quantile, image).astype(np.float32))
        rounded.append(poisson.ppf(quantile, records[name]).astype(np.float32))
        # Counts change by one in few pixels.
        assert np.abs(exact[-1] - rounded[-1]).max() <= 2
        assert (exact[-1] != rounded[-1]).mean() < 0.01
    first, second = (detections(demo, records, found) for found in (exact, rounded))
    assert len(first) > 20
    assert len(first) == len(second)
    np.testing.assert_array_equal(first["patch_id"], second["patch_id"])
    for column in ("lon_deg", "lat_deg"):
        np.testing.assert_allclose(first[column], second[column], atol=0.02)
    np.testing.assert_allclose(first["score"], second["score"], rtol=0.02)
