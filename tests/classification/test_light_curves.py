from __future__ import annotations

import numpy as np
import pytest

from geminga.arrays import Float64
from geminga.classification.light_curves import (
    amplitudes,
    excess_variance,
    summed_amplitudes,
    variability_index,
)

YEARS = 10


def model(n: int, total: float, background: float) -> tuple[Float64, Float64, Float64]:
    """Own and other counts (n, 1, q) of a Gaussian on a flat background, and shares."""
    x = np.arange(-5.0, 6.0)
    profile = np.exp(-(x[:, None] ** 2 + x**2) / 8.0).ravel()
    own = total * profile / profile.sum()
    rest = np.full_like(own, background)
    shape = (n, 1, len(own))
    return (
        np.broadcast_to(own, shape).copy(),
        np.broadcast_to(rest, shape).copy(),
        np.full((n, YEARS), 1.0 / YEARS),
    )


def drawn(own: Float64, rest: Float64, share: Float64, factor: Float64, seed: int = 0) -> Float64:
    mu = share[:, None, :, None] * (factor[:, None, :, None] * own[:, :, None] + rest[:, :, None])
    return np.random.default_rng(seed).poisson(mu).astype(np.uint32)


@pytest.mark.parametrize(("total", "background"), [(60.0, 4.0), (400.0, 4.0), (20000.0, 0.5)])
def test_pulls_of_constant_sources_are_standard(total: float, background: float) -> None:
    own, rest, share = model(400, total, background)
    a, e = amplitudes(drawn(own, rest, share, np.ones_like(share)), own, rest, share)
    pull = ((a - 1.0) / e).ravel()
    assert abs(pull.mean()) < 0.07
    assert 0.93 < np.sqrt((pull**2).mean()) < 1.07


def test_pulls_of_variable_sources_are_standard() -> None:
    own, rest, share = model(400, 500.0, 2.0)
    factor = np.random.default_rng(1).lognormal(-0.3, 0.7, share.shape)
    a, e = amplitudes(drawn(own, rest, share, factor), own, rest, share)
    pull = ((a - factor) / e).ravel()
    assert abs(pull.mean()) < 0.08
    assert 0.9 < np.sqrt((pull**2).mean()) < 1.1


def test_expected_counts_give_the_factors() -> None:
    own, rest, share = model(1, 1e7, 1e4)
    factor = np.linspace(0.1, 5.0, YEARS)[None]
    mu = share[:, None, :, None] * (factor[:, None, :, None] * own[:, :, None] + rest[:, :, None])
    a, _ = amplitudes(np.round(mu).astype(np.uint32), own, rest, share)
    assert a == pytest.approx(factor, rel=1e-3, abs=1e-3)


def test_weighted_photons_beat_the_sum() -> None:
    own, rest, share = model(200, 100.0, 4.0)
    counts = drawn(own, rest, share, np.ones_like(share))
    _, e = amplitudes(counts, own, rest, share)
    everything = np.ones((1, own.shape[2]), np.bool_)
    b, f = summed_amplitudes(counts, own, rest, share, everything)
    assert e.mean() < 0.8 * f.mean()
    pull = ((b - 1.0) / f).ravel()
    assert abs(pull.mean()) < 0.07
    assert 0.93 < np.sqrt((pull**2).mean()) < 1.07


def test_years_without_photons_or_exposure() -> None:
    own, rest, share = model(2, 30.0, 0.0)
    rest[1] = 1.0
    share[:, 3] = 0.0
    counts = np.zeros((2, 1, YEARS, own.shape[2]), np.uint32)
    everything = np.ones((1, own.shape[2]), np.bool_)
    for a, e in (
        amplitudes(counts, own, rest, share),
        summed_amplitudes(counts, own, rest, share, everything),
    ):
        assert np.isnan(a[:, 3]).all()
        assert np.isnan(e[:, 3]).all()
        others = np.delete(np.arange(YEARS), 3)
        assert np.isfinite(a[:, others]).all()
        assert (e[:, others] > 0).all()
        assert (a[0, others] < 0.01).all()


def test_a_source_that_is_nowhere_has_no_light_curve() -> None:
    own, rest, share = model(1, 0.0, 1.0)
    counts = drawn(own, rest, share, np.ones_like(share))
    everything = np.ones((1, own.shape[2]), np.bool_)
    for a, e in (
        amplitudes(counts, own, rest, share),
        summed_amplitudes(counts, own, rest, share, everything),
    ):
        assert np.isnan(a).all()
        assert np.isnan(e).all()


def test_variability_index_of_constant_sources_is_chi2() -> None:
    rng = np.random.default_rng(0)
    error = rng.uniform(0.1, 2.0, (4000, YEARS))
    index = variability_index(1.0 + error * rng.normal(size=error.shape), error)
    assert index.mean() == pytest.approx(YEARS - 1, rel=0.03)
    assert index.var() == pytest.approx(2 * (YEARS - 1), rel=0.1)


def test_excess_variance_is_that_of_the_source() -> None:
    rng = np.random.default_rng(0)
    error = rng.uniform(0.1, 0.5, (20000, YEARS))
    ratio = 1.0 + 0.4 * rng.normal(size=error.shape) + error * rng.normal(size=error.shape)
    assert excess_variance(ratio, error).mean() == pytest.approx(0.16, abs=0.005)
    still = excess_variance(1.0 + error * rng.normal(size=error.shape), error)
    assert still.mean() == pytest.approx(0.0, abs=0.003)


def test_missing_years_are_left_out() -> None:
    ratio, error = np.array([[1.0, 2.0, 1.5, 0.5]]), np.array([[0.1, 0.2, 0.1, 0.3]])
    gap, none = ratio.copy(), error.copy()
    gap[0, 1], none[0, 3] = np.nan, 0.0
    kept = [0, 2]
    for measure in (variability_index, excess_variance):
        assert measure(gap, none) == pytest.approx(measure(ratio[:, kept], error[:, kept]))
        assert np.isnan(measure(ratio[:, :1], error[:, :1])).all()
        assert np.isnan(measure(ratio[:, :0], error[:, :0])).all()
        assert measure(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
