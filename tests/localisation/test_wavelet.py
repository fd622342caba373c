from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from geminga.bands import Band
from geminga.config import LocalisationConfig
from geminga.errors import InputError
from geminga.geometry import tangent_frames
from geminga.localisation import wavelet_sources
from geminga.localisation.wavelet import hat_kernels, transform, wavelet_maps

SETTINGS = LocalisationConfig(wavelet_scales_deg=(0.4,), wavelet_min_gev=0.5)
BANDS = (
    Band(emin_gev=0.3, emax_gev=0.5, nside=128, pixels=32),
    Band(emin_gev=0.5, emax_gev=2, nside=256, pixels=64),
    Band(emin_gev=2, emax_gev=30, nside=1024, pixels=128),
)
RATE_PER_DEG2 = (900.0, 400.0, 60.0)
SPREAD_DEG = (0.6, 0.35, 0.12)
SHARES = (0.0, 0.8, 0.2)
SIZE = 10.0


def counts(
    seed: int,
    patches: int,
    sources: list[tuple[float, float, float]],
    slope: float = 0.0,
    rates: tuple[float, ...] = RATE_PER_DEG2,
) -> list[np.ndarray]:
    """Poisson background, from 1 - slope in the west to 1 + slope in the east, and sources.

    Each source is (x, y, photons) with Gaussian spread.
    """
    rng = np.random.default_rng(seed)
    images = []
    for b, band in enumerate(BANDS):
        n = band.pixels
        x = ((np.arange(n) + 0.5) / n - 0.5) * SIZE
        rate = rates[b] * (SIZE / n) ** 2 * (1 + slope * x / (SIZE / 2))
        image = rng.poisson(np.broadcast_to(rate[None, :], (patches, n, n)))
        edges = np.linspace(-SIZE / 2, SIZE / 2, n + 1)
        for x0, y0, photons in sources:
            for p in range(patches):
                number = rng.poisson(photons * SHARES[b])
                offset = rng.normal(0, SPREAD_DEG[b], (2, number))
                hits, _, _ = np.histogram2d(y0 + offset[0], x0 + offset[1], bins=(edges, edges))
                image[p] += hits.astype(int)
        images.append(image.astype(np.uint32))
    return images


def find(images: list[np.ndarray], settings: LocalisationConfig = SETTINGS) -> pd.DataFrame:
    n = len(images[0])
    frames = tangent_frames(np.linspace(0, 300, n), np.linspace(-50, 50, n))
    return wavelet_sources(images, BANDS, 5, np.arange(n), frames, SIZE, settings)


@pytest.mark.parametrize("scale", [0.5, 1.3, 4.0])
def test_the_wavelet_sees_neither_level_nor_slope(scale: float) -> None:
    bell, bend = hat_kernels(scale)
    hat = np.outer(bend, bell) + np.outer(bell, bend)
    axis = np.arange(len(bell)) - len(bell) // 2
    assert abs(hat.sum()) < 1e-9 * np.abs(hat).sum()
    assert abs((hat * axis).sum()) < 1e-9 * np.abs(hat).sum()
    y, x = np.mgrid[:64, :64]
    flat = transform((3.0 + 0.1 * x + 0.2 * y)[None], scale)[0]
    inside = slice(22, 42)
    assert np.abs(flat[inside, inside]).max() < 1e-8


def test_moments_of_the_wavelet() -> None:
    # Integrals of (2 - r^2)^k exp(-k r^2 / 2): 0, 2 pi, 64 pi / 27; the positive part 4 pi / e.
    bell, bend = hat_kernels(6.0)
    hat = (np.outer(bend, bell) + np.outer(bell, bend)) / 6.0
    assert hat.max() * 6.0 == pytest.approx(2.0, rel=0.02)
    assert (hat**2).sum() == pytest.approx(2 * np.pi, rel=0.02)
    assert (hat**3).sum() * 6.0 == pytest.approx(64 * np.pi / 27, rel=0.03)
    assert hat[hat > 0].sum() / 6.0 == pytest.approx(4 * np.pi / np.e, rel=0.02)
    # A Gaussian as wide as the scale answers with 2 a^4 / (2 a^2)^2.
    y, x = np.mgrid[-40:41, -40:41]
    source = np.exp(-0.5 * (x**2 + y**2) / 36.0) / (2 * np.pi * 36.0)
    assert transform(source[None], 6.0)[0, 40, 40] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("slope", [0.0, 0.7])
@pytest.mark.parametrize("rates", [RATE_PER_DEG2, (20.0, 5.0, 0.5)])
def test_background_gives_no_more_than_chance(slope: float, rates: tuple[float, ...]) -> None:
    images = [i.astype(float) for i in counts(1, 16, [], slope, rates)[1:]]
    maps = wavelet_maps(images, BANDS[1:], SIZE, SETTINGS)[:, 6:-6, 6:-6]
    # The background follows the counts a little, and skewness is not all of a distribution.
    for sigma in (1, 2, 3):
        assert 0.2 < (maps > sigma).mean() / norm.sf(sigma) < 1.5
    assert (maps > 4).mean() / norm.sf(4) < 5


def test_a_source_is_found_without_bias() -> None:
    # Off the centres of the pixels of every band.
    truth = [(-2.03, 1.51, 400.0), (3.0, -3.1, 400.0), (1.27, 1.34, 400.0)]
    found = find(counts(2, 20, truth))
    errors = []
    for patch in range(20):
        here = found.loc[found["patch_id"] == patch, ["x_deg", "y_deg"]].to_numpy()
        for x, y, _ in truth:
            offset = here - (x, y)
            errors.append(offset[np.argmin(np.hypot(*offset.T))])
    assert np.hypot(*np.transpose(errors)).max() < 0.2
    assert np.abs(np.mean(errors, axis=0)).max() < 4 * np.std(errors) / np.sqrt(len(errors))
    assert np.abs(np.mean(errors, axis=0)).max() < 0.01
    assert (found["score"] >= SETTINGS.wavelet_threshold).all()


def test_the_score_grows_with_the_source_and_falls_with_the_background() -> None:
    def best(photons: float, brighter: float) -> float:
        rates = tuple(brighter * r for r in RATE_PER_DEG2)
        images = counts(3, 6, [(1.0, 0.5, photons)], rates=rates)
        found = find(images)
        near = found[np.hypot(found["x_deg"] - 1.0, found["y_deg"] - 0.5) < 0.2]
        return float(near.groupby("patch_id")["score"].max().mean())

    assert best(400, 1) > best(200, 1) > 3
    assert best(400, 1) > best(400, 3)


def test_of_several_scales_the_best_one_counts() -> None:
    images = [i.astype(float) for i in counts(4, 2, [(0.0, 0.0, 40.0)])[1:]]
    of = {
        scales: wavelet_maps(
            images,
            BANDS[1:],
            SIZE,
            SETTINGS.model_copy(update={"wavelet_scales_deg": scales}),
        )
        for scales in ((0.3,), (0.3, 0.6))
    }
    assert (of[(0.3, 0.6)] >= of[(0.3,)]).all()
    assert (of[(0.3, 0.6)] > of[(0.3,)]).any()


def test_no_photons_give_no_sources_and_few_give_finite_scores() -> None:
    empty = [np.zeros((2, b.pixels, b.pixels), np.uint32) for b in BANDS]
    assert len(find(empty)) == 0
    empty[2][1, 60:63, 60:63] = 5
    found = find(empty)
    assert set(found["patch_id"]) == {1}
    best = found.loc[found["score"].idxmax()]
    assert np.isfinite(found["score"]).all()
    np.testing.assert_allclose(
        best[["x_deg", "y_deg"]].astype(float), [(61.5 / 128 - 0.5) * SIZE] * 2, atol=1e-3
    )


def test_a_pixel_of_a_billion_photons_is_one_source() -> None:
    images = counts(3, 2, [])
    images[2][0, 20, 100] = 1_000_000_000
    found = find(images)
    here = found[found["patch_id"] == 0]
    best = here.loc[here["score"].idxmax()]
    place = [(100.5 / 128 - 0.5) * SIZE, (20.5 / 128 - 0.5) * SIZE]
    np.testing.assert_allclose(best[["x_deg", "y_deg"]].astype(float), place, atol=0.01)
    assert np.isfinite(found["score"]).all()
    assert len(here) < 50
    untouched = find([i[1:] for i in images])
    assert len(found[found["patch_id"] == 1]) == len(untouched)


def test_result_does_not_depend_on_the_batch() -> None:
    images = counts(5, 35, [(0.0, 0.0, 200.0)])
    whole = find(images)
    frames = tangent_frames(np.linspace(0, 300, 35), np.linspace(-50, 50, 35))
    part = wavelet_sources(
        [i[30:] for i in images], BANDS, 5, np.arange(30, 35), frames[30:], SIZE, SETTINGS
    )
    expected = whole[whole["patch_id"] >= 30].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, expected, check_exact=True)


def test_one_band_is_enough() -> None:
    frames = tangent_frames(np.zeros(3), np.zeros(3))
    images = [counts(6, 3, [(1.0, 1.0, 3000.0)])[1]]
    found = wavelet_sources(images, BANDS[1:2], 0, np.arange(3), frames, SIZE, SETTINGS)
    near = np.hypot(found["x_deg"] - 1.0, found["y_deg"] - 1.0) < 0.1
    assert set(found[near]["patch_id"]) == {0, 1, 2}


def test_bad_input() -> None:
    images = counts(7, 1, [])
    with pytest.raises(InputError, match="2 for 3 bands"):
        find(images[:2])
    with pytest.raises(InputError, match=r"counts of band 0.5-2 GeV.*must be"):
        find([images[0], images[1][0], images[2]])
    for bad in (-1.0, np.nan, np.inf):
        wrong = images[1].astype(float)
        wrong[0, 0, 0] = bad
        with pytest.raises(InputError, match="negative or not finite"):
            find([images[0], wrong, images[2]])
    with pytest.raises(InputError, match="frames"):
        find([images[0], images[1], np.repeat(images[2], 2, axis=0)])
    with pytest.raises(ValueError, match="wavelet_scales_deg"):
        LocalisationConfig(wavelet_scales_deg=())
