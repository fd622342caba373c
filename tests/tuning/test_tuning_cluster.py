"""The real commands on a cut-down configuration: trials, what they leave, a kill in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from geminga.config import Config, config_from_tree, load_config, read_tree
from geminga.files import read_json, read_parquet
from geminga.pipeline.tune import TABLE
from geminga.pipeline.tune_localisation import DONE, measure_localisation, read_skies
from geminga.pipeline.tune_space import with_values

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
TINY = ROOT / "jobs" / "configs" / "tiny.yaml"
PLACES = {
    "localisation.threshold": {"low": 0.5, "high": 25, "log": True},
    "localisation.kernel_radius_px": {"low": 1.5, "high": 5},
}
WAIT_S = 200


def command(verb: str, folder: Path, tuning: str) -> list[str]:
    files = ["--config", str(folder / "small.yaml"), "--tuning", str(folder / f"{tuning}.yaml")]
    return [sys.executable, "-m", "geminga", verb, *files]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}


def run(verb: str, folder: Path, tuning: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(verb, folder, tuning), env=environment(), cwd=folder, capture_output=True,
        text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip


def write(folder: Path, file: str, /, **keys: Any) -> None:
    (folder / f"{file}.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")


def trials(folder: Path, tuning: str) -> pd.DataFrame:
    return read_parquet(folder / "out" / "small" / "tuning" / tuning / TABLE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small configuration whose localisation was tuned in five trials."""
    folder = tmp_path_factory.mktemp("tuning")
    tree = read_tree(TINY)
    tree |= {"name": "small", "run": {"output": str(folder / "out"), "experiment": "tuning"}}
    tree["sky"]["years"] = 1
    tree["patches"]["grid_nside"] = 1
    write(folder, "small", **tree)
    write(folder, "undisturbed", trials=5, space=PLACES, seed=4)
    done = run("tune-localisation", folder, "undisturbed")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def small(folder: Path) -> Config:
    return load_config(folder / "small.yaml")


def test_the_best_trial_is_a_configuration_that_gives_its_figure(
    folder: Path, small: Config
) -> None:
    made = folder / "out" / "small" / "tuning"
    best = load_config(made / "undisturbed" / "small_undisturbed.yaml")
    table = trials(folder, "undisturbed")
    assert table["status"].tolist() == ["finished"] * 5
    (maps,) = (made / ".maps").iterdir()
    skies = read_skies(maps)
    assert len(skies[0].parts) > 0
    figures = measure_localisation(best, skies)
    assert figures["completeness"] == table["objective"].max()
    # The first trial is the configuration itself.
    assert measure_localisation(small, skies)["completeness"] == table["objective"][0]
    assert table["localisation.threshold"][0] == small.localisation.threshold
    assert (made / "undisturbed" / "trials.png").stat().st_size > 5000
    text = (made / "undisturbed" / "small_undisturbed.yaml").read_text(encoding="utf-8")
    assert config_from_tree(yaml.safe_load(text), "again") == best


# MLflow maps its tables with a loader that SQLAlchemy 2.1 has deprecated.
@pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)
def test_trials_are_runs_below_that_of_the_tuning(folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'out' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tuning")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if r.info.run_name == "small_undisturbed")
    children = {
        r.info.run_name: r
        for r in runs
        if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert sorted(children) == [f"trial_{n:04d}" for n in range(5)]
    table = trials(folder, "undisturbed").set_index("trial")
    for number in range(5):
        trial = children[f"trial_{number:04d}"]
        assert trial.info.status == "FINISHED"
        assert trial.data.metrics["objective"] == table["objective"][number]
        threshold = float(trial.data.params["localisation.threshold"])
        assert threshold == table["localisation.threshold"][number]
    assert parent.data.metrics["best_objective"] == table["objective"].max()
    kept = {f.path for f in client.list_artifacts(parent.info.run_id)}
    assert {
        "trials.parquet", "trials.csv", "trials.png", "result.json", "small_undisturbed.yaml",
    } <= kept  # fmt: skip


def test_a_finished_tuning_is_not_run_again_and_another_not_mixed_in(folder: Path) -> None:
    before = trials(folder, "undisturbed")
    again = run("tune-localisation", folder, "undisturbed")
    assert again.returncode == 0
    assert "finished before" in again.stderr
    assert "trial" in again.stdout
    pd.testing.assert_frame_equal(trials(folder, "undisturbed"), before)
    write(folder, "mixed", name="undisturbed", trials=6, space=PLACES, seed=4)
    refused = run("tune-localisation", folder, "mixed")
    assert refused.returncode == 2
    assert "holds trials of another tuning file; give this search another name" in refused.stderr


def wait_for_measured(process: subprocess.Popen[str], measured: Path, wanted: int) -> None:
    """Wait until a number of trials have been measured, and no more than that by much."""
    until = time.monotonic() + WAIT_S
    while len(list(measured.glob("*.json"))) < wanted:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until, "no trial came to its end"
        time.sleep(0.02)


def test_a_killed_tuning_goes_on_and_finds_the_same(folder: Path) -> None:
    write(folder, "killed", trials=5, space=PLACES, seed=4)
    measured = folder / "out" / "small" / "tuning" / "killed" / DONE
    with (folder / "killed.log").open("w") as log:
        process = subprocess.Popen(
            command("tune-localisation", folder, "killed"), env=environment(), cwd=folder,
            stdout=log, stderr=log, text=True,
        )  # fmt: skip
        wait_for_measured(process, measured, 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    made = {path.name: path.stat().st_mtime_ns for path in measured.glob("*.json")}
    assert 2 <= len(made) < 5
    assert not (measured.parent / TABLE).exists()
    done = run("tune-localisation", folder, "killed")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the search goes on where it stopped" in done.stderr
    now = {path.name: path.stat().st_mtime_ns for path in measured.glob("*.json")}
    assert {name: now[name] for name in made} == made, "a trial was measured again"
    # The same as the tuning that nobody disturbed: the same seed gives the same trials.
    pd.testing.assert_frame_equal(trials(folder, "killed"), trials(folder, "undisturbed"))


RATE = {"miun_training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}


def test_a_training_is_tuned_and_weak_trials_are_stopped(folder: Path, small: Config) -> None:
    write(
        folder, "rates", network="miun", trials=4, space=RATE, grace_epochs=1, reduction=2,
    )  # fmt: skip
    done = run("tune-training", folder, "rates")
    assert done.returncode == 0, done.stderr[-3000:]
    table = trials(folder, "rates")
    assert len(table) == 4
    stopped = table["status"] == "stopped early"
    assert 0 < stopped.sum() < 4
    assert (table.loc[~stopped, "epoch"] == small.miun_training.epochs).all()
    tree = read_json(folder / "out" / "small" / "tuning" / "rates" / "result.json")
    assert tree["best"] == table["objective"].min()
    best = load_config(folder / "out" / "small" / "tuning" / "rates" / "small_rates.yaml")
    expected = with_values(small, tree["values"], "t")
    assert best.miun_training == expected.miun_training


def test_a_trial_of_two_workers_reports_its_epochs(folder: Path, small: Config) -> None:
    tree = read_tree(folder / "small.yaml")
    own = dict(tree)
    # The run has a MIUN of one worker, which stays: only its patches are read.
    tree["run"] = own["run"] | {"replace": True}
    tree["miun_training"] = own["miun_training"] | {"workers": 2, "epochs": 2}
    write(folder, "small", **tree)
    write(folder, "pair", network="miun", trials=1, space=RATE)
    write(folder, "wide", network="miun", trials=2, concurrency=2, space=RATE)
    try:
        refused = run("tune-training", folder, "wide")
        done = run("tune-training", folder, "pair")
    finally:
        write(folder, "small", **own)
    if (os.cpu_count() or 1) < 4:
        assert refused.returncode == 2
        assert "concurrency: 2 trials of 2 workers on" in refused.stderr
    assert done.returncode == 0, done.stderr[-3000:]
    table = trials(folder, "pair")
    assert table["epoch"].tolist() == [2]
    assert table["status"].tolist() == ["finished"]
