from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.config import LocalisationConfig
from geminga.errors import InputError
from geminga.geometry import lon_lat, separation_deg, tangent_frames, to_plane, unit_vectors
from geminga.localisation import stitch
from geminga.patches.grid import PatchGrid, make_grid
from geminga.tables import CANDIDATES, PATCH_DETECTIONS

SETTINGS = LocalisationConfig()


def grid_of(*longitudes: float) -> PatchGrid:
    frames = tangent_frames(np.array(longitudes), np.zeros(len(longitudes)))
    return PatchGrid(frames, 10.0, np.eye(3))


def detections(grid: PatchGrid, rows: list[tuple[int, float, float, float]]) -> pd.DataFrame:
    """Rows of (patch, lon, lat, score)."""
    data = {name: [] for name in PATCH_DETECTIONS.names}
    for patch, lon, lat, score in rows:
        x, y = to_plane(grid.frames[patch], unit_vectors(np.array([lon]), np.array([lat])))
        values = (0, patch, x[0], y[0], lon, lat, score, 60)
        for name, value in zip(data, values, strict=True):
            data[name].append(value)
    return PATCH_DETECTIONS.frame(data)


def test_two_views_of_one_source_are_one_candidate() -> None:
    grid = grid_of(0, 4)
    merged = stitch(detections(grid, [(0, 2.0, 0.0, 60.0), (1, 2.1, 0.0, 30.0)]), grid, SETTINGS)
    assert list(merged.columns) == CANDIDATES.names
    assert len(merged) == 1
    row = merged.iloc[0]
    assert row["lon_deg"] == pytest.approx(2.0 + 0.1 / 3, abs=1e-6)
    assert row["score"] == 45.0
    assert (row["n_patches"], row["n_patches_covering"]) == (2, 2)


def test_a_patch_that_did_not_see_it_counts_zero() -> None:
    grid = grid_of(0, 4)
    both = stitch(detections(grid, [(0, 2.0, 0.0, 60.0)]), grid, SETTINGS).iloc[0]
    assert (both["score"], both["n_patches"], both["n_patches_covering"]) == (30.0, 1, 2)
    alone = stitch(detections(grid, [(0, -2.0, 0.0, 60.0)]), grid, SETTINGS).iloc[0]
    assert (alone["score"], alone["n_patches_covering"]) == (60.0, 1)
    # Just inside the margin of the second patch, which may have put it in the margin and lost it.
    strip = stitch(detections(grid, [(0, -0.65, 0.0, 60.0)]), grid, SETTINGS).iloc[0]
    assert (strip["score"], strip["n_patches_covering"]) == (60.0, 1)


def test_detections_of_one_patch_are_never_merged() -> None:
    grid = grid_of(0, 4)
    rows = [(0, 2.0, 0.0, 60.0), (0, 2.2, 0.0, 50.0), (1, 2.01, 0.0, 55.0), (1, 2.19, 0.0, 45.0)]
    merged = stitch(detections(grid, rows), grid, SETTINGS)
    assert merged["n_patches"].tolist() == [2, 2]
    np.testing.assert_allclose(sorted(merged["lon_deg"]), [2.005, 2.195], atol=0.002)


def test_a_detection_goes_to_the_nearer_of_two() -> None:
    grid = grid_of(0, 4)
    rows = [(0, 2.0, 0.0, 60.0), (0, 2.25, 0.0, 50.0), (1, 2.2, 0.0, 55.0)]
    merged = stitch(detections(grid, rows), grid, SETTINGS)
    assert len(merged) == 2
    two = merged[merged["n_patches"] == 2].iloc[0]
    assert two["lon_deg"] == pytest.approx(2.22, abs=0.01)


@pytest.mark.parametrize(("distance", "number"), [(0.299, 1), (0.301, 2)])
def test_merge_radius(distance: float, number: int) -> None:
    grid = grid_of(0, 4)
    rows = [(0, 2.0, 0.0, 60.0), (1, 2.0, distance, 50.0)]
    assert len(stitch(detections(grid, rows), grid, SETTINGS)) == number


def test_edge_detections_are_left_to_the_neighbour_but_not_lost() -> None:
    grid = grid_of(0, 4)
    near_edge = 4.9  # 0.1 deg from the edge of patch 0, well inside patch 1
    assert len(stitch(detections(grid, [(0, near_edge, 0.0, 60.0)]), grid, SETTINGS)) == 0
    kept = stitch(detections(grid, [(0, -near_edge, 0.0, 60.0)]), grid, SETTINGS)
    assert kept["score"].tolist() == [60.0]
    assert kept["n_patches_covering"].tolist() == [1]


def test_positions_near_an_edge_weigh_less() -> None:
    grid = grid_of(0, 4)
    rows = [(0, 4.6, 0.0, 60.0), (1, 4.7, 0.0, 60.0)]
    merged = stitch(detections(grid, rows), grid, SETTINGS)
    assert 4.66 < merged["lon_deg"].iloc[0] < 4.7


def test_across_longitude_zero_and_at_the_pole() -> None:
    grid = grid_of(358, 2)
    rows = [(0, 359.95, 0.0, 60.0), (1, 0.05, 0.0, 60.0)]
    merged = stitch(detections(grid, rows), grid, SETTINGS)
    assert len(merged) == 1
    assert min(merged["lon_deg"].iloc[0], 360 - merged["lon_deg"].iloc[0]) < 1e-6
    frames = tangent_frames(np.array([0.0, 120.0]), np.array([88.0, 88.0]))
    polar = PatchGrid(frames, 10.0, np.eye(3))
    rows = [(0, 10.0, 89.95, 60.0), (1, 190.0, 89.95, 60.0)]
    merged = stitch(detections(polar, rows), polar, SETTINGS)
    assert len(merged) == 1
    assert merged["lat_deg"].iloc[0] == pytest.approx(90, abs=1e-5)


def simulated(seed: int) -> tuple[PatchGrid, pd.DataFrame, np.ndarray, float]:
    grid, sigma = make_grid(8, 10.0), 0.05
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-1, 1, 2000)))
    source, patch = grid.patches_of(lon, lat)
    truth = unit_vectors(lon, lat)
    vectors = truth[source] + rng.normal(0, np.radians(sigma), (len(source), 3))
    seen_lon, seen_lat = lon_lat(vectors)
    data = {name: np.zeros(len(source)) for name in PATCH_DETECTIONS.names}
    data |= {"patch_id": patch, "lon_deg": seen_lon, "lat_deg": seen_lat}
    data["score"] = rng.uniform(40, 69, len(source))
    local = np.einsum("nij,nj->ni", grid.frames[patch], vectors)
    data["x_deg"] = np.degrees(local[:, 1] / local[:, 0])
    data["y_deg"] = np.degrees(local[:, 2] / local[:, 0])
    return grid, PATCH_DETECTIONS.frame(data), truth, sigma


def test_whole_sky_gives_each_source_once_and_honest_errors() -> None:
    grid, table, truth, sigma = simulated(1)
    merged = stitch(table, grid, SETTINGS, pixel_deg=0.01)
    assert abs(len(merged) - len(truth)) < 0.02 * len(truth)
    assert (merged["n_patches_covering"] >= merged["n_patches"]).all()
    assert merged["score"].is_monotonic_decreasing
    positions = unit_vectors(merged["lon_deg"].to_numpy(), merged["lat_deg"].to_numpy())
    nearest = truth[np.argmax(positions @ truth.T, axis=1)]
    offset = separation_deg(positions, nearest)
    good = offset < 0.3
    assert good.mean() > 0.98
    measured = np.sqrt((offset[good] ** 2).mean() / 2)
    quoted = np.sqrt((merged["position_error_deg"][good] ** 2).mean())
    assert quoted == pytest.approx(measured, rel=0.15)
    one = merged["position_error_deg"][merged["n_patches"] == 1]
    np.testing.assert_allclose(one, sigma, rtol=0.1)


def test_floor_of_the_position_error() -> None:
    grid = grid_of(0, 4)
    rows = [(0, 2.0, 0.0, 60.0), (1, 2.0, 0.0, 60.0), (0, -2.0, 0.0, 60.0)]
    merged = stitch(detections(grid, rows), grid, SETTINGS, pixel_deg=0.08)
    by_patches = merged.set_index("n_patches")["position_error_deg"]
    assert by_patches[1] == pytest.approx(0.04)
    assert by_patches[2] == pytest.approx(0.04 / np.sqrt(2))
    default = stitch(detections(grid, rows), grid, SETTINGS).set_index("n_patches")
    assert default["position_error_deg"][1] == pytest.approx(0.3 / 8)


def test_order_of_the_rows_does_not_matter() -> None:
    grid, table, _, _ = simulated(2)
    table["score"] = np.rint(table["score"] / 5)  # many equal scores
    first = stitch(table, grid, SETTINGS)
    shuffled = table.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(first, stitch(shuffled, grid, SETTINGS), check_exact=True)


def test_nothing_in_nothing_out() -> None:
    empty = stitch(PATCH_DETECTIONS.empty(), grid_of(0), SETTINGS)
    pd.testing.assert_frame_equal(empty, CANDIDATES.empty())
    grid = grid_of(0, 4)
    all_dropped = stitch(detections(grid, [(0, 4.9, 0.0, 60.0)]), grid, SETTINGS)
    pd.testing.assert_frame_equal(all_dropped, CANDIDATES.empty())


def test_bad_input() -> None:
    grid = grid_of(0)
    table = detections(grid, [(0, 0.0, 0.0, 60.0), (0, 1.0, 0.0, 60.0)])
    with pytest.raises(InputError, match="one sky at a time"):
        stitch(table.assign(sky_id=[1, 2]), grid, SETTINGS)
    with pytest.raises(InputError, match="no column score"):
        stitch(table.drop(columns="score"), grid, SETTINGS)
