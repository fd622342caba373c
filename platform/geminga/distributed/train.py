"""Ray Train around the plain training loop."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
)
from ray.train.torch import TorchTrainer, get_device, prepare_model
from torch import Tensor, nn

from geminga.classes import with_fake
from geminga.classification import samples
from geminga.classification.class_training import ClassSamples, member_ingredients
from geminga.classification.evidence import Evidence
from geminga.classification.store import load_samples
from geminga.config import Config
from geminga.errors import InputError
from geminga.localisation.features import feature_names
from geminga.logs import show_logs
from geminga.networks.build import build_classifier, build_miun, build_ranker
from geminga.networks.losses import METRICS, Kind, Measure, build_loss
from geminga.sections import TrainingConfig
from geminga.training.batches import Batch
from geminga.training.loop import EpochReport, fit
from geminga.training.patches import PatchReader
from geminga.training.rows import RowReader
from geminga.training.state import TrainState, load_state, save_state

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"
MAX_FAILURES = 2
"""Worker losses after which a training gives up; each resumes at the last finished epoch."""


def train_network(
    kind: Kind, config: Config, train: list[Path], valid: list[Path], folder: Path, member: int = 0
) -> TrainState:
    """Train a network with Ray Train; return the state after the last epoch.

    Parameters
    ----------
    kind : str
        ``miun``, ``ranker``, ``classifier`` or ``evidence_net``.
    config : Config
        Settings of the run.
    train, valid : list of Path
        Files of the training and of the validation set, one per sky.
    folder : Path
        Where checkpoints are kept; a training that was interrupted there goes on.
    member : int
        Number of an ``evidence_net`` among those that are averaged.

    Raises
    ------
    InputError
        If the machine has too few cores or no GPU, or the training data cannot be used.
    """
    settings = settings_of(kind, config)
    _check_resources(kind, settings)
    # A worker that reports an epoch waits until it is asked: by default every two seconds, which
    # is longer than an epoch of a small network.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
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
            num_workers=settings.workers,
            use_gpu=settings.use_gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if settings.use_gpu else {"CPU": 1},
        ),
        run_config=RunConfig(
            name=kind,
            storage_path=str(folder.resolve()),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            logging_config=LoggingConfig(log_level="WARNING"),  # type: ignore[call-arg]
        ),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise RuntimeError(f"the training of {kind} left no checkpoint")
    with result.checkpoint.as_directory() as checkpoint:
        state = load_state(Path(checkpoint) / STATE_FILE)
    shutil.rmtree(folder / kind, ignore_errors=True)
    return state


def settings_of(kind: Kind, config: Config) -> TrainingConfig:
    """Return the training section of a network."""
    sections = {
        "miun": config.miun_training,
        "ranker": config.ranker_training,
        "classifier": config.classifier_training,
        "evidence_net": config.evidence_net_training,
    }
    return sections[kind]


def _check_resources(kind: Kind, settings: TrainingConfig) -> None:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if settings.workers > cores:
        raise InputError(
            f"{kind}_training.workers",
            f"{settings.workers} on {cores} cores",
            f"use {cores} or less",
        )
    if settings.use_gpu and settings.workers > gpus:
        raise InputError(
            f"{kind}_training.use_gpu",
            f"{settings.workers} workers on {gpus} GPUs",
            "set it to false, or use a machine with a GPU for each worker",
        )


def _worker(task: dict[str, Any]) -> None:
    """Train in one worker; every worker reports every epoch, the first one saves."""
    show_logs()
    _quiet_ray_train()
    logging.getLogger("geminga.training.loop").setLevel(logging.WARNING)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    config, kind = Config.model_validate_json(task["config"]), task["kind"]
    settings = settings_of(kind, config)
    if not settings.use_gpu:
        torch.set_num_threads(settings.threads or max((os.cpu_count() or 1) // workers, 1))
    train, valid = [Path(p) for p in task["train"]], [Path(p) for p in task["valid"]]
    parts = _ingredients(kind, config, train, valid, rank, workers, task["member"])
    checkpoint = ray.train.get_checkpoint()
    state = None
    if checkpoint is not None:
        with checkpoint.as_directory() as stored:
            state = load_state(Path(stored) / STATE_FILE)
    fit(
        parts.model,
        parts.train,
        parts.valid,
        settings,
        loss=parts.loss,
        metrics=METRICS[kind],
        on_epoch=_reporter(rank, settings.epochs),
        state=state,
        device=get_device(),
        seed=parts.seed,
        rank=rank,
        wrap_model=prepare_model,
        reduce_mean=_mean_over_workers if workers > 1 else _same,
    )


def _quiet_ray_train() -> None:
    """Leave out Ray Train's lines on each report it passes on: the epoch's own line says it.

    Its loggers are named after its files, so no logging configuration of Ray's reaches them; what
    they say ends in the handlers of the root logger.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or "/ray/train/" not in record.name


@dataclass(frozen=True)
class _Ingredients:
    """A network, one worker's training and validation batches, the loss, the seed of the loop."""

    model: nn.Module
    train: Callable[[int], Iterable[Batch]]
    valid: Callable[[], Iterable[Batch]]
    loss: Measure
    seed: int


def _ingredients(
    kind: Kind,
    config: Config,
    train: list[Path],
    valid: list[Path],
    rank: int,
    workers: int,
    member: int,
) -> _Ingredients:
    if kind == "evidence_net":
        names = with_fake(config.classes)
        shown, held = class_samples(train, config), class_samples(valid, config)
        return _Ingredients(*member_ingredients(shown, held, config, names, member, rank, workers))
    loss = build_loss(settings_of(kind, config).loss, kind)
    if kind == "miun":
        reader = PatchReader(train, config, rank, workers)
        checker = PatchReader(valid, config, rank, workers)
        return _Ingredients(build_miun(config), reader.train, checker.valid, loss, config.seed)
    if kind == "ranker":
        features = feature_names(len(config.channels))
        size = config.ranker_training.batch_size
        rows = RowReader(train, features, size, config.seed, rank, workers)
        model = build_ranker(config, len(features))
        model.standardise(rows.features)
        held_out = RowReader(valid, features, size, config.seed, rank, workers)
        return _Ingredients(model, rows.train, held_out.valid, loss, config.seed)
    images = samples.SourceSamples.join([load_samples(p)[0] for p in train])
    checked = samples.SourceSamples.join([load_samples(p)[0] for p in valid])
    return _Ingredients(
        build_classifier(config),
        lambda epoch: samples.train_batches(images, config, epoch, rank, workers),
        lambda: samples.valid_batches(checked, config, rank, workers),
        loss,
        config.seed,
    )


def class_samples(files: Sequence[Path], config: Config) -> ClassSamples:
    """Return the candidates of evidence files, those on extended sources left out.

    Raises
    ------
    InputError
        If a file is missing or damaged, or there are no candidates.
    """
    stored = [Evidence.load(path) for path in files]
    kept = [(evidence.take(more["counted"]), more) for evidence, more in stored]
    labels = np.concatenate([more["label"][more["counted"]] for _, more in kept])
    evidence = Evidence.join([evidence for evidence, _ in kept])
    return ClassSamples.of(evidence, labels, config, with_fake(config.classes))


def _reporter(rank: int, epochs: int) -> Callable[[EpochReport], None]:
    def report(epoch: EpochReport) -> None:
        if rank != 0:
            ray.train.report(epoch.numbers())
            return
        left = (epochs - epoch.epoch) * epoch.seconds
        logger.info(
            "epoch %d/%d: loss %.5f, validation %.5f, %.0f s, about %.0f s left",
            epoch.epoch, epochs, epoch.train_loss, epoch.valid_loss, epoch.seconds, left,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as temporary:
            save_state(Path(temporary) / STATE_FILE, epoch.state)
            ray.train.report(epoch.numbers(), checkpoint=Checkpoint.from_directory(temporary))

    return report


def _same(values: Tensor) -> Tensor:
    return values


def _mean_over_workers(values: Tensor) -> Tensor:
    """Return the mean of a float64 vector over the workers (sums, for gloo has no mean)."""
    total = values.clone().to(get_device())
    torch.distributed.all_reduce(total)
    return (total / torch.distributed.get_world_size()).cpu()
