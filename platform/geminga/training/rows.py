"""Batches of feature rows: tables small enough to be held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from geminga.arrays import Float32, Int64
from geminga.errors import InputError
from geminga.files import read_parquet
from geminga.training.batches import Batch, shuffled
from geminga.training.shares import part_of_batch

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
        self.batch_size = batch_size
        if len(self.target) < workers:
            raise InputError(
                "skies of training or validation",
                f"hold {len(self.target)} detections for {workers} workers",
                "simulate more of them, or lower likelihood.search_least_ts",
            )

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this worker's parts of the shuffled batches of an epoch, from number `start` on."""
        order = shuffled(len(self.target), self.seed, epoch)
        for first in range(start * self.batch_size, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]
            yield self._batch(*part_of_batch(rows, self.rank, self.workers))

    def valid(self) -> Iterator[Batch]:
        """Yield this worker's of the batches of all rows in order, dealt to the workers in turn."""
        step = self.batch_size
        for first in range(self.rank * step, len(self.target), self.workers * step):
            yield self._batch(np.arange(first, min(first + step, len(self.target))))

    def _batch(self, rows: Int64, weight: float = 1.0) -> Batch:
        features = torch.from_numpy(self.features[rows])
        return Batch((features,), torch.from_numpy(self.target[rows]), weight)
