"""Progress of long work, with the time left, that reads well in a terminal and in a job's log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LOG_INTERVAL_S = 15.0
TERMINAL_INTERVAL_S = 0.2
LAYOUT = "{desc}: {n_fmt}/{total_fmt} {unit}, {rate_fmt}, {elapsed} so far, {remaining} left"


class _Lines:
    """A stream that gets every state of a bar as a line of its own, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write a state without the returns that would put it over the one before."""
        state = text.strip("\r\n ")
        if state:
            self._stream.write(f"    {state}\n")

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()


def progress(
    items: Iterable[T],
    total: int,
    label: str,
    unit: str,
    kept: Callable[[T], bool] = lambda _: False,
) -> Iterator[T]:
    """Yield the items, showing on standard error how many are done, the rate and the time left.

    A terminal has one line that is written over; a log gets a whole line every 15 seconds and one
    at the end.

    Parameters
    ----------
    items : iterable
        Results as they arrive.
    total : int
        How many there will be.
    label, unit : str
        What is done, and to what (one of them: ``sky``).
    kept : callable, optional
        Whether an item was there from an earlier try: it is done, but says nothing of the rate.
    """
    terminal = sys.stderr.isatty()
    with tqdm(
        total=total,
        desc=f"    {label}" if terminal else label,
        unit=unit,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        mininterval=TERMINAL_INTERVAL_S if terminal else LOG_INTERVAL_S,
        miniters=1,
        smoothing=0,
        bar_format=LAYOUT,
        leave=terminal,
    ) as bar:
        name, from_before = bar.desc.removesuffix(": "), 0
        for item in items:
            if kept(item):
                from_before += 1
                bar.initial = from_before
                bar.set_description_str(f"{name} ({from_before} from before)", refresh=False)
            bar.update()
            yield item
        if not terminal and bar.last_print_n < bar.n:
            bar.refresh()
