from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from geminga.arrays import Float64
from geminga.likelihood.excess import LEAST_PHOTONS, mark_excess, smoothing
from geminga.likelihood.field_modes import analyse, cosine_modes, rebin, synthesise
from geminga.likelihood.smooth_ratio import fit_field

RNG = np.random.default_rng(11)
CELLS, MODES = 8, 3


def test_modes_are_orthonormal() -> None:
    basis = cosine_modes(16, 7)
    np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-12)


def test_fields_from_modes_and_back() -> None:
    basis = cosine_modes(16, 5)
    modes, image = RNG.normal(size=(5, 5)), RNG.normal(size=(16, 16))
    field, back, room = np.empty((16, 16)), np.empty((5, 5)), np.empty((16, 5))
    synthesise(basis, np.ascontiguousarray(basis.T), modes, room, field)
    np.testing.assert_allclose(field, basis @ modes @ basis.T, atol=1e-12)
    analyse(basis, image, room, back)
    np.testing.assert_allclose(back, basis.T @ image @ basis, atol=1e-12)


@pytest.mark.parametrize("cells", [4, 8, 16])
def test_cells_hold_the_sums_of_their_pixels(cells: int) -> None:
    image, left_out = RNG.random((16, 16)), RNG.random((16, 16)) < 0.3
    found = np.empty((cells, cells))
    rebin(image, left_out, found)
    step = 16 // cells
    kept = np.where(left_out, 0.0, image)
    np.testing.assert_allclose(found, kept.reshape(cells, step, cells, step).sum(axis=(1, 3)))


def problem(rate: float) -> dict[str, Float64]:
    """Two channels, the second with a tenth of the photons."""
    shape = np.exp(RNG.normal(size=(2, CELLS, CELLS)) * 0.3)
    shape[1] *= 0.1
    interstellar, isotropic = rate * shape, rate * 0.3 * np.ones_like(shape)
    field = 0.4 * np.cos(np.linspace(0, np.pi, CELLS))
    fixed = np.zeros_like(shape)
    fixed[:, 2, 3] = rate
    mean = interstellar * np.exp(field) + isotropic * 1.2 + fixed
    correlation = np.array([[1.0, 0.9], [0.9, 1.0]])
    root = np.linalg.cholesky(correlation)
    return {
        "counts": RNG.poisson(mean).astype(np.float64),
        "interstellar": interstellar,
        "isotropic": isotropic,
        "fixed": fixed,
        "scatter": np.full((2, MODES, MODES), 1.5),
        "mix": np.stack([np.eye(2), root]),
        "norm_mix": 0.3 * root,
    }


def solve(p: dict[str, Float64], basis: Float64, u: Float64, v: Float64, tolerance: float) -> float:
    images = (p["counts"], p["interstellar"], p["isotropic"], p["fixed"])
    matrices = (basis, p["scatter"], p["mix"], p["norm_mix"])
    return fit_field(*images, *matrices, u, v, 50, 100, tolerance)


def cost(x: Float64, p: dict[str, Float64], basis: Float64) -> float:
    """-ln posterior, written out."""
    u, v = x[:-2].reshape(2, MODES, MODES), x[-2:]
    modes = np.einsum("cj,jab->cab", p["mix"][1], u)
    modes[:, 0, 0] = p["mix"][0] @ u[:, 0, 0]
    field = np.einsum("ia,cab,jb->cij", basis, modes * p["scatter"], basis)
    norm = np.exp(p["norm_mix"] @ v)[:, None, None]
    mean = p["interstellar"] * np.exp(field) + p["isotropic"] * norm + p["fixed"]
    return float((mean - p["counts"] * np.log(mean)).sum() + 0.5 * (x**2).sum())


@pytest.mark.parametrize("rate", [0.2, 5.0, 500.0])
def test_the_most_probable_field_is_found(rate: float) -> None:
    p, basis = problem(rate), cosine_modes(CELLS, MODES)
    u, v = np.zeros((2, MODES, MODES)), np.zeros(2)
    determined = solve(p, basis, u, v, 1e-9)
    found = np.concatenate([u.ravel(), v])
    wanted = minimize(cost, np.zeros(20), (p, basis), method="BFGS", options={"gtol": 1e-3}).x
    assert cost(found, p, basis) <= cost(wanted, p, basis) + 1e-6
    np.testing.assert_allclose(found, wanted, atol=0.01)
    assert 0.0 < determined < 16.0


def test_many_photons_determine_more_modes_than_few() -> None:
    basis, determined = cosine_modes(CELLS, MODES), []
    for rate in (0.01, 1.0, 1e4):
        p = problem(rate)
        u, v = np.zeros((2, MODES, MODES)), np.zeros(2)
        determined.append(solve(p, basis, u, v, 0.3))
    assert determined[0] < 2.0 < determined[1] < determined[2]
    assert determined[2] > 14.0


@pytest.mark.parametrize(("width", "step"), [(0.2, 1), (1.4, 1), (5.0, 2), (13.0, 8)])
def test_smoothing_keeps_counts_away_from_the_edge(width: float, step: int) -> None:
    way = smoothing(width, 128)
    assert way.step == step
    assert way.kernel.sum() == pytest.approx(1.0)
    image = np.zeros((128, 128))
    image[64, 63] = 7.0
    assert way(image).sum() == pytest.approx(7.0, rel=1e-6)


def test_excesses_are_rare_in_pure_background_and_found_in_sources() -> None:
    way = smoothing(1.4, 128)
    for rate in (0.01, 0.3, 30.0):
        expected = np.full((128, 128), rate)
        counts = RNG.poisson(expected).astype(np.float64)
        marked = np.zeros((128, 128), dtype=np.bool_)
        mark_excess(way(counts), way(expected), way.kernel, 3.0, 0.0, marked)
        assert marked.mean() < 0.006
        # Fewer photons than this are no excess wherever they are.
        assert LEAST_PHOTONS > 4.0
        counts[60:63, 70:73] += np.ceil(3.0 * np.sqrt(rate) + 1.0)
        mark_excess(way(counts), way(expected), way.kernel, 3.0, 0.0, marked)
        assert marked[61, 71]
        high = np.zeros((128, 128), dtype=np.bool_)
        mark_excess(way(counts), way(expected), way.kernel, 3.0, 1e3, high)
        assert not high.any()


def test_blocks_are_marked_whole() -> None:
    way = smoothing(13.0, 128)
    counts, marked = np.zeros((128, 128)), np.zeros((128, 128), dtype=np.bool_)
    counts[40:56, 40:56] = 5.0
    expected = np.full((128, 128), 0.1)
    mark_excess(way(counts), way(expected), way.kernel, 3.0, 0.0, marked)
    assert marked[48, 48]
    assert not marked[120, 120]
    assert set(marked.reshape(16, 8, 16, 8).sum(axis=(1, 3)).ravel()) == {0, 64}
