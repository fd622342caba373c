from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geminga.errors import InputError
from geminga.evaluation.class_ceilings import NOISE_FREE, NOISY
from geminga.evaluation.class_figures import class_figures
from geminga.evaluation.class_goals import Goal, Judged
from geminga.evaluation.class_metrics import Classified, Comparison
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.class_text import class_text, leading_table, markdown
from geminga.evaluation.class_yardstick import ClassSettings, measure_classes

NAMES = ("BLL", "FSRQ", "PSR", "PWN+SNR", "FAKE")


def classified(
    label: np.ndarray, names: tuple[str, ...], strength: float, seed: int, skies: int = 6
) -> Classified:
    """Return claims that are right the more often the larger the strength."""
    rng = np.random.default_rng(seed)
    n, k = len(label), len(names)
    logit = strength * np.eye(k)[label] + rng.standard_normal((n, k))
    flat = np.exp(strength * logit)
    flat /= flat.sum(axis=1, keepdims=True)
    natural = flat * np.bincount(label, minlength=k)
    fixed = np.random.default_rng(1)  # the same skies and fluxes for every classifier
    sky, s1 = fixed.integers(0, skies, n), 10.0 ** fixed.uniform(-10.2, -8.0, n)
    lat, lon = np.degrees(np.arcsin(fixed.uniform(-1, 1, n))), fixed.uniform(0, 360, n)
    s1 = np.where(label == k - 1, np.nan, s1) if names[-1] == "FAKE" else s1
    natural /= natural.sum(axis=1, keepdims=True)
    return Classified(names, sky, label, natural, flat, s1, lat, lon)


def labels(n: int = 2000) -> np.ndarray:
    return np.random.default_rng(3).choice(5, n, p=[0.45, 0.3, 0.1, 0.05, 0.1])


def ceiling_of(c: Classified, strength: float) -> Classified:
    true = c.take(c.label < 4)
    best = classified(true.label, NAMES[:4], strength, 9)
    return replace(
        best, sky=true.sky, s1_true=true.s1_true, lat_deg=true.lat_deg, lon_deg=true.lon_deg
    )


@pytest.fixture(scope="module")
def result() -> ClassResult:
    label = labels()
    network = classified(label, NAMES, 2.0, 5)
    rng = np.random.default_rng(0)
    network = replace(network, ambiguous=rng.random(2000) < 0.2, unlike=rng.random(2000))
    tops = {NOISE_FREE: ceiling_of(network, 4.0), NOISY: ceiling_of(network, 2.5)}
    return measure_classes(
        {"evidence network": network, "thesis CNN": classified(label, NAMES, 1.0, 6)},
        tops,
        ClassSettings(resamples=20, s1_edges=(1e-11, 3e-10, 1e-9, 1e-8)),
        "a trial",
    )


def test_figures_ratios_and_goals(result: ClassResult) -> None:
    network, cnn = result.classifiers.values()
    key = "balanced_accuracy/BLL against FSRQ"
    judged = network.figures[key]
    assert judged.value > cnn.figures[key].value > 0.5
    top = result.ceilings[NOISY].figures[key].value
    assert judged.ceilings[NOISY].value == top
    assert judged.ratios[NOISY].value == pytest.approx(judged.value / top)
    assert 0 < judged.ratios[NOISY].error < 0.1
    assert [goal.figure for goal in result.goals][-1] == "ece"
    assert result.skies == 6
    assert "6 skies" in result.errors
    # The ceiling of all classes has FAKE as the first classifier recognises it.
    five = network.figures["macro_f1"]
    assert five.value < five.ceilings[NOISE_FREE].value < 1.0
    assert (
        five.ceilings[NOISE_FREE].value < result.ceilings[NOISE_FREE].figures["macro_f1_true"].value
    )
    assert network.figures["ece"].ratios == {}
    assert network.rows["FAKE"].n == (labels() == 4).sum()
    assert network.flags.ambiguous == pytest.approx(0.2, abs=0.05)
    assert math.isnan(cnn.flags.ambiguous)
    assert sum(sum(row) for row in network.natural) == 2000


def test_ranges(result: ClassResult) -> None:
    network = result.classifiers["evidence network"]
    assert [r.name for r in network.by_latitude] == ["|b| > 20", "|b| 10-20", "|b| < 10"]
    assert sum(sum(r.n) for r in network.by_latitude) == 2000
    assert sum(sum(r.n) for r in network.by_flux) <= (labels() < 4).sum()
    assert all(r.n[4] == 0 for r in network.by_flux)
    assert {n for r in network.by_flux for n in r.n if 0 < n < 5} == set()
    assert network.by_flux[0].figures["macro_f1_true"].ratios[NOISY].value > 0


def test_json_and_metrics(result: ClassResult) -> None:
    tree = json.loads(json.dumps(result.to_json(), sort_keys=True, allow_nan=False))
    again = ClassResult.from_json(tree)
    assert class_text(again) == class_text(result)
    assert list(again.classifiers) == ["evidence network", "thesis CNN"]
    metrics = result.metrics()
    assert all(math.isfinite(v) for v in metrics.values())
    assert metrics["evidence_network/macro_f1/of_noisy_expectation"] > 0.5
    assert "evidence_network/BLL/brier" in metrics
    assert "ceiling/noisy_expectation/macro_f1_true" in metrics
    with pytest.raises(InputError, match=r"x.json.*no result of classes"):
        ClassResult.from_json({**tree, "classifiers": {}}, "x.json")


def test_text(result: ClassResult) -> None:
    text = class_text(result)
    assert "a trial: 6 skies" in text
    assert "| FAKE recognised at 95 % of true sources kept" in text
    assert "at most 0.03" in text
    assert "\\|b\\| < 10" in text
    assert "% ambiguous" in text
    for table in text.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({len(line) for line in lines}) <= 1
    assert leading_table(result).splitlines()[0].count("|") == 10
    assert markdown([["a", "b"], ["1", "x|y"]]).splitlines()[1] == "|-----|------|"


def test_goals_reached() -> None:
    judged = Judged(0.8, 0.01, {}, {})
    assert Goal("f", "", "", 0.75).reached(judged)
    assert not Goal("f", "", "", 0.75, smaller=True).reached(judged)
    assert not Goal("f", "", "", 0.75, ratio=0.9, ratio_to=NOISY).reached(judged)
    assert not Goal("f", "", "", math.nan).reached(judged)


def drawn(figures: dict[str, Figure]) -> None:
    for figure in figures.values():
        figure.set_dpi(30)
        FigureCanvasAgg(figure).draw()


def test_figures_are_drawn(result: ClassResult) -> None:
    figures = class_figures(result)
    assert {"confusion_evidence_network", "class_reliability", "fake_recognised"} <= set(figures)
    drawn(figures)


def test_any_classes_one_sky_without_ceilings() -> None:
    names = ("AGN", "DARK", "FAKE")
    c = classified(np.tile(np.arange(3), 40), names, 1.5, 2, skies=1)
    one = measure_classes({"net": replace(c, lon_deg=None)}, settings=ClassSettings(resamples=5))
    assert one.comparisons == ("AGN against DARK",)
    assert math.isnan(one.classifiers["net"].figures["macro_f1"].error)
    assert [g.figure for g in one.goals] == ["fake_recall", "macro_f1", "macro_f1_true", "ece"]
    assert "1 sky" in class_text(one)
    by_region = measure_classes({"net": c}, settings=ClassSettings(resamples=5))
    assert by_region.classifiers["net"].figures["macro_f1"].error > 0
    drawn(class_figures(one))


def test_a_single_class_and_no_fake() -> None:
    names = ("AGN", "DARK")
    c = classified(np.tile(np.arange(2), 40), names, 1.5, 2)
    one = measure_classes({"net": c}, settings=ClassSettings(resamples=3))
    assert [g.figure for g in one.goals] == ["macro_f1_true", "ece"]
    assert "fake_recognised" not in class_figures(one)
    only = classified(np.zeros(30, int), ("AGN", "FAKE"), 1.5, 2)
    alone = measure_classes({"net": only}, settings=ClassSettings(resamples=3))
    assert math.isnan(alone.classifiers["net"].figures["fake_recall"].value)
    class_text(alone)
    drawn(class_figures(alone))


def test_bad_input() -> None:
    c = classified(labels(200), NAMES, 1.0, 0)
    with pytest.raises(InputError, match="none given"):
        measure_classes({})
    with pytest.raises(InputError, match="no candidate"):
        measure_classes({"a": c.take(np.zeros(200, bool))})
    other = replace(c, class_names=("A", "B", "C", "D", "FAKE"))
    with pytest.raises(InputError, match="tells apart A, B"):
        measure_classes({"a": c, "b": other})
    with pytest.raises(InputError, match="judged other candidates"):
        measure_classes({"a": c, "b": c.take(np.arange(100))})
    with pytest.raises(InputError, match="is a ceiling of A, B"):
        measure_classes({"a": c}, {NOISY: replace(ceiling_of(c, 2.0), class_names=tuple("ABCD"))})
    with pytest.raises(InputError, match="measure the ceilings on the candidates"):
        measure_classes({"a": c}, {NOISY: ceiling_of(c, 2.0).take(np.arange(20))})
    odd = ClassSettings(comparisons=(Comparison("x", ("BLL",), ("ODD",)),))
    with pytest.raises(InputError, match=r"comparison.*the classes are BLL"):
        measure_classes({"a": c}, settings=odd)
