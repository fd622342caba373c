"""The last stage: the report, and the summary the command line prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.evaluation.class_metrics import Classified
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.class_text import leading_table as leading_class_table
from geminga.evaluation.class_yardstick import ClassSettings, measure_classes
from geminga.evaluation.compare_record import RunRecord
from geminga.evaluation.counts import LATITUDES
from geminga.evaluation.summary import RegionSummary, RunSummary, SearchSummary
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.evaluation.yardstick_results import Yardstick
from geminga.evaluation.yardstick_text import leading_table
from geminga.files import read_json, write_json
from geminga.pipeline.report import CAPTIONS, SECTIONS, run_report
from geminga.pipeline.runner import Context
from geminga.pipeline.yardstick import write_by_model

PNG = b"\x89PNG\r\n\x1a\n" + b"a small picture"


class FakeTracker:
    uri = "sqlite:///out/mlflow.db"

    def __init__(self) -> None:
        self.kept: list[tuple[str, Path]] = []
        self.figures: dict[str, float] = {}

    def artifact(self, path: Path, folder: str | None = None) -> None:
        assert path.is_file()
        self.kept.append(("stage", path))

    def parent_artifact(self, path: Path) -> None:
        self.kept.append(("parent", path))

    def parent_metrics(self, values: Mapping[str, float]) -> None:
        self.figures.update(values)


def summary() -> RunSummary:
    region = RegionSummary(
        40, 30, 0.625, 0.05, 0.9, 0.04, {"0.8": 0.7, "0.9": math.nan}, {"0.8": 50.0, "0.9": 60.0}
    )
    search = SearchSummary("MIUN", dict.fromkeys(LATITUDES, region), 0.1234, 0.16, 0.0, 0.0, 0.01)
    return RunSummary("tiny: 1 simulated test sky", (search,), 0.9, {"BLL": 0.5}, 0.5)


def context_of(config: Config, root: Path, figures: tuple[str, ...] = ("sky", "positions")) -> Any:
    """Return the context of a run whose other stages are finished."""
    write_json(root / "evaluate" / "summary.json", summary().to_json())
    for name in figures:
        path = root / "evaluate" / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    write_json(root / "response" / "origin.json", {"psf": "a table <of> the test"})
    for stage in ("response", "evaluate"):
        write_json(root / stage / "stage.json", {"stage": stage, "key": f"key of {stage}"})
    return Context(config, root, FakeTracker())  # type: ignore[arg-type]


def written(context: Any) -> tuple[str, str]:
    """Run the stage in a work folder; return the report and the printed summary."""
    folder = context.root / ".report.work"
    folder.mkdir(exist_ok=True)
    assert run_report(context, folder) == {}
    return (folder / "report.html").read_text("utf-8"), (folder / "summary.txt").read_text("utf-8")


def test_the_report_has_figures_origin_and_settings(config2: Config, tmp_path: Path) -> None:
    context = context_of(config2, tmp_path / "run")
    report, _ = written(context)
    for text in ("geminga: test", "0.625 ± 0.050", "adjusted_accuracy", config2.hash()):
        assert text in report
    assert "a table &lt;of&gt; the test" in report
    assert report.count("data:image/png;base64,") == 2
    assert report.index(CAPTIONS["sky"]) < report.index(CAPTIONS["positions"])
    for name in set(CAPTIONS) - {"sky", "positions"}:
        assert CAPTIONS[name] not in report
    assert "<h2" in report
    assert ">Example patches<" not in report, "a section without figures is left out"
    for text in ("key of response", "key of evaluate", "miun.width"):
        assert text in report
    folder = context.root / ".report.work"
    assert context.tracker.kept == [
        ("stage", folder / "report.html"),
        ("parent", folder / "report.html"),
        ("parent", folder / "comparison.json"),
    ]
    assert context.tracker.figures["catalogue/completeness"] == 0.625
    record = RunRecord.from_json(read_json(folder / "comparison.json"), "the folder")
    assert record.name == config2.name
    assert record.config_hash == config2.hash()


def measured_in(root: Path) -> Yardstick:
    """Leave a result of the yardstick as the stage before it does."""
    truth = pd.DataFrame({"lon_deg": [0.0, 90.0], "lat_deg": [40.0, 5.0], "s1": [1e-9, 2e-9]})
    found = truth[:1].assign(score=0.5)
    result = measure_searches(
        {"search": [found], "A best <one>": [truth.assign(score=3.0)]},
        [truth],
        YardstickSettings(resamples=0),
        oracle="A best <one>",
        title="tiny: 1 simulated test sky",
    )
    write_json(root / "evaluate" / "yardstick.json", result.to_json())
    return result


def test_the_yardstick_leads_the_report(config2: Config, tmp_path: Path) -> None:
    figures = ("sky", "completeness_ts", "gallery_false", "gallery_missed")
    context = context_of(config2, tmp_path / "run", figures)
    without, printed_without = written(context)
    assert "All searches" not in without
    assert "of the oracle" not in printed_without
    result = measured_in(context.root)
    report, printed = written(context)
    assert leading_table(result) in printed
    assert printed.index("at purity 0.9") < printed.index("MIUN")
    assert report.index(">All searches<") < report.index(">Figures<")
    assert report.index("<td>search</td>") < report.index("<td>A best &lt;one&gt;</td>")
    for name in figures:
        assert CAPTIONS[name] in report
    assert ">The worst cases<" in report
    assert ">Interstellar models<" not in report, "the test skies have one"
    write_by_model({"one.fits": result, "two, not in training": result}, context.root / "evaluate")
    report, _ = written(context)
    assert report.index(">All searches<") < report.index(">Interstellar models<")
    assert report.count("<td>two, not in training</td>") == len(result.searches)


def classes_in(root: Path) -> ClassResult:
    """Leave a result of the classifiers as the stage before it does."""
    rng = np.random.default_rng(0)
    n, names = 60, ("BLL", "FSRQ", "FAKE")
    label = rng.integers(0, 3, n)
    claims = rng.dirichlet(np.ones(3), n) / 2 + np.eye(3)[label] / 2
    lon, lat = rng.uniform(0, 360, n), rng.uniform(-90, 90, n)
    s1 = np.where(label == 2, np.nan, 1e-9)
    one = Classified(names, np.zeros(n, int), label, claims, claims, s1, lat, lon)
    settings = ClassSettings(resamples=3)
    result = measure_classes({"A best <one>": one}, {}, settings, "tiny: made-up detections")
    write_json(root / "evaluate" / "classes.json", result.to_json())
    return result


def test_classes_are_told_apart_in_the_report(config2: Config, tmp_path: Path) -> None:
    figures = ("sky", "training_class_model", "confusion_network_on_evidence", "class_reliability")
    context = context_of(config2, tmp_path / "run", figures)
    without, printed_without = written(context)
    assert "Told apart" not in without
    assert "macro F1" not in printed_without
    for name in figures:
        assert CAPTIONS[name] in without
    result = classes_in(context.root)
    report, printed = written(context)
    assert leading_class_table(result) in printed
    assert printed.index("macro F1") < printed.index("MIUN"), "before what each search counts"
    assert report.index(">Told apart<") < report.index(">Figures<") < report.index(">Classes<")
    assert "tiny: made-up detections" in report
    assert "A best &lt;one&gt;" in report
    assert report.index(CAPTIONS["class_reliability"]) < report.index(
        CAPTIONS["training_class_model"]
    )


def test_damaged_classes_are_refused(config2: Config, tmp_path: Path) -> None:
    context = context_of(config2, tmp_path / "run")
    write_json(context.root / "evaluate" / "classes.json", {"title": "no classifiers"})
    with pytest.raises(InputError, match=r"classes\.json: is no result of classes"):
        written(context)


def test_a_damaged_yardstick_is_refused(config2: Config, tmp_path: Path) -> None:
    context = context_of(config2, tmp_path / "run")
    write_json(context.root / "evaluate" / "yardstick.json", {"title": "no searches"})
    with pytest.raises(InputError, match=r"yardstick.json: is no yardstick's result"):
        written(context)


def test_every_figure_has_one_place_and_a_caption() -> None:
    names = [name for _, group in SECTIONS for name in group]
    assert sorted(names) == sorted(CAPTIONS)


def test_the_report_of_a_second_run_is_the_same(config2: Config, tmp_path: Path) -> None:
    context = context_of(config2, tmp_path / "run")
    first, _ = written(context)
    # An earlier report and the work folder of an interrupted stage are no part of it.
    write_json(context.root / "report" / "stage.json", {"key": "an earlier report"})
    write_json(context.root / ".miun.abc.partial" / "stage.json", {"key": "half a stage"})
    assert written(context)[0] == first


def test_the_summary_says_where_everything_is(config2: Config, tmp_path: Path) -> None:
    context = context_of(config2, tmp_path / "run")
    _, text = written(context)
    lines = text.splitlines()
    assert "tiny: 1 simulated test sky" in lines
    assert any(line.startswith("MIUN") and "0.123" in line for line in lines)
    root = context.root
    assert f"catalogue:  {root / 'catalog' / 'catalog_2000000.fits'}" in lines
    assert f"report:     {root / 'report' / 'report.html'}" in lines
    assert lines[-1] == "MLflow:     mlflow ui --backend-store-uri sqlite:///out/mlflow.db"
    assert "true \\ found" not in text
    context.tracker.uri = "http://host:5000"
    assert written(context)[1].splitlines()[-1] == "MLflow:     http://host:5000"


def test_a_catalogue_for_each_test_sky(config2: Config, tmp_path: Path) -> None:
    tree = config2.model_dump(mode="json")
    tree["sets"]["test"] = 3
    context = context_of(config_from_tree(tree, "test"), tmp_path / "run")
    text = written(context)[1]
    assert [f"catalog_200000{k}.fits" in text for k in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("classes", "count"),
    [(["BLL", "FAKE"], 3), (["A", "B"], 1_234_567), (["a class of many words", "FAKE"], 12)],
)
def test_the_confusion_is_in_columns(
    classes: list[str], count: int, config2: Config, tmp_path: Path
) -> None:
    context = context_of(config2, tmp_path / "run")
    tree = {"classes": classes, "counts": [[count, 0], [1, count]], "missed": [0, 0]}
    write_json(context.root / "evaluate" / "confusion.json", tree)
    lines = written(context)[1].splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("true \\ found"))
    table = lines[start : start + 3]
    assert len({len(line) for line in table}) == 1, "the columns end in the same place"
    assert [line.split("  ")[0] for line in table[1:]] == classes
    cells = [line.rsplit(maxsplit=2)[-2:] for line in table[1:]]
    assert cells == [[str(count), "0"], ["1", str(count)]]


def test_a_damaged_summary_is_refused(config2: Config, tmp_path: Path) -> None:
    context = context_of(config2, tmp_path / "run")
    write_json(context.root / "evaluate" / "summary.json", {"title": "no searches"})
    with pytest.raises(InputError, match="is not a summary"):
        written(context)


def test_a_damaged_figure_is_refused(config2: Config, tmp_path: Path) -> None:
    context = context_of(config2, tmp_path / "run")
    (context.root / "evaluate" / "figures" / "sky.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"sky.png: is not a PNG file"):
        written(context)
