"""Rows of figures: what is best, what is lacking, what MLflow is told."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from compare_cases import CONFIG, record

from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.compare_record import RunRecord, TestSky, compare_test_sets
from geminga.evaluation.compare_rows import Row, compare_rows, headline


def rows_of(*records: RunRecord) -> dict[tuple[str, str], Row]:
    """Return the rows by heading and label."""
    rows = compare_rows(records, compare_test_sets(records))
    return {(row.group, row.label): row for row in rows}


WHOLE = ("Completeness, whole sky", "at purity 0.90")
EXPECTED = ("Calibration", "expected calibration error")
MACRO = ("Classes", "macro F1, FAKE included")


def test_the_better_run_is_marked_beyond_the_error_alone() -> None:
    rows = rows_of(record("a", 0.4), record("b", 0.8), record("c", 0.5))
    row = rows[WHOLE]
    assert row.best == 1
    assert row.paired
    first, second = row.differences
    assert first is not None
    assert second is not None
    assert first.value > second.value > 0.0
    # The same figure twice, and one that is worse: none is better than every other.
    same = rows_of(record("a", 0.8), record("b", 0.8), record("c", 0.5))[WHOLE]
    assert same.best is None


def test_where_less_is_better() -> None:
    a, b = record("a", skill=0.1), record("b", skill=0.45)
    rows = rows_of(a, b)
    macro, ece = rows[MACRO], rows["Classes", "expected calibration error"]
    assert macro.best == 1
    cells = [cell.estimate.value for cell in ece.cells if cell is not None]
    assert ece.best == (0 if cells[0] < cells[1] else 1)
    assert rows["Positions", "share inside the claimed 68 %"].best is None
    assert rows["Training", "miun: lowest validation loss"].differences == (None,)
    assert rows["Wall time (s)", "total"].best is None


def test_runs_on_other_skies_are_not_compared() -> None:
    records = record("a", 0.4), record("b", 0.8, seed=1)
    sets = compare_test_sets(records)
    assert sets.warning
    assert sets.text.startswith("NOT COMPARABLE")
    for row in compare_rows(records, sets):
        assert row.best is None
        assert row.differences == (None,)


def skies(*digests: str, photons: str = "p") -> tuple[TestSky, ...]:
    return tuple(TestSky(str(k), 5, digest, photons) for k, digest in enumerate(digests))


@pytest.mark.parametrize(
    ("changes", "text", "warning"),
    [
        ({}, "same 2 skies with the same photons", False),
        ({"test_skies": skies("a", "b", photons="q")}, "seen in other photons", False),
        ({"test_skies": skies("a")}, "NOT COMPARABLE: .* different test skies", True),
        ({"test_skies": skies("a", "")}, "NOT KNOWN TO BE COMPARABLE", True),
        ({"config": {"observed": {"events": ["x"]}}}, "others of a real one", True),
    ],
)
def test_test_skies_are_told_apart(changes: dict[str, Any], text: str, warning: bool) -> None:
    one = replace(record("a"), test_skies=skies("a", "b"))
    sets = compare_test_sets([one, replace(one, **changes)])
    assert sets.warning is warning
    assert sets.same_truth is not warning
    assert re.search(text, sets.text)


def test_a_run_without_a_classifier_says_why() -> None:
    config = {"localisation": {"detector": "miun"}}
    rows = rows_of(record("a"), record("b", skill=None, **config))
    row = rows[MACRO]
    assert row.cells[1] is None
    assert row.reasons == ("", "localisation.detector is miun: no class model")
    assert row.differences == (None,)
    assert row.best is None


def test_a_real_sky_has_no_truth_to_be_measured_by() -> None:
    real = replace(
        record("b"), config={**CONFIG, "observed": {"events": ["x"]}}, yardstick=None,
        classes=None,
    )  # fmt: skip
    rows = rows_of(record("a"), real)
    assert rows[WHOLE].reasons[1] == rows[MACRO].reasons[1] == "a real sky has no truth"
    assert rows["The catalogue at its score cut (binomial errors)", "purity"].cells[1] is not None


def test_means_over_other_classes_do_not_compare() -> None:
    other = record("b", skill=0.45, classes=["BLL", "FSRQ", "PSR"])
    rows = rows_of(record("a", skill=0.1), other)
    assert rows[MACRO].differences == (None,)
    assert rows[MACRO].best is None
    assert rows["Classes", "balanced accuracy, BLL against FSRQ"].best == 1


def test_a_figure_of_a_single_source_is_no_best() -> None:
    one, other = record("a", 0.4), record("b", 0.8)
    search = one.yardstick.searches["ours"] if one.yardstick else None
    assert one.yardstick is not None
    assert search is not None
    luck = replace(search.positions[0], median_deg=Estimate(1e-6, 0.0), n=1)
    empty = replace(search.positions[0], median_deg=Estimate(math.nan, math.nan), n=0)
    for position, value in ((luck, 1e-6), (empty, math.nan)):
        lucky = replace(search, positions=(position, *search.positions[1:]))
        yardstick = replace(one.yardstick, searches={"ours": lucky})
        row = rows_of(replace(one, yardstick=yardstick), other)["Positions", "median error (deg)"]
        assert row.cells[0] is not None
        assert row.cells[0].estimate.value == pytest.approx(value, nan_ok=True)
        assert row.best is None
    assert row.reasons == ("nothing was found to measure it on", "")
    assert row.differences == (None,)


def test_without_resamples_errors_are_added_in_quadrature() -> None:
    a, b = record("a", 0.4), replace(record("b", 0.8), search_draws=None)
    paired, alone = rows_of(a, record("b", 0.8))[WHOLE], rows_of(a, b)[WHOLE]
    assert (paired.paired, alone.paired) == (True, False)
    errors = [cell.estimate.error for cell in alone.cells if cell is not None]
    (known,) = alone.differences
    assert known is not None
    assert known.error == pytest.approx(math.hypot(*errors))


def test_mlflow_gets_few_sortable_names() -> None:
    names = headline(record("a"))
    for name in (
        "completeness_at_purity_0.80", "completeness_at_purity_0.90",
        "completeness_at_purity_0.90_error", "completeness_at_purity_0.95",
        "ratio_to_oracle_at_purity_0.90", "latitude/b20_90/completeness",
        "position/median_deg", "calibration/ece", "classes/macro_f1", "classes/ece_error",
        "pairs/BLL_FSRQ_S1_5e-10_error", "loss/miun_valid_loss", "seconds/total",
        "searches/oracle", "catalogue/purity",
    ):  # fmt: skip
        assert name in names
    assert len(names) < 100
    assert max(map(len, names)) < 40, "MLflow's table cuts longer ones"
    assert names["loss/miun_valid_loss"] == 0.6, "that of the weights that are kept"
    assert names["loss/miun_train_loss"] == 0.3
    assert names["seconds/total"] == 25.0
    assert all(math.isfinite(value) for value in names.values())
    assert not any(name.startswith("seconds/") and name.endswith("_error") for name in names)
