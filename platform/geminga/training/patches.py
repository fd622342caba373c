"""Batches of patches read from Parquet, a few row groups at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from geminga.arrays import Int64
from geminga.config import Config
from geminga.errors import InputError
from geminga.patches.records import image_columns
from geminga.patches.store import group_sizes, read_group
from geminga.training.batches import Batch, Records, split_rows, train_batch, valid_batch
from geminga.training.plan import Part, count_batches, worker_parts

S = TypeVar("S")
T = TypeVar("T")

RowGroup = tuple[Path, int]
"""File and number of a row group in it."""


class RowGroups:
    """Row groups of patch files, read when a row of them is wanted and kept while they are needed.

    Parameters
    ----------
    groups : mapping of int to RowGroup, or sequence of RowGroup
        Where the row group of a number is.
    columns : sequence of str
        Columns to read.
    """

    def __init__(
        self, groups: dict[int, RowGroup] | Sequence[RowGroup], columns: Sequence[str]
    ) -> None:
        self.groups, self.columns = groups, columns
        self._held: dict[int, Records] = {}

    def keep_only(self, numbers: Iterable[int]) -> None:
        """Forget the row groups of other numbers."""
        kept = set(numbers)
        self._held = {n: records for n, records in self._held.items() if n in kept}

    def take(self, rows: Int64) -> dict[str, Any]:
        """Return rows (n, 2) of group number and row in the group, in their order.

        Raises
        ------
        InputError
            If a file is missing, damaged or lacks a column.
        """
        numbers, which = np.unique(rows[:, 0], return_inverse=True)
        result: dict[str, Any] = {}
        for place, number in enumerate(numbers.tolist()):
            if number not in self._held:
                path, group_of_file = self.groups[number]
                self._held[number] = read_group(path, group_of_file, self.columns)
            group, mine = self._held[number], which == place
            for name in self.columns:
                if name not in result:
                    values = group[name]
                    result[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
                result[name][mine] = group[name][rows[mine, 1]]
        return result


class PatchReader:
    """The part of one worker in the batches of patches of some files.

    Parameters
    ----------
    files : sequence of Path
        Patch records, one file per sky.
    config : Config
        Settings of the run.
    rank, workers : int
        This worker's number and how many there are.
    """

    def __init__(
        self, files: Sequence[Path], config: Config, rank: int = 0, workers: int = 1
    ) -> None:
        self.config, self.rank, self.workers = config, rank, workers
        self.columns = ["sky_id", "patch_id", "target", *image_columns(config.channels)]
        groups = [(f, g, n) for f in files for g, n in enumerate(group_sizes(f))]
        self.groups: list[RowGroup] = [(f, g) for f, g, _ in groups]
        self.sizes = [n for _, _, n in groups]
        self.batch_size = config.miun_training.batch_size
        self.batches = count_batches(self.sizes, self.batch_size)

    def parts(self, epoch: int, start: int = 0) -> Iterator[list[Part]]:
        """Yield this worker's parts of the batches of an epoch, pool by pool.

        Raises
        ------
        InputError
            If there are no patches.
        """
        if not self.batches:
            raise InputError("training patches", "there are none", "simulate a training sky")
        yield from worker_parts(
            self.sizes,
            self.batch_size,
            self.config.seed,
            epoch,
            start,
            self.rank,
            self.workers,
        )

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield batches of a training epoch: shuffled, freshly drawn, turned and mirrored.

        Parameters
        ----------
        epoch : int
            Counted from 0.
        start : int
            Number of the first batch, to go on within an epoch.

        Raises
        ------
        InputError
            If there are no patches, or a file cannot be read.
        """
        source = RowGroups(self.groups, self.columns)

        def tasks() -> Iterator[tuple[list[int], Part]]:
            for parts in self.parts(epoch, start):
                yield from ((groups_of(parts), part) for part in parts)

        def make(task: tuple[list[int], Part]) -> Batch:
            needed, part = task
            source.keep_only(needed)
            return train_batch(source.take(part.rows), self.config, epoch, part.weight)

        yield from prefetch(tasks(), make)

    def valid(self) -> Iterator[Batch]:
        """Yield this worker's batches of validation: the same ones for any number of workers."""
        own = self.groups[self.rank :: self.workers]
        groups = (read_group(f, g, self.columns) for f, g in own)
        batches = (
            part
            for records in groups
            for part in split_rows(records, np.arange(len(records["sky_id"])), self.batch_size)
        )
        yield from prefetch(batches, lambda records: valid_batch(records, self.config))


def groups_of(parts: Sequence[Part]) -> list[int]:
    """Return the numbers of the row groups that some parts are taken from."""
    found: list[int] = np.unique(np.concatenate([part.rows[:, 0] for part in parts])).tolist()
    return found


def prefetch(items: Iterable[S], make: Callable[[S], T]) -> Iterator[T]:
    """Yield ``make(item)`` in order, making the next ones in a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = []
        for item in items:
            pending.append(pool.submit(make, item))
            if len(pending) > 2:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()
