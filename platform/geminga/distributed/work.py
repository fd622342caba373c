"""Sharing pieces of work among workers with Ray Data.

A piece is a small row (which sky, which row group); a worker is a class that is constructed once per
process and called with pieces. What a worker makes goes to files, so that an interrupted stage
goes on where it stopped; only a small row per piece comes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import pandas as pd
import ray.data

from geminga.distributed.session import available_workers
from geminga.errors import InputError
from geminga.progress import progress

Piece = Mapping[str, int | float | str]
Worker = Callable[..., "Callable[[Piece], Piece]"]


@lru_cache(maxsize=2)
def _prepared(worker: Worker, arguments: tuple[Any, ...]) -> Callable[[Piece], Piece]:
    """Make a worker once per process; Ray keeps its processes from one stage to the next."""
    return worker(*arguments)


def _one_by_one(batch: pd.DataFrame, worker: Worker, arguments: tuple[Any, ...]) -> pd.DataFrame:
    """Answer each row as JSON; an error of the user's comes back as an answer of its own.

    Ray would pass it on as text inside errors of its own, and print each of them.
    """
    rows = []
    for row in batch.to_dict("records"):
        try:
            call = _prepared(worker, arguments)
            answer = dict(call({str(key): value for key, value in row.items()}))
            rows.append({"answer": json.dumps(answer), "error": ""})
        except InputError as error:
            rows.append({"answer": "", "error": json.dumps(error.__reduce__()[1])})
    return pd.DataFrame(rows)


def run_pieces(
    worker: Worker,
    arguments: Sequence[Any],
    pieces: Sequence[Piece],
    workers: int,
    label: str,
    unit: str,
) -> list[dict[str, Any]]:
    """Give every piece to some worker and return the rows they answer, in the order of the pieces.

    Parameters
    ----------
    worker : callable
        ``worker(*arguments)`` is made once per process; the result is called with each piece and
        returns a flat row.
    arguments : sequence
        Small, hashable constructor arguments.
    pieces : sequence of mappings
        Flat rows; each must say all that identifies the piece, so that the answer does not depend
        on which worker does it.
    workers : int
        How many processes; 0 takes every core.
    label, unit : str
        For the progress line.

    Raises
    ------
    InputError
        If a worker refuses a piece.
    """
    if not pieces:
        return []
    count = min(available_workers(workers), len(pieces))
    dataset = ray.data.from_items(
        [dict(p) for p in pieces], override_num_blocks=len(pieces)
    ).map_batches(
        partial(_one_by_one, worker=worker, arguments=tuple(arguments)),
        batch_format="pandas",
        batch_size=1,
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=count),
    )
    rows = []
    for row in progress(dataset.iter_rows(), len(pieces), label, unit):
        if row["error"]:
            raise InputError(*json.loads(row["error"]))
        rows.append(json.loads(row["answer"]))
    return rows
