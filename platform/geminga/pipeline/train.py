"""Stages that train the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from geminga import storage
from geminga.classes import with_fake
from geminga.classification.predict import natural_prior
from geminga.classification.store import load_samples
from geminga.config import Config
from geminga.distributed.images import image_file
from geminga.distributed.session import ray_session
from geminga.distributed.simulate import patch_file
from geminga.distributed.train import train_network
from geminga.files import write_json
from geminga.networks.build import build_classifier, build_miun, build_ranker
from geminga.networks.checkpoint import FEATURES, save_checkpoint
from geminga.networks.losses import Kind
from geminga.pipeline.logged import log_network
from geminga.pipeline.runner import Context
from geminga.pipeline.search import primary_search, score_cuts
from geminga.pipeline.simulate import sky_ids
from geminga.seeds import Split

CHECKPOINTS = "checkpoints"
"""Folder of a stage that trains, as long as it does."""


def run_miun(context: Context, folder: Path) -> Mapping[str, Any]:
    """Train MIUN on the training patches; keep the epoch that is best on the validation patches."""
    config, patches = context.config, context.folder("patches")
    train = [patch_file(patches, sky) for sky in sky_ids(config, Split.TRAIN)]
    valid = [patch_file(patches, sky) for sky in sky_ids(config, Split.VALID)]
    return train_and_save("miun", context, folder, train, valid, {})


def run_classifier(context: Context, folder: Path) -> Mapping[str, Any]:
    """Train the classifier on the images of detections on the training skies."""
    config, images = context.config, context.folder("images")
    train = [image_file(images, sky) for sky in sky_ids(config, Split.TRAIN)]
    valid = [image_file(images, sky) for sky in sky_ids(config, Split.VALID)]
    cut = score_cuts(context)[primary_search(config)]
    parts = [load_samples(path) for path in train]
    labels = np.concatenate([samples.labels for samples, _ in parts])
    kept = np.concatenate([scores for _, scores in parts]) >= cut
    n = len(with_fake(config.classes))
    extra = {
        "prior": natural_prior(labels[kept], n).tolist(),
        "train_prior": None if config.classifier.balance else natural_prior(labels, n).tolist(),
    }
    return train_and_save("classifier", context, folder, train, valid, extra)


def train_and_save(
    kind: Kind,
    context: Context,
    folder: Path,
    train: list[Path],
    valid: list[Path],
    extra: dict[str, Any],
    finish: Callable[[nn.Module], dict[str, Any]] | None = None,
) -> Mapping[str, Any]:
    """Train a network, let `finish` add to what is kept with it, and save it in ``model``."""
    config: Config = context.config
    with ray_session():
        state = train_network(kind, config, train, valid, folder / CHECKPOINTS)
    model: nn.Module
    if kind == "ranker":
        model = build_ranker(config, len(extra[FEATURES]))
    else:
        model = build_miun(config) if kind == "miun" else build_classifier(config)
    model.load_state_dict(state.best_model)
    if finish is not None:
        extra = {**extra, **finish(model)}
    figures = {"best_epoch": state.best_epoch, "best_validation_loss": state.best_loss}
    save_checkpoint(folder / "model", model, kind, config, {**extra, **figures})
    write_json(folder / "history.json", state.history)
    context.tracker.curve(state.history)
    if kind == "classifier":  # the baseline, which nothing else uses
        context.tracker.artifact(folder / "model", kind)
    else:
        log_network(context, kind, folder / "model")
    storage.remove(folder / CHECKPOINTS)
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "epochs": len(state.history), **figures}
