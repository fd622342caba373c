from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from geminga.arrays import Float64
from geminga.config import Config
from geminga.geometry import from_plane, pixel_solid_angle_sr, tangent_frames
from geminga.likelihood.amplitudes import fit_amplitudes
from geminga.likelihood.curvature import equations_of
from geminga.likelihood.local_problem import patch_data, place_sources
from geminga.likelihood.positive import inverse, solve
from geminga.likelihood.source_model import (
    SourceModel,
    Spectra,
    make_source_model,
    make_spectra,
    power_law_integral,
)
from geminga.likelihood.stamps import place
from geminga.patches.psf_lookup import index_weights, psf_lookup
from geminga.patches.render import add_sources as render_sources
from geminga.response import Response, build_response

SIZE = 10.0
BOTH = np.ones(1, np.bool_)


@pytest.fixture(scope="module")
def response2(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def model(response2: Response) -> SourceModel:
    return make_source_model(response2.psf, response2.channels, SIZE)


@pytest.fixture(scope="module")
def spectra(response2: Response) -> Spectra:
    return make_spectra(response2, np.array([30.0]), np.array([50.0]))


def unit_image(model: SourceModel, channel: int, x: float, y: float, index: float) -> list[Float64]:
    """Return image and derivatives of a source of 1e7 counts, and the box it fills."""
    at = np.array([x]), np.array([y])
    stamps = place(model, *at, np.full((1, 2), 1e7))
    stamps.draw(*at, np.array([index]), BOTH)
    box, begin = stamps.box[0, channel], stamps.begin[0, channel]
    shape = box[1] - box[0], box[3] - box[2]
    return [v[begin : begin + shape[0] * shape[1]].reshape(shape) for v in stamps.values]


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize(
    ("x", "y", "index"), [(0.013, 0.02, 2.0), (1.03, -2.02, 2.3), (4.2, 4.31, 3.7), (-4.98, 0, 2)]
)
def test_images_agree_with_the_rendered_sky(
    response2: Response, model: SourceModel, channel: int, x: float, y: float, index: float
) -> None:
    n = int(model.pixels[channel])
    frame = tangent_frames(np.array([40.0]), np.array([20.0]))
    truth = np.zeros((1, 1, n, n), dtype=np.float32)
    lookup = psf_lookup(response2.psf, channel)
    render_sources(
        truth,
        frame,
        float(np.radians(SIZE)),
        from_plane(frame[0], np.array([x]), np.array([y])),
        np.array([1e4]),
        np.array([np.pi]),
        np.ones((1, 1)),
        lookup.density_per_sr,
        lookup.core_rad,
        *index_weights(response2.psf, np.array([index])),
    )
    image = truth[0, 0] * pixel_solid_angle_sr(n, SIZE) / 1e4
    mine = unit_image(model, channel, x, y, index)[0]
    assert mine.shape == image.shape
    assert np.abs(mine - image).max() < 0.005 * image.max()
    assert mine.sum() == pytest.approx(image.sum(), rel=0.002)


@pytest.mark.parametrize("channel", [0, 1])
def test_derivatives(model: SourceModel, channel: int) -> None:
    x, y, h = 2.217, -3.381, 1e-4
    image = unit_image(model, channel, x, y, 2.4)
    for axis, (dx, dy) in enumerate([(h, 0.0), (0.0, h)]):
        after = unit_image(model, channel, x + dx, y + dy, 2.4)[0]
        before = unit_image(model, channel, x - dx, y - dy, 2.4)[0]
        numeric = (after - before) / (2 * h)
        assert np.abs(image[1 + axis] - numeric).max() < 2e-3 * np.abs(numeric).max()


def test_images_change_smoothly_between_indices(model: SourceModel) -> None:
    peaks = [unit_image(model, 0, 0.1, 0.1, g)[0].max() for g in np.linspace(1, 5, 81)]
    assert np.abs(np.diff(peaks)).max() < 0.01 * max(peaks)
    ends = [unit_image(model, 0, 0.1, 0.1, g)[0].sum() for g in (-3.0, 0.9, 1.0)]
    assert ends[0] == ends[1] == ends[2]


def test_reach_grows_with_counts(model: SourceModel) -> None:
    reach = model.reach(np.array([[0.0, 0.0], [10.0, 10.0], [1e3, 1e3], [1e9, 1e9]]))
    assert np.all(np.diff(reach, axis=0) >= 0)
    assert np.all(reach[-1] > 3 * reach[0])
    assert np.all(reach[:, 0] > reach[:, 1])


def test_counts_per_flux(response2: Response, spectra: Spectra) -> None:
    """A power law integrated by a sum over many energies."""
    for index in (1.23, 2.0, 2.71, 4.87):
        counts, slope = spectra.at(np.array([index]))
        for channel, nodes in enumerate(response2.nodes):
            energy = nodes.energy_mev / 1e3
            exposure = response2.exposure_at_nodes(channel, np.array([30.0]), np.array([50.0]))
            norm = (index - 1) / (1.0 - 1e3 ** (1.0 - index))
            law = norm * energy**-index * exposure[:, 0] * nodes.weight / 1e3
            assert counts[0, channel] == pytest.approx(law.sum(), rel=1e-5)
            mean = -(law * np.log(energy)).sum() / law.sum()
            shift = -np.log(norm)  # the derivative of the norm, by differences
            h = 1e-5
            other = (index + h - 1) / (1.0 - 1e3 ** (1.0 - index - h))
            assert slope[0, channel] == pytest.approx(mean + (np.log(other) + shift) / h, abs=2e-3)


def test_power_law_integral() -> None:
    index = np.array([0.5, 1.0, 2.0, 3.0])
    value = power_law_integral(index, 2e3, 8e3)
    np.testing.assert_allclose(value, [2 * (8**0.5 - 2**0.5), np.log(4), 3 / 8, 15 / 128])


def test_band_shares_add_up(spectra: Spectra) -> None:
    edges = np.array([[1e3, 1e4], [1e4, 1e6]])
    np.testing.assert_allclose(spectra.band_share(np.array([1.0, 2.2]), edges).sum(axis=1), 1.0)


def test_spectra_of_each_source(response2: Response) -> None:
    lon, lat = np.array([30.0, 200.0]), np.array([50.0, -70.0])
    both = make_spectra(response2, lon, lat).at(np.array([2.1, 2.9]))[0]
    for i, index in enumerate((2.1, 2.9)):
        single = make_spectra(response2, lon[i : i + 1], lat[i : i + 1])
        np.testing.assert_allclose(both[i], single.at(np.array([index]))[0][0])


def crowd(model: SourceModel, spectra: Spectra, seed: int) -> tuple[object, ...]:
    rng = np.random.default_rng(seed)
    background = [np.full((n, n), b) for n, b in zip(model.pixels, (3.0, 0.05), strict=True)]
    x, y = rng.uniform(-1, 1, 6), rng.uniform(-1, 1, 6)
    data = patch_data(background, background, model, spectra)
    sources = place_sources(data, x, y, np.full(6, 3e-9), np.full(6, 2.2))
    flux = np.array([3e-9, 0.0, 1e-9, 0.0, 5e-9, 2e-10])
    mu = data.background + sources.images(data.layout, flux[:, None] * sources.per_flux)
    return data, sources, rng.poisson(mu).astype(np.float64), flux


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_amplitudes_reach_the_maximum(model: SourceModel, spectra: Spectra, seed: int) -> None:
    """Against a general minimiser with bounds."""
    data, sources, counts, _ = crowd(model, spectra, seed)
    scale = 1e-9

    def cost(a: Float64) -> float:
        mu = data.background + sources.images(data.layout, scale * a[:, None] * sources.per_flux)
        return float((mu - counts * np.log(mu)).sum())

    args = counts, data.background, sources.stamps, sources.per_flux
    for start in (0.0, 1e-9, 1e-6):
        found = fit_amplitudes(*args, np.full(6, start), data.layout) / scale
        other = minimize(cost, np.ones(6), bounds=[(0, None)] * 6, method="L-BFGS-B")
        assert np.all(found >= 0)
        assert cost(found) < other.fun + 1e-4
    only = np.array([True, False, False, True, False, False])
    partly = fit_amplitudes(*args, np.full(6, 7e-9), data.layout, only)
    np.testing.assert_array_equal(partly[~only], 7e-9)


def test_gradient_is_that_of_the_likelihood(model: SourceModel, spectra: Spectra) -> None:
    data, sources, counts, flux = crowd(model, spectra, 4)
    sources.flux = flux + 1e-10
    mu = data.background + sources.images(data.layout)
    counted = replace(data, counts=counts)
    gradient, fisher = equations_of(counted, sources, mu, np.ones(6, np.bool_))
    assert np.linalg.eigvalsh(fisher).min() > -1e-9 * fisher.max()

    def height(values: Float64) -> float:
        x, y, log_flux, index = values.reshape(6, 4).T
        every = np.ones(6, np.bool_)
        # The index changes the counts here; how it changes the PSF is left out of the gradient.
        moved = sources.moved(data, x, y, np.exp(log_flux), sources.index, every)
        per_flux, _ = data.spectra.at(index)
        m = data.background + moved.images(data.layout, moved.flux[:, None] * per_flux)
        return float((counts * np.log(m) - m).sum())

    at = np.column_stack([sources.x_deg, sources.y_deg, np.log(sources.flux), sources.index])
    for k in range(24):
        h = np.zeros(24)
        h[k] = 1e-5
        numeric = (height(at.ravel() + h) - height(at.ravel() - h)) / 2e-5
        assert gradient[k] == pytest.approx(numeric, rel=0.01, abs=0.01 * np.sqrt(fisher[k, k]))


def test_positive_equations() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(20, 30))
    a = a @ a.T
    b = rng.normal(size=20)
    np.testing.assert_allclose(solve(a, b), np.linalg.solve(a, b), rtol=1e-8)
    np.testing.assert_allclose(inverse(a), np.linalg.inv(a), rtol=1e-7, atol=1e-9)
    # A matrix without an inverse gives numbers all the same.
    assert np.isfinite(solve(np.ones((3, 3)), np.ones(3))).all()
