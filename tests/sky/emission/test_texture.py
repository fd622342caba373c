"""Fine structure of the interstellar emission."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
from pydantic import ValidationError

from geminga.arrays import Float32, Float64
from geminga.classes import INTERSTELLAR, ISOTROPIC
from geminga.config import Config, SkyConfig
from geminga.errors import InputError
from geminga.response import Response, build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission import texture as module
from geminga.sky.emission.diffuse import PSF_INDEX, DiffuseCounts, diffuse_counts
from geminga.sky.emission.folding import convolve
from geminga.sky.emission.texture import (
    ELL_HIGH,
    ELL_LOW,
    SLOPE,
    Texture,
    draw_texture,
    standard_deviation,
    unit_spectrum,
)
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, simulate_sky
from geminga.sky.sky_files import load_sky, save_sky

SCRIPT = Path(__file__).parents[3] / "scripts" / "measure_interstellar_texture.py"
TRAIN = sky_id(Split.TRAIN, 5)


class Pencil:
    """A PSF that smears nothing."""

    def harmonic(self, channel: int, spectral_index: float, lmax: int) -> Float64:
        return np.ones(lmax + 1)


PENCIL: Any = Pencil()


def with_texture(config: Config, amplitude: float) -> Config:
    sky = config.sky.model_dump() | {"interstellar_texture": amplitude}
    return config.model_copy(update={"sky": SkyConfig(**sky)})


def latitude(nside: int) -> Float64:
    pixels = np.arange(healpy.nside2npix(nside))
    return np.asarray(healpy.pix2ang(nside, pixels, lonlat=True)[1])


def unit_field(factor: Float32, amplitude: float, variance: float) -> Float64:
    """Undo the factor: the field whose variance over the sky is `variance`."""
    scatter = amplitude * standard_deviation(latitude(healpy.npix2nside(len(factor))))
    return np.asarray((np.log(factor.astype(np.float64)) + 0.5 * scatter**2 * variance) / scatter)


def variance(window: Float64) -> float:
    ell = np.arange(len(window))
    c_l = unit_spectrum()[: len(window)]
    return float(np.sum((2 * ell + 1) / (4 * np.pi) * c_l * window**2))


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def diffuse(config2: Config, response: Response) -> DiffuseCounts:
    return diffuse_counts(config2, response)


@pytest.fixture(scope="module")
def plain(config2: Config, response: Response, diffuse: DiffuseCounts) -> Sky:
    return simulate_sky(config2, response, load_population("4fgl_dr2"), diffuse, TRAIN)


@pytest.fixture(scope="module")
def textured(config2: Config, response: Response, diffuse: DiffuseCounts) -> Sky:
    config = with_texture(config2, 1.0)
    return simulate_sky(config, response, load_population("4fgl_dr2"), diffuse, TRAIN)


def test_zero_changes_nothing(plain: Sky, textured: Sky) -> None:
    assert plain.texture == Texture()
    for channel in range(2):
        density = plain.diffuse.component(INTERSTELLAR, 0, channel).astype(np.float64)
        density *= plain.diffuse_norm[0, channel]
        density *= plain._distortion_factor()
        np.testing.assert_array_equal(plain.component_density(INTERSTELLAR, channel), density)
        # Nothing else is drawn from the same stream.
        np.testing.assert_array_equal(
            plain.component_density(ISOTROPIC, channel),
            textured.component_density(ISOTROPIC, channel),
        )
    for name in ("source_counts", "diffuse_norm", "distortion", "shares"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(textured, name))


def test_total_counts_are_kept(plain: Sky, textured: Sky) -> None:
    strong = replace(textured, texture=replace(textured.texture, amplitude=3.0))
    for sky in (textured, strong):
        for channel in range(2):
            before = plain.component_density(INTERSTELLAR, channel)
            after = sky.component_density(INTERSTELLAR, channel)
            assert after.sum() == pytest.approx(before.sum(), rel=1e-6)
            assert (after > 0).all()
            assert 0.02 < np.log(after / before).std() < 0.5
            # Structure of 3 deg and less: wide means stay too.
            wide = healpy.ud_grade(after, 2) / healpy.ud_grade(before, 2)
            assert np.abs(wide - 1).max() < 0.05 * sky.texture.amplitude
    np.testing.assert_allclose(textured.totals(), plain.totals(), rtol=1e-3)


def test_an_empty_sky_stays_empty(textured: Sky) -> None:
    nothing = np.zeros((2, 2, healpy.nside2npix(32)), np.float32)
    empty = replace(textured, diffuse=DiffuseCounts.of_maps(*nothing), distortion=np.empty(0))
    assert (empty.component_density(INTERSTELLAR, 0) == 0).all()


@pytest.mark.parametrize("amplitude", [0.5, 1.0])
def test_spectrum_and_variance_are_as_asked(amplitude: float) -> None:
    nside, lmax = 128, 383
    window = np.ones(lmax + 1)
    seen = variance(window)
    # Multipoles that the map cannot hold are few.
    assert 0.75 < seen < 1.0
    factor = Texture(amplitude, 3, 1).factor(PENCIL, 0, nside)
    unit = unit_field(factor, amplitude, seen)
    found = healpy.anafast(unit, lmax=300, iter=1)
    for low, high in ((ELL_LOW, 80), (80, 120), (120, 180), (180, 300)):
        ell = np.arange(low, high)
        weight = 2 * ell + 1
        power, wanted = found[ell] @ weight, unit_spectrum()[ell] @ weight
        # The variance of C_l is 2 / (2 l + 1): four standard deviations.
        assert power == pytest.approx(wanted, rel=4 * np.sqrt(2 / weight.sum()) + 0.01)
    assert found[: ELL_LOW - 2].max() < 1e-3 * found[ELL_LOW]
    ell = np.arange(70, 290)
    slope = np.polyfit(np.log(ell), np.log(found[ell]), 1)[0]
    assert slope == pytest.approx(-SLOPE, abs=0.1)
    lat = np.abs(latitude(nside))
    for low, high in ((0, 2), (5, 20), (40, 90)):
        ring = (lat >= low) & (lat < high)
        wanted = amplitude * np.sqrt(np.mean(standard_deviation(lat[ring]) ** 2) * seen)
        assert np.log(factor[ring]).std() == pytest.approx(wanted, rel=0.06)


def test_the_spectrum_is_a_power_law_of_variance_one() -> None:
    c_l = unit_spectrum()
    ell = np.arange(ELL_HIGH + 1)
    assert np.sum((2 * ell + 1) / (4 * np.pi) * c_l) == pytest.approx(1.0)
    assert (c_l[:ELL_LOW] == 0).all()
    assert c_l[600] / c_l[60] == pytest.approx(10.0**-SLOPE)


def test_the_mean_over_many_fields_is_one() -> None:
    # Averages over fields and pixels at once, strong enough that exp(t) is no longer 1 + t.
    factors = [Texture(3.0, 11, k).factor(PENCIL, 0, 32) for k in range(20)]
    assert np.mean(factors) == pytest.approx(1.0, abs=2e-3)


def test_a_field_belongs_to_its_seed_and_sky(response: Response) -> None:
    psf = response.psf
    first = Texture(1.0, 2018, TRAIN).factor(psf, 1, 64)
    for other in (Texture(1.0, 2018, TRAIN + 1), Texture(1.0, 2019, TRAIN)):
        assert abs(np.corrcoef(np.log(first), np.log(other.factor(psf, 1, 64)))[0, 1]) < 0.1
    # Again, after other skies and other channels.
    again = Texture(1.0, 2018, TRAIN)
    again.factor(psf, 0, 64)
    again.factor(psf, 0, 128)
    module._coefficients.cache_clear()
    assert again.factor(psf, 1, 64).tobytes() == first.tobytes()


def test_a_finer_map_has_the_same_structure() -> None:
    one = Texture(1.0, 1, 1)
    fine = healpy.ud_grade(np.log(one.factor(PENCIL, 0, 128)), 64)
    assert np.corrcoef(fine, np.log(one.factor(PENCIL, 0, 64)))[0, 1] > 0.9


def test_channels_share_a_field_smoothed_with_their_psf(response: Response) -> None:
    nside = 64
    one = Texture(1.0, 4, 2)
    windows = [response.psf.harmonic(c, PSF_INDEX, 3 * nside - 1) for c in range(2)]
    fields = [
        unit_field(one.factor(response.psf, c, nside), 1.0, variance(windows[c])) for c in range(2)
    ]
    assert np.corrcoef(fields[0], fields[1])[0, 1] > 0.95
    pencil = unit_field(one.factor(PENCIL, 0, nside), 1.0, variance(np.ones(3 * nside)))
    for smooth, window in zip(fields, windows, strict=True):
        assert smooth.std() < pencil.std()
        cross = healpy.anafast(smooth, pencil, lmax=120, iter=1)
        auto = healpy.anafast(pencil, lmax=120, iter=1)
        ell = np.arange(ELL_LOW + 2, 120)
        np.testing.assert_allclose(cross[ell] / auto[ell], window[ell], rtol=0.02)


def test_the_factor_stands_for_folding_the_structure_itself(response: Response) -> None:
    """Structure put on before the PSF, on emission that varies as the plane does."""
    nside = 64
    lat = latitude(nside)
    intensity = 1.0 + 5.0 * np.exp(-np.abs(lat) / 10.0)
    # The reference holds the multipoles that the field has.
    window = response.psf.harmonic(0, PSF_INDEX, 3 * nside - 1)
    one = Texture(1.0, 4, 2)
    before = convolve((intensity * one.factor(PENCIL, 0, nside)).astype(np.float32), window)
    smooth = convolve(intensity.astype(np.float32), window)
    after = smooth * one.factor(response.psf, 0, nside)
    structure = np.log(before / smooth).std()
    assert np.log(after / before).std() < 0.1 * structure


def test_training_and_validation_skies_have_it_and_test_skies_do_not(
    config2: Config, textured: Sky
) -> None:
    config = with_texture(config2, 0.7)
    for split in (Split.TRAIN, Split.VALID):
        drawn = draw_texture(config, sky_id(split, 3))
        assert drawn == Texture(0.7, config.seed, sky_id(split, 3))
        assert draw_texture(config2, sky_id(split, 3)) == Texture()
    assert draw_texture(config, sky_id(Split.TEST, 3)) == Texture()
    # A sky that is asked for it has it, whatever its set.
    asked = replace(textured, sky_id=sky_id(Split.TEST, 0), texture=Texture(1.0, 9, 9))
    other = asked.component_density(INTERSTELLAR, 0)
    assert not np.allclose(other, textured.component_density(INTERSTELLAR, 0), rtol=1e-3)


@pytest.mark.parametrize("value", [-0.1, 3.5, float("nan"), "much"])
def test_bad_amplitudes_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="interstellar_texture"):
        SkyConfig.model_validate({"interstellar_texture": value})


def test_maps_too_coarse_are_refused(response: Response) -> None:
    with pytest.raises(ValidationError, match=r"finer than maps of diffuse_nside 16; use 32"):
        SkyConfig(interstellar_texture=1.0, diffuse_nside=16)
    SkyConfig(interstellar_texture=0.0, diffuse_nside=16)
    with pytest.raises(InputError, match="finer than diffuse maps of nside 16"):
        Texture(1.0).factor(response.psf, 0, 16)


def test_a_stored_sky_makes_its_structure_again(
    textured: Sky, config2: Config, response: Response, tmp_path: Path
) -> None:
    # A root seed may be longer than 64 bits.
    for number, seed in enumerate((textured.texture.seed, 2**70 + 1)):
        sky = replace(textured, texture=replace(textured.texture, seed=seed))
        save_sky(tmp_path / str(number), sky)
        again = load_sky(tmp_path / str(number), config2, response, sky.diffuse)
        assert again.texture == sky.texture
        np.testing.assert_array_equal(
            again.component_density(INTERSTELLAR, 1), sky.component_density(INTERSTELLAR, 1)
        )


def script() -> Any:
    spec = importlib.util.spec_from_file_location("measure_texture", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.data
def test_amplitude_follows_the_template_in_latitude(lat_data: Path) -> None:
    """Every |b| of p6v11 within 30 %; Orion and Ophiuchus (15 to 20 deg) are the farthest."""
    measure = script()
    template = np.log(measure.load(lat_data / measure.TEMPLATE))
    template -= np.log(measure.load(lat_data / measure.EXPOSURE))
    c_100 = measure.by_latitude(template) / measure.simulated_latitudes(SLOPE, 0.94, 1)
    found = np.array([measure.standard_deviation(value, SLOPE) for value in c_100])
    middle = 0.5 * (measure.LATITUDES[1:] + measure.LATITUDES[:-1])
    assert found == pytest.approx(standard_deviation(middle), rel=0.3)
