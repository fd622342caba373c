"""From patch records of expected counts to batches of drawn counts; pure functions.

Each patch has its own random stream, keyed by epoch, sky and patch, so that its counts do not
depend on the batch it is in or on the worker that draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geminga.arrays import Int64
from geminga.config import Config
from geminga.errors import InputError
from geminga.patches.records import image_columns
from geminga.seeds import Stage, generator
from geminga.training.augment import N_SYMMETRIES, apply_symmetry

Records = Mapping[str, NDArray[Any]]
"""Columns of equal length; see `geminga.patches.records`."""


class Batch(NamedTuple):
    """What one step of training takes: the network is called as ``model(*inputs)``.

    Attributes
    ----------
    weight : float
        What the mean over this part of a batch counts for among those of the workers, see
        `geminga.training.shares`; with 0 its records are there to keep step and count nowhere.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor
    weight: float = 1.0

    @property
    def records(self) -> int:
        """Records that count."""
        return len(self.target) if self.weight else 0


def draw_counts(
    records: Records, config: Config, epoch: int, *, train: bool = False, augment: bool = False
) -> dict[str, NDArray[Any]]:
    """Return patch records with a Poisson draw in place of the expected counts.

    Parameters
    ----------
    records : mapping
        Columns ``sky_id``, ``patch_id``, ``image_0`` ... (N, n_c, n_c) expected counts, ``target``
        (N, top, top) and any others.
    config : Config
        Root seed and channels.
    epoch : int
        Every epoch has its own draw.
    train : bool
        Stream of the training draws instead of that of the validation draws.
    augment : bool
        Also turn and mirror each patch at random: all its images and its target alike.

    Returns
    -------
    dict
        The same columns; images are float32 counts.

    Raises
    ------
    InputError
        If a column is missing or an expected count is negative or not finite.
    """
    stage = Stage.POISSON_TRAIN if train else Stage.POISSON_VALID
    names = image_columns(config.channels)
    _check_columns(records, ["sky_id", "patch_id", "target", *names])
    result = {name: np.array(values) for name, values in records.items() if name not in names}
    for name in names:
        result[name] = np.empty(records[name].shape, dtype=np.float32)
    for row in range(len(records["sky_id"])):
        sky, patch = int(records["sky_id"][row]), int(records["patch_id"][row])
        rng = generator(config.seed, stage, epoch, sky, patch)
        symmetry = int(rng.integers(N_SYMMETRIES)) if augment else 0
        for name in names:
            counts = poisson(rng, records[name][row], f"patch {patch} of sky {sky}, {name}")
            result[name][row] = apply_symmetry(counts, symmetry)
        result["target"][row] = apply_symmetry(records["target"][row], symmetry)
    return result


def patch_batch(records: Records, config: Config) -> Batch:
    """Return the batch of counted patch records: one tensor (N, n_c, n_c) per channel and the mask."""
    inputs = tuple(
        torch.from_numpy(np.ascontiguousarray(records[name], dtype=np.float32))
        for name in image_columns(config.channels)
    )
    return Batch(inputs, torch.from_numpy(np.ascontiguousarray(records["target"])))


def train_batch(records: Records, config: Config, epoch: int, weight: float = 1.0) -> Batch:
    """Return the batch of patch records of expected counts in one training epoch."""
    augment = config.miun_training.augment
    drawn = draw_counts(records, config, epoch, train=True, augment=augment)
    return patch_batch(drawn, config)._replace(weight=weight)


def valid_batch(records: Records, config: Config) -> Batch:
    """Return the batch of patch records of expected counts for validation.

    The draw is the same in every epoch, so that epochs are compared on the same counts.
    """
    return patch_batch(draw_counts(records, config, 0), config)


def poisson(rng: np.random.Generator, expected: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return Poisson counts, float32, of expected counts of any shape.

    Raises
    ------
    InputError
        If an expected count is negative, not finite, or beyond what can be drawn.
    """
    try:
        return rng.poisson(expected).astype(np.float32)
    except ValueError as error:
        bad = np.min(expected) if np.isfinite(expected).all() else "not finite"
        raise InputError(
            where, f"expected counts are negative, not finite or too large ({bad})", "make it anew"
        ) from error


def shuffled(n: int, root_seed: int, epoch: int, *key: int) -> Int64:
    """Return the numbers 0 to n - 1 in the random order of an epoch."""
    return generator(root_seed, Stage.SHUFFLE, epoch, *key).permutation(n)


def split_rows(records: Records, rows: Int64, batch_size: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the given rows of records in batches; the last one may be shorter."""
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        yield {name: values[chosen] for name, values in records.items()}


def _check_columns(records: Records, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in records]
    if missing:
        raise InputError(
            "patch records", f"have no column {', '.join(missing)}", "cut the patches anew"
        )
