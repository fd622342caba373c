"""Progress of long work, with the time left, that reads well in a terminal and in a job's log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

LOG_INTERVAL_S = 15.0
TERMINAL_INTERVAL_S = 0.2
RATE_WINDOW_S = 300.0
"""The rate is that of the last minutes: a cluster grows and shrinks."""
FEWEST_FOR_RATE = 8
"""Items the rate is taken over at least, once there are as many."""


class Rate:
    """How fast items are done: the mean over the last minutes.

    Parameters
    ----------
    start_s : float
        When the work began, seconds of any clock.
    """

    def __init__(self, start_s: float) -> None:
        self._marks = deque([start_s])

    def add(self, now_s: float) -> None:
        """Count an item done at a time."""
        self._marks.append(now_s)
        while len(self._marks) > FEWEST_FOR_RATE + 1 and now_s - self._marks[1] > RATE_WINDOW_S:
            self._marks.popleft()

    def per_second(self, now_s: float) -> float:
        """Return items a second; 0 before the first."""
        elapsed = now_s - self._marks[0]
        return (len(self._marks) - 1) / elapsed if elapsed > 0 else 0.0


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
    start = shown = time.monotonic()
    interval = TERMINAL_INTERVAL_S if terminal else LOG_INTERVAL_S
    rate, done, from_before = Rate(start), 0, 0
    for item in items:
        now = time.monotonic()
        done += 1
        if kept(item):
            from_before += 1
        else:
            rate.add(now)
        if done < total and now - shown >= interval:
            _show(line(label, unit, done, total, from_before, rate.per_second(now)), terminal)
            shown = now
        yield item
    fresh, elapsed = done - from_before, time.monotonic() - start
    mean = fresh / elapsed if elapsed > 0 else 0.0
    text = line(label, unit, done, total, from_before, mean)
    _show(f"{text}, {duration(elapsed)}" if done == total else text, terminal)
    if terminal:
        sys.stderr.write("\n")


def line(label: str, unit: str, done: int, total: int, from_before: int, per_second: float) -> str:
    """Return the line of progress.

    Parameters
    ----------
    label, unit : str
        What is done, and to what.
    done, total : int
        How many are done, and how many there will be.
    from_before : int
        How many of those done were there from an earlier try.
    per_second : float
        Items a second; 0 if not known yet.
    """
    many = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    parts = [f"    {label}: {done}/{total} {many}"]
    if from_before:
        parts[0] += f" ({from_before} from before)"
    if per_second > 0:
        parts.append(f"{60 * per_second:.3g} {many}/min")
        if done < total:
            parts.append(f"{duration((total - done) / per_second)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: ``2 h 05 min``, ``3 min 20 s``, ``45 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _show(text: str, terminal: bool) -> None:
    # The end of a longer line before is cleared.
    sys.stderr.write(f"\r{text}\x1b[K" if terminal else f"{text}\n")
    sys.stderr.flush()
