"""Patches streamed into training through Ray Data: drawn on other cores than those that train.

A block is one worker's part of a pool of row groups of different skies: some batches, each one row
of bytes. Blocks come in order, and a batch has the same bytes as one that
`geminga.training.patches.PatchReader` draws in a thread of the worker.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import ExecutionResources
from safetensors.torch import load, save

from geminga.config import Config
from geminga.distributed.work import one_thread
from geminga.errors import InputError
from geminga.training.batches import Batch, train_batch
from geminga.training.patches import PatchReader, RowGroups, groups_of
from geminga.training.plan import Part

_TARGET = "target"


def streamed(reader: PatchReader, epoch: int, start: int = 0) -> Iterator[Batch]:
    """Yield what ``reader.train(epoch, start)`` yields, read and drawn by Ray Data tasks.

    Raises
    ------
    InputError
        If there are no patches, or a file cannot be read.
    """
    pools = list(reader.parts(epoch, start))
    if not pools:
        return
    weights = (part.weight for parts in pools for part in parts)
    # It has a line for the start, the plan and the end of every pass.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    tasks = loader_tasks(reader.config.miun_training.loader_workers, reader.rank, reader.workers)
    dataset = ray.data.from_items(
        [{"pool": _described(reader, parts)} for parts in pools], override_num_blocks=len(pools)
    ).map_batches(
        partial(_draw, config_json=reader.config.model_dump_json(), epoch=epoch),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=min(tasks, len(pools))),
    )
    options = dataset.context.execution_options
    options.preserve_order = True
    options.resource_limits = ExecutionResources.for_limits(cpu=float(tasks))
    dataset.context.enable_progress_bars = False
    for block in dataset.iter_batches(
        batch_size=None, batch_format="pyarrow", prefetch_batches=tasks
    ):
        for data, error in zip(block["batch"], block["error"], strict=True):
            if error.as_py():
                raise InputError(*json.loads(error.as_py()))
            yield _unpacked(data.as_py(), next(weights))


def loader_tasks(loader_workers: int, rank: int, workers: int) -> int:
    """Return how many of the tasks that draw patches work for one of the training workers."""
    return max(len(range(rank, loader_workers, workers)), 1)


def _described(reader: PatchReader, parts: Sequence[Part]) -> str:
    """Return a pool as JSON: where its row groups are and which rows make up each batch."""
    groups = {n: [str(reader.groups[n][0]), reader.groups[n][1]] for n in groups_of(parts)}
    rows = [part.rows.tolist() for part in parts]
    return json.dumps({"groups": groups, "rows": rows, "columns": reader.columns})


@lru_cache(maxsize=2)
def _config(text: str) -> Config:
    return Config.model_validate_json(text)


def _draw(block: pa.Table, config_json: str, epoch: int) -> pa.Table:
    """Return the batches of a pool as bytes; an error of the user's comes as a row of its own.

    Ray would pass it on as text inside errors of its own, and print each of them.
    """
    (text,) = block["pool"].to_pylist()
    pool = json.loads(text)
    config = _config(config_json)
    groups = {int(n): (Path(path), int(group)) for n, (path, group) in pool["groups"].items()}
    source = RowGroups(groups, pool["columns"])
    data, error = [], ""
    try:
        with one_thread():
            for rows in pool["rows"]:
                records = source.take(np.array(rows, dtype=np.int64))
                data.append(_packed(train_batch(records, config, epoch)))
    except InputError as refused:
        data, error = [b""], json.dumps(refused.__reduce__()[1])
    return pa.table(
        {"batch": pa.array(data, pa.large_binary()), "error": pa.array([error] * len(data))}
    )


def _packed(batch: Batch) -> bytes:
    tensors = {str(n): tensor for n, tensor in enumerate(batch.inputs)}
    return save({**tensors, _TARGET: batch.target})


def _unpacked(data: bytes, weight: float) -> Batch:
    tensors: dict[str, Any] = load(data)
    target = tensors.pop(_TARGET)
    return Batch(tuple(tensors[str(n)] for n in range(len(tensors))), target, weight)
