"""Symmetries of square images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

N_SYMMETRIES = 8
"""Rotations and reflections that map a square pixel grid on itself."""

N_ROTATIONS = 4


def apply_symmetry(images: NDArray[Any], number: int) -> NDArray[Any]:
    """Turn images (..., n, n) by ``number % 4`` quarter turns; 4 to 7 mirror them first.

    Returns
    -------
    array (..., n, n)
        Number 0 returns the input itself, others a view of it.
    """
    if not 0 <= number < N_SYMMETRIES:
        raise ValueError(f"symmetry {number} is not one of 0 to {N_SYMMETRIES - 1}")
    if number >= N_ROTATIONS:
        images = images[..., ::-1]
    turns = number % N_ROTATIONS
    return np.rot90(images, turns, axes=(-2, -1)) if turns else images
