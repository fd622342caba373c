"""Training of the networks on evidence; no cluster, no files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from geminga.arrays import Int64
from geminga.classification.evidence import Evidence
from geminga.classification.inputs import Inputs, network_inputs
from geminga.config import Config
from geminga.errors import InputError
from geminga.networks.build import build_evidence_net
from geminga.networks.evidence_net import EvidenceNet
from geminga.networks.losses import METRICS, Measure, balanced_cross_entropy, build_loss
from geminga.seeds import Stage, generator
from geminga.training.augment import N_SYMMETRIES, apply_symmetry
from geminga.training.batches import Batch, shuffled
from geminga.training.loop import EpochReport, TrainBatches, fit
from geminga.training.shares import part_of_batch

logger = logging.getLogger(__name__)

_SHUFFLE, _SYMMETRY, _LOOP = 10, 11, 12
"""Keys that keep the streams of this room's training apart from those of others."""


@dataclass(frozen=True, eq=False)
class ClassSamples:
    """Candidates with known classes, as the network takes them."""

    inputs: Inputs
    labels: Int64

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls, evidence: Evidence, labels: Int64, config: Config, class_names: Sequence[str]
    ) -> ClassSamples:
        """Return the samples of candidates and their class numbers.

        Raises
        ------
        InputError
            If there are none, or a class number is none of `class_names`.
        """
        numbers = np.asarray(labels, dtype=np.int64)
        if not len(numbers) or len(numbers) != len(evidence):
            raise InputError(
                "class samples",
                f"{len(evidence)} candidates with {len(numbers)} classes",
                "simulate more skies, so that something is detected, and label each candidate",
            )
        if numbers.min() < 0 or numbers.max() >= len(class_names):
            raise InputError(
                "class samples",
                f"have class numbers {numbers.min()} to {numbers.max()}, there are "
                f"{len(class_names)} classes",
                "label them with this configuration",
            )
        return cls(network_inputs(evidence, config.evidence_net), numbers)


class MemberIngredients(NamedTuple):
    """What `training.loop.fit` takes to train one network of several."""

    model: EvidenceNet
    train_batches: TrainBatches
    valid_batches: Callable[[], Iterable[Batch]]
    loss: Measure
    seed: int


def member_ingredients(
    train: ClassSamples,
    valid: ClassSamples,
    config: Config,
    class_names: Sequence[str],
    member: int,
    rank: int = 0,
    workers: int = 1,
) -> MemberIngredients:
    """Return a network, one worker's batches, the loss and the seed of its training.

    Parameters
    ----------
    train, valid : ClassSamples
        Samples to train on, and to choose the best epoch by.
    config : Config
        Root seed, sections ``evidence_net`` and ``evidence_net_training``.
    class_names : sequence of str
        Names of the classes.
    member : int
        Number of the network; others start and shuffle differently.
    rank, workers : int
        This worker's number and how many there are.

    Raises
    ------
    InputError
        If there are fewer samples than workers.
    """
    for name, samples in (("training", train), ("validation", valid)):
        if len(samples) < workers:
            raise InputError(
                f"{name} samples",
                f"{len(samples)} for {workers} workers",
                "simulate more skies or use fewer workers",
            )
    settings = config.evidence_net_training
    build_loss(settings.loss, "evidence_net")
    model = build_evidence_net(config, input_sizes(train.inputs), len(class_names), member)
    model.standardise([torch.from_numpy(a) for a in train.inputs.arrays()])
    size = settings.batch_size

    def train_batches(epoch: int, start: int = 0) -> Iterator[Batch]:
        n = len(train)
        order = shuffled(n, config.seed, epoch, _SHUFFLE, member)
        symmetries = None
        if settings.augment and train.inputs.image.shape[1]:
            rng = generator(config.seed, Stage.SHUFFLE, epoch, _SYMMETRY, member)
            symmetries = rng.integers(N_SYMMETRIES, size=n)
        for first in range(start * size, n, size):
            part, weight = part_of_batch(order[first : first + size], rank, workers)
            yield _batch(train, part, symmetries)._replace(weight=weight)

    def valid_batches() -> Iterator[Batch]:
        # The same batches for any number of workers, dealt to them in turn.
        for first in range(rank * size, len(valid), workers * size):
            yield _batch(valid, np.arange(first, min(first + size, len(valid))), None)

    counts = np.bincount(train.labels, minlength=len(class_names))
    seed = int(generator(config.seed, Stage.WEIGHTS, _LOOP, member).integers(2**31))
    loss = balanced_cross_entropy(counts.tolist())
    return MemberIngredients(model, train_batches, valid_batches, loss, seed)


def train_member(
    train: ClassSamples,
    valid: ClassSamples,
    config: Config,
    class_names: Sequence[str],
    member: int,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> EvidenceNet:
    """Train one network and return it with the weights of its best epoch.

    Arguments as `member_ingredients`; `on_epoch` is given the report of each epoch.

    Raises
    ------
    InputError
        If there are no samples, or the loss is not finite.
    """
    parts = member_ingredients(train, valid, config, class_names, member)
    result = fit(
        parts.model,
        parts.train_batches,
        parts.valid_batches,
        config.evidence_net_training,
        loss=parts.loss,
        metrics=METRICS["evidence_net"],
        on_epoch=on_epoch,
        seed=parts.seed,
    )
    logger.info(
        "class network %d of %d: validation loss %.4f at epoch %d",
        member + 1, config.evidence_net.members, result.best_loss, result.best_epoch,
    )  # fmt: skip
    return parts.model


def input_sizes(inputs: Inputs) -> dict[str, Any]:
    """Return the sizes of inputs as `EvidenceNet` takes them; JSON-like."""
    half = {name: getattr(inputs, name).shape[-1] // 2 for name in inputs.__dataclass_fields__}
    return {
        "channels": inputs.spectrum.shape[1],
        "tokens": [half["spectrum"], half["years"]],
        "quantities": [half["detection"], half["spectral"], half["variability"]],
        "position": inputs.position.shape[1],
        "planes": inputs.image.shape[1],
        "pixels": inputs.image.shape[-1],
    }


def _batch(samples: ClassSamples, rows: Int64, symmetries: Int64 | None) -> Batch:
    chosen = samples.inputs.take(rows)
    if symmetries is not None:
        # A symmetry is drawn for each sample, not for its place: batches may be cut anyhow.
        for place, number in enumerate(symmetries[rows]):
            chosen.image[place] = apply_symmetry(chosen.image[place].copy(), int(number))
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in chosen.arrays())
    return Batch(tensors, torch.from_numpy(samples.labels[rows]))
