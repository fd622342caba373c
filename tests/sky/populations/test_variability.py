from __future__ import annotations

import numpy as np
import pytest

from geminga.sky.populations.law import Variability
from geminga.sky.populations.variability import STEADY, draw_yearly, fit_variability


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


@pytest.mark.parametrize("noise", [0.02, 0.06, 0.12])
@pytest.mark.parametrize(
    "law", [Variability(sigma=0.35, spread=0.5), Variability(sigma=0.77, spread=0.3)]
)
def test_fit_recovers_the_law_through_noise(law: Variability, noise: float) -> None:
    """Errors and the few years are taken out: neither scatter nor spread is widened by them."""
    rng = np.random.default_rng(3)
    flux = draw_yearly(rng, law, 3000, 10)
    error = noise * np.sqrt(flux)
    noisy = np.maximum(flux + error * rng.standard_normal(flux.shape), 0.0)
    fitted = fit_variability(noisy, error)
    assert fitted.sigma == pytest.approx(law.sigma, rel=0.08)
    assert fitted.spread == pytest.approx(law.spread, abs=0.12)


def test_noise_alone_is_steady() -> None:
    rng = np.random.default_rng(3)
    flux = 1 + 0.1 * rng.standard_normal((200, 10))
    assert fit_variability(flux, np.full_like(flux, 0.1)) == STEADY


def test_too_few_sources_are_steady() -> None:
    assert fit_variability(np.ones((2, 10)), np.ones((2, 10))) == STEADY
