from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.config import LocalisationConfig
from geminga.errors import InputError
from geminga.geometry import tangent_frames
from geminga.localisation import kmeans_sources
from geminga.localisation.kmeans import overlap_with_disks
from geminga.tables import PATCH_DETECTIONS

N = 64
ROW, COLUMN = np.mgrid[:N, :N]
SETTINGS = LocalisationConfig(kmeans_max_clusters=8)


def disks(*centres: tuple[float, float]) -> np.ndarray:
    image = np.zeros((N, N), np.float32)
    for row, column in centres:
        image[(ROW - row) ** 2 + (COLUMN - column) ** 2 < 25] = 0.9
    return image


def find(*images: np.ndarray, seed: int = 1, first: int = 0) -> pd.DataFrame:
    n = len(images)
    ids = first + np.arange(n)
    frames = tangent_frames(10.0 * ids, np.zeros(n))
    return kmeans_sources(np.stack(images), 3, ids, frames, 5.0, SETTINGS, seed)


def pixel_positions(frame: pd.DataFrame) -> np.ndarray:
    return frame[["y_deg", "x_deg"]].to_numpy() * N / 5.0 + N / 2 - 0.5


def test_every_disk_is_found_with_its_score() -> None:
    truth = [(10, 12), (10, 40), (30, 50), (50, 20)]
    found = find(disks(*truth))
    np.testing.assert_allclose(pixel_positions(found), truth, atol=1e-6)
    np.testing.assert_allclose(found["score"], 0.9 * 69, rtol=1e-5)
    assert found["group_pixels"].tolist() == [69] * 4


def test_two_blended_disks() -> None:
    truth = [(30, 26), (30, 34)]
    np.testing.assert_allclose(pixel_positions(find(disks(*truth))), truth, atol=1.0)


def test_overlap_of_exact_missing_and_needless_disks() -> None:
    mask = disks((20, 20), (20, 40)) > 0.5
    both = np.array([[20.0, 20.0], [20.0, 40.0]])
    assert overlap_with_disks(mask, both, 5.0) == 1.0
    assert overlap_with_disks(mask, both[:1], 5.0) == 0.5
    assert overlap_with_disks(mask, np.vstack([both, [50.0, 50.0]]), 5.0) == pytest.approx(2 / 3)


def test_one_pixel_and_none() -> None:
    single = np.zeros((N, N), np.float32)
    single[5, 6] = 1
    found = find(single, np.zeros((N, N), np.float32))
    np.testing.assert_allclose(pixel_positions(found), [[5, 6]])
    empty = find(np.zeros((N, N), np.float32))
    pd.testing.assert_frame_equal(empty, PATCH_DETECTIONS.empty())


def test_patches_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(2)
    images = [disks(*map(tuple, rng.uniform(0, N, (5, 2)))) for _ in range(3)]
    whole = find(*images)
    last = find(images[2], first=2)
    expected = whole[whole["patch_id"] == 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(last, expected, check_exact=True)


def test_not_finite() -> None:
    with pytest.raises(InputError, match="not finite"):
        find(np.full((N, N), np.nan, np.float32))
