"""Settings side by side, and the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from compare_cases import CONFIG, record

from geminga.evaluation.compare_config import cautions, flat_settings, settings_table
from geminga.evaluation.compare_figures import comparison_figures, drawable, overlaid_classes
from geminga.evaluation.compare_page import write_page
from geminga.evaluation.compare_record import RunRecord, compare_test_sets
from geminga.evaluation.compare_rows import compare_rows
from geminga.evaluation.compare_text import comparison_text


def test_settings_are_flat_under_dotted_names() -> None:
    tree = {"a": {"b": [1, 2], "c": None}, "d": [{"e": 1}, {"e": 2}], "f": {}, "g": []}
    assert flat_settings(tree) == {
        "a.b": "1, 2", "a.c": "(none)", "d.0.e": "1", "d.1.e": "2", "f": "(none)", "g": "(none)",
    }  # fmt: skip


def test_only_settings_that_differ_are_shown() -> None:
    one = {"name": "x", "seed": 1, "miun": {"width": 4, "depth": 2}, "run": {"output": "a"}}
    other = {"name": "y", "seed": 1, "miun": {"width": 8}, "run": {"output": "a"}, "new": True}
    differing, places, equal = settings_table([one, other, one])
    assert differing == [
        ["miun.width", "4", "8", "4"], ["miun.depth", "2", "-", "2"], ["new", "-", "True", "-"],
    ]  # fmt: skip
    assert places == [["name", "x", "y", "x"]]
    assert equal == [["seed", "1"], ["run.output", "a"]]


def of(name: str, **config: object) -> RunRecord:
    return replace(record("a"), name=name, config={**CONFIG, **config})


def test_what_changes_the_meaning_of_figures_is_said() -> None:
    assert cautions([of("a"), of("b")]) == []
    for key, value, text in (
        ("evaluation", {"match_radius_deg": 0.5}, "match radii differ"),
        ("bands", [], "bands differ"),
        ("classes", ["BLL"], "classes differ"),
        ("seed", 2, "luck of the training"),
        ("miun_training", {"loss": "dice"}, "losses of miun are of different kinds"),
    ):
        (said,) = cautions([of("a"), of("b", **{key: value})])
        assert text in said
    (said,) = cautions([of("a"), replace(of("b"), versions={"version": "0.2.0"})])
    assert "different versions" in said


def page_of(folder: Path, *records: RunRecord) -> str:
    sets = compare_test_sets(records)
    labels = [one.name for one in records]
    rows = compare_rows(records, sets)
    write_page(folder / "deep" / "page.html", records, labels, rows, sets)
    assert [path.name for path in (folder / "deep").iterdir()] == ["page.html"]
    return (folder / "deep" / "page.html").read_text("utf-8")


def test_the_page_stands_alone_and_shows_what_differs(tmp_path: Path) -> None:
    other = record("b <2>", 0.8, skill=None, localisation={"detector": "miun"}, seed_of="x")
    page = page_of(tmp_path, record("a", 0.4), other)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "b &lt;2&gt;" in page
    assert "<2>" not in page
    assert 'class="best"' in page
    assert "same 6 skies with the same photons" in page
    assert "<td>localisation.detector</td><td>likelihood</td><td>miun</td>" in page
    assert "<td>evaluation.match_radius_deg</td>" in page.split("settings are equal")[1]
    assert "b &lt;2&gt;</b>: none, localisation.detector is miun: no class model" in page
    assert page.count("data:image/png;base64,") == 11, "ten of curves, one confusion"
    assert "truth 0 0" in page
    assert "1,234,567" in page


def test_names_of_runs_are_no_code_for_page_figures_or_terminal(tmp_path: Path) -> None:
    """A record of another's MLflow run has any name."""
    evil = '"><script>alert(1)</script>$\\frac{$\x1b[2J'
    records = [record("_a", 0.4), record(evil, 0.8)]
    page = page_of(tmp_path, *records)
    assert "<script" not in page
    assert '"><script' not in page
    sets = compare_test_sets(records)
    names = [one.name for one in records]
    text = comparison_text(records, names, compare_rows(records, sets), sets)
    assert "\x1b" not in text
    assert "script" in text
    (legend,) = (axes.get_legend() for axes in comparison_figures(records, names)["score"].axes)
    assert legend is not None
    assert [entry.get_text() for entry in legend.get_texts()] == [drawable(name) for name in names]


def test_the_page_of_other_skies_warns(tmp_path: Path) -> None:
    page = page_of(tmp_path, record("a"), record("b", seed=1))
    assert '<div class="warning">Test skies: NOT COMPARABLE' in page
    assert 'class="best"' not in page
    assert "b − a" not in page


def test_only_classifiers_of_the_same_classes_are_overlaid() -> None:
    a, b = record("a"), record("b")
    classes = b.classes
    assert classes is not None
    renamed = replace(classes.classifiers["net"], classes=("BLL", "PSR", "FAKE"))
    other = replace(b, classes=replace(classes, classifiers={"net": renamed}))
    overlaid = overlaid_classes([a, other, b], ["a", "other", "b"])
    assert overlaid is not None
    assert list(overlaid.classifiers) == ["a", "b"]


def test_runs_without_truth_have_curves_of_training_alone() -> None:
    bare = replace(record("a"), yardstick=None, classes=None)
    assert list(comparison_figures([bare, bare], ["a", "b"])) == ["training"]


def test_the_table_marks_the_best_and_gives_reasons() -> None:
    records = [record("first", 0.4), record("second", 0.8, skill=None)]
    sets = compare_test_sets(records)
    labels = ["first", "second"]
    text = comparison_text(records, labels, compare_rows(records, sets), sets)
    lines = text.splitlines()
    assert lines[:2] == ["A  first", "B  second"]
    (line,) = [line for line in lines if line.startswith("  at purity 0.90  ")]
    assert re.search(r"0\.\d{3} ± 0\.\d{3}  +0\.\d{3} ± 0\.\d{3} \*  +\+0\.\d{3} ± 0\.\d{3}$", line)
    assert "- Classes: B: no classifier was measured" in lines
    assert text.count("no classifier was measured") == 1, "once for all rows of a heading"
    assert lines[-1] == "none", "of the settings that can change a figure"
