"""Detections on the real sky against hand-made catalogues."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geminga.evaluation.real import CHANCE_SHIFTS_DEG, confirmed, evaluate_real, found
from geminga.evaluation.reference import REFERENCE
from geminga.files import read_json, write_json
from geminga.tables import CANDIDATES

RADIUS = 0.3


def candidates(lon: Any, lat: Any) -> pd.DataFrame:
    n = len(lon)
    return CANDIDATES.frame(
        {
            "sky_id": np.full(n, 2_000_000, dtype=np.int64),
            "lon_deg": np.asarray(lon, dtype=np.float64),
            "lat_deg": np.asarray(lat, dtype=np.float64),
            "position_error_deg": np.full(n, 0.1),
            "score": np.linspace(90.0, 30.0, n),
            "n_patches": np.ones(n, dtype=np.int64),
            "n_patches_covering": np.ones(n, dtype=np.int64),
        }
    )


def catalog(lon: Any, lat: Any, flux: Any = None, extended: Any = None) -> pd.DataFrame:
    n = len(lon)
    return REFERENCE.frame(
        {
            "name": [f"source {k}" for k in range(n)],
            "lon_deg": np.asarray(lon, dtype=np.float64),
            "lat_deg": np.asarray(lat, dtype=np.float64),
            "flux": np.ones(n) if flux is None else np.asarray(flux, dtype=np.float64),
            "extended": np.zeros(n, bool) if extended is None else np.asarray(extended, bool),
            "class_name": [""] * n,
        }
    )


def test_completeness_and_purity_of_known_catalogues() -> None:
    truth = catalog(
        # found, found (extended), missed, found at high latitude, missed at high latitude
        lon=[10.0, 50.0, 90.0, 130.0, 170.0],
        lat=[0.0, 5.0, -5.0, 40.0, -60.0],
        extended=[False, True, False, False, False],
    )
    wide = catalog(lon=[130.0, 250.0], lat=[40.0, 70.0])
    detections = candidates(
        # two true, one true at high latitude, one only in the wide list, two false
        lon=[10.2, 50.0, 130.1, 250.0, 300.0, 301.0],
        lat=[0.0, 5.1, 40.0, 70.1, 0.0, -30.0],
    )
    result = evaluate_real(detections, {"2FHL": truth, "4FGL": wide}, "2FHL", RADIUS)
    shares = {name: (r.value, r.n) for name, r in result.completeness.items()}
    assert shares == {"all": (3 / 5, 5), "point": (2 / 4, 4), "high_latitude": (1 / 2, 2)}
    shares = {name: (r.value, r.n) for name, r in result.purity.items()}
    assert shares == {"all": (4 / 6, 6), "high_latitude": (2 / 3, 3)}
    shares = {name: (r.value, r.n) for name, r in result.by_catalog.items()}
    assert shares == {"2FHL": (3 / 6, 6), "4FGL": (2 / 6, 6)}
    assert result.purity["all"].error == pytest.approx(math.sqrt(4 / 6 * 2 / 6 / 6))
    assert {name: (r.value, r.n) for name, r in result.chance.items()} == {
        "all": (0.0, 6 * len(CHANCE_SHIFTS_DEG)),
        "high_latitude": (0.0, 3 * len(CHANCE_SHIFTS_DEG)),
    }


def test_a_second_detection_of_a_source_is_not_confirmed_by_it() -> None:
    detections = candidates([10.2, 10.0, 10.1], [0.0, 0.0, 0.0])
    one = catalog([10.0], [0.0])
    assert confirmed(detections, {"a": one}, RADIUS).tolist() == [False, True, False]
    # Each catalogue confirms one detection of its own.
    other = catalog([10.25], [0.0])
    both = confirmed(detections, {"a": one, "b": other}, RADIUS)
    assert both.tolist() == [True, True, False]


def test_of_two_close_sources_the_brighter_is_found() -> None:
    detections = candidates([10.0], [0.0])
    pair = catalog([10.01, 10.2], [0.0, 0.0], flux=[1e-11, 1e-9])
    assert found(detections, pair, RADIUS).tolist() == [False, True]
    unknown = catalog([10.01, 10.2], [0.0, 0.0], flux=[1e-11, np.nan])
    assert found(detections, unknown, RADIUS).tolist() == [True, False]


def test_the_match_radius_is_on_the_sphere() -> None:
    detections = candidates([10.0, 359.95], [60.0, 0.0])
    # 0.5 deg of longitude are 0.25 deg at latitude 60; 359.95 and 0.05 are neighbours.
    sources = catalog([10.5, 0.05], [60.0, 0.0])
    assert found(detections, sources, RADIUS).all()
    assert not found(detections, sources, 0.09).any()


@pytest.mark.parametrize("shift", CHANCE_SHIFTS_DEG)
def test_chance_is_counted_after_each_shift(shift: float) -> None:
    # Across longitude zero, too.
    detections = candidates([1.0, 100.0], [30.0, 5.0])
    result = evaluate_real(detections, {"a": catalog([(1.0 + shift) % 360], [30.0])}, "a", RADIUS)
    count = len(CHANCE_SHIFTS_DEG)
    assert result.purity["all"].value == 0.0
    assert result.chance["all"].value == pytest.approx(1 / (2 * count))
    assert result.chance["high_latitude"].value == pytest.approx(1 / count)


def test_chance_rate_of_unrelated_positions_is_the_filled_area() -> None:
    rng = np.random.default_rng(4)

    def anywhere(n: int) -> tuple[Any, Any]:
        return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))

    radius, n = 0.4, 2500
    sources = {"a": catalog(*anywhere(n))}
    result = evaluate_real(candidates(*anywhere(300)), sources, "a", radius)
    area = 2 * np.pi * (1 - np.cos(np.radians(radius)))
    expected = 1 - np.exp(-n * area / (4 * np.pi))
    for share in (result.chance["all"], result.chance["high_latitude"]):
        assert share.value == pytest.approx(expected, abs=5 * share.error)
    assert result.chance["all"].value == pytest.approx(expected, rel=0.4)


def test_nothing_detected() -> None:
    truth = catalog([10.0, 20.0], [0.0, 50.0])
    result = evaluate_real(candidates([], []), {"a": truth}, "a", RADIUS)
    assert result.completeness["all"].value == 0.0
    assert result.completeness["all"].n == 2
    for rates in (result.purity, result.by_catalog, result.chance):
        for share in rates.values():
            assert share.n == 0
            assert math.isnan(share.value)


def test_an_empty_catalogue() -> None:
    result = evaluate_real(candidates([1.0], [50.0]), {"a": catalog([], [])}, "a", RADIUS)
    assert result.completeness["all"].n == 0
    assert math.isnan(result.completeness["all"].value)
    assert result.purity["all"].value == 0.0
    assert not confirmed(candidates([1.0], [0.0]), {}, RADIUS).any()


def test_the_figures_are_plain_json(tmp_path: Any) -> None:
    truth = catalog([10.0], [0.0])
    result = evaluate_real(candidates([10.0], [0.0]), {"a": truth}, "a", RADIUS)
    write_json(tmp_path / "real.json", result.tree())
    text = (tmp_path / "real.json").read_text()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(text, parse_constant=refuse) == read_json(tmp_path / "real.json")
    tree = result.tree()
    assert set(tree) == {"completeness", "purity", "by_catalog", "chance"}
    assert tree["purity"]["all"] == {"value": 1.0, "error": 0.0, "n": 1}
    assert tree["completeness"]["high_latitude"] == {"value": "nan", "error": "nan", "n": 0}
