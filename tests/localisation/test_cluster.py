from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.config import LocalisationConfig
from geminga.errors import InputError
from geminga.geometry import separation_deg, tangent_frames, to_plane, unit_vectors
from geminga.localisation import find_sources
from geminga.tables import PATCH_DETECTIONS

N = 128
SIZE = 10.0
PIXEL = SIZE / N
ROW, COLUMN = np.mgrid[:N, :N]


def disks(*centres: tuple[float, float]) -> np.ndarray:
    image = np.zeros((N, N), np.float32)
    for row, column in centres:
        image[(ROW - row) ** 2 + (COLUMN - column) ** 2 < 25] = 1
    return image


def find(*images: np.ndarray, **settings: float) -> pd.DataFrame:
    frames = tangent_frames(np.linspace(10, 350, len(images)), np.linspace(-60, 60, len(images)))
    ids = 100 + np.arange(len(images))
    maps = np.stack(images).astype(np.float32)
    return find_sources(maps, 7, ids, frames, SIZE, LocalisationConfig(**settings))


def pixel_positions(frame: pd.DataFrame) -> np.ndarray:
    y, x = frame["y_deg"].to_numpy(), frame["x_deg"].to_numpy()
    return np.column_stack([y, x]) / PIXEL + N / 2 - 0.5


def test_a_disk_is_one_source_with_the_full_score() -> None:
    found = find(disks((40, 70)))
    assert list(found.columns) == PATCH_DETECTIONS.names
    assert found["score"].tolist() == [69.0]
    assert found["patch_id"].tolist() == [100]
    np.testing.assert_allclose(pixel_positions(found), [[40, 70]], atol=1e-9)


@pytest.mark.parametrize("shape", ["disk", "gaussian"])
def test_sub_pixel_positions_are_unbiased(shape: str) -> None:
    rng = np.random.default_rng(3)
    truth = rng.uniform(30, 98, (200, 2))
    images = []
    for row, column in truth:
        squared = (ROW - row) ** 2 + (COLUMN - column) ** 2
        images.append(squared < 25 if shape == "disk" else np.exp(-squared / (2 * 3.0**2)))
    found = find(*images)
    assert found["patch_id"].tolist() == list(range(100, 300))
    error = pixel_positions(found) - truth
    assert np.abs(error.mean(axis=0)).max() < 0.02
    assert error.std() < (0.15 if shape == "disk" else 0.02)
    # No dependence on the place within the pixel either.
    phase = truth - np.rint(truth)
    slope = (phase * error).sum() / (phase**2).sum()
    assert abs(slope) < (0.1 if shape == "disk" else 0.02)


def test_position_on_the_sky_agrees_with_the_plane() -> None:
    rng = np.random.default_rng(4)
    found = find(*[disks(tuple(p)) for p in rng.uniform(10, 118, (20, 2))])
    frames = tangent_frames(np.linspace(10, 350, 20), np.linspace(-60, 60, 20))
    directions = unit_vectors(found["lon_deg"].to_numpy(), found["lat_deg"].to_numpy())
    for i in range(20):
        x, y = to_plane(frames[i], directions[i : i + 1])
        np.testing.assert_allclose([x[0], y[0]], found.loc[i, ["x_deg", "y_deg"]], atol=1e-10)
    middle = find(disks((63.5, 63.5)))
    centre = unit_vectors(np.array([10.0]), np.array([-60.0]))
    here = unit_vectors(middle["lon_deg"].to_numpy(), middle["lat_deg"].to_numpy())
    assert separation_deg(here, centre)[0] < 1e-6


@pytest.mark.parametrize("distance", [8, 10, 12, 20])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_two_blended_disks_are_split(distance: float, offset: float) -> None:
    truth = [(60, 50 + offset), (60, 50 + offset + distance)]
    found = find(disks(*truth))
    assert len(found) == 2
    np.testing.assert_allclose(pixel_positions(found), truth, atol=0.7)


def test_three_disks_are_split() -> None:
    truth = [(60, 50), (60, 60), (69, 55)]
    found = find(disks(*truth))
    np.testing.assert_allclose(pixel_positions(found), truth, atol=0.7)


def test_two_disks_too_close_are_one_source_between_them() -> None:
    found = find(disks((60, 50), (60, 53)))
    np.testing.assert_allclose(pixel_positions(found), [[60, 51.5]], atol=0.1)


def test_a_group_that_never_splits_is_one_source() -> None:
    found = find(np.ones((N, N)))
    assert len(found) == 1
    np.testing.assert_allclose(pixel_positions(found), [[63.5, 63.5]], atol=1e-6)
    assert found["score"].tolist() == [69.0]


def test_a_ring_gives_sources_on_the_ring_or_its_middle() -> None:
    distance = np.hypot(ROW - 60, COLUMN - 60)
    found = find(((distance > 14) & (distance < 22)).astype(np.float32))
    assert len(found) >= 1
    assert np.isfinite(found["lon_deg"]).all()
    assert (np.hypot(*(pixel_positions(found) - 60).T) < 22).all()


def test_empty_maps_and_no_maps() -> None:
    for found in (
        find(np.zeros((N, N)), np.zeros((N, N))),
        find_sources(
            np.empty((0, N, N), np.float32),
            7,
            np.empty(0, np.int64),
            np.empty((0, 3, 3)),
            SIZE,
            LocalisationConfig(),
        ),
    ):
        assert len(found) == 0
        assert list(found.columns) == PATCH_DETECTIONS.names
        assert found.dtypes.equals(PATCH_DETECTIONS.empty().dtypes)


def test_noise_alone_gives_nothing_and_does_not_move_a_disk() -> None:
    rng = np.random.default_rng(5)
    noise = rng.uniform(0, 0.3, (10, N, N))
    assert len(find(*noise)) == 0
    found = find(*np.clip(0.8 * disks((50.3, 70.8)) + noise, 0, 1))
    assert len(found) == 10
    np.testing.assert_allclose(pixel_positions(found), np.tile([50.3, 70.8], (10, 1)), atol=0.4)


def test_saturated_noise_terminates_with_every_position_inside() -> None:
    found = find(np.random.default_rng(6).random((N, N)) < 0.7, threshold=1.0, threshold_step=0.5)
    positions = pixel_positions(found)
    assert len(found) > 1
    assert ((positions >= 0) & (positions <= N - 1)).all()


def test_diagonal_neighbours_belong_together_and_single_pixels_stand() -> None:
    image = np.zeros((N, N), np.float32)
    image[10, 10] = image[11, 11] = image[30, 30] = 1.0
    found = find(image, kernel_radius_px=1.0, threshold=1.0)
    assert found["group_pixels"].tolist() == [2, 1]
    np.testing.assert_allclose(pixel_positions(found), [[10.5, 10.5], [30, 30]])


def test_result_does_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(8)
    images = [disks(*map(tuple, rng.uniform(0, N, (14, 2)))) for _ in range(70)]
    frames = tangent_frames(rng.uniform(0, 360, 70), rng.uniform(-80, 80, 70))
    maps, ids, settings = np.stack(images), np.arange(70), LocalisationConfig()
    whole = find_sources(maps, 1, ids, frames, SIZE, settings)
    parts = [
        find_sources(maps[s], 1, ids[s], frames[s], SIZE, settings)
        for s in (slice(0, 3), slice(3, 70))
    ]
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True), check_exact=True)


def test_any_map_size() -> None:
    image = np.zeros((1, 32, 32), np.float32)
    image[0, 8:12, 8:12] = 1
    settings = LocalisationConfig(kernel_radius_px=2, threshold=4)
    found = find_sources(image, 0, np.zeros(1, int), tangent_frames(0, 0), 4.0, settings)
    np.testing.assert_allclose(found[["x_deg", "y_deg"]], [[(10 / 32 - 0.5) * 4] * 2], atol=1e-9)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="not finite"):
        find(np.full((N, N), np.nan))
    with pytest.raises(InputError, match="2 patch numbers"):
        find_sources(
            np.zeros((1, N, N), np.float32),
            0,
            np.arange(2),
            tangent_frames(np.zeros(2), np.zeros(2)),
            SIZE,
            LocalisationConfig(),
        )
    with pytest.raises(InputError, match="must be"):
        find(np.zeros((N, N - 1)))
