"""Which part of every batch a worker takes.

Batches are those of one worker, whatever the number of workers: each takes its part of every one
of them. Parts may be unequal, so each says what its mean counts for in the mean over the workers.
"""

from __future__ import annotations

from geminga.arrays import Int64


def part_of_batch(rows: Int64, rank: int, workers: int) -> tuple[Int64, float]:
    """Return a worker's part of the rows of a batch and the weight of the mean over it.

    Parameters
    ----------
    rows : Int64 (n, ...)
        What the batch is made of, in order.
    rank, workers : int
        This worker's number and how many there are.

    Returns
    -------
    rows : Int64 (m, ...)
        The ``rank``-th of equal parts, which differ by one row at most. Never empty: a worker that
        gets nothing of a batch too short for all of them takes its first row, with weight 0, to
        keep step with the others.
    weight : float
        Rows of the part, in units of an equal part: the mean over the workers of weight times mean
        is the mean over the batch.
    """
    n = len(rows)
    mine = rows[n * rank // workers : n * (rank + 1) // workers]
    if not len(mine):
        return rows[:1], 0.0
    return mine, len(mine) * workers / n
