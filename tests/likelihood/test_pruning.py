"""Which of the sources fitted to a patch are one, and which are given up."""

from __future__ import annotations

import numpy as np

from geminga.likelihood.pruning import given_up, without_twins


def test_twins_are_added_to_the_brightest() -> None:
    x, y = np.array([0.0, 0.03, 0.06, 1.0, 1.02]), np.zeros(5)
    rows, flux = without_twins(x, y, np.array([1.0, 5.0, 2.0, 1.0, 1.0]))
    assert rows.tolist() == [1, 3]
    assert flux[rows].tolist() == [8.0, 2.0]
    none = np.empty(0)
    assert without_twins(none, none, none)[0].tolist() == []


def test_of_two_that_share_a_source_the_fainter_goes_first() -> None:
    x, y = np.array([0.0, 0.2, 2.0, 4.0, 4.2]), np.zeros(5)
    flux, ts = np.array([5.0, 1.0, 1.0, 3.0, 1.0]), np.array([3.0, 2.0, 1.0, 50.0, 20.0])
    gone, again = given_up(x, y, flux, ts, 6.0)
    assert gone.tolist() == [False, True, True, False, False]
    assert again, "the first has to be measured without the second"
    gone, again = given_up(x[2:], y[2:], flux[2:], ts[2:], 6.0)
    assert gone.tolist() == [True, False, False]
    assert not again, "none was close to what went"
