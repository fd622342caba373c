from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve

from geminga.errors import InputError
from geminga.localisation.scores import disk_area, disk_kernel_scores, score_at


def kernel(radius: float) -> np.ndarray:
    half = int(np.ceil(radius))
    axis = np.arange(-half, half + 1)
    return (np.add.outer(axis**2, axis**2) < radius**2).astype(float)


@pytest.mark.parametrize(("radius", "pixels"), [(5.0, 69), (1.0, 1), (0.5, 1), (1.5, 9), (3.0, 25)])
def test_disk_area(radius: float, pixels: int) -> None:
    assert disk_area(radius) == pixels == kernel(radius).sum()


@pytest.mark.parametrize("radius", [0.7, 1.0, 2.5, 5.0, 9.3])
@pytest.mark.parametrize("pixels", [8, 33])
def test_equals_direct_convolution(radius: float, pixels: int) -> None:
    maps = np.random.default_rng(1).random((3, pixels, pixels), dtype=np.float32)
    expected = [convolve(m.astype(float), kernel(radius), mode="constant") for m in maps]
    scores = disk_kernel_scores(maps, radius)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_full_map_reaches_69_inside_and_less_at_the_corner() -> None:
    scores = disk_kernel_scores(np.ones((1, 32, 32), np.float32), 5.0)[0]
    assert (scores[4:-4, 4:-4] == 69).all()
    assert scores[0, 0] == 22  # a quarter of the disk with its two half axes
    assert (disk_kernel_scores(np.zeros((1, 8, 8), np.float32), 5.0) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    maps = np.zeros((2, 8, 8), np.float32)
    maps[1, 2, 3] = value
    with pytest.raises(InputError, match="1 of 128 values are not finite"):
        disk_kernel_scores(maps, 5.0)


def test_wrong_shape() -> None:
    with pytest.raises(InputError, match="must be"):
        disk_kernel_scores(np.zeros((8, 8), np.float32), 5.0)


def test_score_between_pixels_is_linear_and_edges_hold() -> None:
    scores = np.add.outer(10.0 * np.arange(4), np.arange(4.0)).astype(np.float32)
    row, column = np.array([1.25, -1.0, 3.0]), np.array([2.5, 0.0, 9.0])
    np.testing.assert_allclose(score_at(scores, row, column), [15.0, 0.0, 33.0])
    assert score_at(np.full((1, 1), 7.0, np.float32), np.zeros(1), np.zeros(1)) == 7.0
