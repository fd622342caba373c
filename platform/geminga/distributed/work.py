"""Sharing pieces of work among workers with Ray Data.

A piece is a small row (which sky, which row group); a worker is a class that is constructed once per
process and called with pieces. What a worker makes goes to files, so that an interrupted stage
goes on where it stopped; only a small row per piece comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import ray.data

from geminga.distributed.session import available_workers
from geminga.progress import progress

Piece = Mapping[str, int | float | str]
Worker = Callable[..., "Callable[[Piece], Piece]"]


class _OneByOne:
    """Calls a worker with one row at a time; Ray Data hands over batches."""

    def __init__(self, worker: Worker, arguments: Sequence[Any]) -> None:
        self.call = worker(*arguments)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            [self.call({str(k): v for k, v in row.items()}) for row in batch.to_dict("records")]
        )


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
        Small, serialisable constructor arguments.
    pieces : sequence of mappings
        Flat rows; each must say all that identifies the piece, so that the answer does not depend
        on which worker does it.
    workers : int
        How many processes; 0 takes every core.
    label, unit : str
        For the progress line.
    """
    if not pieces:
        return []
    count = min(available_workers(workers), len(pieces))
    dataset = ray.data.from_items(
        [dict(p) for p in pieces], override_num_blocks=len(pieces)
    ).map_batches(
        _OneByOne,
        fn_constructor_args=(worker, tuple(arguments)),
        batch_format="pandas",
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=count),
    )
    return list(progress(dataset.iter_rows(), len(pieces), label, unit))
