from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.evaluation.gallery import CutOut, brightest_missed, confident_false, gallery
from geminga.evaluation.ranked import ranked_list
from geminga.evaluation.style import save_figure
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.evaluation.yardstick_figures import FEWEST, yardstick_figures
from geminga.tables import CANDIDATES, TRUTH

SETTINGS = YardstickSettings(resamples=10)


def lists(n: int = 300) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(2)
    place = {
        "lon_deg": rng.uniform(0, 360, n),
        "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
    }
    s1 = 10 ** rng.uniform(-10, -8, n)
    truth = pd.DataFrame({**place, "s1": s1, "s10": s1 / 50, "ts": s1 * 1e11})
    found = truth[s1 * rng.lognormal(0, 0.5, n) > 4e-10].drop(columns=["s10"])
    found = found.assign(
        score=1 - 1e-10 / found["s1"], position_error_deg=0.01, lat_deg=found["lat_deg"] * 0.9999
    )
    return found, truth


def test_every_figure_is_drawn(tmp_path_factory: pytest.TempPathFactory) -> None:
    found, truth = lists()
    result = measure_searches({"ours": [found], "best": [found]}, [truth], SETTINGS, oracle="best")
    figures = yardstick_figures(result)
    assert set(figures) == {
        "completeness_s1", "completeness_s10", "completeness_ts", "purity_s1", "purity_ts",
        "purity_completeness", "score", "reliability", "positions",
    }  # fmt: skip
    panels = figures["completeness_s1"].axes
    assert [axes.get_title() for axes in panels] == ["|b| > 20°", "|b| 10-20°", "|b| < 10°"]
    lines = panels[0].containers
    assert [line.get_label() for line in lines] == ["ours", "best"]
    bins = result.searches["ours"].parts["|b| > 20"].at_purity["0.9"].by["s1"]
    drawn = [f.value for f, n in zip(bins.figures, bins.n, strict=True) if n >= FEWEST]
    np.testing.assert_allclose(lines[0].lines[0].get_ydata(), drawn)
    assert lines[1].lines[0].get_linestyle() == "--"
    folder = tmp_path_factory.mktemp("figures")
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size > 4000


def test_searches_are_named_once_below_the_panels() -> None:
    found, truth = lists()
    names = [f"search {k}" for k in range(6)]
    figures = yardstick_figures(
        measure_searches({name: [found] for name in names}, [truth], YardstickSettings(resamples=0))
    )
    for name in ("completeness_s1", "purity_completeness", "positions"):
        (legend,) = figures[name].legends
        assert [text.get_text() for text in legend.get_texts()] == names
        assert all(axes.get_legend() is None for axes in figures[name].axes)
    # Six panels in two rows of four places.
    shown = [axes for axes in figures["score"].axes if axes.axison]
    assert [axes.get_xlabel() for axes in shown] == [f"score of {name}" for name in names]
    assert figures["purity_ts"].axes[0].get_xlabel() == "own TS"


@pytest.mark.parametrize("case", ["nothing", "no detection", "no source"])
def test_nothing_to_draw_is_said(case: str) -> None:
    found, truth = lists(5)
    found = found.assign(score=50.0) if case == "no source" else CANDIDATES.empty()
    truth = truth if case == "no detection" else TRUTH.empty()
    result = measure_searches({"none": [found]}, [truth], SETTINGS)
    figures = yardstick_figures(result)
    for name in ("reliability", "positions"):
        figures[name].draw_without_rendering()
    (note,) = figures["reliability"].axes[0].texts
    assert note.get_text() == "no score is a probability"


def worst() -> tuple[pd.DataFrame, pd.DataFrame]:
    truth = pd.DataFrame(
        {
            "lon_deg": [0.0, 10.0, 20.0],
            "lat_deg": 0.0,
            "s1": [1e-9, 5e-9, 1e-10],
            "ts": [9.0, 50.0, np.nan],
        }
    )
    found = pd.DataFrame(
        {"lon_deg": [0.0, 0.1, 10.5, 90.0], "lat_deg": 0.0, "score": [0.9, 0.8, 0.7, 0.95]}
    )
    return found, truth


def test_the_worst_cases_by_hand() -> None:
    found, truth = worst()
    ranked = ranked_list([found], [truth], 0.3)
    false = confident_false(ranked, 2)
    assert false["score"].tolist() == [0.95, 0.8]
    assert false["nearest_deg"].tolist() == pytest.approx([70.0, 0.1])
    assert false["nearest_s1"].tolist() == [1e-10, 1e-9]
    assert np.isnan(false["nearest_ts"][0])
    assert false["nearest_ts"][1] == 9.0
    assert false["caption"][0] == (
        "sky 0: l 90.00, b +0.00\nfalse: score 0.95\nnearest source at 70.00°: S1 1e-10"
    )
    assert "second detection: score 0.8\nnearest source at 0.10°: TS 9" in false["caption"][1]
    missed = brightest_missed(ranked, 0.5)
    assert missed["s1"].tolist() == [5e-9, 1e-10]
    assert missed["nearest_deg"].tolist() == pytest.approx([0.5, 9.5])
    assert (
        missed["caption"][0] == "sky 0: l 10.00, b +0.00\nmissed: TS 50, S1 5e-09\n"
        "nearest detection at 0.50°: score 0.7"
    )
    assert len(brightest_missed(ranked, 0.92)) == 3
    nothing = ranked_list([found.iloc[:0]], [truth], 0.3)
    assert len(confident_false(nothing)) == 0
    assert "no detection on this sky" in brightest_missed(nothing, 0.5)["caption"][0]


def test_captions_say_what_the_lists_know() -> None:
    found, truth = worst()
    found = found.assign(probability=found["score"], ts=30.0, s1=2e-10, index=2.345)
    ranked = ranked_list([found], [truth.assign(index=1.5, ts=[9.0, 9.5, 50.0])], 0.3)
    caption = confident_false(ranked, 1)["caption"][0]
    assert caption.splitlines()[1] == "false: p 0.95, TS 30, S1 2e-10, index 2.35"
    missed = brightest_missed(ranked, 0.5)
    assert missed["ts"].tolist() == [50.0, 9.5], "by expected TS, not by flux"
    assert missed["caption"][0].splitlines()[1] == "missed: TS 50, S1 1e-10, index 1.50"


def test_gallery(tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(0)
    one = CutOut(
        rng.poisson(3.0, (32, 32)), 3.0, "a\nb", np.array([[0.0, 0.0]]), np.zeros((0, 2)), "1-2 GeV"
    )
    flat = CutOut(np.zeros((8, 8)), 3.0, "flat", np.zeros((0, 2)), np.array([[0.5, -0.5]]))
    figure = gallery([one, flat, one], "worst", columns=2)
    assert len(figure.axes) == 4
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["a\nb", "flat", "a\nb", ""]
    labels = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert labels == [["1-2 GeV"], [], ["1-2 GeV"], []]
    left, right = figure.axes[0].get_xlim()
    assert (left, right) == (1.5, -1.5)  # longitude rises to the left
    path = tmp_path_factory.mktemp("gallery") / "a.png"
    save_figure(figure, path)
    save_figure(gallery([]), path)
    with pytest.raises(InputError, match=r"an image of shape \(2, 3\)"):
        gallery([CutOut(np.zeros((2, 3)), 1.0, "", np.zeros((0, 2)), np.zeros((0, 2)))])
    with pytest.raises(InputError, match="an image 0 deg wide"):
        gallery([CutOut(np.zeros((2, 2)), 0, "", np.zeros((0, 2)), np.zeros((0, 2)))])
    with pytest.raises(InputError, match="0 columns"):
        gallery([one], columns=0)
