"""Progress of long work, with the time left, that reads well in a terminal and in a job's log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

LOG_INTERVAL_S = 15.0


def progress(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    """Yield the items, showing how many are done, the rate and the time left.

    Parameters
    ----------
    items : iterable
        Results as they arrive.
    total : int
        How many there will be.
    label, unit : str
        What is done, and to what.
    """
    terminal = sys.stderr.isatty()
    yield from tqdm(
        items,
        total=total,
        desc=f"    {label}",
        unit=f" {unit}",
        mininterval=0.2 if terminal else LOG_INTERVAL_S,
        leave=terminal,
        ncols=90,
    )
