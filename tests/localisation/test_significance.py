from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, poisson

from geminga.bands import Band
from geminga.config import LocalisationConfig
from geminga.errors import InputError
from geminga.geometry import tangent_frames
from geminga.localisation import significance_sources
from geminga.localisation.map_search import search_bands
from geminga.localisation.significance import significance_maps
from geminga.localisation.smoothing import (
    poisson_significance,
    smoothing_widths,
    source_shares,
)

SETTINGS = LocalisationConfig()
BANDS = (
    Band(emin_gev=0.5, emax_gev=1, nside=128, pixels=32),
    Band(emin_gev=1, emax_gev=3, nside=256, pixels=64),
    Band(emin_gev=3, emax_gev=30, nside=1024, pixels=128),
)
RATE_PER_DEG2 = (800.0, 200.0, 40.0)
SPREAD_DEG = (0.5, 0.25, 0.1)
SIZE = 10.0


def counts(
    seed: int, patches: int, sources: list[tuple[float, float, float]], ridge: float = 0.0
) -> list[np.ndarray]:
    """Poisson background, brighter by `ridge` in a band of 1.5 deg, and sources (x, y, photons)."""
    rng = np.random.default_rng(seed)
    images = []
    shares = source_shares(BANDS[1:])
    for b, band in enumerate(BANDS):
        n = band.pixels
        y = ((np.arange(n) + 0.5) / n - 0.5) * SIZE
        rate = RATE_PER_DEG2[b] * (SIZE / n) ** 2 * (1 + ridge * np.exp(-0.5 * (y / 1.5) ** 2))
        image = rng.poisson(np.broadcast_to(rate[:, None], (patches, n, n)))
        edges = np.linspace(-SIZE / 2, SIZE / 2, n + 1)
        for x0, y0, photons in sources:
            for p in range(patches):
                number = rng.poisson(photons * shares[max(b - 1, 0)])
                offset = rng.normal(0, SPREAD_DEG[b], (2, number))
                hits, _, _ = np.histogram2d(y0 + offset[0], x0 + offset[1], bins=(edges, edges))
                image[p] += hits.astype(int)
        images.append(image.astype(np.uint32))
    return images


def find(images: list[np.ndarray], settings: LocalisationConfig = SETTINGS) -> pd.DataFrame:
    n = len(images[0])
    frames = tangent_frames(np.linspace(0, 300, n), np.linspace(-50, 50, n))
    return significance_sources(images, BANDS, 5, np.arange(n), frames, SIZE, settings)


def test_poisson_significance_is_that_of_the_tail() -> None:
    for n, b in ((25, 10.0), (130, 100.0), (1100, 1000.0)):
        # The tail at n, halfway between including and excluding it.
        tail = 0.5 * (poisson.sf(n - 1, b) + poisson.sf(n, b))
        z = poisson_significance(np.array(float(n)), np.array(b))
        assert z == pytest.approx(norm.isf(tail), rel=0.03)
    # Li & Ma (1983) eq. 17, with a background measured alpha = 1/10,000 better.
    n, b, alpha = 30.0, 12.0, 1e-4
    off = b / alpha
    li_ma = np.sqrt(
        2 * (n * np.log((1 + alpha) / alpha * n / (n + off)))
        + 2 * off * np.log((1 + alpha) * off / (n + off))
    )
    assert poisson_significance(np.array(n), np.array(b)) == pytest.approx(li_ma, rel=1e-3)
    assert poisson_significance(np.array([3.0, 5.0]), np.array([5.0, 5.0])).tolist() == [0.0, 0.0]


def test_bands_widths_and_shares() -> None:
    assert search_bands(BANDS, 1.0) == [1, 2]
    assert search_bands(BANDS, 100.0) == [0, 1, 2]
    widths = smoothing_widths(BANDS, 0.25)
    assert widths[0] == pytest.approx(0.25)
    assert (np.diff(widths) < 0).all()
    assert widths[-1] > 0.25 * 0.28
    assert source_shares(BANDS).sum() == pytest.approx(1)
    assert smoothing_widths(BANDS[:1], 0.2).tolist() == pytest.approx([0.2])


def test_pure_background_is_calibrated() -> None:
    images = [i.astype(float) for i in counts(1, 12, [])[1:]]
    maps = significance_maps(images, BANDS[1:], SIZE, SETTINGS)
    # The background follows the counts a little, which lowers every excess: never too sure.
    for sigma in (1, 2, 3):
        assert 0.3 < (maps > sigma).mean() / norm.sf(sigma) < 1.2


def test_sources_are_found_at_their_places() -> None:
    truth = [(-2.03, 1.51, 300.0), (3.0, -3.1, 300.0), (1.2, 1.3, 300.0)]
    found = find(counts(2, 8, truth))
    errors = []
    for patch in range(8):
        here = found.loc[found["patch_id"] == patch, ["x_deg", "y_deg"]].to_numpy()
        for x, y, _ in truth:
            offset = here - (x, y)
            nearest = np.argmin(np.hypot(*offset.T))
            errors.append(offset[nearest])
    assert np.hypot(*np.transpose(errors)).max() < 0.15
    assert np.abs(np.mean(errors, axis=0)).max() < 0.02
    assert len(found) <= 24 + 8
    assert (found["score"] >= SETTINGS.significance_threshold).all()


def test_a_bright_ridge_is_background() -> None:
    found = find(counts(3, 6, [], ridge=8.0))
    assert len(found) / 6 < 3
    with_source = find(counts(4, 6, [(1.0, 0.5, 600.0)], ridge=8.0))
    near = np.hypot(with_source["x_deg"] - 1.0, with_source["y_deg"] - 0.5) < 0.2
    assert near.sum() == 6


def test_no_photons_give_no_sources_and_few_give_finite_scores() -> None:
    empty = [np.zeros((2, b.pixels, b.pixels), np.uint32) for b in BANDS]
    assert len(find(empty)) == 0
    empty[2][1, 60:63, 60:63] = 5
    found = find(empty)
    assert found["patch_id"].tolist() == [1]
    assert np.isfinite(found["score"]).all()
    np.testing.assert_allclose(
        found[["x_deg", "y_deg"]], [[(61.5 / 128 - 0.5) * SIZE] * 2], atol=1e-3
    )


def test_result_does_not_depend_on_the_batch() -> None:
    images = counts(5, 35, [(0.0, 0.0, 200.0)])
    whole = find(images)
    n = 35
    frames = tangent_frames(np.linspace(0, 300, n), np.linspace(-50, 50, n))
    part = significance_sources(
        [i[30:] for i in images], BANDS, 5, np.arange(30, n), frames[30:], SIZE, SETTINGS
    )
    expected = whole[whole["patch_id"] >= 30].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, expected, check_exact=True)


def test_one_band_is_enough() -> None:
    frames = tangent_frames(np.zeros(3), np.zeros(3))
    images = [counts(6, 3, [(1.0, 1.0, 1500.0)])[0]]
    settings = LocalisationConfig(significance_smoothing_deg=0.5)
    found = significance_sources(images, BANDS[:1], 0, np.arange(3), frames, SIZE, settings)
    assert set(found["patch_id"]) == {0, 1, 2}


def test_bad_input() -> None:
    images = counts(7, 1, [])
    with pytest.raises(InputError, match="2 for 3 bands"):
        find(images[:2])
    with pytest.raises(InputError, match=r"counts of band 1-3 GeV.*must be"):
        find([images[0], images[1][0], images[2]])
    for bad in (-1.0, np.nan, np.inf):
        wrong = images[1].astype(float)
        wrong[0, 0, 0] = bad
        with pytest.raises(InputError, match="negative or not finite"):
            find([images[0], wrong, images[2]])
    with pytest.raises(InputError, match="frames"):
        find([images[0], images[1], np.repeat(images[2], 2, axis=0)])
