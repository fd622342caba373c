"""Ray Train around the plain training loop: what the driver and Ray's controller need.

What a worker does is in `train_worker`, so that the controller starts without its imports.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.train import (
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchTrainer

from geminga import storage
from geminga.config import Config
from geminga.distributed.session import cluster_size
from geminga.errors import GemingaError, InputError
from geminga.networks.losses import Kind
from geminga.sections import TrainingConfig
from geminga.training.state import TrainState, load_state, save_state

logger = logging.getLogger(__name__)

STATE_FOLDER = "state"
FINISHED = "finished"
"""Folder of the state after the last epoch, beside what Ray Train keeps while it trains."""
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
        Where checkpoints are kept; a training that was interrupted there goes on, and one that is
        finished is not done again. The caller removes it when the network is kept elsewhere.
    member : int
        Number of an ``evidence_net`` among those that are averaged.
    callbacks : sequence of UserCallback
        Told of every report.

    Raises
    ------
    InputError
        If the machine has too few cores or no GPU, or the training data cannot be used.
    """
    if storage.exists(folder / FINISHED):
        return load_state(storage.here(folder / FINISHED))
    settings = config.training_of(kind)
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
    # What is made of it may fail, or be killed, before the network is kept.
    save_state(folder / FINISHED, state)
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

    Notes
    -----
    A cluster without a core is waited for: see `cluster_size`.
    """
    if settings.loader_workers and kind != "miun":
        raise InputError(
            f"{kind}_training.loader_workers",
            f"{settings.loader_workers} for a network whose data are held in memory",
            "set it to 0",
        )
    cores, gpus = cluster_size()
    if not cores:
        logger.info("%s: the cluster has no core yet, the training waits for nodes", kind)
        return
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
    # With `min_workers`, Ray Train takes as many cores as there are for up to `workers`.
    if settings.loader_workers and settings.workers + settings.loader_workers > cores:
        raise InputError(
            f"{kind}_training.loader_workers",
            f"{settings.loader_workers} beside {settings.workers} workers on {cores} cores: the "
            "workers would wait for patches that nobody draws",
            f"use {max(cores - settings.workers, 0)} or fewer workers",
        )


def _worker(task: dict[str, Any]) -> None:
    """Train in one worker."""
    from geminga.distributed.train_worker import train

    train(task)
