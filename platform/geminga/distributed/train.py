"""Ray Train around the plain training loop."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchTrainer, get_device, prepare_model
from torch import Tensor, nn

from geminga import storage
from geminga.config import Config
from geminga.distributed.ingredients import ingredients, settings_of
from geminga.errors import GemingaError, InputError
from geminga.logs import show_logs
from geminga.networks.losses import METRICS, Kind
from geminga.sections import TrainingConfig
from geminga.training.loop import EpochReport, fit
from geminga.training.norms import share_norms
from geminga.training.state import TrainState, load_state, save_state
from geminga.training.steps import alone

logger = logging.getLogger(__name__)

STATE_FOLDER = "state"
MAX_FAILURES = 2
"""Worker losses after which a training gives up; each resumes at the last checkpoint."""


def train_network(
    kind: Kind,
    config: Config,
    train: Sequence[Path],
    valid: Sequence[Path],
    folder: Path,
    member: int = 0,
    callbacks: Sequence[UserCallback] = (),
) -> TrainState:
    """Train a network with Ray Train; return the state after the last epoch.

    Parameters
    ----------
    kind : str
        ``miun``, ``ranker``, ``classifier`` or ``evidence_net``.
    config : Config
        Settings of the run.
    train, valid : sequence of Path
        Files of the training and of the validation set, one per sky.
    folder : Path
        Where checkpoints are kept; a training that was interrupted there goes on.
    member : int
        Number of an ``evidence_net`` among those that are averaged.
    callbacks : sequence of UserCallback
        Told of every report.

    Raises
    ------
    InputError
        If the machine has too few cores or no GPU, or the training data cannot be used.
    """
    settings = settings_of(kind, config)
    check_resources(kind, settings)
    # A worker that reports an epoch waits until it is asked: by default every two seconds, which
    # is longer than an epoch of a small network.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    storage_path, filesystem = storage.train_storage(folder)
    least, most = settings.min_workers or settings.workers, settings.workers
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "kind": kind,
            "config": config.model_dump_json(),
            "train": [str(p.resolve()) for p in train],
            "valid": [str(p.resolve()) for p in valid],
            "member": member,
        },
        scaling_config=ScalingConfig(
            num_workers=most if least == most else (least, most),  # type: ignore[arg-type]
            use_gpu=settings.use_gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if settings.use_gpu else {"CPU": 1},
        ),
        run_config=RunConfig(
            name=kind,
            storage_path=storage_path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            logging_config=LoggingConfig(log_level="WARNING"),  # type: ignore[call-arg]
            callbacks=[*callbacks, _NoSecondTry()],  # type: ignore[list-item]
        ),
    )
    try:
        result = trainer.fit()
    except ControllerError as error:
        if isinstance(error.controller_failure, GemingaError):
            raise error.controller_failure from error
        raise
    if result.checkpoint is None:
        raise RuntimeError(f"the training of {kind} left no checkpoint")
    with result.checkpoint.as_directory() as checkpoint:
        state = load_state(Path(checkpoint) / STATE_FOLDER)
    storage.remove(folder / kind)
    return state


class _NoSecondTry(UserCallback):
    """Ends a training when a worker fails for a reason the user can mend: it would fail again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, GemingaError):
                raise ControllerError(error)


def check_resources(kind: Kind, settings: TrainingConfig) -> None:
    """Refuse a training that the cluster has no room for: it would wait for ever.

    Raises
    ------
    InputError
        If the cluster has fewer cores or GPUs than the training takes.
    """
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    least = settings.min_workers or settings.workers
    if least > cores:
        raise InputError(
            f"{kind}_training.{'min_workers' if settings.min_workers else 'workers'}",
            f"{least} on {cores} cores",
            f"use {cores} or less",
        )
    if settings.use_gpu and least > gpus:
        raise InputError(
            f"{kind}_training.use_gpu",
            f"{least} workers on {gpus} GPUs",
            "set it to false, or use a machine with a GPU for each worker",
        )
    if settings.loader_workers and kind != "miun":
        raise InputError(
            f"{kind}_training.loader_workers",
            f"{settings.loader_workers} for a network whose data are held in memory",
            "set it to 0",
        )
    # With `min_workers`, Ray Train takes as many cores as there are for up to `workers`.
    if settings.loader_workers and settings.workers + settings.loader_workers > cores:
        raise InputError(
            f"{kind}_training.loader_workers",
            f"{settings.loader_workers} beside {settings.workers} workers on {cores} cores: the "
            "workers would wait for patches that nobody draws",
            f"use {max(cores - settings.workers, 0)} or fewer workers",
        )


def _worker(task: dict[str, Any]) -> None:
    """Train in one worker; every worker reports every checkpoint, the first one saves."""
    show_logs()
    _quiet_ray_train()
    logging.getLogger("geminga.training.loop").setLevel(logging.WARNING)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    config, kind = Config.model_validate_json(task["config"]), task["kind"]
    settings = settings_of(kind, config)
    if not settings.use_gpu:
        torch.set_num_threads(settings.threads or _threads(settings, context, workers))
    train, valid = [Path(p) for p in task["train"]], [Path(p) for p in task["valid"]]
    parts = ingredients(kind, config, train, valid, rank, workers, task["member"])
    checkpoint = ray.train.get_checkpoint()
    state = None
    if checkpoint is not None:
        with checkpoint.as_directory() as stored:
            state = load_state(Path(stored) / STATE_FOLDER)
        if rank == 0:
            logger.info(
                "%s goes on after epoch %d, step %d, with %d workers",
                kind, state.epoch, state.step, workers,
            )  # fmt: skip
    report = _Reporter(rank, settings.epochs)
    fit(
        parts.model,
        parts.train,
        parts.valid,
        settings,
        loss=parts.loss,
        metrics=METRICS[kind],
        on_epoch=report.epoch,
        on_checkpoint=report.step,
        state=state,
        device=get_device(),
        seed=parts.seed,
        rank=rank,
        workers=workers,
        wrap_model=prepare_model if workers == 1 else partial(_shared, kind),
        reduce_sum=alone if workers == 1 else _sum_over_workers,
    )


def _threads(settings: TrainingConfig, context: Any, workers: int) -> int:
    """Return the threads of this worker: its share of the machine's cores."""
    here = int(context.get_local_world_size())
    drawing = -(-settings.loader_workers * here // workers)
    return max(((os.cpu_count() or 1) - drawing) // here, 1)


def _quiet_ray_train() -> None:
    """Leave out Ray Train's lines on each report it passes on: the epoch's own line says it.

    Its loggers are named after its files, so no logging configuration of Ray's reaches them; what
    they say ends in the handlers of the root logger.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or "/ray/train/" not in record.name


class _Reporter:
    """Hands states to Ray Train; all workers must report, the first one's is kept."""

    def __init__(self, rank: int, epochs: int) -> None:
        self.rank, self.epochs = rank, epochs

    def epoch(self, done: EpochReport) -> None:
        if self.rank == 0:
            left = (self.epochs - done.epoch) * done.seconds
            logger.info(
                "epoch %d/%d: loss %.5f, validation %.5f, %.0f s, about %.0f s left",
                done.epoch, self.epochs, done.train_loss, done.valid_loss, done.seconds, left,
            )  # fmt: skip
        self._report(done.numbers(), done.state)

    def step(self, state: TrainState) -> None:
        if self.rank == 0:
            logger.info("epoch %d: checkpoint after step %d", state.epoch + 1, state.step)
        self._report({"epoch": float(state.epoch), "step": float(state.step)}, state)

    def _report(self, numbers: dict[str, float], state: TrainState) -> None:
        if self.rank != 0:
            ray.train.report(numbers)
            return
        with tempfile.TemporaryDirectory() as temporary:
            save_state(Path(temporary) / STATE_FOLDER, state)
            ray.train.report(numbers, checkpoint=Checkpoint.from_directory(temporary))


def _shared(kind: Kind, model: nn.Module) -> nn.Module:
    """Return a network that computes with its like in the other workers."""
    wrapped: nn.Module = prepare_model(
        share_norms(model),
        # A branch of which the data hold nothing has no gradient.
        parallel_strategy_kwargs={"find_unused_parameters": kind == "evidence_net"},
    )
    return wrapped


def _sum_over_workers(values: Tensor) -> Tensor:
    """Return the sum of a float64 vector over the workers."""
    total = values.clone().to(get_device())
    torch.distributed.all_reduce(total)
    return total.cpu()
