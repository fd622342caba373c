from __future__ import annotations

import numpy as np
import pytest

from geminga.likelihood.peaks import local_maxima


def test_local_maxima() -> None:
    y, x = np.mgrid[:40, :40]
    image = 100 - (y - 20.3) ** 2 - (x - 11.6) ** 2
    patch, row, column, value = local_maxima(image[None], 10.0, 3.0)
    assert patch.tolist() == [0]
    np.testing.assert_allclose([row[0], column[0]], [20.3, 11.6])
    assert value[0] == pytest.approx(99.75)
    # A plateau is one maximum; so is the corner of a slope, without a parabola there.
    flat = np.zeros((1, 10, 10))
    flat[0, 4:6, 4:6] = 1.0
    assert len(local_maxima(flat, 0.5, 1.0)[0]) == 1
    slope = np.add.outer(np.arange(10.0), np.arange(10.0))[None]
    _, row, column, _ = local_maxima(slope, 1.0, 2.0)
    assert (row.tolist(), column.tolist()) == ([9.0], [9.0])
    assert len(local_maxima(np.zeros((2, 8, 8)), 1.0, 2.0)[0]) == 0
