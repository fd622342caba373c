"""Compilation of inner loops to machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a function on arrays with numba; single-threaded, strict IEEE arithmetic.

    Loops run in the order written, so results have the same bits on any number of workers.
    """
    return cast(F, numba.njit(cache=True, nogil=True)(function))
