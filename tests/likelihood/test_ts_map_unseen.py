"""TS maps of patches that were observed in part."""

from __future__ import annotations

import numpy as np
import pytest

from geminga.arrays import Float32
from geminga.bands import Band
from geminga.config import Config, LikelihoodConfig
from geminga.likelihood.kernels import PointKernels, make_kernels, map_phases
from geminga.likelihood.map_plan import map_plan
from geminga.likelihood.ts_map import UNSEEN_COUNTS, TsMaps, ts_maps
from geminga.response import build_response

SETTINGS = LikelihoodConfig()
BANDS = (
    Band(emin_gev=1, emax_gev=3, nside=256, pixels=32),
    Band(emin_gev=3, emax_gev=30, nside=512, pixels=64),
)
PIXELS = (32, 64)
DENSITY = (60.0, 8.0)
SOURCE = (120.0, 60.0)
"""Counts of a source in each channel."""


@pytest.fixture(scope="module")
def kernels() -> tuple[PointKernels, ...]:
    config = Config(bands=BANDS, images={"box_deg": [2.0, 1.0]})  # type: ignore[arg-type]
    response = build_response(config)
    phases = map_phases(response.channels)
    return tuple(
        make_kernels(response.psf, response.channels, 10.0, i, phases=phases)
        for i in SETTINGS.indices
    )


def scene(kernels: tuple[PointKernels, ...]) -> tuple[list[Float32], list[Float32]]:
    """Return counts and background of a patch with sources at 1/4 and 3/4 of its middle row."""
    rng = np.random.default_rng(6)
    counts, background = [], []
    for c, n in enumerate(PIXELS):
        behind = np.full((n, n), DENSITY[c] * (10.0 / n) ** 2, np.float32)
        image = behind.astype(float)
        kernel = kernels[1].values[c][0, 0]
        half = kernel.shape[0] // 2
        for column in (n // 4, 3 * n // 4):
            padded = np.zeros((n + 2 * half, n + 2 * half))
            rows, columns = slice(n // 2, n // 2 + len(kernel)), slice(column, column + len(kernel))
            padded[rows, columns] = SOURCE[c] * kernel
            image += padded[half : half + n, half : half + n]
        counts.append(rng.poisson(image).astype(np.float32))
        background.append(behind)
    return counts, background


def masked(
    images: list[Float32], background: list[Float32], first: float
) -> tuple[list[Float32], list[Float32]]:
    """Return both with all columns from a share of the width on not observed."""
    result: tuple[list[Float32], list[Float32]] = ([], [])
    for image, behind in zip(images, background, strict=True):
        out = np.arange(len(image)) >= first * len(image)
        result[0].append(np.where(out, np.float32(UNSEEN_COUNTS), image))
        result[1].append(np.where(out, np.float32(UNSEEN_COUNTS), behind))
    return result


def maps(
    kernels: tuple[PointKernels, ...], counts: list[Float32], background: list[Float32]
) -> TsMaps:
    per_flux = np.full((1, len(kernels), 2), 1e12)
    per_flux[:, :, 1] *= 0.4
    return ts_maps(
        [image[None] for image in counts], [b[None] for b in background], kernels, per_flux,
        SETTINGS,
    )  # fmt: skip


def test_the_share_on_observed_pixels_is_that_of_a_patch_where_all_are(
    kernels: tuple[PointKernels, ...],
) -> None:
    plan = map_plan(kernels, PIXELS)
    everything = plan.inside_of([np.ones((n, n), np.bool_) for n in PIXELS])
    np.testing.assert_allclose(everything, plan.inside, atol=1e-12)
    left = [np.arange(n) < n // 2 for n in PIXELS]
    half = plan.inside_of([np.tile(side, (len(side), 1)) for side in left])
    right = plan.inside_of([np.tile(~side, (len(side), 1)) for side in left])
    np.testing.assert_allclose(half + right, plan.inside, atol=1e-9)
    assert (half[:, 8] > 0.9 * plan.inside[:, 8]).all()
    assert np.abs(half[:, -8]).max() < 0.1


def test_what_was_not_observed_hides_nothing_elsewhere(kernels: tuple[PointKernels, ...]) -> None:
    counts, background = scene(kernels)
    whole = maps(kernels, counts, background).ts[0]
    half = maps(kernels, *masked(counts, background, 0.5)).ts[0]
    row, left, right = 32, slice(10, 22), slice(42, 54)
    assert whole[row - 3 : row + 4, left].max() > 100
    assert whole[row - 3 : row + 4, right].max() > 100
    # Away from the border the maps agree, but for the ladder of fluxes they are computed on.
    np.testing.assert_allclose(half[:, :16], whole[:, :16], atol=0.5, rtol=0.05)
    assert half[:, 48:].max() < 1.0


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_no_peak_at_the_border(kernels: tuple[PointKernels, ...], share: float) -> None:
    """Without sources the maps of a patch cut anywhere stay at the level of noise."""
    _, background = scene(kernels)
    highest = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        counts = [rng.poisson(b).astype(np.float32) for b in background]
        highest.append(maps(kernels, *masked(counts, background, share)).ts.max())
    assert np.max(highest) < 18
    assert np.median(highest) < 13


def test_nothing_observed_finds_nothing(kernels: tuple[PointKernels, ...]) -> None:
    counts, background = scene(kernels)
    assert not maps(kernels, *masked(counts, background, 0.0)).ts.any()
