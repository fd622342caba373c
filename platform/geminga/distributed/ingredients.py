"""What each network is trained on: the network, one worker's batches, the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from geminga.classes import with_fake
from geminga.classification import samples
from geminga.classification.class_training import ClassSamples, member_ingredients
from geminga.classification.evidence import Evidence
from geminga.classification.store import load_samples
from geminga.config import Config
from geminga.distributed.stream import streamed
from geminga.localisation.features import feature_names
from geminga.networks.build import build_classifier, build_miun, build_ranker
from geminga.networks.losses import Kind, Measure, build_loss
from geminga.training.batches import Batch
from geminga.training.loop import TrainBatches
from geminga.training.patches import PatchReader
from geminga.training.rows import RowReader


@dataclass(frozen=True)
class Ingredients:
    """A network, one worker's training and validation batches, the loss, the seed of the loop."""

    model: nn.Module
    train: TrainBatches
    valid: Callable[[], Iterable[Batch]]
    loss: Measure
    seed: int


def ingredients(
    kind: Kind,
    config: Config,
    train: Sequence[Path],
    valid: Sequence[Path],
    rank: int = 0,
    workers: int = 1,
    member: int = 0,
) -> Ingredients:
    """Return what one worker trains, and on what.

    Parameters
    ----------
    kind : str
        ``miun``, ``ranker``, ``classifier`` or ``evidence_net``.
    config : Config
        Settings of the run.
    train, valid : sequence of Path
        Files of the training and of the validation set, one per sky.
    rank, workers : int
        This worker's number and how many there are.
    member : int
        Number of an ``evidence_net`` among those that are averaged.

    Raises
    ------
    InputError
        If a file is missing or damaged, or there is nothing to train on.
    """
    if kind == "evidence_net":
        names = with_fake(config.classes)
        shown, held = class_samples(train, config), class_samples(valid, config)
        return Ingredients(*member_ingredients(shown, held, config, names, member, rank, workers))
    loss = build_loss(config.training_of(kind).loss, kind)
    if kind == "miun":
        reader = PatchReader(train, config, rank, workers)
        checker = PatchReader(valid, config, rank, workers)
        shown_patches: TrainBatches = reader.train
        if config.miun_training.loader_workers:
            shown_patches = partial(streamed, reader)
        return Ingredients(build_miun(config), shown_patches, checker.valid, loss, config.seed)
    if kind == "ranker":
        features = feature_names(len(config.channels))
        size = config.ranker_training.batch_size
        rows = RowReader(train, features, size, config.seed, rank, workers)
        model = build_ranker(config, len(features))
        model.standardise(rows.features)
        held_out = RowReader(valid, features, size, config.seed, rank, workers)
        return Ingredients(model, rows.train, held_out.valid, loss, config.seed)
    images = samples.SourceSamples.join([load_samples(p)[0] for p in train])
    checked = samples.SourceSamples.join([load_samples(p)[0] for p in valid])

    def shown_images(epoch: int, start: int = 0) -> Iterable[Batch]:
        return samples.train_batches(images, config, epoch, start, rank=rank, workers=workers)

    return Ingredients(
        build_classifier(config),
        shown_images,
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
