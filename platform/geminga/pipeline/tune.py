"""What every tuning does: run its trials, follow them in MLflow, keep the best configuration."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

import geminga
from geminga import storage
from geminga.config import Config, digest
from geminga.distributed.tune import (
    EPOCH,
    OBJECTIVE,
    Report,
    Study,
    TrialFunction,
    TrialResult,
    run_study,
)
from geminga.errors import InputError
from geminga.evaluation.style import save_figure
from geminga.evaluation.tuning_figures import objective_by_setting
from geminga.files import atomic, read_json, write_json, write_parquet
from geminga.pipeline.runner import STAGE_FILE, run_folder
from geminga.pipeline.taking import take_run
from geminga.pipeline.tracked import TUNINGS
from geminga.pipeline.tune_space import inside, with_values
from geminga.sections.tuning import Tuning, Value
from geminga.tracking import Child, Tracker

logger = logging.getLogger(__name__)

ORIGIN_FILE, RESULT_FILE = "tuning.json", "result.json"
TABLE, TABLE_TEXT, FIGURE = "trials.parquet", "trials.csv", "trials.png"


@dataclass(frozen=True)
class Goal:
    """What is sought: the name and the words for a figure, and whether it should be low or high."""

    name: str
    words: str
    mode: Literal["min", "max"] = "max"

    def best(self, results: Sequence[TrialResult]) -> TrialResult | None:
        """Return the best trial, the first of equals; None if none has an objective."""
        measured = [r for r in results if math.isfinite(r.objective)]
        sign = 1.0 if self.mode == "min" else -1.0
        return min(measured, key=lambda r: (sign * r.objective, r.number), default=None)


@dataclass(frozen=True)
class Outcome:
    """What a tuning found.

    Attributes
    ----------
    config : Path
        The best configuration.
    best, before : float
        Objective of the best trial, and of the configuration the search began with (NaN where it
        lies outside the space).
    number, trials : int
        The best trial, and how many there were.
    """

    config: Path
    goal: str
    best: float
    before: float
    number: int
    trials: int

    def text(self) -> str:
        """Return the figures in words."""
        was = "not in the space" if math.isnan(self.before) else f"{self.before:.4f}"
        return (
            f"{self.goal}: {self.best:.4f} (trial {self.number}; before: {was}; "
            f"{self.trials} trials)"
        )


def tuning_folder(config: Config, name: str) -> Path:
    """Return the folder of a tuning inside that of its run."""
    return run_folder(config) / TUNINGS / name


def tuned_name(config: Config, tuning: Tuning) -> str:
    """Return the name of the best configuration: its runs have a folder of their own."""
    return f"{config.name}_{tuning.name}"


def run_tuning(
    config: Config,
    tuning: Tuning,
    path: Path,
    goal: Goal,
    made_of: Sequence[str],
    study: Callable[[Path], Study],
    trial: TrialFunction,
) -> Outcome:
    """Run the trials that are left, then write the table, the figure and the best configuration.

    Parameters
    ----------
    config : Config
        The settings the search starts from.
    tuning : Tuning
    path : Path
        Its file, for errors and notes.
    goal : Goal
    made_of : sequence of str
        Keys of the stages whose results trials read.
    study : callable
        Makes the study, given the folder it works in.
    trial : callable
        See `run_study`.

    Raises
    ------
    InputError
        If the folder holds another search, or no trial has come to an end.
    """
    folder = tuning_folder(config, tuning.name)
    if storage.exists(folder / RESULT_FILE):
        check_same(config, tuning, path, made_of)
        outcome = _outcome(folder, config, tuning)
        logger.info("%s: finished before, %s", tuning.name, outcome.text())
        return outcome
    named = config.model_copy(update={"name": tuned_name(config, tuning)})
    with take_run(folder, named, {}, STAGE_FILE), Tracker.open(named, folder) as tracker:
        check_same(config, tuning, path, made_of)
        if not storage.exists(folder / ORIGIN_FILE):
            write_json(folder / ORIGIN_FILE, _origin(config, tuning, made_of))
        watch = _Following(tracker, tuning.trials, goal)
        results = run_study(study(folder), trial, watch)
        watch.settle(results)
        best = goal.best(results)
        if best is None:
            raise InputError(
                str(path),
                f"none of {len(results)} trials came to an end ({why_none(results)})",
                f"mend the space, then remove {folder}",
            )
        table = trial_table(results)
        write_parquet(folder / TABLE, table)
        with atomic(folder / TABLE_TEXT) as temporary:
            table.to_csv(temporary, index=False)
        figure = objective_by_setting(
            table, list(tuning.space), tuning.space, goal.words, goal.mode
        )
        save_figure(figure, folder / FIGURE)
        start = inside(tuning.space, config)
        before = next((r.objective for r in results if r.values == start), math.nan)
        tuned = folder / f"{tuned_name(config, tuning)}.yaml"
        note = {
            "number": best.number,
            "trials": len(results),
            "best": best.objective,
            "before": None if math.isnan(before) else before,
            "goal": goal.words,
            "values": best.values,
        }
        outcome = Outcome(tuned, goal.words, best.objective, before, best.number, len(results))
        write_tuned(tuned, config, tuning, best, outcome)
        tracker.parent_metrics({f"best_{k}": v for k, v in best.metrics.items() if k != EPOCH})
        tracker.parent_metrics({"before_objective": before, "best_trial": float(best.number)})
        for name in (TABLE, TABLE_TEXT, FIGURE, tuned.name):
            tracker.parent_artifact(folder / name)
        tracker.tree(note, RESULT_FILE)
        # Last: what is finished has all its files.
        write_json(folder / RESULT_FILE, note)
    logger.info("%s; configuration in %s", outcome.text(), tuned)
    return outcome


def why_none(results: Sequence[TrialResult]) -> str:
    """Say why no trial has an objective: what the first died of, else the end of the time."""
    errors = [result.error for result in results if result.error]
    return errors[0] if errors else "the time budget ended before the first"


def trial_table(results: Sequence[TrialResult]) -> pd.DataFrame:
    """Return a row per trial: number, status, objective, values, the other figures, the error."""
    rows = []
    for result in results:
        figures = {k: v for k, v in result.metrics.items() if k != OBJECTIVE}
        rows.append(
            {
                "trial": result.number,
                "status": result.status,
                OBJECTIVE: result.objective,
                **result.values,
                **figures,
                "error": result.error,
            }
        )
    return pd.DataFrame(rows)


def write_tuned(
    path: Path, config: Config, tuning: Tuning, best: TrialResult, outcome: Outcome
) -> None:
    """Write a complete configuration with the values of a trial, and where they come from.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    tuned = with_values(config, best.values, f"trial {best.number}")
    tree = {**tuned.model_dump(mode="json"), "name": tuned_name(config, tuning)}
    header = [
        f"Configuration {config.name} ({config.hash()}) with the best values of {tuning.name}.",
        outcome.text(),
        *(f"{key} = {value}" for key, value in best.values.items()),
        f"geminga {geminga.__version__}, seed {tuning.seed}",
    ]
    text = "".join(f"# {line}\n" for line in header) + yaml.safe_dump(tree, sort_keys=False)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _outcome(folder: Path, config: Config, tuning: Tuning) -> Outcome:
    tree = read_json(folder / RESULT_FILE)
    before = math.nan if tree["before"] is None else float(tree["before"])
    tuned = folder / f"{tuned_name(config, tuning)}.yaml"
    return Outcome(tuned, tree["goal"], tree["best"], before, tree["number"], tree["trials"])


def check_same(
    config: Config, tuning: Tuning, path: Path, made_of: Sequence[str] | None = None
) -> None:
    """Refuse to mix the trials of two searches.

    Parameters
    ----------
    config, tuning, path, made_of
        As in `run_tuning`; without `made_of` the data are not compared.

    Raises
    ------
    InputError
        If the folder holds trials of another search.
    """
    folder = tuning_folder(config, tuning.name)
    if not storage.exists(folder / ORIGIN_FILE):
        return
    before, now = read_json(folder / ORIGIN_FILE), _origin(config, tuning, made_of or ())
    words = {"tuning": "tuning file", "config_hash": "configuration", "made_of": "data"}
    for key in words if made_of is not None else ("tuning", "config_hash"):
        if before.get(key) != now[key]:
            raise InputError(
                str(path),
                f"{folder} holds trials of another {words[key]}",
                "give this search another name (key 'name'), or remove that folder",
            )


def _origin(config: Config, tuning: Tuning, made_of: Sequence[str]) -> dict[str, Any]:
    return {
        "tuning": tuning.model_dump(mode="json"),
        "config_hash": config.hash(),
        "made_of": digest(list(made_of)),
    }


class _Following:
    """Keeps MLflow and the log up to date while trials go on."""

    def __init__(self, tracker: Tracker, trials: int, goal: Goal) -> None:
        self.tracker, self.trials, self.goal, self.ends = tracker, trials, goal, 0
        self.children: dict[int, Child] = {}
        self.last: dict[int, float] = {}
        self.told: set[int] = set()

    def _child(self, number: int, values: Mapping[str, Value]) -> Child:
        if number not in self.children:
            self.children[number] = self.tracker.child(f"trial_{number:04d}", values)
        return self.children[number]

    def reported(self, number: int, values: Mapping[str, Value], row: Report) -> None:
        self.last[number] = row.get(OBJECTIVE, math.nan)
        figures = {k: v for k, v in row.items() if k != EPOCH}
        self._child(number, values).metrics(figures, int(row[EPOCH]))

    def ended(self, number: int, values: Mapping[str, Value], error: str) -> None:
        self._child(number, values).end(bool(error))
        self.told.add(number)
        shown = ", ".join(f"{key} {_short(value)}" for key, value in values.items())
        figure = f"{self.goal.name} {self.last.get(number, math.nan):.4f}"
        if error:
            figure = f"failed: {error}"
        self.ends += 1
        logger.info("[%d/%d] trial %d: %s (%s)", self.ends, self.trials, number, figure, shown)

    def settle(self, results: Sequence[TrialResult]) -> None:
        """Say of trials that ended before a kill, or with the time, what was not said then."""
        for result in results:
            if result.number not in self.told:
                if EPOCH in result.metrics:
                    self.reported(result.number, result.values, result.metrics)
                self._child(result.number, result.values).end(result.status == "failed")


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
