"""Shares of counts with binomial errors, sqrt(p (1 - p) / n)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Bool, Float64, Int64


@dataclass(frozen=True)
class Rate:
    """One share of n trials.

    Attributes
    ----------
    value, error : float
        Share and its binomial error; NaN without trials.
    n : int
        Number of trials.
    """

    value: float
    error: float
    n: int


@dataclass(frozen=True, eq=False)
class RateArray:
    """Shares of many bins.

    Attributes
    ----------
    value, error : Float64
        Share of each bin and its binomial error, any shape; NaN where n is 0.
    n : Int64
        Number of trials.
    """

    value: Float64
    error: Float64
    n: Int64


def rate(hits: Bool) -> Rate:
    """Return the share of true values in `hits` (n,)."""
    n, k = len(hits), int(np.count_nonzero(hits))
    if n == 0:
        return Rate(math.nan, math.nan, 0)
    p = k / n
    return Rate(p, math.sqrt(p * (1.0 - p) / n), n)


def rate_array(k: Int64, n: Int64) -> RateArray:
    """Return the shares k/n; k and n have the same shape."""
    k, n = np.asarray(k, dtype=np.int64), np.asarray(n, dtype=np.int64)
    p = np.full(n.shape, np.nan)
    np.divide(k, n, out=p, where=n > 0)
    variance = np.full(n.shape, np.nan)
    np.divide(p * (1.0 - p), n, out=variance, where=n > 0)
    return RateArray(p, np.sqrt(variance), n)
