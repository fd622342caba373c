"""One list of sources from those of overlapping patches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.arrays import Float64
from geminga.geometry import from_plane, lon_lat, separation_deg, to_plane, unit_vectors
from geminga.likelihood.sky_list import deepest_edge, sky_list
from geminga.patches.grid import PatchGrid, make_grid


@pytest.fixture(scope="module")
def grid() -> PatchGrid:
    return make_grid(8, 10.0)


def seen_by_all(grid: PatchGrid, vectors: Float64, shift_deg: float, seed: int) -> pd.DataFrame:
    """Return what every patch reports of sources at given directions, shifted a little by each."""
    rng = np.random.default_rng(seed)
    rows = []
    for patch, frame in enumerate(grid.frames):
        x, y = to_plane(frame, vectors)
        x, y = x + rng.normal(0, shift_deg, len(x)), y + rng.normal(0, shift_deg, len(x))
        with np.errstate(invalid="ignore"):
            depth = grid.size_deg / 2 - np.maximum(np.abs(x), np.abs(y))
            held = np.flatnonzero(depth > 0)
        lon, lat = lon_lat(from_plane(frame, x[held], y[held]))
        rows.append(
            pd.DataFrame(
                {
                    "patch_id": patch,
                    "x_deg": x[held],
                    "y_deg": y[held],
                    "lon_deg": lon,
                    "lat_deg": lat,
                    "edge_deg": depth[held],
                    "ts": 30.0 + held % 7,
                    "source": held,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def random_directions(n: int) -> Float64:
    v = np.random.default_rng(5).normal(size=(n, 3))
    return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))


def test_every_source_once_from_its_deepest_patch(grid: PatchGrid) -> None:
    vectors = random_directions(1500)
    inside = deepest_edge(vectors, grid) > 0.1
    seen = seen_by_all(grid, vectors, 0.01, 1)
    kept = sky_list(seen, grid)
    found = kept["source"].to_numpy()
    assert set(np.flatnonzero(inside)) <= set(found)
    close = np.bincount(found, minlength=1500)
    # Chance neighbours within 0.15 deg of other sources may cost one of them; nothing comes twice.
    assert close.max() == 1
    true = deepest_edge(vectors, grid)[found]
    assert np.all(kept["edge_deg"].to_numpy() > true - 0.25)
    assert np.all(np.diff(kept["ts"]) <= 0)


def test_order_of_rows_does_not_matter(grid: PatchGrid) -> None:
    seen = seen_by_all(grid, random_directions(300), 0.02, 2)
    shuffled = seen.sample(frac=1.0, random_state=3)
    pd.testing.assert_frame_equal(sky_list(seen, grid), sky_list(shuffled, grid))


def test_two_sources_of_one_patch_stay_two(grid: PatchGrid) -> None:
    frame = grid.frames[100]
    # Across the border to a neighbour, 0.1 deg apart: both patches see both.
    border = from_plane(frame, np.array([3.0, 3.1]), np.array([3.0, 3.0]))
    kept = sky_list(seen_by_all(grid, border, 0.005, 4), grid)
    assert sorted(kept["source"]) == [0, 1]
    place = unit_vectors(kept["lon_deg"].to_numpy(), kept["lat_deg"].to_numpy())
    assert separation_deg(place[0], place[1]) == pytest.approx(0.1, abs=0.03)


def test_no_sources(grid: PatchGrid) -> None:
    empty = seen_by_all(grid, np.empty((0, 3)), 0.0, 1)
    assert len(sky_list(empty, grid)) == 0


def test_depth_is_the_distance_to_the_nearest_edge(grid: PatchGrid) -> None:
    assert deepest_edge(grid.frames[5:6, 0], grid)[0] == pytest.approx(5.0)
    near = from_plane(grid.frames[5], np.array([0.5]), np.array([-1.0]))
    assert deepest_edge(near, grid)[0] == pytest.approx(4.0)
