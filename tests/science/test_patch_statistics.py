"""Training patches and patches of one whole-sky photon draw are statistically the same thing.

``pytest tests/science/test_patch_statistics.py -m "slow or not slow" -s`` prints the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import healpy
import numpy as np
import pytest

from geminga.arrays import Float64, Int64
from geminga.bands import Channel
from geminga.config import Config
from geminga.geometry import (
    from_plane,
    pixel_solid_angle_sr,
    pixel_to_plane,
)
from geminga.patches.grid import PatchGrid, make_grid
from geminga.patches.project import bin_photons
from geminga.patches.render import expected_images
from geminga.response import Response
from geminga.seeds import Split, Stage, generator, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.observe import draw_photons
from geminga.sky.photons import Photons
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, simulate_sky

SIZE_DEG = 10.0
SEED = 20260723
LIMIT = 4.5
"""Standard errors: one in 150,000, for a few hundred figures of fixed seeds."""
LATITUDES = {"plane": (0.0, 12.0), "middle": (25.0, 50.0), "pole": (65.0, 90.0)}
KINDS = ("training", "photons", "nearest pixel")


@dataclass(frozen=True)
class Figures:
    """Statistics of counts n of known expectations mu, in standard errors off their values.

    With z = (n - mu) / sqrt(mu): the mean of z^2 is one, with the variance 2 + 1 / mu of a Poisson
    count; products of neighbours have mean zero and variance one.
    """

    total: float
    variance: float
    horizontal: float
    vertical: float
    diagonal: float
    ratio: float
    correlation: float

    def errors(self) -> dict[str, float]:
        names = ("total", "variance", "horizontal", "vertical", "diagonal")
        return {name: getattr(self, name) for name in names}


def figures(z: Float64, expected: Float64, total: float) -> Figures:
    products = (
        z[:, :, 1:] * z[:, :, :-1],
        z[:, 1:] * z[:, :-1],
        z[:, 1:, 1:] * z[:, :-1, :-1],
    )
    error = np.sqrt(np.sum(2.0 + 1.0 / expected)) / expected.size
    ratio = float(np.mean(z**2))
    sums = (float(p.sum() / np.sqrt(p.size)) for p in products)
    correlation = float(np.mean([p.mean() for p in products]) / ratio)
    return Figures(total, (ratio - 1.0) / error, *sums, ratio=ratio, correlation=correlation)


def of_counts(counts: Float64, expected: Float64) -> Figures:
    z = (counts - expected) / np.sqrt(expected)
    return figures(z, expected, float((counts - expected).sum() / np.sqrt(expected.sum())))


def of_difference(one: Float64, other: Float64, expected: Float64) -> Figures:
    """Return the figures of the noise alone: of two draws' difference, whatever their mean is."""
    z = (one - other) / np.sqrt(2.0 * expected)
    return figures(z, expected, float((one - other).sum() / np.sqrt(2.0 * expected.sum())))


@pytest.fixture(scope="module")
def full_sky(thesis: Config, thesis_response: Response) -> Sky:
    """A sky of the whole population, but for sources brighter than any real one."""
    diffuse = diffuse_counts(thesis, thesis_response)
    sky = simulate_sky(
        thesis, thesis_response, load_population("4fgl_dr2"), diffuse, sky_id(Split.TEST, 0)
    )
    return replace(sky, source_counts=np.minimum(sky.source_counts, 2e5))


def thinned(sky: Sky, most: float) -> Sky:
    """Return a sky with at most so many photons in a channel: fewer of them, the same noise."""
    factor = np.minimum(1.0, most / sky.totals().sum(axis=(0, 2)))
    return replace(
        sky, source_counts=sky.source_counts * factor, diffuse_norm=sky.diffuse_norm * factor
    )


@pytest.fixture(scope="module")
def sky(full_sky: Sky) -> Sky:
    return thinned(full_sky, 5e5)


@pytest.fixture(scope="module")
def grid() -> PatchGrid:
    return make_grid(8, SIZE_DEG)


def apart(grid: PatchGrid, where: str, most: int) -> Int64:
    """Choose patches of some latitudes that share no photon."""
    low, high = LATITUDES[where]
    centres = grid.frames[:, 0]
    latitude = np.abs(grid.centres()[1])
    chosen: list[int] = []
    for patch in np.flatnonzero((latitude >= low) & (latitude <= high)):
        far = centres[chosen] @ centres[patch] < np.cos(np.radians(SIZE_DEG * np.sqrt(2.0)))
        if far.all() and len(chosen) < most:
            chosen.append(int(patch))
    return np.array(chosen)


def nearest_pixels(photons: Photons, channel: int, band: Channel, frames: Float64) -> Float64:
    """Read patches off a HEALPix counts map, as the published method did.

    Each patch pixel takes the HEALPix pixel its centre is in, times the ratio of their areas.
    """
    xyz = photons.xyz[photons.channel == channel].astype(np.float64)
    pixel = healpy.vec2pix(band.nside, *xyz.T)
    counts = np.bincount(pixel, minlength=healpy.nside2npix(band.nside))
    axis = pixel_to_plane(np.arange(band.pixels, dtype=np.float64), band.pixels, SIZE_DEG)
    x, y = np.meshgrid(axis, axis)
    read = [counts[healpy.vec2pix(band.nside, *from_plane(f, x, y).T).T] for f in frames]
    area = pixel_solid_angle_sr(band.pixels, SIZE_DEG) / healpy.nside2pixarea(band.nside)
    return np.asarray(np.array(read) * area)


Rows = list[tuple[str, str, str, Figures]]


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    """Collect the figures, and print them at the end (shown with -s)."""
    collected: Rows = []
    yield collected
    for kind in KINDS:
        print(f"\n{kind}: variance over mean, correlation of neighbours; standard errors off")
        for _, where, label, found in (row for row in collected if row[0] == kind):
            text = "  ".join(f"{name} {value:+.1f}" for name, value in found.errors().items())
            print(f"  {label:>12}  {where:<7} {found.ratio:.4f} {found.correlation:+.4f}  {text}")


def check(sky: Sky, grid: PatchGrid, where: str, most: int, rows: Rows) -> None:
    frames = grid.frames[apart(grid, where, most)]
    expected = expected_images(sky, frames, SIZE_DEG)
    draw, other = draw_photons(sky, SEED), draw_photons(sky, SEED + 1)
    counted = bin_photons(draw, frames, SIZE_DEG, sky.channels)
    for channel, band in enumerate(sky.channels):
        mu = expected[channel].astype(np.float64)
        rng = generator(
            SEED, Stage.POISSON_TRAIN, sky.sky_id, channel, list(LATITUDES).index(where)
        )
        near = [nearest_pixels(photons, channel, band, frames) for photons in (draw, other)]
        found = {
            "training": of_counts(rng.poisson(mu).astype(np.float64), mu),
            "photons": of_counts(counted[channel].astype(np.float64), mu),
            "nearest pixel": of_difference(near[0], near[1], mu),
        }
        rows.extend((kind, where, band.label, found[kind]) for kind in KINDS)
        for kind in ("training", "photons"):
            for name, value in found[kind].errors().items():
                assert abs(value) < LIMIT, (kind, name, band.label)
        # The negative control. Counts are multiplied by the ratio of the pixels' areas, and the
        # variance over the mean becomes that ratio.
        control = found["nearest pixel"]
        area = np.radians(SIZE_DEG / band.pixels) ** 2 / healpy.nside2pixarea(band.nside)
        assert control.ratio == pytest.approx(area, rel=0.15), band.label
        assert abs(control.variance) > 2 * LIMIT, band.label
        if area < 1.0:
            # Patch pixels that read the same HEALPix pixel are the same.
            assert max(control.horizontal, control.vertical, control.diagonal) > 2 * LIMIT


@pytest.mark.parametrize("where", LATITUDES)
def test_training_patches_are_like_patches_of_photons(
    where: str, sky: Sky, grid: PatchGrid, rows: Rows
) -> None:
    check(sky, grid, where, 8, rows)


@pytest.mark.slow
@pytest.mark.parametrize("where", LATITUDES)
def test_they_stay_alike_with_more_photons_of_many_patches(
    where: str, full_sky: Sky, grid: PatchGrid, rows: Rows
) -> None:
    check(thinned(full_sky, 5e6), grid, where, 60, rows)


def test_every_photon_is_in_each_patch_that_covers_it(sky: Sky, grid: PatchGrid) -> None:
    photons = draw_photons(sky, SEED).select(np.s_[::50])
    images = bin_photons(photons, grid.frames, SIZE_DEG, sky.channels)
    covers = grid.covers(*photons.lon_lat())
    for channel, band in enumerate(sky.channels):
        mine = photons.channel == channel
        assert images[channel].sum() == covers[mine].sum()
        pixel = healpy.vec2pix(band.nside, *photons.xyz[mine].astype(np.float64).T)
        assert np.bincount(pixel, minlength=healpy.nside2npix(band.nside)).sum() == mine.sum()


def test_nearest_pixels_never_read_half_of_the_hard_photons(sky: Sky, grid: PatchGrid) -> None:
    band = sky.channels[-1]
    frame = grid.frames[384]
    axis = pixel_to_plane(np.arange(band.pixels, dtype=np.float64), band.pixels, SIZE_DEG)
    read = np.unique(healpy.vec2pix(band.nside, *from_plane(frame, *np.meshgrid(axis, axis)).T))
    area = len(read) * healpy.nside2pixarea(band.nside)
    assert area / pixel_solid_angle_sr(band.pixels, SIZE_DEG).sum() == pytest.approx(0.54, abs=0.03)
