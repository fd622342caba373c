from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from geminga.arrays import Float64
from geminga.bands import Band, Channel
from geminga.config import Config, ImageConfig
from geminga.likelihood.fit import fit_patch
from geminga.likelihood.local_problem import patch_data, place_sources
from geminga.likelihood.measure import PatchFit
from geminga.likelihood.profile import ts_of
from geminga.likelihood.source_model import SourceModel, Spectra, make_source_model, make_spectra
from geminga.response import Response, build_response
from geminga.sections import LikelihoodConfig

SETTINGS = LikelihoodConfig()
SIZE = 10.0


@dataclass
class Patch:
    """A patch with a flat background, and what its sources are expected to look like."""

    model: SourceModel
    spectra: Spectra
    background: list[Float64]

    def expected(self, x: Float64, y: Float64, flux: Float64, index: Float64) -> list[Float64]:
        data = patch_data(self.background, self.background, self.model, self.spectra)
        # Laid out for brighter sources than they are: nothing is cut off.
        sources = place_sources(data, x, y, 1e4 * flux + 1e-8, index)
        image = sources.images(data.layout, flux[:, None] * sources.per_flux)
        return self.split(data.background + image)

    def split(self, flat: Float64) -> list[Float64]:
        cut = np.split(flat, self.model.start[1:-1])
        return [part.reshape(n, n) for part, n in zip(cut, self.model.pixels, strict=True)]

    def fit(self, counts: list[Float64], x: Float64, y: Float64, flux: Float64) -> PatchFit:
        index = np.full(len(x), 2.2)
        return fit_patch(
            counts, self.background, x, y, flux, index, self.model, self.spectra, SETTINGS
        )


def flat_background(channels: tuple[Channel, ...], level: float = 1.0) -> list[Float64]:
    """About the emission far from the plane, per pixel, in ten years."""
    solid = [(SIZE / c.pixels) ** 2 for c in channels]
    per_deg2 = [480.0 * (c.emin_gev / 0.3) ** -1.9 for c in channels]
    return [
        np.full((c.pixels, c.pixels), level * s * b)
        for c, s, b in zip(channels, solid, per_deg2, strict=True)
    ]


BANDS4 = (
    Band(emin_gev=0.5, emax_gev=1, nside=128, pixels=32),
    Band(emin_gev=1, emax_gev=3, nside=256, pixels=64),
    Band(emin_gev=3, emax_gev=10, nside=512, pixels=128),
    Band(emin_gev=10, emax_gev=2000, nside=512, pixels=128),
)


@pytest.fixture(scope="module")
def response4() -> Response:
    return build_response(Config(name="fit", bands=BANDS4, images=ImageConfig(box_deg=(2.0,) * 4)))


def make_patch(response: Response, level: float = 1.0) -> Patch:
    return Patch(
        make_source_model(response.psf, response.channels, SIZE),
        make_spectra(response, np.array([30.0]), np.array([50.0])),
        flat_background(response.channels, level),
    )


@pytest.fixture(scope="module")
def patch(response4: Response) -> Patch:
    return make_patch(response4)


def one(*values: float) -> tuple[Float64, ...]:
    return tuple(np.array([v]) for v in values)


def pulls(patch: Patch, flux: float, draws: int) -> Float64:
    """Return pulls of x, y, ln flux and index of an isolated source, (draws, 4)."""
    rng = np.random.default_rng(4)
    x, y, f, index = one(1.03, -2.01, flux, 2.3)
    mu = patch.expected(x, y, f, index)
    rows = []
    for _ in range(draws):
        start = rng.normal(0, 0.05, 2)
        fit = patch.fit([rng.poisson(m) for m in mu], x + start[0], y + start[1], 0.0 * f)
        assert fit.converged[0]
        cov = fit.position_covariance[0]
        rows.append(
            (
                (fit.x_deg[0] - x[0]) / np.sqrt(cov[0, 0]),
                (fit.y_deg[0] - y[0]) / np.sqrt(cov[1, 1]),
                np.log(fit.flux[0] / flux) / (fit.flux_error[0] / fit.flux[0]),
                (fit.index[0] - 2.3) / fit.index_error[0],
            )
        )
    return np.array(rows)


def test_expected_counts_give_back_their_source(patch: Patch) -> None:
    x, y, flux, index = one(1.031, -2.017, 1e-9, 2.3)
    fit = patch.fit(patch.expected(x, y, flux, index), x + 0.08, y - 0.05, 0.0 * flux)
    sigma = np.sqrt(np.diagonal(fit.position_covariance[0]))
    assert fit.converged.all()
    assert abs(fit.x_deg - x)[0] < 0.005 * sigma[0]
    assert abs(fit.y_deg - y)[0] < 0.005 * sigma[1]
    assert abs(fit.flux - flux)[0] < 0.005 * fit.flux_error[0]
    assert abs(fit.index - index)[0] < 0.001 * fit.index_error[0]
    expected = flux[:, None] * patch.spectra.at(index)[0]
    np.testing.assert_allclose(fit.counts, expected, rtol=2e-3)
    share = patch.spectra.band_share(index, patch.model.edges_mev)
    np.testing.assert_allclose(fit.band_flux, flux[:, None] * share, rtol=2e-3)
    # The TS of expected counts is 2 sum (s + b) ln(1 + s/b) - s.
    s = [e - b for e, b in zip(patch.expected(x, y, flux, index), patch.background, strict=True)]
    asimov = sum(
        2 * ((q + b) * np.log1p(q / b) - q).sum() for q, b in zip(s, patch.background, strict=True)
    )
    assert fit.ts[0] == pytest.approx(asimov, rel=0.01)
    alone = ts_of(
        patch.expected(x, y, flux, index),
        patch.background,
        x[0],
        y[0],
        patch.model,
        patch.spectra,
    )
    assert alone.ts == pytest.approx(asimov, rel=0.01)
    assert alone.flux == pytest.approx(1e-9, rel=0.01)
    assert alone.index == pytest.approx(2.3, abs=0.01)


@pytest.mark.parametrize(("flux", "wide"), [(5e-9, 1.0), (6e-10, 1.06)])
def test_pulls_are_normal(patch: Patch, flux: float, wide: float) -> None:
    z = pulls(patch, flux, 200)
    assert np.all(np.abs(z.mean(axis=0)) < 3.5 / np.sqrt(200)), z.mean(axis=0)
    # The width of 200 draws is known to 5 %. A faint source's positions have longer tails than a
    # normal law, and its index is pulled to the prior.
    assert np.all(np.abs(z.std(axis=0)[:3] - wide) < 0.16), z.std(axis=0)
    assert z[:, 3].std() < 1.16


@pytest.mark.parametrize(("level", "zeros"), [(50.0, 0.5), (1.0, 0.63)])
def test_ts_where_nothing_is_follows_half_a_chi_square(
    response4: Response, level: float, zeros: float
) -> None:
    """Where photons are few, rare ones decide: more than half of the places have no excess."""
    patch = make_patch(response4, level)
    rng = np.random.default_rng(5)
    ts = []
    for _ in range(250):
        counts = [rng.poisson(b) for b in patch.background]
        for x in (-2.5, 2.5):
            place = ts_of(counts, patch.background, x, 0.02, patch.model, patch.spectra, index=2.2)
            ts.append(place.ts)
    values = np.array(ts)
    assert abs((values == 0).mean() - zeros) < 0.08
    # Half a chi-square of one degree of freedom: 15.9 % above 1, 2.3 % above 4.
    assert abs((values > 1).mean() - 0.159) < 0.055
    assert abs((values > 4).mean() - 0.023) < 0.022


@pytest.mark.parametrize("apart", [0.15, 0.3])
def test_two_close_sources(patch: Patch, apart: float) -> None:
    x, y = np.array([0.5, 0.5 + apart]), np.array([-0.3, -0.3])
    flux, index = np.array([3e-9, 2e-9]), np.array([2.1, 2.5])
    mu = patch.expected(x, y, flux, index)
    fit = patch.fit(mu, x + np.array([0.02, -0.02]), y + np.array([0.02, -0.01]), 0.0 * flux)
    sigma = np.sqrt(np.diagonal(fit.position_covariance, axis1=1, axis2=2))
    assert fit.converged.all()
    assert np.all(np.abs(fit.x_deg - x) < 0.2 * sigma[:, 0])
    assert np.all(np.abs(fit.y_deg - y) < 0.2 * sigma[:, 1])
    assert np.all(np.abs(fit.flux - flux) < 0.2 * fit.flux_error)
    rng = np.random.default_rng(6)
    z = []
    for _ in range(60):
        noisy = patch.fit([rng.poisson(m) for m in mu], x, y, flux)
        s = np.sqrt(np.diagonal(noisy.position_covariance, axis1=1, axis2=2))
        z.append([(noisy.x_deg - x) / s[:, 0], (noisy.flux - flux) / noisy.flux_error])
    assert np.all(np.abs(np.mean(z, axis=0)) < 0.5)
    assert 0.75 < np.std(z) < 1.25


def test_neighbours_take_over_part_of_a_removed_source(patch: Patch) -> None:
    x, y = np.array([0.5, 0.65]), np.array([-0.3, -0.3])
    flux, index = np.array([1e-9, 1e-9]), np.array([2.3, 2.3])
    together = patch.fit(patch.expected(x, y, flux, index), x, y, flux)
    alone = patch.fit(patch.expected(x[:1], y[:1], flux[:1], index[:1]), x[:1], y[:1], flux[:1])
    assert 9 < together.ts[0] < 0.6 * alone.ts[0]


def test_one_source_taken_for_two(patch: Patch) -> None:
    """The second half is worth what two free numbers more are worth, and no more."""
    x, y, flux, index = one(0.0, 0.0, 5e-8, 2.2)
    mu = patch.expected(x, y, flux, index)
    rng = np.random.default_rng(12)
    for _ in range(3):
        counts = [rng.poisson(m) for m in mu]
        fit = patch.fit(counts, np.array([0.0, 0.02]), np.array([0.0, 0.01]), np.array([1e-9] * 2))
        assert fit.ts.min() < 15
        assert fit.flux.sum() == pytest.approx(5e-8, rel=0.05)


def test_source_at_the_edge(patch: Patch) -> None:
    x, y, flux, index = one(4.98, -4.97, 5e-9, 2.3)
    fit = patch.fit(patch.expected(x, y, flux, index), x - 0.05, y + 0.03, 0.0 * flux)
    sigma = np.sqrt(np.diagonal(fit.position_covariance[0]))
    assert abs(fit.x_deg - x)[0] < 0.05 * sigma[0]
    assert abs(fit.flux - flux)[0] < 0.05 * fit.flux_error[0]
    # A quarter of its photons are in the patch.
    inside = patch.fit(patch.expected(*one(0, 0), flux, index), *one(0, 0), flux)
    assert inside.flux_error[0] < 0.7 * fit.flux_error[0]


def test_source_outside_the_patch_is_harmless(patch: Patch) -> None:
    x, y, flux, index = one(1.0, 1.0, 1e-9, 2.3)
    mu = patch.expected(x, y, flux, index)
    fit = patch.fit(mu, np.array([1.0, 30.0]), np.array([1.0, 2.0]), np.array([1e-9, 1e-9]))
    assert fit.flux[0] == pytest.approx(1e-9, rel=0.01)
    assert np.isfinite(fit.position_covariance).all()
    assert fit.ts[1] < 1e-6


def test_no_photons(patch: Patch) -> None:
    x, y, flux = np.array([1.0, 3.0]), np.array([1.0, -2.0]), np.array([1e-9, 0.0])
    fit = patch.fit([np.zeros_like(b) for b in patch.background], x, y, flux)
    assert np.all(fit.flux == 0)
    assert np.all(fit.ts == 0)
    assert np.all(fit.counts == 0)
    # lnL falls by one for every count expected: half a count is the error.
    total = patch.spectra.at(np.array([2.2, 2.2]))[0].sum(axis=1)
    np.testing.assert_allclose(fit.flux_error, 0.5 / total, rtol=0.06)
    np.testing.assert_allclose(fit.counts_error, 0.5, rtol=0.12)
    assert fit.converged.all()
    assert np.isfinite(fit.position_covariance).all()
    np.testing.assert_array_equal(fit.x_deg, x)


def test_no_sources(patch: Patch) -> None:
    fit = patch.fit(patch.background, np.zeros(0), np.zeros(0), np.zeros(0))
    assert len(fit) == 0
    assert fit.counts.shape == (0, 4)
    assert all(np.all(image == 0) for image in fit.model_images)


def test_hardly_any_background(response4: Response) -> None:
    patch = make_patch(response4, 0.0)
    rng = np.random.default_rng(8)
    x, y, flux, index = one(0.3, 0.4, 2e-10, 2.2)
    mu = patch.expected(x, y, flux, index)
    values = []
    for _ in range(30):
        fit = patch.fit([rng.poisson(m) for m in mu], x + 0.1, y, 0.0 * flux)
        values.append((fit.flux[0] - flux[0]) / fit.flux_error[0])
        assert np.isfinite(fit.ts[0])
        assert fit.ts[0] > 50
    assert abs(np.mean(values)) < 0.7
    assert 0.7 < np.std(values) < 1.4


def test_a_hundred_thousand_counts_in_one_source(patch: Patch) -> None:
    per_flux = patch.spectra.at(np.array([2.1]))[0].sum()
    x, y = np.array([0.02, 0.6]), np.array([0.05, 0.4])
    flux, index = np.array([1e5 / per_flux, 1e-9]), np.array([2.1, 2.3])
    mu = patch.expected(x, y, flux, index)
    fit = patch.fit([np.random.default_rng(9).poisson(m) for m in mu], x + 0.06, y, 0 * flux)
    sigma = np.sqrt(np.diagonal(fit.position_covariance, axis1=1, axis2=2))
    assert fit.converged.all()
    assert np.all(sigma[0] < 0.001)
    assert np.all(np.abs(fit.x_deg - x) < 4 * sigma[:, 0])
    assert np.all(np.abs(fit.y_deg - y) < 4 * sigma[:, 1])
    assert np.all(np.abs(fit.flux - flux) < 4 * fit.flux_error)
    assert fit.flux_error[0] / fit.flux[0] == pytest.approx(1e5**-0.5, rel=0.3)
    assert np.all(np.abs(fit.goodness) < 5)


def test_a_hot_pixel_is_no_disaster(patch: Patch) -> None:
    x, y, flux = np.array([0.05, 2.0]), np.array([0.02, 1.0]), np.array([0.0, 1e-9])
    for channel in range(4):
        counts = [b.copy() for b in patch.background]
        counts[channel][counts[channel].shape[0] // 2, counts[channel].shape[0] // 2] = 1e9
        fit = patch.fit(counts, x, y, flux)
        assert fit.goodness[0] > 1e3
        assert fit.counts[0].max() == pytest.approx(1e9, rel=0.05)
        for field in (fit.flux_error, fit.ts, fit.position_covariance, fit.band_flux_error):
            assert np.isfinite(field).all()


def test_a_wide_source_fits_badly(patch: Patch) -> None:
    """Photons spread over half a degree are no point source, and the goodness says so."""
    rng = np.random.default_rng(10)
    n = 300
    x, y = rng.normal(0, 0.5, n), rng.normal(0, 0.5, n)
    mu = patch.expected(x, y, np.full(n, 1e-8 / n), np.full(n, 2.0))
    fit = patch.fit([rng.poisson(m) for m in mu], *one(0.0, 0.0, 1e-8))
    assert fit.goodness[0] > 5


def test_one_band() -> None:
    bands = (Band(emin_gev=2, emax_gev=7, nside=512, pixels=128),)
    patch = make_patch(
        build_response(Config(name="one", bands=bands, images=ImageConfig(box_deg=(2.0,))))
    )
    x, y, flux, index = one(-1.0, 2.0, 2e-9, 2.5)
    fit = patch.fit(patch.expected(x, y, flux, index), x + 0.05, y, 0.0 * flux)
    assert fit.converged[0]
    assert fit.counts.shape == (1, 1)
    assert abs(fit.x_deg - x)[0] < 1e-3
    # One band tells nothing of the index: the prior is what is left.
    assert fit.index[0] == pytest.approx(2.3, abs=0.05)
    assert fit.index_error[0] == pytest.approx(0.4, rel=0.1)
    np.testing.assert_allclose(fit.counts, flux * patch.spectra.at(index)[0], rtol=0.01)


def test_model_images_add_up(patch: Patch) -> None:
    x, y = np.array([0.5, -2.0]), np.array([-0.3, 3.0])
    flux, index = np.array([3e-9, 2e-9]), np.array([2.1, 2.5])
    mu = patch.expected(x, y, flux, index)
    fit = patch.fit(mu, x, y, flux)
    for image, total, b in zip(fit.model_images, mu, patch.background, strict=True):
        assert np.abs(image - (total - b)).max() < 0.01 * (total - b).max()


def test_shift_is_bounded(patch: Patch) -> None:
    x, y, flux, index = one(0.0, 0.0, 1e-8, 2.2)
    fit = patch.fit(patch.expected(x, y, flux, index), x + 0.6, y, 0.0 * flux)
    assert np.hypot(fit.x_deg - 0.6, fit.y_deg)[0] == pytest.approx(0.4, rel=1e-3)
    assert not fit.converged[0]


def test_results_do_not_depend_on_the_type_of_counts(patch: Patch) -> None:
    x, y, flux, index = one(0.0, 0.0, 1e-9, 2.2)
    counts = [np.random.default_rng(2).poisson(m) for m in patch.expected(x, y, flux, index)]
    a = patch.fit(counts, x, y, flux)
    b = patch.fit([c.astype(np.float32) for c in counts], x, y, flux)
    assert a.x_deg.tobytes() == b.x_deg.tobytes()
    assert a.ts.tobytes() == b.ts.tobytes()


def test_bad_arguments(patch: Patch) -> None:
    x, y, flux = one(0.0, 0.0, 1e-9)
    with pytest.raises(ValueError, match="counts of shapes"):
        patch.fit(patch.background[:2], x, y, flux)
    with pytest.raises(ValueError, match="counts are negative"):
        patch.fit([-b for b in patch.background], x, y, flux)
    with pytest.raises(ValueError, match="not finite"):
        patch.fit([b * np.nan for b in patch.background], x, y, flux)
    with pytest.raises(ValueError, match="finite arrays"):
        patch.fit(patch.background, x * np.nan, y, flux)
    three = Spectra(patch.spectra.index, np.repeat(patch.spectra.coefficients, 3, axis=0))
    with pytest.raises(ValueError, match="spectra of 3 places, 1 sources"):
        fit_patch(
            patch.background, patch.background, x, y, flux, x + 2, patch.model, three, SETTINGS
        )
    two = Spectra(patch.spectra.index, patch.spectra.coefficients[:, :2])
    with pytest.raises(ValueError, match="spectra of 2 channels, images of 4"):
        fit_patch(patch.background, patch.background, x, y, flux, x + 2, patch.model, two, SETTINGS)
    wide = SETTINGS.model_copy(update={"fit_index_limits": (0.5, 5.0)})
    with pytest.raises(ValueError, match=r"indices 1 to 5, fits from 0\.5 to 5"):
        fit_patch(
            patch.background, patch.background, x, y, flux, x, patch.model, patch.spectra, wide
        )


def test_index_limits_that_leave_the_prior_out() -> None:
    with pytest.raises(ValueError, match="do not hold the mean of fit_index_prior"):
        LikelihoodConfig(fit_index_limits=(3.0, 5.0))
