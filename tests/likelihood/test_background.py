from __future__ import annotations

from dataclasses import replace

import healpy
import numpy as np
import pytest

from geminga.arrays import Float64
from geminga.bands import Band
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import pixel_solid_angle_sr, tangent_frames
from geminga.likelihood.background import estimate_background
from geminga.likelihood.background_prior import BackgroundPrior, background_prior
from geminga.likelihood.diffuse_templates import Templates, diffuse_templates
from geminga.likelihood.limits import LEAST_BACKGROUND
from geminga.patches.render import diffuse_images, expected_images
from geminga.response import Response, build_response
from geminga.sections import LikelihoodConfig, ResponseConfig
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky

SIZE = 10.0
SETTINGS = LikelihoodConfig()


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def diffuse(config2: Config, response: Response) -> DiffuseCounts:
    return diffuse_counts(config2, response)


@pytest.fixture(scope="module")
def prior(response: Response) -> BackgroundPrior:
    return background_prior(response, SIZE, SETTINGS)


def flat_templates(
    patches: int, interstellar: tuple[float, float], isotropic: tuple[float, float]
) -> Templates:
    """Templates of two channels with these counts a pixel everywhere."""
    sizes = (32, 64)
    return Templates(
        tuple(
            np.full((patches, n, n), v, np.float32)
            for n, v in zip(sizes, interstellar, strict=True)
        ),
        tuple(
            np.full((patches, n, n), v, np.float32) for n, v in zip(sizes, isotropic, strict=True)
        ),
    )


def wave(pixels: int, height: float) -> Float64:
    """A smooth factor: one and a half waves along x, half a wave along y."""
    at = (np.arange(pixels) + 0.5) / pixels
    return np.asarray(
        np.exp(height * np.cos(np.pi * at)[:, None] * np.cos(3.0 * np.pi * at)[None, :])
    )


def poisson(images: tuple[np.ndarray, ...], seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.poisson(image) for image in images)


def blob(pixels: int, counts: float, width: float, row: float, column: float) -> Float64:
    axis = np.arange(pixels)
    image = np.exp(-0.5 * ((axis[:, None] - row) ** 2 + (axis[None, :] - column) ** 2) / width**2)
    return np.asarray(counts * image / image.sum())


# --- templates


def test_a_flat_map_is_its_density_times_the_solid_angle() -> None:
    frames = tangent_frames(np.array([10.0, 200.0]), np.array([0.0, -60.0]))
    density = np.full(healpy.nside2npix(16), 1e4)
    images = diffuse_images(density, frames, SIZE, 64)
    assert images.shape == (2, 64, 64)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[1], 1e4 * pixel_solid_angle_sr(64, SIZE), rtol=1e-5)


def test_templates_are_the_diffuse_part_of_a_rendered_sky(
    config2: Config, response: Response, diffuse: DiffuseCounts
) -> None:
    population = load_population(config2.sky.population)
    sky = simulate_sky(config2, response, population, diffuse, sky_id(Split.TEST, 0))
    sky = replace(sky, source_counts=np.zeros_like(sky.source_counts))
    frames = tangent_frames(np.array([0.0, 120.0]), np.array([0.0, 40.0]))
    templates = diffuse_templates(response, diffuse, frames, SIZE, "builtin")
    for made, wanted in zip(templates.total(), expected_images(sky, frames, SIZE), strict=True):
        np.testing.assert_allclose(made, wanted, rtol=1e-5)
    part = templates.part(slice(1, 2))
    assert len(part) == 1
    np.testing.assert_array_equal(part.interstellar[0][0], templates.interstellar[0][1])


def test_extended_sources_are_a_fixed_template(
    response: Response, diffuse: DiffuseCounts, prior: BackgroundPrior
) -> None:
    npix = diffuse.isotropic.shape[1]
    extended = np.full((2, npix), 3e3, np.float32)
    frames = tangent_frames(np.array([0.0]), np.array([50.0]))
    templates = diffuse_templates(response, replace(diffuse, extended=extended), frames, SIZE)
    assert len(templates.fixed) == 2
    plain = diffuse_templates(response, diffuse, frames, SIZE)
    assert plain.fixed == ()
    for a, b in zip(templates.total(), plain.total(), strict=True):
        n = a.shape[1]
        np.testing.assert_allclose((a - b)[0], 3e3 * pixel_solid_angle_sr(n, SIZE), rtol=1e-2)
    estimate = estimate_background(templates.total(), templates, prior)
    for a, b in zip(estimate, templates.total(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.02)


def test_a_model_that_is_not_at_hand_is_refused(response: Response, diffuse: DiffuseCounts) -> None:
    frames = tangent_frames(np.array([0.0]), np.array([0.0]))
    with pytest.raises(InputError, match="'galprop' is not at hand; use one of"):
        diffuse_templates(response, diffuse, frames, SIZE, "galprop")
    with pytest.raises(InputError, match="3 is not at hand"):
        diffuse_templates(response, diffuse, frames, SIZE, 3)
    short = replace(diffuse, isotropic=diffuse.isotropic[:1])
    with pytest.raises(InputError, match="1 channels where the response has 2"):
        diffuse_templates(response, short, frames, SIZE)


# --- the estimate


def test_norms_are_found(prior: BackgroundPrior) -> None:
    templates = flat_templates(2, (20.0, 5.0), (10.0, 2.0))
    truth = tuple(1.3 * image for image in templates.total())
    estimate = estimate_background(poisson(truth, 1), templates, prior)
    for found, wanted in zip(estimate, truth, strict=True):
        # 37,000 and 46,000 photons a patch: 0.5 % each.
        np.testing.assert_allclose(found.mean(axis=(1, 2)), wanted.mean(axis=(1, 2)), rtol=0.02)
        assert found.dtype == np.float32


def test_a_model_far_off_is_found_too(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (20.0, 5.0), (10.0, 2.0))
    for factor in (0.1, 10.0):
        truth = tuple(factor * image for image in templates.total())
        estimate = estimate_background(truth, templates, prior)
        for found, wanted in zip(estimate, truth, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0.05)


def test_a_smooth_factor_is_followed_where_photons_are_many(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (400.0, 100.0), (1.0, 0.25))
    truth = tuple(image * wave(image.shape[1], 0.2) for image in templates.interstellar)
    counts = poisson(truth, 2)
    estimate = estimate_background(counts, templates, prior)
    for found, wanted, n in zip(estimate, truth, counts, strict=True):
        error = found / wanted - 1.0
        assert np.sqrt(np.mean(error**2)) < 0.015
        assert np.sqrt(np.mean(error**2)) < 0.4 * np.std(n / wanted)


def test_few_photons_leave_the_model_as_it_is(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (0.02, 0.005), (0.01, 0.002))
    estimate = estimate_background(poisson(templates.total(), 3), templates, prior)
    for found, model in zip(estimate, templates.total(), strict=True):
        assert np.std(found / model) < 0.05
        np.testing.assert_allclose(found, model, rtol=0.4)


def test_the_channel_with_photons_speaks_for_the_other(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (400.0, 0.002), (1.0, 0.00001))
    truth = tuple(image * wave(image.shape[1], 0.2) for image in templates.interstellar)
    estimate = estimate_background(poisson(truth, 4), templates, prior)
    error = np.log(estimate[1] / truth[1])
    assert np.std(error) < 0.4 * np.std(np.log(truth[1] / templates.interstellar[1]))


def test_a_good_model_is_trusted_more(response: Response) -> None:
    templates = flat_templates(1, (20.0, 5.0), (1.0, 0.25))
    counts = poisson(templates.total(), 5)
    spread = []
    for rounds in (0, 2):
        settings = LikelihoodConfig(background_scale_rounds=rounds)
        estimate = estimate_background(
            counts, templates, background_prior(response, SIZE, settings), rounds=0
        )
        spread.append(np.std(estimate[1] / templates.total()[1]))
    assert spread[1] < 0.75 * spread[0]


def test_sources_are_left_out_or_subtracted(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (20.0, 5.0), (10.0, 2.0))
    truth = templates.total()
    source = (blob(32, 4000.0, 1.5, 12.0, 20.0)[None], blob(64, 1500.0, 1.5, 24.5, 40.5)[None])
    counts = poisson(tuple(a + b for a, b in zip(truth, source, strict=True)), 6)

    def worst(estimate: tuple[np.ndarray, ...]) -> float:
        return max(float(np.abs(e / t - 1.0).max()) for e, t in zip(estimate, truth, strict=True))

    unmasked = worst(estimate_background(counts, templates, prior, rounds=0))
    assert unmasked > 0.5
    assert worst(estimate_background(counts, templates, prior)) < 0.2
    known = estimate_background(counts, templates, prior, sources_model=source)
    assert worst(known) < 0.1


def test_masked_pixels_do_not_count(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (20.0, 5.0), (10.0, 2.0))
    counts = poisson(templates.total(), 7)
    mask = tuple(np.zeros(image.shape, dtype=np.bool_) for image in counts)
    hot = tuple(image.copy() for image in counts)
    for image, out in zip(hot, mask, strict=True):
        image[0, 3:9, 4:8] = 10**9
        out[0, 3:9, 4:8] = True
    cold = tuple(np.where(out, 0, image) for image, out in zip(hot, mask, strict=True))
    for rounds in (0, 2):
        a = estimate_background(hot, templates, prior, mask=mask, rounds=rounds)
        b = estimate_background(cold, templates, prior, mask=mask, rounds=rounds)
        for x, y, model in zip(a, b, templates.total(), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3)
            np.testing.assert_allclose(x, model, rtol=0.15)


def test_a_patch_does_not_depend_on_its_batch(
    response: Response, diffuse: DiffuseCounts, prior: BackgroundPrior
) -> None:
    frames = tangent_frames(np.array([0.0, 30.0, 250.0]), np.array([0.0, 8.0, -60.0]))
    templates = diffuse_templates(response, diffuse, frames, SIZE)
    counts = poisson(templates.total(), 8)
    whole = estimate_background(counts, templates, prior)
    for patch in (2, 0, 1):
        part = slice(patch, patch + 1)
        alone = estimate_background(
            tuple(image[part] for image in counts), templates.part(part), prior
        )
        for a, b in zip(whole, alone, strict=True):
            assert a[part].tobytes() == b.tobytes()


@pytest.mark.parametrize("content", ["nothing", "one hot pixel", "a thousand everywhere"])
def test_odd_counts_give_a_sane_result(prior: BackgroundPrior, content: str) -> None:
    templates = flat_templates(1, (2.0, 0.5), (1.0, 0.2))
    counts = tuple(np.zeros(image.shape) for image in templates.total())
    for image in counts:
        if content == "one hot pixel":
            image[0, 5, 5] = 1e9
        elif content == "a thousand everywhere":
            image[:] = 1000.0
    for found in estimate_background(counts, templates, prior):
        assert np.isfinite(found).all()
        assert (found >= np.float32(LEAST_BACKGROUND)).all()


def test_templates_of_nothing_are_lifted_to_the_least_counts(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (0.0, 0.0), (0.0, 0.0))
    counts = tuple(np.ones(image.shape) for image in templates.total())
    for found in estimate_background(counts, templates, prior):
        np.testing.assert_array_equal(found, np.float32(LEAST_BACKGROUND))


def test_no_patch_at_all(prior: BackgroundPrior) -> None:
    templates = flat_templates(0, (1.0, 1.0), (1.0, 1.0))
    estimate = estimate_background(templates.total(), templates, prior)
    assert [image.shape for image in estimate] == [(0, 32, 32), (0, 64, 64)]


def test_one_band_and_event_types_of_their_own(config2: Config) -> None:
    for changes in (
        {"bands": (Band(emin_gev=5, emax_gev=50, nside=64, pixels=16),)},
        {"response": ResponseConfig(event_types=("FRONT", "BACK"))},
    ):
        config = config2.model_copy(update=changes)
        response = build_response(config)
        prior = background_prior(response, SIZE, SETTINGS)
        sizes = [channel.pixels for channel in response.channels]
        images = tuple(np.full((1, n, n), 20.0, np.float32) for n in sizes)
        templates = Templates(images, tuple(0.5 * image for image in images))
        truth = tuple(1.2 * image for image in templates.total())
        for found, wanted in zip(estimate_background(truth, templates, prior), truth, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0.02)


def test_the_prior_folds_the_psf_in(prior: BackgroundPrior) -> None:
    # Below 3 GeV the PSF is the wider one: fine modes are weaker than above.
    k = prior.scatter.shape[1]
    share = prior.scatter[0] / prior.scatter[1]
    assert share[0, 1] == pytest.approx(1.0, abs=0.03)
    assert share[0, k - 1] < 0.9
    assert np.all(np.diff(prior.scatter[1, 0, 1:]) < 0)
    for root in prior.mix:
        np.testing.assert_allclose(np.diag(root @ root.T), 1.0)


# --- bad input


def test_bad_input_is_named(prior: BackgroundPrior) -> None:
    templates = flat_templates(1, (1.0, 1.0), (1.0, 1.0))
    good = templates.total()
    with pytest.raises(InputError, match="counts: 1 images for 2 channels"):
        estimate_background(good[:1], templates, prior)
    with pytest.raises(InputError, match=r"counts of channel 1: shape \(1, 32, 32\)"):
        estimate_background((good[0], good[0]), templates, prior)
    with pytest.raises(InputError, match="counts of channel 0: negative or not finite"):
        estimate_background((-good[0], good[1]), templates, prior)
    with pytest.raises(InputError, match="sources_model of channel 0: negative or not finite"):
        estimate_background(good, templates, prior, sources_model=(good[0] * np.nan, good[1]))
    masks = tuple(np.zeros(image.shape, np.bool_) for image in (good[0], good[0]))
    with pytest.raises(InputError, match="mask of channel 1: shape"):
        estimate_background(good, templates, prior, mask=masks)
    with pytest.raises(InputError, match="isotropic template: 0 images"):
        estimate_background(good, Templates(templates.interstellar, ()), prior)
    numbers = tuple(np.zeros(image.shape) for image in good)
    with pytest.raises(InputError, match=r"mask of channel 0: .*float64"):
        estimate_background(good, templates, prior, mask=numbers)


@pytest.mark.slow
def test_a_distorted_sky_with_its_sources_known_is_followed_within_a_few_percent(
    config2: Config, response: Response, diffuse: DiffuseCounts, prior: BackgroundPrior
) -> None:
    population = load_population(config2.sky.population)
    sky = simulate_sky(config2, response, population, diffuse, sky_id(Split.VALID, 0))
    lon, lat = np.meshgrid([0.0, 90.0, 200.0], [-60.0, -25.0, 0.0, 12.0, 40.0])
    frames = tangent_frames(lon.ravel(), lat.ravel())
    whole = expected_images(sky, frames, SIZE)
    truth = tuple(
        diffuse_images(sky.diffuse_density(c), frames, SIZE, image.shape[1])
        for c, image in enumerate(whole)
    )
    sources = tuple(np.maximum(a - b, 0.0) for a, b in zip(whole, truth, strict=True))
    counts = poisson(whole, 9)
    templates = diffuse_templates(response, diffuse, frames, SIZE)
    known = estimate_background(counts, templates, prior, sources_model=sources, rounds=0)
    blind = estimate_background(counts, templates, prior)
    ignored = estimate_background(counts, templates, prior, rounds=0)

    def rms(estimate: tuple[np.ndarray, ...]) -> list[float]:
        return [
            float(np.sqrt(np.mean((e / t - 1.0) ** 2)))
            for e, t in zip(estimate, truth, strict=True)
        ]

    # Ten per cent of norm and five of distortion were put in.
    assert max(rms(known)) < 0.05
    assert all(a < b < c for a, b, c in zip(rms(known), rms(blind), rms(ignored), strict=True))
    assert max(rms(blind)) < 0.12
