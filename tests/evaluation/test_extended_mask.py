"""Detections on extended sources are neither true nor false."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from geminga.evaluation.extended import masked, matched, on_extended
from geminga.evaluation.real import evaluate_real, off_extended, point_sources
from geminga.evaluation.reference import REFERENCE
from geminga.tables import EXTENDED

RADIUS = 0.3


def areas(lon: Any, lat: Any, radius: Any) -> pd.DataFrame:
    n = len(lon)
    return EXTENDED.frame(
        {
            "name": [f"area {k}" for k in range(n)],
            **{"lon_deg": lon, "lat_deg": lat, "radius_deg": radius, "s1": np.full(n, np.nan)},
        }
    )


def places(lon: Any, lat: Any) -> pd.DataFrame:
    return pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": np.ones(len(lon))}, dtype=float)


def catalog(lon: Any, lat: Any, extended: Any) -> pd.DataFrame:
    n = len(lon)
    return REFERENCE.frame(
        {
            "name": [f"source {k}" for k in range(n)],
            **{"lon_deg": lon, "lat_deg": lat, "flux": np.ones(n), "extended": extended},
            "class_name": [""] * n,
        }
    )


def test_the_margin_adds_to_the_radius_on_the_sphere() -> None:
    frame = places([0.0, 1.2, 359.1, 1.4, 180.0, 181.9], [0.0, 0.0, 0.0, 0.0, 60.0, 60.0])
    extended = areas([0.0, 180.0], [0.0, 60.0], [1.0, 0.8])
    assert on_extended(frame, extended, RADIUS).tolist() == [True, True, True, False, True, True]
    assert on_extended(frame, extended, 0.0).tolist() == [True, False, True, False, True, False]
    assert not on_extended(frame, EXTENDED.empty(), RADIUS).any()
    assert len(on_extended(frame.iloc[:0], extended, RADIUS)) == 0


def test_only_detections_that_match_no_point_source_are_masked() -> None:
    extended = areas([10.0], [0.0], [2.0])
    points = places([10.5], [0.0])
    # On the point, a second one on it, elsewhere on the extended source, far away.
    found = places([10.5, 10.6, 9.0, 100.0], [0.0, 0.0, 0.0, 0.0])
    is_true = matched(found, points, RADIUS)
    assert is_true.tolist() == [True, False, False, False]
    assert masked(found, is_true, extended, RADIUS).tolist() == [False, True, True, False]


def test_extended_sources_of_the_real_sky_are_no_missing_points() -> None:
    truth = catalog([10.0, 50.0, 90.0], [0.0, 0.0, 0.0], [True, False, False])
    found = places([10.9, 10.1, 50.0, 200.0], [0.0, 0.0, 0.1, 0.0])
    extended = areas([10.0], [0.0], [1.0])
    catalogs = {"2FHL": truth}
    assert [len(c) for c in point_sources(catalogs).values()] == [2]
    kept = off_extended(found, catalogs, extended, RADIUS)
    assert kept["lon_deg"].tolist() == [50.0, 200.0]
    result = evaluate_real(found, catalogs, "2FHL", RADIUS, extended)
    assert (result.purity["all"].value, result.purity["all"].n) == (0.5, 2)
    assert (result.completeness["point"].value, result.completeness["point"].n) == (0.5, 2)
    # Without the areas both detections on the extended source count.
    plain = evaluate_real(found, catalogs, "2FHL", RADIUS)
    assert (plain.purity["all"].value, plain.purity["all"].n) == (0.5, 4)


@pytest.mark.parametrize("radius", [0.0, 179.0])
def test_extreme_radii(radius: float) -> None:
    frame = places([0.0, 90.0], [0.0, 0.0])
    inside = on_extended(frame, areas([0.0], [0.0], [radius]), 5.0)
    assert inside.tolist() == [True, radius > 90]
