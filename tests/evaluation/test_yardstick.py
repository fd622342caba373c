from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.evaluation.summary import aligned
from geminga.evaluation.working_points import LATITUDES, Latitude
from geminga.evaluation.yardstick import YardstickSettings, flux_edges, measure_searches
from geminga.evaluation.yardstick_results import PartFigures, Yardstick
from geminga.evaluation.yardstick_text import (
    MODEL_PARTS,
    leading_rows,
    leading_table,
    rows_by_model,
    text_table,
)
from geminga.files import read_json, write_json
from geminga.tables import CANDIDATES, TRUTH

QUICK = YardstickSettings(resamples=20, purities=(0.6, 0.8, 0.9))


def hand_made() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Five detections of four sources: true, its duplicate, true, false, true; one missed.

    Purity from the top: 1, 1/2, 2/3, 1/2, 3/5.
    """
    truth = pd.DataFrame(
        {
            "lon_deg": [0.0, 10.0, 20.0, 30.0],
            "lat_deg": [30.0, 30.0, 30.0, 5.0],
            "s1": [2e-9, 2e-10, 2e-10, 2e-9],
            "s10": [2e-11, np.nan, 2e-12, 2e-11],
            "ts": [900.0, 20.0, 30.0, np.nan],
        }
    )
    found = pd.DataFrame(
        {
            "lon_deg": [0.0, 0.0, 10.0, 50.0, 30.0],
            "lat_deg": [30.0, 30.1, 30.0, 50.0, 5.0],
            "score": [0.9, 0.8, 0.7, 0.6, 0.5],
        }
    )
    return found, truth


def whole(result: Yardstick, name: str = "a") -> PartFigures:
    return result.searches[name].parts["all"]


def test_every_number_of_a_hand_made_list() -> None:
    found, truth = hand_made()
    result = measure_searches({"a": [found]}, [truth], QUICK)
    part = whole(result)
    assert (part.sources, part.detections) == (4, 5)
    loose, tight = part.at_purity["0.6"], part.at_purity["0.8"]
    assert (loose.cut, loose.detections, loose.completeness.value) == (0.5, 5, 0.75)
    assert (loose.purity.value, loose.duplicates, loose.duplicate_share.value) == (0.6, 1, 0.2)
    assert (tight.cut, tight.detections, tight.completeness.value) == (0.9, 1, 0.25)
    assert part.curve.cut == (0.9, 0.8, 0.7, 0.6, 0.5)
    assert part.curve.purity == pytest.approx((1, 1 / 2, 2 / 3, 1 / 2, 3 / 5))
    assert part.curve.completeness == pytest.approx((1 / 4, 1 / 4, 1 / 2, 1 / 2, 3 / 4))

    s1, s10, ts = (loose.by[name] for name in ("s1", "s10", "ts"))
    assert s1.n == (2, 2)
    assert [f.value for f in s1.figures] == [0.5, 1.0]
    assert s1.low[0] < 2e-10 < s1.high[0] < s1.low[1] < 2e-9 < s1.high[1]
    # Unknown S10 and TS are in no bin.
    assert (s10.n, [f.value for f in s10.figures]) == ((1, 2), [0.0, 1.0])
    assert (ts.low, ts.n) == ((16.0, 25.0, 400.0), (1, 1, 1))
    assert [f.value for f in ts.figures] == [1.0, 0.0, 1.0]
    # Half of the faint, all of the bright: 0.9 lies at four fifths of the way (logarithm).
    assert loose.crossings["0.5"].value == pytest.approx(2e-10)
    assert loose.crossings["0.9"].value == pytest.approx(2e-10 * 10**0.8)
    assert math.isnan(tight.crossings["0.9"].value)
    assert loose.purity_by == {}

    high, plane = result.searches["a"].parts["|b| > 20"], result.searches["a"].parts["|b| < 20"]
    assert (high.sources, high.detections, plane.sources, plane.detections) == (3, 4, 1, 1)
    # Each part has its own cut: 1, 1/2, 2/3 above, then 1/2.
    assert (high.at_purity["0.6"].cut, plane.at_purity["0.9"].cut) == (0.7, 0.5)
    assert high.at_purity["0.6"].completeness.value == pytest.approx(2 / 3)
    middle = result.searches["a"].parts["|b| 10-20"]
    assert (middle.sources, middle.at_purity["0.9"].cut) == (0, math.inf)
    assert math.isnan(middle.at_purity["0.9"].completeness.value)

    # Positions of the list of purity 0.9: one detection, right on its source.
    search = result.searches["a"]
    assert (search.position_cut, search.positions[0].n) == (0.9, 1)
    assert search.positions[0].median_deg.value == 0.0
    assert search.position_calibration.without_error == 1


def test_the_thesis_counts_duplicates_as_true() -> None:
    found, truth = hand_made()
    settings = YardstickSettings(resamples=0, purities=(0.6, 0.8, 0.9), matching="thesis")
    part = whole(measure_searches({"a": [found]}, [truth], settings))
    assert part.curve.purity == pytest.approx((1, 1, 1, 3 / 4, 4 / 5))
    point = part.at_purity["0.8"]
    assert (point.cut, point.completeness.value, point.purity.value) == (0.5, 0.75, 0.8)
    assert point.duplicates == 1


def test_a_perfect_list_is_complete_and_pure() -> None:
    _, truth = hand_made()
    result = measure_searches({"a": [truth.assign(score=truth["s1"])]}, [truth], QUICK)
    for part in result.searches["a"].parts.values():
        for point in part.at_purity.values():
            if part.sources:
                assert (point.completeness.value, point.purity.value) == (1.0, 1.0)
                assert point.completeness.error == pytest.approx(0.0, abs=1e-12)
                assert point.crossings["0.9"].value == pytest.approx(truth["s1"].min(), rel=1e3)
            assert point.duplicates == 0
    position = result.searches["a"].positions[0]
    assert (position.n, position.median_deg.value) == (4, pytest.approx(0.0, abs=1e-12))
    # Its own fluxes give purity by flux.
    assert set(whole(result).at_purity["0.9"].purity_by) == {"s1", "s10", "ts"}


def test_an_empty_list_finds_nothing_and_an_empty_truth_is_no_number() -> None:
    found, truth = hand_made()
    nothing = CANDIDATES.empty()
    result = measure_searches({"a": [nothing], "b": [found]}, [truth], QUICK, oracle="b")
    point = whole(result).at_purity["0.9"]
    assert (point.cut, point.detections, point.completeness.value) == (math.inf, 0, 0.0)
    assert math.isnan(point.purity.value)
    assert point.completeness.ratio is not None
    assert point.completeness.ratio.value == 0.0
    assert result.searches["a"].score_calibration is None
    assert result.searches["a"].positions[0].n == 0

    no_truth = measure_searches({"a": [found]}, [TRUTH.empty()], QUICK)
    point = whole(no_truth).at_purity["0.9"]
    assert (point.cut, point.detections) == (math.inf, 0)
    assert math.isnan(point.completeness.value)
    for one in (result, no_truth, measure_searches({"a": [nothing]}, [TRUTH.empty()], QUICK)):
        assert "completeness" in text_table(one)
        json.dumps(one.to_json(), allow_nan=False)
        assert all(math.isfinite(value) for value in one.metrics().values())


def random_skies(number: int, efficiency: float) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Skies of 200 sources far apart, each found with the efficiency; no false detection."""
    lists, truths = [], []
    rng = np.random.default_rng(11)
    lon, lat = (a.ravel() for a in np.meshgrid(np.arange(0, 360, 18.0), np.linspace(-80, 80, 10)))
    for _ in range(number):
        s1 = 10 ** rng.uniform(-10, -8, len(lon))
        truth = pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": s1})
        seen = truth[rng.uniform(size=len(lon)) < efficiency]
        lists.append(seen.assign(score=1.0).drop(columns="s1"))
        truths.append(truth)
    return lists, truths


@pytest.mark.parametrize("skies", [1, 30])
def test_the_bootstrap_error_of_completeness_is_the_binomial_one(skies: int) -> None:
    lists, truths = random_skies(skies, 0.7)
    settings = YardstickSettings(resamples=200)
    part = whole(measure_searches({"a": lists}, truths, settings))
    figure = part.at_purity["0.9"].completeness
    n = 200 * skies
    binomial = math.sqrt(0.7 * 0.3 / n)
    assert figure.value == pytest.approx(0.7, abs=3.5 * binomial)
    # 30 skies know their scatter to 13 %, 768 regions to a few per cent.
    assert figure.error == pytest.approx(binomial, rel=0.35)


def test_the_oracle_stands_beside_every_completeness() -> None:
    lists, truths = random_skies(6, 0.8)
    half = [seen.iloc[::2] for seen in lists]
    result = measure_searches({"ours": half, "best": lists}, truths, QUICK, oracle="best")
    assert "bootstrap over 6 skies" in result.errors
    ours, best = (whole(result, name).at_purity["0.9"] for name in ("ours", "best"))
    for figure in (ours.completeness, *ours.by["s1"].figures, *ours.crossings.values()):
        assert figure.oracle is not None
        assert figure.ratio is not None
    ratio = ours.completeness.ratio
    assert ratio is not None
    assert ratio.value == ours.completeness.value / best.completeness.value
    # Both lists gain and lose with the same skies.
    alone = ratio.value * math.hypot(
        ours.completeness.error / ours.completeness.value,
        best.completeness.error / best.completeness.value,
    )
    assert ratio.error < 0.5 * alone
    own = best.completeness.ratio
    assert own is not None
    assert (own.value, own.error) == (1.0, 0.0)
    text = text_table(result)
    assert "of the oracle" in text
    assert "0.500 ± " in text
    assert "of the oracle" not in text_table(measure_searches({"a": half}, truths, QUICK))
    metrics = result.metrics()
    assert metrics["ours/all/completeness_at_0.9_ratio"] == ratio.value
    assert "ours/b20_90/s1_at_completeness_0.9_purity_0.9" not in metrics  # never reached
    assert "best/b00_20/score_cut_at_0.9" in metrics


def test_neither_order_nor_sky_ids_matter() -> None:
    lists, truths = random_skies(2, 0.8)
    one = measure_searches({"a": lists}, truths, QUICK)
    shuffled = [
        seen.sample(frac=1.0, random_state=1).assign(sky_id=k) for k, seen in enumerate(lists)
    ]
    mixed = [true.sample(frac=1.0, random_state=2).assign(sky_id=9) for true in truths]
    assert measure_searches({"a": shuffled}, mixed, QUICK).to_json() == one.to_json()


def test_json_brings_everything_back_in_order(tmp_path: Path) -> None:
    lists, truths = random_skies(2, 0.8)
    half = [seen.iloc[::2] for seen in lists]
    result = measure_searches({"ours": lists, "best": half, "A": half}, truths, QUICK, "best")
    write_json(tmp_path / "y.json", result.to_json())  # sorted by name
    again = Yardstick.from_json(read_json(tmp_path / "y.json"))
    assert list(again.searches) == ["ours", "best", "A"]
    assert list(again.searches["A"].parts) == list(result.searches["A"].parts)
    assert (text_table(again), leading_table(again)) == (text_table(result), leading_table(result))
    assert again.metrics() == result.metrics()
    tree = result.to_json()
    for wrong in ({}, {**tree, "skies": "many"}, {**tree, "order": {"searches": ["x"]}}):
        with pytest.raises(InputError, match=r"y.json: is no yardstick's result"):
            Yardstick.from_json(wrong, "y.json")


def test_the_leading_figures() -> None:
    lists, truths = random_skies(6, 0.8)
    half = [seen.iloc[::2] for seen in lists]
    result = measure_searches({"ours": half, "best": lists}, truths, QUICK, oracle="best")
    header, *rows = leading_rows(result)
    assert {len(row) for row in rows} == {len(header)} == {7}
    assert [row[:2] for row in rows[:4]] == [
        ["ours", part] for part in ("all", "|b| > 20", "|b| 10-20", "|b| < 10")
    ]
    at = whole(result, "ours").at_purity["0.9"].completeness
    assert rows[0][3] == f"{at.value:.3f} ± {at.error:.3f}"
    assert rows[4][4] == "1.000 ± 0.000"
    assert rows[0][6] == "-", "a completeness of 0.9 is never reached"
    assert len(leading_rows(measure_searches({"a": half}, truths, QUICK))[0]) == 6
    names = set(result.metrics())
    assert {"ours/all/completeness_at_0.9", "ours/b00_10/completeness_at_0.9_ratio"} <= names


@pytest.mark.parametrize("kept", [LATITUDES[:1], LATITUDES[:2], (Latitude("plane", 0.0, 20.0),)])
def test_models_measured_in_other_parts_of_the_sky_keep_their_columns(
    kept: tuple[Latitude, ...],
) -> None:
    lists, truths = random_skies(2, 0.8)
    few = measure_searches({"a": lists}, truths, replace(QUICK, latitudes=kept))
    header, row, other = rows_by_model(
        {"few": few, "every": measure_searches({"a": lists}, truths, QUICK)}
    )
    assert len(header) == len(row) == len(other) == 5 + len(MODEL_PARTS)
    at = few.searches["a"].parts[kept[0].name].at_purity["0.9"].completeness
    assert row[3] == f"{at.value:.3f} ± {at.error:.3f}"
    absent = [n for n, part in enumerate(MODEL_PARTS) if part not in [k.name for k in kept]]
    assert [row[5 + n] for n in absent] == ["-"] * len(absent)
    assert len(aligned([header, row, other])) == 3


def test_flux_edges() -> None:
    assert flux_edges(1e-10, 1e-9, 2) == pytest.approx((1e-10, 10**-9.5, 1e-9))


def test_bad_input() -> None:
    found, truth = hand_made()
    with pytest.raises(InputError, match="oracle: 'x'; name one of a"):
        measure_searches({"a": [found]}, [truth], QUICK, oracle="x")
    with pytest.raises(InputError, match="1 lists of detections, 2 of sources"):
        measure_searches({"a": [found]}, [truth, truth], QUICK)
    with pytest.raises(InputError, match="truth: has no column s1"):
        measure_searches({"a": [found]}, [truth.drop(columns="s1")], QUICK)
