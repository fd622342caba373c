from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.matching import match
from geminga.tables import CANDIDATES, MATCHES, TRUTH


def candidates(*positions: tuple[float, float], sky: int = 0) -> pd.DataFrame:
    lon, lat = np.array(positions, dtype=float).reshape(-1, 2).T
    return pd.DataFrame({"sky_id": sky, "lon_deg": lon, "lat_deg": lat})


def sources(*rows: tuple[float, float, float], sky: int = 0) -> pd.DataFrame:
    lon, lat, s1 = np.array(rows, dtype=float).reshape(-1, 3).T
    return pd.DataFrame({"sky_id": sky, "lon_deg": lon, "lat_deg": lat, "s1": s1})


def pairs(matches: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(matches["candidate"], matches["source"], strict=True))


def test_a_pair_a_missed_source_and_a_false_detection() -> None:
    result = match(candidates((10, 0.1), (50, 5)), sources((10, 0, 1e-9), (90, 0, 1e-9)), 0.3)
    assert pairs(result) == [(0, 0), (-1, 1), (1, -1)]
    assert result["separation_deg"].to_numpy() == pytest.approx([0.1, np.nan, np.nan], nan_ok=True)
    assert list(result.columns) == MATCHES.names


def test_the_brightest_source_chooses_first() -> None:
    # The faint source is nearer, yet the bright one takes the only detection.
    result = match(candidates((0, 0)), sources((0.01, 0, 1e-11), (0.2, 0, 1e-9)), 0.3)
    assert pairs(result) == [(-1, 0), (0, 1)]


def test_a_source_left_out_takes_the_next_nearest() -> None:
    result = match(candidates((0, 0), (0.25, 0)), sources((0.01, 0, 1), (0, 0.01, 2)), 0.3)
    assert pairs(result) == [(1, 0), (0, 1)]


def test_a_duplicate_detection_is_false() -> None:
    result = match(candidates((0, 0.1), (0, 0.05)), sources((0, 0, 1)), 0.3)
    assert pairs(result) == [(1, 0), (0, -1)]


def test_ties_go_to_the_first_row() -> None:
    result = match(candidates((0, 0), (0, 0)), sources((0, 0, 1), (0, 0, 1)), 0.3)
    assert pairs(result) == [(0, 0), (1, 1)]


def test_the_radius_is_inclusive_and_measured_on_the_sphere() -> None:
    truth = sources((0, 0, 1))
    assert pairs(match(candidates((0, 0.3)), truth, 0.3)) == [(0, 0)]
    assert pairs(match(candidates((0, 0.3001)), truth, 0.3)) == [(-1, 0), (0, -1)]
    # Half a turn in longitude at the pole, and across longitude zero.
    assert pairs(match(candidates((180, 89.9)), sources((0, 89.9, 1)), 0.3)) == [(0, 0)]
    assert pairs(match(candidates((359.9, 0)), sources((0.1, 0, 1)), 0.3)) == [(0, 0)]


def test_skies_do_not_mix() -> None:
    detections = pd.concat([candidates((0, 0), sky=1), candidates((0, 0), sky=2)])
    truth = pd.concat([sources((0, 0, 1), sky=2), sources((0, 0, 1), sky=3)])
    assert pairs(match(detections, truth, 0.3)) == [(1, 0), (-1, 1), (0, -1)]


def test_empty_tables_and_brightness_that_is_not_known() -> None:
    assert len(match(CANDIDATES.empty(), TRUTH.empty(), 0.3)) == 0
    assert pairs(match(CANDIDATES.empty(), sources((0, 0, 1)), 0.3)) == [(-1, 0)]
    assert pairs(match(candidates((0, 0)), TRUTH.empty(), 0.3)) == [(0, -1)]
    result = match(candidates((0, 0)), sources((0, 0, np.nan), (0, 0.1, 1e-12)), 0.3)
    assert pairs(result) == [(-1, 0), (0, 1)]


def test_every_row_appears_once_and_order_of_candidates_is_irrelevant() -> None:
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(0, 5, 200), rng.uniform(-2, 2, 200)
    detections = candidates(*zip(lon[:100], lat[:100], strict=True))
    truth = sources(*zip(lon[100:], lat[100:], rng.random(100), strict=True))
    result = match(detections, truth, 0.3)
    assert sorted(c for c in result["candidate"] if c >= 0) == list(range(100))
    assert sorted(s for s in result["source"] if s >= 0) == list(range(100))
    shuffled = rng.permutation(100)
    again = match(detections.iloc[shuffled], truth, 0.3)
    expected = {(c, s) for c, s in pairs(result) if c >= 0 and s >= 0}
    assert expected == {(int(shuffled[c]), s) for c, s in pairs(again) if c >= 0 and s >= 0}


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="-1 deg"):
        match(candidates((0, 0)), sources((0, 0, 1)), -1)
    with pytest.raises(InputError, match="no column s100"):
        match(candidates((0, 0)), sources((0, 0, 1)), 0.3, "s100")
    with pytest.raises(InputError, match="no column lat_deg"):
        match(candidates((0, 0)).drop(columns="lat_deg"), sources((0, 0, 1)), 0.3)
