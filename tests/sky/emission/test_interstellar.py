"""What differs between the interstellar emission of simulated skies."""

from __future__ import annotations

from collections import Counter

import healpy
import numpy as np
import pytest

from geminga.config import Config, SkyConfig
from geminga.errors import InputError
from geminga.seeds import Split, sky_id
from geminga.sky.emission.interstellar import DISTORTION_NSIDE, draw_interstellar, smooth_field

MODELS = ("builtin", "cube.fits", "a.npy+b.npy")


def with_sky(config: Config, **keys: object) -> Config:
    return config.model_copy(update={"sky": SkyConfig(**(config.sky.model_dump() | keys))})


@pytest.fixture(scope="module")
def config(config2: Config) -> Config:
    return with_sky(config2, interstellar=MODELS)


def test_training_skies_draw_the_models_evenly(config: Config) -> None:
    quick = with_sky(config, interstellar_distortion=0.0)
    n = 3000
    drawn = Counter(draw_interstellar(quick, MODELS, sky_id(Split.TRAIN, k))[0] for k in range(n))
    assert set(drawn) == {0, 1, 2}
    # Four standard deviations of a binomial number.
    for count in drawn.values():
        assert abs(count - n / 3) < 4 * np.sqrt(n * 2 / 9)


def test_norms_scatter_as_configured_and_extended_sources_keep_theirs(config: Config) -> None:
    norms = np.array(
        [
            draw_interstellar(
                with_sky(config, interstellar_distortion=0.0), MODELS, sky_id(Split.TRAIN, k)
            )[1]
            for k in range(1500)
        ]
    )
    scatter = np.log(norms).std(axis=0)
    assert scatter[:2] == pytest.approx([0.1, 0.1], rel=0.08)
    assert (norms[:, 2] == 1).all()
    assert np.corrcoef(np.log(norms[:, :2]).T)[0, 1] == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize(("scatter", "scale_deg"), [(0.05, 30.0), (0.2, 10.0)])
def test_distortion_has_its_scatter_and_its_correlation_length(
    scatter: float, scale_deg: float
) -> None:
    rng = np.random.default_rng(5)
    fields = np.array([smooth_field(rng, scatter, scale_deg) for _ in range(150)])
    assert fields.std() == pytest.approx(scatter, rel=0.07)
    assert fields.mean() == pytest.approx(0.0, abs=0.1 * scatter)
    # White noise under a Gaussian beam of sigma s is correlated as exp(-r^2 / 4 s^2).
    vectors = np.stack(healpy.pix2vec(DISTORTION_NSIDE, np.arange(fields.shape[1])), axis=-1)
    angle = np.degrees(np.arccos(np.clip(vectors @ vectors[0], -1, 1)))
    sigma = scale_deg / 2.3548
    at = np.argmin(np.abs(angle - 2 * sigma))
    far = np.abs(angle - 5 * sigma) < 3
    expected = np.exp(-(angle[at] ** 2) / (4 * sigma**2))
    ring = np.abs(angle - angle[at]) < 2
    found = (fields[:, :1] * fields[:, ring]).mean() / scatter**2
    assert found == pytest.approx(expected, abs=0.25)
    assert abs((fields[:, :1] * fields[:, far]).mean()) / scatter**2 < 0.25
    assert found > (fields[:, :1] * fields[:, far]).mean() / scatter**2


def test_a_sky_has_its_own_draw_whoever_makes_it(config: Config) -> None:
    first, second = (draw_interstellar(config, MODELS, sky_id(Split.TRAIN, 7)) for _ in range(2))
    draw_interstellar(config, MODELS, sky_id(Split.TRAIN, 8))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(first[2], second[2])
    other = draw_interstellar(config, MODELS, sky_id(Split.TRAIN, 8))
    assert not np.array_equal(first[2], other[2])


def test_test_skies_take_the_model_they_name_as_it_is(config: Config) -> None:
    both = ("cube.fits", "a.npy+b.npy")
    for wanted, number in (((), 0), (both[:1], 1), (both[1:], 2), (both, 2), (both[::-1], 1)):
        named = with_sky(config, test_interstellar=wanted)
        model, norm, distortion = draw_interstellar(named, MODELS, sky_id(Split.TEST, 3))
        assert model == number
        assert (norm == 1).all()
        assert len(distortion) == 0
    with pytest.raises(InputError, match=r"'none\.fits' is not among the models"):
        draw_interstellar(
            with_sky(config, test_interstellar=("none.fits",)), MODELS, sky_id(Split.TEST, 0)
        )
