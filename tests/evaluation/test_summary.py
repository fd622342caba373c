from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.evaluation.confusion import count_confusion
from geminga.evaluation.counts import MatchCounts, count_matches, empty_counts
from geminga.evaluation.metrics import Offsets, empty_offsets, position_offsets
from geminga.evaluation.summary import RunSummary, run_summary, search_summary
from geminga.matching import match
from geminga.sections import EvaluationConfig

SETTINGS = EvaluationConfig()


def search() -> tuple[MatchCounts, Offsets]:
    truth = pd.DataFrame({"lon_deg": [0.0, 10, 20, 30], "lat_deg": [0.0, 40, 50, 60], "s1": 1e-9})
    found = pd.DataFrame(
        {
            "lon_deg": [0.0, 10, 20, 99],
            "lat_deg": [0.1, 40.1, 50.1, 0],
            "score": [50.0, 60, 40, 30],
        }
    )
    matches = match(found, truth, 0.3)
    return count_matches(found, truth, matches, SETTINGS), position_offsets(found, truth, matches)


def summary() -> RunSummary:
    counts, offsets = search()
    confusion = count_confusion(np.array([0, 1, 2]), np.array([0, 0, 2]), ("BLL", "PWN+SNR"))
    return run_summary(
        "demo, 1 test sky",
        [
            search_summary("MIUN", counts, offsets, seconds=2.5),
            search_summary("k-means", empty_counts(SETTINGS), empty_offsets()),
        ],
        adjusted_accuracy=0.39,
        confusion=confusion,
        extra={"peak memory (GB)": 1.5},
    )


def test_table_is_what_the_terminal_shows() -> None:
    lines = summary().table().splitlines()
    assert lines[0] == "demo, 1 test sky"
    assert lines[1].split("  ")[0] == "search"
    assert "0.750 ± 0.217  0.750 ± 0.217" in lines[2]
    assert lines[2].endswith("0.100")
    assert lines[3].split() == ["k-means", "-", "-", "-", "-", "-"]
    assert len({len(line) for line in lines[1:4]}) == 1
    text = "\n".join(lines)
    assert "low latitude, MIUN: completeness 1.000 of 1, purity 0.500 of 2" in text
    assert "BLL 1.000, PWN+SNR 0.000, FAKE 1.000; balanced accuracy 0.667" in text
    assert "adjusted accuracy of the masks: 0.390" in text


def test_metrics_are_flat_and_finite() -> None:
    metrics = summary().metrics()
    assert metrics["MIUN/all/completeness"] == 0.75
    assert metrics["MIUN/all/completeness_at_purity_0.9"] == 0.75
    assert metrics["MIUN/median_error_deg"] == pytest.approx(0.1)
    assert metrics["recall/PWN_SNR"] == 0.0
    assert metrics["peak_memory__GB_"] == 1.5
    assert all(math.isfinite(value) for value in metrics.values())
    assert "k-means/all/completeness" not in metrics
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")
    assert all(set(name) <= allowed for name in metrics)


def test_json_round_trip_is_strict_json() -> None:
    text = json.dumps(summary().to_json(), allow_nan=False)
    again = RunSummary.from_json(json.loads(text))
    assert again.table() == summary().table()
    assert again.metrics() == summary().metrics()
    assert math.isnan(again.searches[1].median_error_deg)


def test_bad_json() -> None:
    with pytest.raises(InputError, match="is not a summary"):
        RunSummary.from_json({"title": "x"})
    with pytest.raises(InputError, match="is not a summary"):
        RunSummary.from_json({**summary().to_json(), "unknown": 1})


def test_without_searches() -> None:
    assert run_summary("nothing", []).table() == "nothing"


def test_purity_against_a_wider_list() -> None:
    counts, offsets = search()
    wide = empty_counts(SETTINGS)
    figures = search_summary("MIUN", counts, offsets, wide)
    assert figures.regions["all"].completeness == 0.75
    assert figures.regions["all"].detections == 0
    assert math.isnan(figures.regions["all"].purity)


def test_completeness_at_a_purity_may_be_the_yardsticks() -> None:
    counts, offsets = search()
    table = run_summary("demo", [search_summary("MIUN", counts, offsets, purities=())])
    assert table.rows()[0] == ["search", "completeness", "purity", "median error (deg)"]
    assert {len(row) for row in table.rows()} == {4}
    assert not [name for name in table.metrics() if "at_purity" in name]
