"""``geminga evaluate`` on lists; that of a run is in test_cli_tiny."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from geminga.cli import USER_ERROR, main, spread


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two skies: truth in Parquet, detections in CSV (all sources but one, and a false one)."""
    rng = np.random.default_rng(0)
    for sky in range(2):
        lon, lat = np.arange(0, 360, 9.0), rng.uniform(-80, 80, 40)
        truth = pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": 1e-10 * (1 + np.arange(40))})
        truth.assign(sky_id=sky).to_parquet(tmp_path / f"t{sky}.parquet")
        seen = truth[1:].assign(score=truth["s1"][1:] * 1e9).drop(columns="s1")
        false = pd.DataFrame({"lon_deg": [4.5], "lat_deg": [85.0], "score": [0.01]})
        pd.concat([seen, false]).to_csv(tmp_path / f"d{sky}.csv", index=False)
    return tmp_path


def test_lists_against_truth_and_oracle(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skies = [str(files / f"d{k}.csv") for k in range(2)]
    truth = [str(files / f"t{k}.parquet") for k in range(2)]
    code = main(
        ["evaluate", "--detections", *skies, "--truth", *truth, "--oracle", *skies,
         "--out", str(files / "out"), "--resamples", "5"]
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "detections on 2 skies" in printed
    assert "regions of 7.3 deg (only 2 skies to resample), 5 resamples" in printed
    tree = json.loads((files / "out" / "yardstick.json").read_text())
    figure = tree["searches"]["detections"]["parts"]["all"]["at_purity"]["0.9"]["completeness"]
    assert figure["value"] == 39 / 40
    assert figure["ratio"] == {"value": 1.0, "error": 0.0}
    assert "completeness against S1" in (files / "out" / "yardstick.txt").read_text()
    metrics = json.loads((files / "out" / "metrics.json").read_text())
    assert metrics["detections/all/completeness_at_0.9"] == 39 / 40
    assert (files / "out" / "figures" / "completeness_s1.png").is_file()


def test_options_of_the_measure(files: Path) -> None:
    # Without the faint half of the truth its detections are false.
    command = [
        "evaluate",
        "--detections",
        str(files / "d0.csv"),
        "--truth",
        str(files / "t0.parquet"),
    ]
    more = ["--faintest", "2.05e-9", "--matching", "thesis", "--radius", "0.2", "--resamples", "0"]
    assert main([*command, *more, "--out", str(files / "out")]) == 0
    tree = json.loads((files / "out" / "yardstick.json").read_text())
    assert (tree["matching"], tree["match_radius_deg"]) == ("thesis", 0.2)
    part = tree["searches"]["detections"]["parts"]["all"]
    assert (part["sources"], part["detections"]) == (20, 40)
    assert part["curve"]["purity"][-1] == 0.5


def test_one_way_or_the_other(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen, true = str(files / "d0.csv"), str(files / "t0.parquet")
    lists = ["--detections", seen, "--truth", true]
    for arguments, message in (
        ([], "evaluate: nothing to evaluate; give --config FILE, or --detections FILE..."),
        (lists, "--out: is missing; give --config FILE, or --detections"),
        (["--out", "x"], "--detections, --truth: is missing"),
        (["--config", "c.yaml", *lists], "--detections: has no meaning with --config"),
        (
            ["--config", "c.yaml", "--matching", "thesis"],
            "--matching: has no meaning with --config",
        ),
        ([*lists, "--out", "x", "--set", "a=1"], "--set: has no meaning without --config"),
        (
            ["--detections", seen, seen, "--truth", true, "--out", "x"],
            "--detections: 2 files for the 1",
        ),
        ([*lists, "--oracle", seen, seen, "--out", "x"], "--oracle: 2 files for the 1 of --truth"),
        ([*lists, "--out", "x", "--radius", "-1"], "match radius: -1.0 deg"),
        (
            ["--detections", "no.csv", "--truth", true, "--out", "x"],
            "no.csv: is not a readable CSV",
        ),
        (["--config", str(files / "none.yaml")], "none.yaml"),
    ):
        assert main(["evaluate", *arguments]) == USER_ERROR
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("error: ")
        assert message in lines[-1]
    assert not Path("x").exists()


def test_files_of_other_skies_are_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(files / "d0.csv")
    frame.assign(sky_id=1).to_csv(files / "wrong.csv", index=False)
    frame.assign(sky_id=np.arange(len(frame)) % 2).to_csv(files / "both.csv", index=False)
    for name, message in (
        ("wrong", "is of sky 1, but paired with sky 0"),
        ("both", "holds 2 skies"),
    ):
        arguments = [
            "--detections",
            str(files / f"{name}.csv"),
            "--truth",
            str(files / "t0.parquet"),
        ]
        assert main(["evaluate", *arguments, "--out", str(files / "out")]) == USER_ERROR
        assert message in capsys.readouterr().err
    assert not (files / "out").exists()


def test_files_in_a_row_belong_to_the_option_before_them() -> None:
    given = ["evaluate", "--detections", "a", "b", "--truth=c", "d", "--out", "x", "y"]
    assert spread(given) == [
        "evaluate", "--detections", "a", "--detections", "b", "--truth=c", "--truth", "d",
        "--out", "x", "y",
    ]  # fmt: skip
    assert spread(["run", "--detections", "a", "b"]) == ["run", "--detections", "a", "b"]
    assert spread([]) == []


def test_a_configuration_evaluates_its_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str | None]] = []
    pipeline = SimpleNamespace(
        run_pipeline=lambda config, stage: asked.append((config.name, stage))
    )
    # In place of the module, whose import takes seconds.
    monkeypatch.setitem(sys.modules, "geminga.pipeline.stages", pipeline)
    tiny = Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml"
    assert main(["evaluate", "--config", str(tiny), "--set", f"run.output={tmp_path}"]) == 0
    assert asked == [("tiny", "evaluate")]
