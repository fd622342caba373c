"""Resamples kept with a run, and errors of differences from them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from compare_cases import CLASS_SETTINGS, classes_of, classified, searched

from geminga.errors import InputError
from geminga.evaluation.bootstrap import Estimate, scatter
from geminga.evaluation.compare_draws import Draws, class_draws, difference

FIGURE = "completeness/all/0.9"


def test_the_resamples_have_the_errors_that_were_measured() -> None:
    result, draws = searched(0.6)
    ours = result.searches["ours"]
    for part, figures in ours.parts.items():
        for key, point in figures.at_purity.items():
            kept = np.array(draws.figures[f"completeness/{part}/{key}"])
            error = scatter(kept, draws.inflation)
            assert error == pytest.approx(point.completeness.error, rel=1e-5, nan_ok=True)
            assert point.completeness.ratio is not None
            error = scatter(np.array(draws.figures[f"ratio/{part}/{key}"]), draws.inflation)
            assert error == pytest.approx(point.completeness.ratio.error, rel=1e-5, nan_ok=True)
    score = ours.score_calibration
    assert score is not None
    for name, estimate in (
        ("position/median_deg", ours.positions[0].median_deg),
        ("position/inside_68", ours.position_calibration.inside_68),
        ("calibration_error", score.expected_error),
        ("brier", score.brier),
    ):
        error = scatter(np.array(draws.figures[name]), draws.inflation)
        assert error == pytest.approx(estimate.error, rel=1e-5)


def test_the_resamples_of_classes_have_the_errors_that_were_measured() -> None:
    result, draws = classes_of(0.4)
    figures = result.classifiers["net"].figures
    for name in ("macro_f1", "fake_recall", "ece", "balanced_accuracy/BLL against FSRQ"):
        error = scatter(np.array(draws.figures[name]), draws.inflation)
        assert error == pytest.approx(figures[name].error, rel=1e-5)
    assert not any(name.startswith(("confusion", "reliability")) for name in draws.figures)


def test_what_runs_share_is_not_in_the_error_of_their_difference() -> None:
    (one, a), (other, b) = searched(0.6), searched(0.65, noise=1)
    figures = [r.searches["ours"].parts["all"].at_purity["0.9"].completeness for r in (one, other)]
    mine, its = (Estimate(f.value, f.error) for f in figures)
    paired, is_paired = difference(mine, its, FIGURE, a, b)
    alone, is_alone = difference(mine, its, FIGURE, a, None)
    assert (is_paired, is_alone) == (True, False)
    assert paired.value == alone.value == mine.value - its.value
    assert alone.error == pytest.approx(math.hypot(mine.error, its.error))
    assert 0.0 < paired.error < 0.8 * alone.error
    assert difference(mine, mine, FIGURE, a, a)[0] == Estimate(0.0, 0.0)


def test_other_draws_do_not_pair() -> None:
    draws = searched(0.6)[1]
    for other in (
        replace(draws, seed=1),
        replace(draws, skies=3),
        replace(draws, region_nside=8),
        replace(draws, figures={FIGURE: draws.figures[FIGURE][:-1]}),
        replace(draws, figures={}),
    ):
        assert math.isnan(draws.difference(other, FIGURE))


def test_resamples_survive_a_file() -> None:
    _, draws = classes_of(0.4)
    hole = replace(draws, figures={**draws.figures, "hole": (math.nan, 1.0, math.inf)})
    again = Draws.from_json(hole.to_json())
    assert again.figures["macro_f1"] == draws.figures["macro_f1"]
    assert math.isnan(again.figures["hole"][0])
    assert draws.pairs_with(again)
    with pytest.raises(InputError, match=r"file: holds no resamples .* evaluate the run anew"):
        Draws.from_json({"seed": 1}, "file")


def test_every_pair_of_classes_that_is_asked_for_has_resamples() -> None:
    one = classified(0.4)
    asked = classes_of(0.4)[0].comparisons
    assert asked == ("BLL against FSRQ, S1 > 5e-10", "BLL against FSRQ")
    known = class_draws(one, CLASS_SETTINGS).figures
    assert {f"balanced_accuracy/{name}" for name in asked} <= known.keys()
