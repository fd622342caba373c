"""Sharing pieces of work among workers with Ray Data.

A piece is a small row (which sky, which row group); a worker is a class that is constructed once per
process and called with pieces. What a worker makes goes to files, so that an interrupted stage
goes on where it stopped; only a small row per piece comes back. A process that dies takes one
piece with it, which Ray Data gives to another, as often as it takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import pandas as pd
import pyarrow as pa
import ray.data
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    ConcurrencyCapBackpressurePolicy,
)
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from geminga.distributed.session import cluster_size
from geminga.errors import InputError
from geminga.progress import progress

Piece = Mapping[str, int | float | str]
Worker = Callable[..., "Callable[[Piece], Piece]"]

KEPT = "kept"
"""An answer's key that says whether its files were there from an earlier try; never handed on."""


@lru_cache(maxsize=2)
def _prepared(worker: Worker, arguments: tuple[Any, ...]) -> Callable[[Piece], Piece]:
    """Make a worker once per process; Ray keeps its processes from one stage to the next."""
    return worker(*arguments)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the libraries of this process to one thread: there is a process for every core.

    The process may train a network later, with all the threads it wants.
    """
    before = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        pa.set_cpu_count(before)


def _one_by_one(batch: pd.DataFrame, worker: Worker, arguments: tuple[Any, ...]) -> pd.DataFrame:
    """Answer each row as JSON; an error of the user's comes back as an answer of its own.

    Ray would pass it on as text inside errors of its own, and print each of them.
    """
    rows = []
    for number, text in zip(batch["number"], batch["piece"], strict=True):
        row = {"number": int(number), "answer": "", "error": "", KEPT: False}
        try:
            with one_thread():
                answer = dict(_prepared(worker, arguments)(json.loads(text)))
            row[KEPT] = bool(answer.pop(KEPT, False))
            row["answer"] = json.dumps(answer)
        except InputError as error:
            row["error"] = json.dumps(error.__reduce__()[1])
        rows.append(row)
    return pd.DataFrame(rows)


def run_here(
    worker: Worker, arguments: Sequence[Any], pieces: Sequence[Piece], label: str, unit: str
) -> list[dict[str, Any]]:
    """Do in this process what `run_pieces` spreads: a few pieces are done before Ray has started.

    Parameters, errors and rows as there.
    """
    with one_thread():
        work = worker(*arguments)
        answers = (dict(work(piece)) for piece in pieces)
        rows = list(progress(answers, len(pieces), label, unit, lambda r: bool(r.get(KEPT))))
    return [{key: value for key, value in row.items() if key != KEPT} for row in rows]


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
        returns a flat row. A row with ``kept`` true is of a piece done in an earlier try.
    arguments : sequence
        Small, hashable constructor arguments.
    pieces : sequence of mappings
        Flat rows; each must say all that identifies the piece, so that the answer does not depend
        on which worker does it.
    workers : int
        How many processes; 0 takes every core there is at the start. More than those wait for
        nodes that an autoscaler may bring.
    label, unit : str
        For the progress line.

    Raises
    ------
    InputError
        If a worker refuses a piece.
    """
    if not pieces:
        return []
    # Where every core is wanted a second piece waits for each: a worker that has finished starts at
    # once, and no more run than there are cores. Fewer workers than cores must be held back here.
    cores = max(cluster_size()[0], 1)
    in_flight = workers if 0 < workers < cores else 2 * max(workers, cores)
    dataset = ray.data.from_items(
        [{"number": n, "piece": json.dumps(dict(p))} for n, p in enumerate(pieces)],
        override_num_blocks=len(pieces),
    ).map_batches(
        partial(_one_by_one, worker=worker, arguments=tuple(arguments)),
        batch_format="pandas",
        batch_size=1,
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=min(in_flight, len(pieces))),
    )
    # Answers are counted as they come; one slow piece holds none back.
    dataset.context.execution_options.preserve_order = False
    # Rows are a few bytes: nothing to hold back for memory. Ray Data's budgets would leave all cores
    # but one idle for the first second, and every one for a tenth of a second between pieces.
    dataset.context.set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [ConcurrencyCapBackpressurePolicy]
    )
    answers: dict[int, dict[str, Any]] = {}
    for row in progress(dataset.iter_rows(), len(pieces), label, unit, lambda r: bool(r[KEPT])):
        if row["error"]:
            raise InputError(*json.loads(row["error"]))
        answers[int(row["number"])] = json.loads(row["answer"])
    return [answers[number] for number in range(len(pieces))]
