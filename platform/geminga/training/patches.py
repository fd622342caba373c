"""Batches of patches read from Parquet, a few row groups at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from geminga.config import Config
from geminga.errors import InputError
from geminga.patches.records import image_columns
from geminga.patches.store import group_sizes, read_group
from geminga.training.batches import Batch, Records, shuffled, split_rows, train_batch, valid_batch

T = TypeVar("T")

GROUPS_IN_MEMORY = 8
"""Row groups (of different skies) whose patches are shuffled together."""


class PatchReader:
    """The share of one worker in the patches of some files.

    Parameters
    ----------
    files : sequence of Path
        Patch records, one file per sky.
    config : Config
        Settings of the run.
    rank, workers : int
        This worker's number and how many there are. Row groups go to them in turn; every worker
        takes equally many batches, whatever its share.
    """

    def __init__(
        self, files: Sequence[Path], config: Config, rank: int = 0, workers: int = 1
    ) -> None:
        self.config = config
        self.columns = ["sky_id", "patch_id", "target", *image_columns(config.channels)]
        groups = [(f, g, n) for f in files for g, n in enumerate(group_sizes(f))]
        shares = [groups[r::workers] for r in range(workers)]
        self.groups = [(f, g) for f, g, _ in shares[rank]]
        self.batch_size = max(config.miun_training.batch_size // workers, 1)
        rows = min(sum(n for _, _, n in share) for share in shares)
        # Unequal numbers of steps would leave workers waiting for each other for ever.
        self.batches = -(-rows // self.batch_size) if workers == 1 else rows // self.batch_size

    def train(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of a training epoch: shuffled, freshly drawn, turned and mirrored.

        Raises
        ------
        InputError
            If the patches do not fill one batch of every worker.
        """
        if not self.batches:
            raise InputError(
                "miun_training.workers",
                f"the patches do not fill one batch of {self.batch_size} for each worker",
                "use fewer workers, a smaller batch_size or more training skies",
            )
        rows = self._shuffled_rows(epoch)
        yield from prefetch(rows, lambda records: train_batch(records, self.config, epoch))

    def valid(self) -> Iterator[Batch]:
        """Yield the batches of validation, the same every time."""
        groups = (read_group(f, g, self.columns) for f, g in self.groups)
        batches = (
            part
            for records in groups
            for part in split_rows(records, np.arange(len(records["sky_id"])), self.batch_size)
        )
        yield from prefetch(batches, lambda records: valid_batch(records, self.config))

    def _shuffled_rows(self, epoch: int) -> Iterator[Records]:
        seed = self.config.seed
        order = shuffled(len(self.groups), seed, epoch)
        left: Records | None = None
        given = 0
        for first in range(0, len(order), GROUPS_IN_MEMORY):
            chosen = [self.groups[i] for i in order[first : first + GROUPS_IN_MEMORY]]
            parts = [read_group(f, g, self.columns) for f, g in chosen]
            if left is not None:
                parts.append(dict(left))
            pool = {name: np.concatenate([p[name] for p in parts]) for name in self.columns}
            count = len(pool["sky_id"])
            rows = shuffled(count, seed, epoch, first)
            last = first + GROUPS_IN_MEMORY >= len(order)
            whole = count if last else count - count % self.batch_size
            for part in split_rows(pool, rows[:whole], self.batch_size):
                if given < self.batches:
                    given += 1
                    yield part
            left = {name: pool[name][rows[whole:]] for name in self.columns}


def prefetch(items: Iterable[Records], make: Callable[[Records], T]) -> Iterator[T]:
    """Yield ``make(item)`` in order, making the next ones in a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = []
        for item in items:
            pending.append(pool.submit(make, item))
            if len(pending) > 2:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()
