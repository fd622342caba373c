from __future__ import annotations

import numpy as np
import pytest

from geminga.sky.law import Variability
from geminga.sky.variability import STEADY, draw_yearly, fit_variability


def test_mean_over_years_is_one() -> None:
    yearly = draw_yearly(np.random.default_rng(0), Variability(sigma=0.7, spread=0.5), 2000, 10)
    assert yearly.shape == (2000, 10)
    assert np.abs(yearly.mean(axis=1) - 1).max() < 1e-14
    assert yearly.min() > 0


def test_scatter_is_the_classes() -> None:
    yearly = draw_yearly(np.random.default_rng(0), Variability(sigma=0.4, spread=0.0), 20_000, 10)
    assert np.sqrt(np.log(yearly).var(axis=1, ddof=1).mean()) == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize(("law", "years"), [(STEADY, 10), (Variability(sigma=0.7, spread=0.4), 1)])
def test_steady_sources_and_single_years_are_ones(law: Variability, years: int) -> None:
    assert np.array_equal(draw_yearly(np.random.default_rng(0), law, 5, years), np.ones((5, years)))


def test_fit_recovers_the_law_through_noise() -> None:
    rng = np.random.default_rng(3)
    law = Variability(sigma=0.6, spread=0.4)
    flux = draw_yearly(rng, law, 4000, 10)
    noisy = flux * (1 + 0.1 * rng.standard_normal(flux.shape))
    fitted = fit_variability(noisy, 0.1 * noisy)
    assert fitted.sigma == pytest.approx(0.6, rel=0.06)
    # Ten years measure a source's scatter to 24 % only, which widens the spread.
    assert 0.35 < fitted.spread < 0.6


def test_noise_alone_is_steady() -> None:
    rng = np.random.default_rng(3)
    flux = 1 + 0.1 * rng.standard_normal((200, 10))
    assert fit_variability(flux, np.full_like(flux, 0.1)) == STEADY


def test_too_few_sources_are_steady() -> None:
    assert fit_variability(np.ones((2, 10)), np.ones((2, 10))) == STEADY
