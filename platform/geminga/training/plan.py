"""The order of an epoch: which patches make up which batch.

A pure function of the seed, the epoch and the sizes of the row groups. It does not depend on how
many workers there are or where a training was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from geminga.arrays import Int64
from geminga.training.batches import shuffled
from geminga.training.shares import part_of_batch

GROUPS_IN_MEMORY = 8
"""Row groups (of different skies) whose patches are shuffled together."""


class Part(NamedTuple):
    """One worker's part of a batch: rows (n, 2) of group number and row in it, and its weight."""

    rows: Int64
    weight: float


def epoch_batches(
    sizes: Sequence[int], batch_size: int, seed: int, epoch: int
) -> Iterator[list[Int64]]:
    """Yield the batches of each pool of row groups; those of the last one end in a shorter one.

    Parameters
    ----------
    sizes : sequence of int
        Patches in each row group.
    batch_size : int
        Patches in a batch.
    seed, epoch : int
        Name the order.

    Yields
    ------
    list of Int64 (n, 2)
        Group number and row in the group. What does not fill a batch is shuffled with the next
        pool.
    """
    order = shuffled(len(sizes), seed, epoch)
    left = np.empty((0, 2), dtype=np.int64)
    for first in range(0, len(order), GROUPS_IN_MEMORY):
        chosen = order[first : first + GROUPS_IN_MEMORY]
        pool = np.concatenate([*(_rows_of(int(g), sizes[g]) for g in chosen), left])
        last = first + GROUPS_IN_MEMORY >= len(order)
        whole = len(pool) if last else len(pool) - len(pool) % batch_size
        mixed = pool[shuffled(len(pool), seed, epoch, first)]
        yield [mixed[s : min(s + batch_size, whole)] for s in range(0, whole, batch_size)]
        left = mixed[whole:]


def worker_parts(
    sizes: Sequence[int],
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    workers: int = 1,
) -> Iterator[list[Part]]:
    """Yield one worker's parts of the batches from number `start` on, pool by pool.

    A worker's part of a batch is taken from few row groups, so that it need not read those of the
    whole pool. This may be done because the statistics of normalisation are shared.
    """
    before = 0
    for batches in epoch_batches(sizes, batch_size, seed, epoch):
        wanted = batches[max(start - before, 0) :]
        before += len(batches)
        if wanted:
            yield [_part(rows, rank, workers) for rows in wanted]


def count_batches(sizes: Sequence[int], batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return -(-sum(sizes) // batch_size)


def _part(rows: Int64, rank: int, workers: int) -> Part:
    places, weight = part_of_batch(np.argsort(rows[:, 0], kind="stable"), rank, workers)
    # In the order of the batch: one worker takes it as it is.
    return Part(rows[np.sort(places)], weight)


def _rows_of(group: int, size: int) -> Int64:
    rows = np.arange(size, dtype=np.int64)
    return np.stack([np.full(size, group, dtype=np.int64), rows], axis=1)
