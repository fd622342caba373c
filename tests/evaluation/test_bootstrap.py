from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from geminga.arrays import Float64
from geminga.evaluation.bootstrap import Bootstrapped, bootstrap, make_units, scatter


def share(hits: Float64, unit: np.ndarray) -> object:
    def statistic(weights: Float64) -> dict[str, Float64]:
        w = weights[unit]
        return {"share": np.sum(w * hits) / w.sum() if w.sum() else np.array(np.nan)}

    return statistic


def test_error_over_skies_is_the_binomial_one_for_independent_trials() -> None:
    rng = np.random.default_rng(3)
    skies, each, p = 40, 50, 0.3
    hits = (rng.uniform(size=skies * each) < p).astype(float)
    units = make_units(skies, 2000, seed=1)
    assert units.region_nside == 0
    assert units.description == "bootstrap over 40 skies, 2000 resamples"
    result = bootstrap(share(hits, np.repeat(np.arange(skies), each)), units)  # type: ignore[arg-type]
    binomial = math.sqrt(hits.mean() * (1 - hits.mean()) / len(hits))
    # The scatter of 40 skies is known to 1/sqrt(80) = 11 %.
    assert result.estimate("share").error == pytest.approx(binomial, rel=0.25)
    assert result.estimate("share").value == hits.mean()


def test_error_over_regions_of_a_single_sky() -> None:
    rng = np.random.default_rng(4)
    n = 8000
    frame = pd.DataFrame(
        {
            "sky": 0,
            "lon_deg": rng.uniform(0, 360, n),
            "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        }
    )
    hits = (rng.uniform(size=n) < 0.8).astype(float)
    units = make_units(1, 600, seed=1)
    assert "768 regions of 7.3 deg (a single sky to resample), 600 resamples" in units.description
    result = bootstrap(share(hits, units.of(frame)), units)  # type: ignore[arg-type]
    binomial = math.sqrt(0.8 * 0.2 / n)
    assert result.estimate("share").error == pytest.approx(binomial, rel=0.12)


def test_skies_that_differ_have_a_larger_error_than_the_binomial_one() -> None:
    # Half of the skies are all hits: the share is that of a coin for each sky.
    hits = np.repeat(np.arange(10) % 2, 100).astype(float)
    unit = np.repeat(np.arange(10), 100)
    result = bootstrap(share(hits, unit), make_units(10, 4000, 0))  # type: ignore[arg-type]
    # Unbiased over skies: sqrt(0.25 / 10) * sqrt(10 / 9).
    assert result.estimate("share").error == pytest.approx(math.sqrt(0.25 / 9), rel=0.05)


def test_few_skies_are_resampled_by_region_and_the_draws_depend_on_the_seed_alone() -> None:
    units = make_units(3, 5, 7)
    assert units.weights.shape == (5, 3 * 768)
    assert (units.weights.sum(axis=1) == 3 * 768).all()
    assert "only 3 skies" in units.description
    np.testing.assert_array_equal(units.weights, make_units(3, 5, 7).weights)
    assert (units.weights != make_units(3, 5, 8).weights).any()
    assert make_units(3, 5, 7, fewest_skies=3).weights.shape == (5, 3)
    rows = units.of(pd.DataFrame({"sky": [0, 2], "lon_deg": [0.0, 0.0], "lat_deg": [0.0, 0.0]}))
    assert rows[1] - rows[0] == 2 * 768
    # One sky alone can never be resampled as a whole.
    assert make_units(1, 5, 7, fewest_skies=1).region_nside == 8


def test_a_ratio_leaves_out_what_is_common() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(10, 1, (100, 1))
    one = Bootstrapped({"x": np.array([9.0])}, {"x": 0.9 * common}, 1.0)
    other = Bootstrapped({"x": np.array([10.0])}, {"x": common}, 1.0)
    value, error = one.ratio(other, "x")
    assert value == pytest.approx([0.9])
    assert error == pytest.approx([0.0], abs=1e-12)
    nothing = Bootstrapped({"x": np.array([0.0])}, {"x": 0.0 * common}, 1.0)
    assert np.isnan(one.ratio(nothing, "x")).all()


def test_scatter_of_what_is_known() -> None:
    draws = np.array([[1.0, np.nan, np.nan], [3.0, 1.0, np.nan], [5.0, 3.0, np.inf], [7.0, 1, 2]])
    got = scatter(draws)
    assert got[:2] == pytest.approx([math.sqrt(5.0), math.sqrt(8.0 / 9.0)])
    assert np.isnan(got[2])
    assert np.isnan(scatter(np.zeros((0, 2)))).all()


def test_no_resamples_no_errors() -> None:
    units = make_units(6, 0, 0)
    assert units.description.startswith("no errors")
    result = bootstrap(share(np.ones(6), np.arange(6)), units)  # type: ignore[arg-type]
    assert result.estimate("share").value == 1.0
    assert math.isnan(result.estimate("share").error)
