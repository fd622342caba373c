"""What a worker of Ray Train does: the plain training loop on its share of each batch."""

from __future__ import annotations

import logging
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import Checkpoint
from ray.train.torch import get_device, prepare_model
from torch import Tensor, nn

from geminga.config import Config
from geminga.distributed.ingredients import ingredients
from geminga.distributed.train import STATE_FOLDER
from geminga.errors import InputError
from geminga.logs import show_logs
from geminga.networks.losses import METRICS, Kind
from geminga.sections import TrainingConfig
from geminga.training.loop import EpochReport, fit
from geminga.training.norms import share_norms, sum_over_workers
from geminga.training.state import TrainState, load_state, save_state
from geminga.training.steps import alone

logger = logging.getLogger(__name__)

_LASTING = (
    "No space left", "quota exceeded", "Read-only file system", "Permission denied",
    "ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID",
)  # fmt: skip
"""Signs of a place for checkpoints that will refuse the next one too."""


def train(task: dict[str, Any]) -> None:
    """Train in one worker; every worker reports every checkpoint, the first one saves."""
    show_logs()
    _quiet_ray_train()
    logging.getLogger("geminga.training.loop").setLevel(logging.WARNING)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    config, kind = Config.model_validate_json(task["config"]), task["kind"]
    settings = config.training_of(kind)
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
    """Return the threads of this worker: its share of the cores of its node."""
    here = int(context.get_local_world_size())
    drawing = -(-settings.loader_workers * here // workers)
    return max((_cores_here() - drawing) // here, 1)


def _cores_here() -> int:
    """Return the cores this node gives to Ray: a container sees all of its machine, and has fewer."""
    cores, own = os.cpu_count() or 1, ray.get_runtime_context().get_node_id()
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] == own:
            cores = min(cores, int(node["Resources"].get("CPU", cores)))
    return cores


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
            try:
                ray.train.report(numbers, checkpoint=Checkpoint.from_directory(temporary))
            except OSError as error:
                text = " ".join(str(error).split())
                if any(sign in text for sign in _LASTING):
                    raise InputError(
                        "checkpoint",
                        f"cannot be kept ({text})",
                        "make room where the run is kept, or let it be written there; the same "
                        "command then goes on from the checkpoint before",
                    ) from error
                raise  # a store that is away for a while: Ray Train tries again


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
    return sum_over_workers(values.to(get_device())).cpu()
