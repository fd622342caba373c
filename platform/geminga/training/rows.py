"""Batches of feature rows: tables small enough to be held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from geminga.arrays import Float32
from geminga.errors import InputError
from geminga.files import read_parquet
from geminga.training.batches import Batch, shuffled

TARGET = "is_true"


class RowReader:
    """The share of one worker in the rows of some files.

    Parameters
    ----------
    files : sequence of Path
        Tables of features and the column ``is_true``.
    names : sequence of str
        Columns that are features, in order.
    batch_size : int
        Rows per step, over all workers.
    seed : int
        Root seed of the shuffling.
    rank, workers : int
        This worker's number and how many there are.

    Raises
    ------
    InputError
        If a file cannot be read or lacks a column, or there are too few rows.
    """

    def __init__(
        self,
        files: Sequence[Path],
        names: Sequence[str],
        batch_size: int,
        seed: int,
        rank: int = 0,
        workers: int = 1,
    ) -> None:
        tables = [read_parquet(path) for path in files]
        for path, table in zip(files, tables, strict=True):
            missing = [n for n in (*names, TARGET) if n not in table]
            if missing:
                raise InputError(
                    str(path), f"has no column {', '.join(missing)}", "search the skies anew"
                )
        columns = [t[list(names)].to_numpy(np.float32) for t in tables]
        self.features: Float32 = np.concatenate(columns).astype(np.float32)
        self.target = np.concatenate([t[TARGET].to_numpy(np.float32) for t in tables])
        if not np.isfinite(self.features).all():
            raise InputError("features of sources", "are not finite", "search the skies anew")
        self.seed, self.rank, self.workers = seed, rank, workers
        self.batch_size = max(batch_size // workers, 1)
        if len(self.target) < workers:
            raise InputError(
                "training skies",
                f"hold {len(self.target)} detections for {workers} workers",
                "simulate more of them, or lower likelihood.search_least_ts",
            )

    def train(self, epoch: int) -> Iterator[Batch]:
        """Yield the shuffled batches of an epoch, equally many for every worker."""
        order = shuffled(len(self.target), self.seed, epoch)
        own = order[self.rank :: self.workers][: len(order) // self.workers]
        yield from self._batches(own)

    def valid(self) -> Iterator[Batch]:
        """Yield every row once, in order."""
        yield from self._batches(np.arange(self.rank, len(self.target), self.workers))

    def _batches(self, rows: np.ndarray) -> Iterator[Batch]:
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            features = torch.from_numpy(self.features[part])
            yield Batch((features,), torch.from_numpy(self.target[part]))
