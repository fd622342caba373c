"""A training as a trial of a tuning: every epoch is reported, a killed one goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from ray.train import Checkpoint, UserCallback
from ray.tune.integration.ray_train import TuneReportCallback

from geminga import storage
from geminga.config import Config
from geminga.distributed.ingredients import ingredients
from geminga.distributed.train import train_network
from geminga.distributed.tune import EPOCH, OBJECTIVE, Report, report
from geminga.files import read_json, write_json
from geminga.networks.losses import METRICS, Kind
from geminga.training.loop import EpochReport, fit
from geminga.training.state import load_state, save_state

_STATE = "state"
_ROWS = "rows.json"
_DONE = "done.json"


@dataclass
class BestSoFar:
    """Adds to the figures of each epoch the best objective up to it."""

    objective: str
    mode: Literal["min", "max"]
    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the row of an epoch, which is kept."""
        best = min if self.mode == "min" else max
        value = float(figures[self.objective])
        if self.rows:
            value = best(value, self.rows[-1][OBJECTIVE])
        self.rows.append({**{k: float(v) for k, v in figures.items()}, OBJECTIVE: value})
        return self.rows[-1]


def train_and_report(
    kind: Kind,
    config: Config,
    train: Sequence[Path],
    valid: Sequence[Path],
    folder: Path,
    objective: str,
    mode: Literal["min", "max"],
) -> None:
    """Train a network inside a trial; report every epoch, those of an earlier try first.

    One worker trains in the process of the trial itself: it needs no more than its core, and there
    is no second group of processes to wait for. Several are launched with Ray Train.

    Parameters
    ----------
    kind, config, train, valid
        See `train_network`.
    folder : Path
        Of this trial alone; a training that was interrupted there goes on.
    objective, mode : str
        Which figure of an epoch counts, and whether it should be low (``min``) or high.

    Raises
    ------
    InputError
        If the training data cannot be used or the loss is not finite.
    """
    rows = BestSoFar(objective, mode)
    if storage.exists(folder / _DONE):
        for row in read_json(storage.here(folder / _DONE)):
            report(rows.add(_figures(row)))
        return
    if config.training_of(kind).workers > 1:
        _train_many(kind, config, train, valid, folder, rows)
    else:
        _train_one(kind, config, train, valid, folder, rows)
    write_json(folder / _DONE, rows.rows)


def _train_one(
    kind: Kind,
    config: Config,
    train: Sequence[Path],
    valid: Sequence[Path],
    folder: Path,
    rows: BestSoFar,
) -> None:
    settings = config.training_of(kind)
    torch.set_num_threads(max(settings.threads, 1))
    # Its own core reads the patches too, in the same order: loaders would wait for cores that the
    # other trials hold.
    section = f"{kind}_training"
    alone = config.model_copy(update={section: settings.model_copy(update={"loader_workers": 0})})
    parts = ingredients(kind, alone, train, valid)
    state = None
    if storage.exists(folder / _STATE):
        state = load_state(storage.here(folder / _STATE))
        for row in state.history:
            report(rows.add(_figures(row)))

    def keep(epoch: EpochReport) -> None:
        save_state(folder / _STATE, epoch.state)
        report(rows.add(_figures(epoch.numbers())))

    fit(
        parts.model,
        parts.train,
        parts.valid,
        settings,
        loss=parts.loss,
        metrics=METRICS[kind],
        on_epoch=keep,
        on_checkpoint=lambda now: save_state(folder / _STATE, now),
        state=state,
        device="cuda" if settings.use_gpu else "cpu",
        seed=parts.seed,
    )


def _train_many(
    kind: Kind,
    config: Config,
    train: Sequence[Path],
    valid: Sequence[Path],
    folder: Path,
    rows: BestSoFar,
) -> None:
    if storage.exists(folder / _ROWS):
        for row in read_json(storage.here(folder / _ROWS)):
            report(rows.add(_figures(row)))
    callback = _PassOn(rows, folder)
    state = train_network(kind, config, train, valid, folder, callbacks=[callback])
    rows.rows = []
    for row in state.history:
        rows.add(_figures(row))
    if read_json(storage.here(folder / _ROWS)) != rows.rows:
        # A kill came between the end of an epoch and its report.
        report(rows.rows[-1])


class _PassOn(UserCallback):
    """Hands what Ray Train's workers report to Tune; lives in the process that leads them."""

    def __init__(self, rows: BestSoFar, folder: Path) -> None:
        self.rows, self.folder = rows, folder
        self.tune = TuneReportCallback()  # type: ignore[no-untyped-call]

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """Pass on the first worker's figures: all report the same."""
        last = self.rows.rows[-1][EPOCH] if self.rows.rows else 0.0
        if self.rows.objective not in metrics[0] or metrics[0][EPOCH] <= last:
            return  # a checkpoint within an epoch, or an epoch that was reported
        row = self.rows.add(_figures(metrics[0]))
        write_json(self.folder / _ROWS, self.rows.rows)
        self.tune.after_report(run_context, [row], None)


def _figures(row: Report) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key != OBJECTIVE}
