from __future__ import annotations

import numpy as np
import pytest

from geminga.evaluation.working_points import LATITUDES, flux_crossings


def test_crossing_between_two_fluxes_is_interpolated_in_the_logarithm() -> None:
    got = flux_crossings(
        np.array([-10.0, -9.0]), np.array([10.0, 10.0]), np.array([0.0, 10.0]), [0.5, 0.9]
    )
    assert got == pytest.approx([10**-9.5, 10**-9.1])


def test_a_dip_is_pooled_with_its_neighbour() -> None:
    # 0.2, then 0.8 and 0.6 of ten each pool to 0.7: 0.9 is never reached.
    got = flux_crossings(
        np.array([-10.0, -9.5, -9.0]), np.full(3, 10.0), np.array([2.0, 8.0, 6.0]), [0.45, 0.7, 0.9]
    )
    assert got[:2] == pytest.approx([10**-9.75, 10**-9.5])
    assert np.isnan(got[2])


def test_complete_everywhere_gives_the_faintest_flux_and_nothing_gives_none() -> None:
    x = np.array([-10.0, -9.0])
    full = np.array([3.0, 4.0])
    assert flux_crossings(x, full, full, [0.5, 1.0]) == pytest.approx([1e-10, 1e-10])
    assert np.isnan(flux_crossings(x, full, 0 * full, [0.5])).all()
    assert np.isnan(flux_crossings(x, 0 * full, 0 * full, [0.5])).all()
    assert np.isnan(flux_crossings(np.zeros(0), np.zeros(0), np.zeros(0), [0.5])).all()


def test_a_known_curve_is_recovered() -> None:
    # Logistic in the decimal logarithm, centred at 2e-10, width 0.1: 0.9 lies 0.1 ln 9 above.
    rng = np.random.default_rng(1)
    edges = np.linspace(-10.5, -8.5, 101)
    x = (edges[1:] + edges[:-1]) / 2
    centre = np.log10(2e-10)
    p = 1 / (1 + np.exp(-(x - centre) / 0.1))
    n = np.full(len(x), 400.0)
    got = flux_crossings(x, n, rng.binomial(400, p).astype(float), [0.5, 0.9])
    assert np.log10(got) == pytest.approx([centre, centre + 0.1 * np.log(9)], abs=0.025)


def test_latitudes_part_the_sky() -> None:
    b = np.array([-90.0, -20.0, -19.999, 10.0, 9.999, 0.0, 90.0])
    inside = {latitude.name: latitude.holds(b).tolist() for latitude in LATITUDES}
    assert inside["all"] == [True] * 7
    assert inside["|b| > 20"] == [True, True, False, False, False, False, True]
    assert inside["|b| 10-20"] == [False, False, True, True, False, False, False]
    assert inside["|b| < 10"] == [False, False, False, False, True, True, False]
    assert inside["|b| < 20"] == [False, False, True, True, True, True, False]
