"""What a network is told of fitted sources."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.localisation.features import feature_names, source_features, stronger_neighbour
from geminga.tables import patch_sources


def sources(n: int, channels: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = patch_sources(channels).empty().reindex(range(n))
    for name in frame:
        frame[name] = rng.uniform(0.5, 2.0, n)
    frame["lon_deg"] = rng.uniform(0, 360, n)
    frame["lat_deg"] = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    frame["ts"] = rng.uniform(6, 60, n)
    frame["s1"] = 10 ** rng.uniform(-10.5, -9, n)
    return frame


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_one_number_for_each_name(channels: int) -> None:
    values = source_features(sources(20, channels), channels)
    assert values.shape == (20, len(feature_names(channels)))
    assert values.dtype == np.float32
    assert len(set(feature_names(channels))) == values.shape[1]
    assert np.isfinite(values).all()


def test_known_values() -> None:
    frame = sources(1, 2)
    frame["ts"], frame["s1"], frame["s1_error"], frame["index"] = 25.0, 1e-9, 2e-10, 2.2
    frame["cov_east_deg2"], frame["cov_north_deg2"] = 0.0001, 0.0001
    frame["counts_1"], frame["counts_error_1"], frame["background_1"] = 9.0, 3.0, 99.999
    named = dict(zip(feature_names(2), source_features(frame, 2)[0], strict=True))
    assert named["sqrt_ts"] == 5.0
    assert named["log_s1"] == pytest.approx(-9)
    assert named["relative_s1_error"] == pytest.approx(0.2)
    assert named["log_position_error"] == pytest.approx(-2)
    assert named["index"] == pytest.approx(2.2)
    assert named["significance_1"] == pytest.approx(3)
    assert named["sqrt_counts_1"] == pytest.approx(3)
    assert named["log_background_1"] == pytest.approx(2, abs=1e-5)
    assert named["neighbour_deg"] == 2.0
    assert named["log_neighbour_ts"] == 0.0


def test_sources_without_flux_or_photons_have_features() -> None:
    frame = sources(3, 1)
    for name in ("s1", "ts", "counts_0", "counts_error_0", "background_0", "cov_east_deg2"):
        frame[name] = 0.0
    assert np.isfinite(source_features(frame, 1)).all()


def test_the_nearest_stronger_neighbour() -> None:
    lon, lat = np.array([10.0, 10.5, 11.5, 200.0]), np.zeros(4)
    distance, ts = stronger_neighbour(lon, lat, np.array([20.0, 50.0, 30.0, 90.0]), 2.0)
    assert distance == pytest.approx([0.5, 2.0, 1.0, 2.0])
    assert ts == pytest.approx([50, 0, 50, 0])


def test_features_do_not_depend_on_the_order_of_rows() -> None:
    frame = sources(300, 2)
    frame["lat_deg"] /= 20  # crowded
    order = np.random.default_rng(3).permutation(300)
    mixed = source_features(frame.iloc[order], 2)
    np.testing.assert_array_equal(mixed, source_features(frame, 2)[order])


def test_no_place_enters() -> None:
    frame = sources(1, 2)
    elsewhere = frame.assign(lon_deg=3.0, lat_deg=-80.0)
    np.testing.assert_array_equal(source_features(frame, 2), source_features(elsewhere, 2))


def test_no_sources() -> None:
    assert source_features(sources(0, 2), 2).shape == (0, len(feature_names(2)))
