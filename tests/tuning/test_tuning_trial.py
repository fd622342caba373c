"""A training as a trial: what it reports, and how it goes on after an interruption."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config
from geminga.distributed import tune_training
from geminga.distributed.tune import EPOCH, OBJECTIVE
from geminga.distributed.tune_training import BestSoFar, train_and_report
from geminga.files import read_json, write_parquet
from geminga.localisation.features import feature_names
from geminga.pipeline import tune_training as pipeline_tune_training
from geminga.pipeline.tune_space import with_values
from geminga.training.rows import TARGET


def test_the_objective_is_the_best_so_far() -> None:
    low = BestSoFar("valid_loss", "min")
    assert [low.add({"valid_loss": v})[OBJECTIVE] for v in (3.0, 2.0, 4.0)] == [3.0, 2.0, 2.0]
    high = BestSoFar("valid_accuracy", "max")
    assert [high.add({"valid_accuracy": v})[OBJECTIVE] for v in (0.3, 0.2, 0.4)] == [0.3, 0.3, 0.4]


@pytest.fixture(scope="module")
def rows(config2: Config, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return files of rows to train a ranker on, and to validate with."""
    folder, files = tmp_path_factory.mktemp("rows"), []
    names = list(feature_names(len(config2.channels)))
    for number in range(2):
        rng = np.random.default_rng(number)
        features = rng.normal(size=(200, len(names))).astype(np.float32)
        true = features[:, 0] + 0.5 * rng.normal(size=200) > 0
        table = pd.DataFrame(features, columns=names).assign(**{TARGET: true.astype(np.float32)})
        files.append(folder / f"{number}.parquet")
        write_parquet(files[-1], table)
    return files


class StoppedError(Exception):
    """Stands for a kill."""


class Reports:
    """Keeps what a trial reports; interrupts it after a number of reports."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.rows: list[dict[str, float]] = []
        self.stop_after = stop_after

    def __call__(self, row: dict[str, float]) -> None:
        self.rows.append({k: v for k, v in row.items() if k != "seconds"})
        if len(self.rows) == self.stop_after:
            raise StoppedError


@pytest.fixture
def learning(config2: Config) -> Config:
    values = {"ranker_training.epochs": 4, "ranker_training.batch_size": 50, "ranker.width": 8}
    return with_values(config2, values, "test")


def train(
    config: Config, rows: list[Path], folder: Path, reports: Reports, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(tune_training, "report", reports)
    train_and_report("ranker", config, rows[:1], rows[1:], folder, "valid_loss", "min")


def test_an_interrupted_trial_ends_as_an_undisturbed_one(
    learning: Config, rows: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Reports()
    train(learning, rows, tmp_path / "whole", whole, monkeypatch)
    assert [row[EPOCH] for row in whole.rows] == [1, 2, 3, 4]
    losses = [row["valid_loss"] for row in whole.rows]
    assert [row[OBJECTIVE] for row in whole.rows] == list(np.minimum.accumulate(losses))
    assert "valid_accuracy" in whole.rows[0]

    with pytest.raises(StoppedError):
        train(learning, rows, tmp_path / "cut", Reports(stop_after=2), monkeypatch)
    assert not (tmp_path / "cut" / "done.json").exists()
    again = Reports()
    train(learning, rows, tmp_path / "cut", again, monkeypatch)
    assert again.rows == whole.rows, "epochs done before are reported first, from what was kept"


def test_a_finished_trial_is_reported_without_training(
    learning: Config, rows: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Reports(), Reports()
    train(learning, rows, tmp_path, first, monkeypatch)
    monkeypatch.setattr(tune_training, "fit", None)
    train(learning, rows, tmp_path, second, monkeypatch)
    assert first.rows == second.rows
    assert len(read_json(tmp_path / "done.json")) == 4


def test_trials_of_the_same_values_do_not_train_beside_each_other(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among few values two are easily the same; they would write one state."""
    inside, both = threading.Semaphore(1), []

    def train(*_: object) -> None:
        free = inside.acquire(blocking=False)
        both.append(free)
        time.sleep(0.2)
        if free:
            inside.release()

    monkeypatch.setattr(pipeline_tune_training, "train_and_report", train)
    given = ("miun", config2.model_dump_json(), (), (), str(tmp_path), "valid_loss", "min")
    with ThreadPoolExecutor(2) as pool:
        trial = pipeline_tune_training._trial
        waiting = [pool.submit(trial, {"miun.width": 8}, *given) for _ in range(2)]  # type: ignore[arg-type]
        for one in waiting:
            one.result()
    assert both == [True, True]
