from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.evaluation.counts import (
    MatchCounts,
    count_matches,
    empty_counts,
    flux_edges,
    score_edges,
)
from geminga.evaluation.rates import rate, rate_array
from geminga.matching import match
from geminga.sections import EvaluationConfig
from geminga.tables import CANDIDATES, TRUTH

SETTINGS = EvaluationConfig()


def candidates(lon: list[float], lat: list[float], score: list[float]) -> pd.DataFrame:
    n = len(lon)
    return CANDIDATES.frame(
        {
            "sky_id": np.zeros(n),
            "lon_deg": lon,
            "lat_deg": lat,
            "position_error_deg": np.full(n, 0.02),
            "score": score,
            "n_patches": np.ones(n),
            "n_patches_covering": np.ones(n),
        }
    )


def truth(lon: list[float], lat: list[float], s1: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"lon_deg": lon, "lat_deg": lat, "s1": s1, "s10": np.array(s1, dtype=float) / 10}
    )


def random_sky(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    sources = truth(list(lon), list(lat), list(10 ** rng.normal(-9.5, 0.7, 200)))
    found = candidates(
        [*lon[:120], *rng.uniform(0, 360, 30)],
        [*lat[:120], *rng.uniform(-80, 80, 30)],
        list(rng.uniform(5, 69, 150)),
    )
    return found, sources


def counted(found: pd.DataFrame, sources: pd.DataFrame) -> MatchCounts:
    return count_matches(found, sources, match(found, sources, 0.3), SETTINGS)


@pytest.fixture
def small() -> MatchCounts:
    """Two sources at low latitude, one found; two at high, both found; two false detections."""
    sources = truth([10, 20, 30, 40], [5, -5, 50, -60], [1.5e-9, 1.5e-10, 1.5e-9, 1.5e-10])
    found = candidates([10.1, 30, 40, 200, 210], [5, 50, -60, 0, 45], [60, 50, 40, 30, 65])
    return counted(found, sources)


def test_totals(small: MatchCounts) -> None:
    assert small.sources.tolist() == [2, 2]
    assert small.found.tolist() == [1, 2]
    assert small.true_detections.tolist() == [1, 2]
    assert small.false_detections.tolist() == [1, 1]


def test_histograms_put_values_in_their_bin(small: MatchCounts) -> None:
    edges = small.flux_edges
    for bright, row in ((1.5e-9, 0), (1.5e-10, 0), (1.5e-9, 1)):
        k = np.flatnonzero((edges[:-1] <= bright) & (bright < edges[1:]))[0]
        assert small.s1_sources[row, k] == 1
    k = np.flatnonzero((edges[:-1] <= 1.5e-10) & (edges[1:] > 1.5e-10))[0]
    assert small.s1_found[0, k] == 0
    assert small.s10_sources[0, k] == 1
    score = score_edges()
    for value, histogram in ((60, small.score_true[0]), (65, small.score_false[1])):
        k = np.flatnonzero((score[:-1] <= value) & (value < score[1:]))[0]
        assert histogram[k] == 1


def test_rates_have_binomial_errors(small: MatchCounts) -> None:
    rates = small.rates()
    np.testing.assert_allclose(rates.completeness.value, [0.75, 0.5, 1.0])
    np.testing.assert_allclose(rates.completeness.error, [math.sqrt(0.75 * 0.25 / 4), 0.5**1.5, 0])
    np.testing.assert_allclose(rates.purity.value, [0.6, 0.5, 2 / 3])
    assert rates.purity.n.tolist() == [5, 2, 3]
    assert np.isnan(rates.completeness_s1.value[:, 0]).all()
    assert np.nansum(rates.completeness_s1.n[0]) == 4


def test_sums_agree() -> None:
    counts = counted(*random_sky(1))
    np.testing.assert_array_equal(counts.s1_sources.sum(axis=1), counts.sources)
    np.testing.assert_array_equal(counts.s10_found.sum(axis=1), counts.found)
    np.testing.assert_array_equal(counts.score_true.sum(axis=1), counts.true_detections)
    np.testing.assert_array_equal(counts.score_false.sum(axis=1), counts.false_detections)
    assert counts.found.sum() == counts.true_detections.sum()


def test_merging_skies_equals_counting_them_together() -> None:
    skies = [random_sky(seed) for seed in (1, 2, 3)]
    parts = [counted(*sky) for sky in skies]
    for sky_id, (found, sources) in enumerate(skies):
        found["sky_id"] = sky_id
        sources["sky_id"] = sky_id
    together = counted(
        pd.concat([s[0] for s in skies], ignore_index=True),
        pd.concat([s[1] for s in skies], ignore_index=True),
    )
    assert parts[0] + parts[1] + parts[2] == together
    assert (parts[2] + parts[0]) + parts[1] == together
    assert empty_counts(SETTINGS) + parts[0] == parts[0]
    assert parts[0] != parts[1]


def test_counts_binned_differently_do_not_add() -> None:
    other = empty_counts(EvaluationConfig(flux_bins_per_decade=3))
    with pytest.raises(ValueError, match="do not add"):
        empty_counts(SETTINGS) + other


def test_nothing_found_and_nothing_there() -> None:
    found, sources = random_sky(1)
    none = counted(found.iloc[:0], sources).rates()
    assert none.completeness.value[0] == 0.0
    assert math.isnan(none.purity.value[0])
    empty = counted(found, sources.iloc[:0]).rates()
    assert empty.purity.value[0] == 0.0
    assert math.isnan(empty.completeness.value[0])


def test_flux_beyond_the_bins_and_unknown_flux() -> None:
    sources = truth([10, 20, 30], [5, 5, 5], [1e-20, 1.0, np.nan])
    counts = counted(candidates([], [], []), sources)
    assert counts.s1_sources[0, 0] == counts.s1_sources[0, -1] == 1
    assert counts.s1_sources.sum() == 2
    assert counts.sources.sum() == 3


def test_reference_without_fluxes() -> None:
    sources = truth([10], [5], [1e-9]).rename(columns={"s1": "flux"}).drop(columns="s10")
    found = candidates([10], [5], [40])
    counts = count_matches(found, sources, match(found, sources, 0.3, "flux"), SETTINGS)
    assert counts.found.sum() == 1
    assert counts.s1_sources.sum() == 0


def test_split_latitude_itself_is_high() -> None:
    counts = counted(candidates([], [], []), truth([0, 0], [20.0, -19.999], [1e-9, 1e-9]))
    assert counts.sources.tolist() == [1, 1]


def test_matches_of_other_tables_are_refused() -> None:
    found, sources = random_sky(1)
    with pytest.raises(ValueError, match="rows of candidate"):
        count_matches(found.iloc[:3], sources, match(found, sources, 0.3), SETTINGS)
    with pytest.raises(ValueError, match="no score"):
        counted(found.assign(score=np.nan), sources)


def test_json_round_trip() -> None:
    counts = counted(*random_sky(1))
    assert MatchCounts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "format 0; needs format 1"),
        ({"found": [1]}, "found has shape"),
        ({"found": "x"}, "holds no match counts"),
        ({"flux_bins_per_decade": 0}, "holds no match counts"),
        ({"s1_found": None}, "holds no match counts"),
    ],
)
def test_bad_json(change: dict[str, object], message: str) -> None:
    tree = {**empty_counts(SETTINGS).to_json(), **change}
    with pytest.raises(InputError, match=message):
        MatchCounts.from_json(tree, "counts.json")


def test_edges() -> None:
    assert len(flux_edges(4)) == 4 * 9 + 1
    assert flux_edges(4)[4] == pytest.approx(1e-13)
    assert (np.diff(score_edges()) > 0).all()
    assert TRUTH.names.count("s1") == TRUTH.names.count("s10") == 1


def test_rate_of_flags() -> None:
    share = rate(np.array([True, False, True, True]))
    assert (share.value, share.n) == (0.75, 4)
    assert share.error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert math.isnan(rate(np.zeros(0, dtype=bool)).value)
    assert np.isnan(rate_array(np.array([0]), np.array([0])).error).all()
