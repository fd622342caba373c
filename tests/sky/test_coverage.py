"""Which part of the sky there are data of."""

from __future__ import annotations

import healpy as hp
import numpy as np
import pytest

from geminga.geometry import lon_lat, tangent_frames, unit_vectors
from geminga.response import Exposure
from geminga.sky.coverage import (
    NPIX,
    Coverage,
    circles_covered,
    exposure_covered,
    photons_covered,
    pixels_covered,
    whole_sky,
)
from geminga.sky.formats.fits_input import galactic_from_equatorial
from geminga.sky.photons import Photons, empty_photons, photons_from_vectors


def isotropic(n: int, seed: int = 0) -> Photons:
    xyz = np.random.default_rng(seed).normal(size=(n, 3))
    return photons_from_vectors(xyz, np.zeros(n, np.int8), np.zeros(n, np.int8))


@pytest.mark.parametrize("galactic", [True, False])
@pytest.mark.parametrize("nside", [4, 256, 1024])
def test_pixels_cover_what_they_hold(nside: int, galactic: bool) -> None:
    centre = unit_vectors(np.array(40.0), np.array(-20.0))
    pixels = np.sort(hp.query_disc(nside, centre, np.radians(20), nest=True))
    coverage = pixels_covered(nside, pixels, galactic)
    assert coverage.share == pytest.approx(len(pixels) / (12 * nside**2), rel=0.02)
    there = centre if galactic else galactic_from_equatorial(centre)
    lon, lat = lon_lat(np.stack([there, -there]))
    assert coverage.holds(lon, lat).tolist() == [True, False]
    assert not coverage.whole
    assert pixels_covered(nside, np.empty(0, np.int64), galactic).share == 0


def test_circles_are_equatorial_and_add_up() -> None:
    one = circles_covered([(83.633, 22.0145, 5.0)])
    assert one.holds(np.array([184.5575]), np.array([-5.7843])).all()
    assert one.share == pytest.approx((1 - np.cos(np.radians(5))) / 2, rel=0.01)
    two = circles_covered([(83.633, 22.0145, 5.0), (200.0, -40.0, 5.0)])
    assert two.share == pytest.approx(2 * one.share, rel=0.01)
    assert circles_covered([(0.0, 0.0, 180.0)]).whole
    np.testing.assert_array_equal((one & two).cells, one.cells)
    np.testing.assert_array_equal((one | two).cells, two.cells)


def test_masks_and_shares_of_patches() -> None:
    frames = tangent_frames(np.array([0.0, 0.0, 180.0]), np.array([0.0, 30.0, 0.0]))
    north = pixels_covered(1, np.arange(4), True) | circles_covered([])
    half = Coverage(np.asarray(hp.pix2ang(512, np.arange(NPIX), nest=True, lonlat=True)[1] > 0))
    masks = half.masks(frames, 10.0, 64)
    assert masks.shape == (3, 64, 64)
    # Rows run north: the upper half of a patch on the equator, all of one above it.
    assert masks[0, 33:].all()
    assert not masks[0, :31].any()
    assert masks[1].all()
    np.testing.assert_allclose(half.patch_shares(frames, 10.0), [0.5, 1.0, 0.5], atol=0.04)
    assert whole_sky().masks(frames, 10.0, 8).all()
    assert 0 < north.share < 1


def test_missing_exposure_of_any_channel_is_no_coverage() -> None:
    maps = np.full((2, 12 * 16**2), 3e11, dtype=np.float32)
    energy = np.array([1e3, 1e4])
    full = Exposure(energy, maps, "")
    assert exposure_covered([full, full]).whole
    _, lat = hp.pix2ang(16, np.arange(maps.shape[1]), lonlat=True)
    holed = maps.copy()
    holed[1, lat > 0] = 0.0
    coverage = exposure_covered([full, Exposure(energy, holed, "")])
    assert coverage.share == pytest.approx(0.5, abs=0.03)
    seen = coverage.holds(np.array([10.0, 10.0]), np.array([-20.0, 20.0]))
    assert seen.tolist() == [True, False]


def test_a_region_without_photons_shows() -> None:
    photons = isotropic(400_000)
    assert photons_covered(photons, whole_sky()).whole
    region = photons.select(np.asarray(photons.xyz[:, 2] > 0.9))
    coverage = photons_covered(region, whole_sky())
    # Cells of 3.7 deg that the border crosses count as observed.
    assert 0.05 < coverage.share < 0.065
    lon, lat = region.lon_lat()
    assert coverage.holds(lon, lat).all()


def test_few_photons_show_nothing() -> None:
    sky = whole_sky()
    assert photons_covered(empty_photons(), sky).whole
    assert photons_covered(isotropic(3000), sky).whole
    # A single crowded place says nothing of the rest.
    hot = np.tile([[1.0, 0.0, 0.0]], (1000, 1))
    photons = photons_from_vectors(hot, np.zeros(1000, np.int8), np.zeros(1000, np.int8))
    assert photons_covered(photons, sky).whole


def test_a_sky_with_a_bright_plane_is_whole() -> None:
    """The poles have a twentieth of the plane's photons."""
    rng = np.random.default_rng(2)
    plane = rng.normal(size=(150_000, 3)) * [1, 1, 0.1]
    xyz = np.concatenate([plane, rng.normal(size=(150_000, 3))])
    zeros = np.zeros(len(xyz), np.int8)
    assert photons_covered(photons_from_vectors(xyz, zeros, zeros), whole_sky()).whole


def test_cells_have_one_size() -> None:
    with pytest.raises(ValueError, match="not 3145728"):
        Coverage(np.ones(12, dtype=bool))
