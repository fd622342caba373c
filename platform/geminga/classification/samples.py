"""Training samples of the classifier: which are shown in an epoch, and their Poisson draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.classes import with_fake
from geminga.classification.images import SourceImages
from geminga.config import Config
from geminga.errors import InputError
from geminga.seeds import Stage, generator
from geminga.training.augment import N_ROTATIONS, apply_symmetry
from geminga.training.batches import Batch, poisson
from geminga.training.shares import part_of_batch

_VALID, _TRAIN = 0, 1


@dataclass(frozen=True)
class SourceSamples:
    """Images with known classes.

    Attributes
    ----------
    images : Float32 (n, B + Y, p, p)
        Expected or drawn counts.
    lat_deg : Float64 (n,)
        Galactic latitude.
    labels : Int64 (n,)
        Index into ``with_fake(classes)``.
    sky_id, row : Int64 (n,)
        Sky and row of the detection in it; they name the random stream of the sample.
    expected : Bool (n,)
        The images are expected counts, to be drawn Poisson whenever they are shown.
    """

    images: Float32
    lat_deg: Float64
    labels: Int64
    sky_id: Int64
    row: Int64
    expected: Bool

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of_sky(
        cls, images: SourceImages, labels: Int64, sky_id: int, expected: bool = True
    ) -> SourceSamples:
        """Return the samples of one sky's detections, in their order."""
        n = len(images)
        return cls(
            images.stack(),
            images.lat_deg,
            np.asarray(labels, dtype=np.int64),
            np.full(n, sky_id, dtype=np.int64),
            np.arange(n, dtype=np.int64),
            np.full(n, expected),
        )

    @classmethod
    def join(cls, parts: Sequence[SourceSamples]) -> SourceSamples:
        """Return the samples of several skies as one.

        Raises
        ------
        InputError
            If there is none.
        """
        if not parts:
            raise InputError("source samples", "none given", "simulate at least one sky")
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in cls.__dataclass_fields__
            )
        )


@dataclass(frozen=True)
class Plan:
    """Samples of one epoch in the order shown: their numbers, and how often each came before."""

    samples: Int64
    repeats: Int64


def plan_epoch(labels: Int64, config: Config, epoch: int, train: bool = True) -> Plan:
    """Return which samples an epoch shows.

    With ``classifier.balance`` every class that has samples is shown equally often, as many
    samples in all as there are (rounded up): those of a large class are thinned out, those of a
    small one come again, with another draw. Otherwise every sample comes once, and in training
    four times if its class is rotated.

    Parameters
    ----------
    labels : Int64 (n,)
        Classes of the samples.
    config : Config
        Root seed and classifier settings.
    epoch : int
        Every training epoch has its own choice.
    train : bool
        Training or validation.
    """
    n = len(labels)
    rng = generator(config.seed, Stage.SHUFFLE, _TRAIN if train else _VALID, epoch)
    if config.classifier.balance and n:
        present = np.unique(labels)
        quota = -(-n // len(present))
        chosen, repeats = [], []
        for label in present:
            members = rng.permutation(np.flatnonzero(labels == label))
            turn = np.arange(quota, dtype=np.int64)
            chosen.append(members[turn % len(members)])
            repeats.append(turn // len(members))
        samples, repeat = np.concatenate(chosen), np.concatenate(repeats)
    else:
        rotated = np.isin(labels, _rotated(config)) & train & config.classifier_training.augment
        times = np.where(rotated, N_ROTATIONS, 1)
        samples = np.repeat(np.arange(n, dtype=np.int64), times)
        repeat = np.concatenate([np.arange(t, dtype=np.int64) for t in times] or [samples])
    if train:
        order = rng.permutation(len(samples))
        samples, repeat = samples[order], repeat[order]
    return Plan(samples, repeat)


def sample_batch(
    samples: SourceSamples, plan: Plan, config: Config, epoch: int, train: bool = True
) -> Batch:
    """Return the samples of a plan as one batch, expected counts drawn.

    In training, images of ``classifier.rotated_classes`` are turned by 0, 90, 180 or 270 degrees
    before the draw if ``classifier_training.augment`` is set.
    """
    rotate = np.isin(samples.labels, _rotated(config)) & (
        train and config.classifier_training.augment
    )
    split = _TRAIN if train else _VALID
    counts = np.empty((len(plan.samples), *samples.images.shape[1:]), dtype=np.float32)
    for place, (number, repeat) in enumerate(zip(plan.samples, plan.repeats, strict=True)):
        sky, row = int(samples.sky_id[number]), int(samples.row[number])
        image = samples.images[number]
        rng = generator(config.seed, Stage.IMAGES, split, epoch, sky, row, int(repeat))
        if rotate[number]:
            # Turns follow one another over the repeats, from a random start in each epoch.
            start = generator(config.seed, Stage.IMAGES, split, epoch, sky, row).integers(4)
            image = apply_symmetry(image, int(start + repeat) % N_ROTATIONS)
        if samples.expected[number]:
            image = poisson(rng, image, f"images of detection {row} of sky {sky}")
        counts[place] = image
    latitude = samples.lat_deg[plan.samples].astype(np.float32)
    return Batch(
        (torch.from_numpy(counts), torch.from_numpy(latitude)),
        torch.from_numpy(samples.labels[plan.samples]),
    )


def train_batches(
    samples: SourceSamples,
    config: Config,
    epoch: int,
    start: int = 0,
    *,
    rank: int = 0,
    workers: int = 1,
) -> Iterator[Batch]:
    """Yield one worker's parts of the batches of a training epoch, from number `start` on.

    Raises
    ------
    InputError
        If there are no samples.
    """
    _check(samples, config)
    plan = plan_epoch(samples.labels, config, epoch)
    size, places = config.classifier_training.batch_size, np.arange(len(plan.samples))
    for first in range(start * size, len(places), size):
        part, weight = part_of_batch(places[first : first + size], rank, workers)
        chosen = Plan(plan.samples[part], plan.repeats[part])
        yield sample_batch(samples, chosen, config, epoch)._replace(weight=weight)


def valid_batches(
    samples: SourceSamples, config: Config, rank: int = 0, workers: int = 1
) -> Iterator[Batch]:
    """Yield one worker's validation batches: the same classes' mix as in training, a fixed draw.

    The batches are the same for any number of workers, and dealt to them in turn.

    Raises
    ------
    InputError
        If there are no samples.
    """
    _check(samples, config)
    plan = plan_epoch(samples.labels, config, 0, train=False)
    size = config.classifier_training.batch_size
    for first in range(rank * size, len(plan.samples), workers * size):
        part = slice(first, first + size)
        chosen = Plan(plan.samples[part], plan.repeats[part])
        yield sample_batch(samples, chosen, config, 0, train=False)


def _rotated(config: Config) -> list[int]:
    return [config.classes.index(name) for name in config.classifier.rotated_classes]


def _check(samples: SourceSamples, config: Config) -> None:
    n_classes = len(with_fake(config.classes))
    if not len(samples):
        raise InputError(
            "source samples",
            "there are none",
            "lower localisation.threshold or train MIUN longer, so that something is detected",
        )
    if samples.labels.min() < 0 or samples.labels.max() >= n_classes:
        raise InputError(
            "source samples",
            f"have class number {samples.labels.max()}, the configuration {n_classes} classes",
            "make the images anew with this configuration",
        )
