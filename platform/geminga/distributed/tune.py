"""Ray Tune: trials that Optuna suggests, weak ones stopped early, gone on with after a kill."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import optuna
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from geminga import storage
from geminga.distributed.session import cluster_size
from geminga.errors import InputError
from geminga.logs import show_logs
from geminga.sections.tuning import Parameter, Value

logger = logging.getLogger(__name__)

OBJECTIVE = "objective"
"""The number every report of a trial carries: its best so far."""
EPOCH = "epoch"
"""Counts a trial's reports, from 1. Tune's own count starts anew after a kill."""
MAX_FAILURES = 2
"""How often a trial whose process was lost is started again."""
_EXPERIMENT = "trials"
_SNAPSHOT_S = "1"
_WAITING_BYTES = 2**20

Status = Literal["finished", "stopped early", "failed"]
Report = Mapping[str, float]
TrialFunction = Callable[[dict[str, Value]], None]
"""Measures settings in a process of its own; calls `report` with every result."""


class Watch(Protocol):
    """Told of trials while they go on, in the process that leads the search."""

    def reported(self, number: int, values: Mapping[str, Value], row: Report) -> None:
        """A trial has reported a row."""

    def ended(self, number: int, values: Mapping[str, Value], error: str) -> None:
        """A trial reports no more; `error` is empty unless it failed."""


@dataclass(frozen=True)
class EarlyStop:
    """When trials that fall behind are stopped (asynchronous successive halving)."""

    grace_epochs: int
    epochs: int
    reduction: float


@dataclass(frozen=True)
class Study:
    """A search for the settings with the best objective.

    Attributes
    ----------
    folder : Path
        Of Tune's own state; a study that was interrupted there goes on.
    space : mapping
        Parameters by key.
    integers : frozenset of str
        Keys whose numbers are whole.
    mode : str
        ``min`` or ``max``: which objective is best.
    trials, concurrency, seed : int
    minutes : float, optional
        Time budget.
    first : mapping, optional
        Values of the first trial.
    early_stop : EarlyStop, optional
    cores, gpus : float
        That Tune holds for each trial; none for one that launches workers of its own.
    """

    folder: Path
    space: Mapping[str, Parameter]
    integers: frozenset[str]
    mode: Literal["min", "max"]
    trials: int
    concurrency: int
    seed: int
    minutes: float | None = None
    first: Mapping[str, Value] | None = None
    early_stop: EarlyStop | None = None
    cores: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial; `metrics` are those of its last report."""

    number: int
    values: dict[str, Value]
    status: Status
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def objective(self) -> float:
        """The objective; NaN of a trial that failed."""
        return self.metrics.get(OBJECTIVE, float("nan"))


def report(row: Report) -> None:
    """Hand a row with `OBJECTIVE` and `EPOCH` to Tune, from inside a trial."""
    tune.report(dict(row))


def distributions(
    space: Mapping[str, Parameter], integers: frozenset[str]
) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return Optuna's distributions of a space; bounds belong to it."""
    made: dict[str, optuna.distributions.BaseDistribution] = {}
    for key, parameter in space.items():
        if parameter.values is not None:
            made[key] = optuna.distributions.CategoricalDistribution(parameter.values)
            continue
        if parameter.low is None or parameter.high is None:
            raise ValueError(f"{key} has neither values nor bounds")
        if key in integers:
            made[key] = optuna.distributions.IntDistribution(
                int(parameter.low), int(parameter.high), log=parameter.log
            )
        else:
            made[key] = optuna.distributions.FloatDistribution(
                float(parameter.low), float(parameter.high), log=parameter.log
            )
    return made


def check_cores(where: str, concurrency: int, workers: int, gpus_each: int) -> None:
    """Refuse more trials at a time than the cluster has cores or GPUs for.

    Trials that hold some of their workers and wait for the others would wait for each other. A
    cluster without a core is waited for: see `cluster_size`.

    Raises
    ------
    InputError
    """
    cores, gpus = cluster_size()
    if not cores:
        logger.warning(
            "the cluster has no core yet: trials wait for nodes, and it must be able to bring "
            "%d cores at a time",
            concurrency * workers,
        )
        return
    for there, name, each in ((cores, "cores", 1), (gpus, "GPUs", gpus_each)):
        wanted = concurrency * workers * each
        if wanted > there:
            raise InputError(
                f"{where}: concurrency",
                f"{concurrency} trials of {workers} workers on {there} {name}",
                f"use {max(there // (workers * each), 1)} or less"
                if there >= workers * each
                else "lower the workers of the training",
            )


def run_study(study: Study, trial: TrialFunction, watch: Watch) -> list[TrialResult]:
    """Run the trials of a study, or those that are left; return all, in their order.

    Parameters
    ----------
    study : Study
    trial : callable
        Called in a process of its own with the values of a trial. It should keep what it has
        finished by its values: a trial that was interrupted is called again with the same.
    watch : Watch

    Raises
    ------
    InputError
        If Tune's state in the folder cannot be read.
    """
    # A kill loses what came after the last snapshot.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = _SNAPSHOT_S
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # prints a table even if told not to
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by `watch`
    resources = {"CPU": study.cores, "GPU": study.gpus}
    if not any(resources.values()):
        # A trial that only waits takes no core from its workers, but a placement needs something.
        resources = {"memory": _WAITING_BYTES}
    trainable = tune.with_resources(partial(_call, trial=trial), resources)
    root, filesystem = storage.train_storage(study.folder)
    path = f"{root}/{_EXPERIMENT}"
    with warnings.catch_warnings():
        # A trial that is taken up again repeats its first rows, which Optuna knows already.
        warnings.filterwarnings("ignore", message="The reported value is ignored")
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if tune.Tuner.can_restore(path, storage_filesystem=filesystem):
            logger.info("the search goes on where it stopped: %s", path)
            tuner = tune.Tuner.restore(
                path,
                trainable=trainable,
                resume_errored=True,
                storage_filesystem=filesystem,
            )
        else:
            tuner = tune.Tuner(
                trainable, tune_config=_tune_config(study), run_config=_run_config(study)
            )
        _WATCHING.append(watch)
        try:
            results = tuner.fit()
        finally:
            _WATCHING.pop()
    made = [_result(results[i], study) for i in range(len(results))]
    return sorted(made, key=lambda result: result.number)


def _call(values: dict[str, Any], trial: TrialFunction) -> None:
    show_logs()
    trial(values)


def _tune_config(study: Study) -> tune.TuneConfig:
    search = OptunaSearch(
        distributions(study.space, study.integers),
        metric=OBJECTIVE,
        mode=study.mode,
        seed=study.seed,
        points_to_evaluate=[dict(study.first)] if study.first else None,
    )
    scheduler: TrialScheduler | None = None
    if study.early_stop is not None:
        scheduler = AsyncHyperBandScheduler(
            time_attr=EPOCH,
            metric=OBJECTIVE,
            mode=study.mode,
            grace_period=study.early_stop.grace_epochs,
            max_t=study.early_stop.epochs,
            reduction_factor=study.early_stop.reduction,
        )
    return tune.TuneConfig(
        # In batches without early stop: what is suggested then depends on the concurrency, but
        # not on which of the trials at a time ends first.
        search_alg=ConcurrencyLimiter(search, study.concurrency, batch=study.early_stop is None),
        scheduler=scheduler,
        num_samples=study.trials,
        time_budget_s=None if study.minutes is None else 60.0 * study.minutes,
        trial_dirname_creator=_folder_name,
    )


def _run_config(study: Study) -> tune.RunConfig:
    root, filesystem = storage.train_storage(study.folder)
    return tune.RunConfig(
        name=_EXPERIMENT,
        storage_path=root,
        storage_filesystem=filesystem,
        failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
        callbacks=[_Callback()],
        verbose=0,
    )


def _number(trial: Trial) -> int:
    """Return which suggestion a trial is, from 0: its identifier is drawn."""
    return int(trial.experiment_tag.split("_")[0]) - 1


def _folder_name(trial: Trial) -> str:
    return f"{_number(trial):05d}_{trial.trial_id}"


_WATCHING: list[Watch] = []
"""Who is told. Tune keeps its callbacks in files; what they tell belongs to this process alone."""


class _Callback(tune.Callback):
    """Passes on what Tune says to who watches."""

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: Any, **info: Any
    ) -> None:
        """Pass on a row."""
        _WATCHING[-1].reported(_number(trial), trial.config, _numbers(result))

    def on_trial_complete(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any
    ) -> None:
        """Pass on the end of a trial."""
        _WATCHING[-1].ended(_number(trial), trial.config, "")

    def on_trial_error(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any
    ) -> None:
        """Pass on a failure."""
        error = trial.get_error()
        line = "its process was lost" if error is None else _line(error)
        _WATCHING[-1].ended(_number(trial), trial.config, line)


_OF_TUNE = ("timestamp", "time_", "pid", "iterations_", "training_iteration", "done")


def _numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what a trial reported, without what Tune adds."""
    return {
        key: float(value)
        for key, value in result.items()
        if isinstance(value, int | float) and not key.startswith(_OF_TUNE)
    }


def _result(result: tune.Result, study: Study) -> TrialResult:
    metrics = _numbers(result.metrics or {})
    number = int(Path(result.path).name.split("_")[0])
    values = {key: (result.config or {})[key] for key in study.space}
    if result.error is not None:
        return TrialResult(number, values, "failed", metrics, _line(result.error))
    stop = study.early_stop
    # By the early stop, by its own patience, or by the end of the time.
    early = OBJECTIVE not in metrics or (stop is not None and metrics[EPOCH] < stop.epochs)
    return TrialResult(number, values, "stopped early" if early else "finished", metrics)


def _line(error: BaseException) -> str:
    """Return what a trial died of: the last line of what Ray wraps around it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
