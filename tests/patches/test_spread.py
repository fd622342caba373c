"""Counts of HEALPix pixels spread over patches."""

from __future__ import annotations

import healpy as hp
import numpy as np
import pytest

from geminga.bands import Band
from geminga.geometry import separation_deg, tangent_frames, unit_vectors
from geminga.patches.project import bin_photons
from geminga.patches.spread import DEEPEST, bin_pixel_counts, levels
from geminga.sky.formats.fits_input import equatorial_from_galactic, galactic_from_equatorial
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import MapPart, PixelCounts

SIZE = 10.0
BANDS = (
    Band(emin_gev=1.0, emax_gev=3.0, nside=256, pixels=32),
    Band(emin_gev=3.0, emax_gev=30.0, nside=512, pixels=128),
)
# The equator, both caps, almost a pole, and near the corner of base pixels.
FRAMES = tangent_frames(
    np.array([10.3, 101.7, 249.2, 33.1, 46.3]), np.array([0.7, 70.9, -61.2, 89.1, 42.7])
)


def disc_map(nside: int, galactic: bool, channel: int = 0, radius: float = 4.0) -> MapPart:
    """Return counts of pixels inside patch 0, those around its middle."""
    centre = FRAMES[0, 0] if galactic else equatorial_from_galactic(FRAMES[0, 0])
    pixels = np.sort(hp.query_disc(nside, centre, np.radians(radius), nest=True)).astype(np.int64)
    counts = np.random.default_rng(nside).integers(1, 9, len(pixels))
    return MapPart(channel, nside, galactic, pixels, counts)


@pytest.mark.parametrize("galactic", [True, False])
@pytest.mark.parametrize("nside", [16, 128, 1024])
def test_every_pixel_is_divided_as_healpix_divides_it(nside: int, galactic: bool) -> None:
    rng = np.random.default_rng(nside)
    pixels = np.sort(rng.choice(12 * nside**2, min(3000, 3 * nside**2), replace=False))
    if nside == 1024:
        near = [hp.query_disc(nside, f[0], 0.03, nest=True) for f in FRAMES]
        pixels = np.unique(np.concatenate([pixels, *near]))
    counts = rng.integers(1, 20, len(pixels))
    part = MapPart(0, nside, galactic, pixels, counts)
    (image,) = bin_pixel_counts(PixelCounts((part,)), FRAMES, SIZE, BANDS[:1])
    deeper = levels(nside, SIZE, 32)
    children = (pixels[:, None] * 4**deeper + np.arange(4**deeper)).ravel()
    vectors = np.stack(hp.pix2vec(nside << deeper, children, nest=True), axis=-1)
    vectors = vectors if galactic else galactic_from_equatorial(vectors)
    none = np.zeros(len(vectors), np.int8)
    weights = np.repeat(counts, 4**deeper)
    wanted = np.zeros(image.shape)
    for count in np.unique(weights):
        mine = weights == count
        photons = Photons(vectors[mine].astype(np.float32), none[mine], none[mine])
        wanted += count * bin_photons(photons, FRAMES, SIZE, BANDS[:1])[0] / 4.0**deeper
    # Sub-pixels whose centres lie on a border may fall to either side in single precision.
    off = np.abs(image - wanted)
    assert np.mean(off > 1e-4) < 5e-3
    assert off.sum() < 1e-3 * wanted.sum()
    assert wanted.sum() > 0


@pytest.mark.parametrize("galactic", [True, False])
@pytest.mark.parametrize("nside", [64, 512, 2048])
def test_photons_are_conserved(nside: int, galactic: bool) -> None:
    parts = disc_map(nside, galactic), disc_map(nside, galactic, 1, 3.0)
    counts = PixelCounts(parts)
    images = bin_pixel_counts(counts, FRAMES[:1], SIZE, BANDS)
    for image, part in zip(images, parts, strict=True):
        assert image.dtype == np.float32
        assert image.sum(dtype=np.float64) == pytest.approx(part.counts.sum(), rel=1e-6)
    np.testing.assert_array_equal(
        counts.per_channel(3), [parts[0].counts.sum(), parts[1].counts.sum(), 0]
    )
    again = bin_pixel_counts(counts, FRAMES[:1], SIZE, BANDS)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(images, again, strict=True))


def test_parts_of_a_channel_add_up_and_patches_do_not_depend_on_each_other() -> None:
    fine, coarse = disc_map(1024, True), disc_map(256, False)
    (both,) = bin_pixel_counts(PixelCounts((fine, coarse)), FRAMES, SIZE, BANDS[:1])
    for part in (fine, coarse):
        both = both - bin_pixel_counts(PixelCounts((part,)), FRAMES, SIZE, BANDS[:1])[0]
    np.testing.assert_allclose(both, 0.0, atol=1e-3)
    near = tangent_frames(np.array([10.3, 14.0]), np.array([0.7, 2.0]))
    (two,) = bin_pixel_counts(PixelCounts((fine,)), near, SIZE, BANDS[:1])
    (one,) = bin_pixel_counts(PixelCounts((fine,)), near[1:], SIZE, BANDS[:1])
    np.testing.assert_array_equal(two[1:], one)


def test_no_photons_make_empty_patches() -> None:
    images = bin_pixel_counts(PixelCounts(()), FRAMES, SIZE, BANDS)
    assert [image.shape for image in images] == [(5, 32, 32), (5, 128, 128)]
    assert not any(image.any() for image in images)


def test_a_source_stays_where_it_is_in_either_frame() -> None:
    """Centroids of many photons in the two frames and of the photons themselves."""
    rng = np.random.default_rng(1)
    place = unit_vectors(np.array(10.3), np.array(0.4))
    vectors = place + np.radians(0.2) * rng.normal(size=(20_000, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centroids = []
    for galactic in (True, False):
        own = vectors if galactic else equatorial_from_galactic(vectors)
        pixels, counts = np.unique(hp.vec2pix(512, *own.T, nest=True), return_counts=True)
        part = MapPart(0, 512, galactic, pixels, counts)
        (image,) = bin_pixel_counts(PixelCounts((part,)), FRAMES[:1], SIZE, BANDS[1:])
        axis = (np.arange(128) + 0.5) / 128 * SIZE - SIZE / 2
        total = image.sum(dtype=np.float64)
        y, x = image[0].sum(axis=1) @ axis / total, image[0].sum(axis=0) @ axis / total
        frame = FRAMES[0]
        v = frame[0] + np.radians(x) * frame[1] + np.radians(y) * frame[2]
        centroids.append(v / np.linalg.norm(v))
    mean = vectors.mean(axis=0)
    assert separation_deg(*centroids) < 0.001
    assert separation_deg(centroids[0], mean / np.linalg.norm(mean)) < 0.001


def test_depth_follows_the_pixels_and_is_bounded() -> None:
    assert [levels(1024, SIZE, n) for n in (32, 64, 128)] == [1, 1, 2]
    assert levels(4096, SIZE, 128) == 1
    assert levels(1, SIZE, 128) == DEEPEST
    assert levels(1 << 29, SIZE, 128) == 0


@pytest.mark.parametrize("galactic", [True, False])
@pytest.mark.parametrize("nside", [16, 64, 1024])
def test_counts_in_cells(nside: int, galactic: bool) -> None:
    part = disc_map(nside, galactic)
    cells = PixelCounts((part, part)).in_cells(6)
    assert cells.sum() == pytest.approx(2 * part.counts.sum(), rel=1e-12)
    inside = hp.query_disc(64, FRAMES[0, 0], np.radians(2.5), nest=True)
    assert (cells[inside] > 0).all()
    outside = np.ones(len(cells), np.bool_)
    outside[hp.query_disc(64, FRAMES[0, 0], np.radians(10.0), nest=True)] = False
    assert not cells[outside].any()
