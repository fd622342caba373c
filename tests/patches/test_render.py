from __future__ import annotations

import healpy
import numpy as np
import pytest

from geminga.bands import Band, Channel
from geminga.config import Config, ImageConfig
from geminga.geometry import from_plane, lon_lat, pixel_solid_angle_sr, tangent_frames, to_plane
from geminga.patches.psf_lookup import (
    MAX_LEFT_OUT_COUNTS,
    index_weights,
    node_chord2,
    psf_lookup,
    reach_rad,
)
from geminga.patches.render import _lookup, expected_images, render_tangent
from geminga.response import BandPsf, build_response, equal_shares
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky
from geminga.tables import TRUTH

HARD = Channel(emin_gev=20, emax_gev=500, nside=1024, pixels=128, event_types=("FRONT",), band=0)


@pytest.fixture(scope="module")
def hard(config2: Config) -> Config:
    """One band whose PSF is narrower than its pixels."""
    band = Band(emin_gev=20, emax_gev=500, nside=1024, pixels=128)
    return Config(bands=(band,), images=ImageConfig(box_deg=(1.0,)))


@pytest.fixture(scope="module")
def hard_psf(hard: Config) -> BandPsf:
    return build_response(hard).psf


def sky_of(
    psf: BandPsf,
    bands: tuple[Channel, ...],
    lon: list[float],
    lat: list[float],
    counts: float = 1000.0,
    diffuse: float = 0.0,
    years: int = 4,
    index: float = 2.2,
) -> Sky:
    n = len(lon)
    data = {c.name: np.zeros(n) for c in TRUTH.columns if c.dtype != "str"}
    text = {c.name: ["BLL"] * n for c in TRUTH.columns if c.dtype == "str"}
    table = TRUTH.frame({**data, **text, "lon_deg": lon, "lat_deg": lat})
    yearly = np.ones((n, years))
    yearly[:, 0], yearly[:, 1] = 1.5, 0.5
    maps = np.zeros((2, len(bands), healpy.nside2npix(64)), np.float32)
    maps[0] = diffuse
    shape = (n, len(bands))
    return Sky(
        0,
        bands,
        ("BLL",),
        SourceSet(table, yearly),
        np.full(shape, counts),
        np.full(shape, index),
        yearly / years,
        DiffuseCounts.of_maps(*maps),
        0,
        np.ones((3, len(bands))),
        np.empty(0),
        psf,
        equal_shares(years),
    )


@pytest.mark.parametrize("centre", [(0.0, 0.0), (359.99, 30.0), (120.0, 90.0), (77.0, -89.9)])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.5), (0.5, 0.0), (0.17, 0.39)])
def test_counts_are_kept_at_any_sub_pixel_position(
    hard_psf: BandPsf, centre: tuple[float, float], offset: tuple[float, float]
) -> None:
    # r68 is 0.07 deg, a pixel 0.078 deg: the worst case of the method.
    frame = tangent_frames(np.array([centre[0]]), np.array([centre[1]]))
    pixel = 10.0 / 128
    place = from_plane(frame[0], np.array([pixel * offset[0]]), np.array([pixel * offset[1]]))
    lon, lat = lon_lat(place)
    sky = sky_of(hard_psf, (HARD,), list(lon), list(lat))
    (image,) = expected_images(sky, frame, 10.0)
    assert image.shape == (1, 128, 128)
    assert image.dtype == np.float32
    assert image.sum() == pytest.approx(1000.0 * inside(hard_psf, 5.0), rel=0.001)
    # The centroid is the source, up to what pixels wider than the PSF do to a centroid.
    axis = (np.arange(128) + 0.5) / 128 * 10 - 5
    assert (image[0].sum(axis=0) * axis).sum() / image.sum() / pixel == pytest.approx(
        offset[0], abs=0.04
    )
    assert (image[0].sum(axis=1) * axis).sum() / image.sum() / pixel == pytest.approx(
        offset[1], abs=0.04
    )


def inside(psf: BandPsf, radius_deg: float) -> float:
    return float(np.interp(radius_deg, psf.radius_deg, psf.containment[0, 3]))


def test_pixels_hold_the_integral_of_the_psf(hard_psf: BandPsf) -> None:
    # Against brute force: 100 x 100 points in each of the 5 x 5 pixels around the source.
    frame = tangent_frames(np.array([40.0]), np.array([5.0]))
    pixel = 10.0 / 128
    x0, y0 = pixel * 0.3, pixel * 0.9
    lon, lat = lon_lat(from_plane(frame[0], np.array([x0]), np.array([y0])))
    sky = sky_of(hard_psf, (HARD,), list(lon), list(lat), index=2.0)
    (image,) = expected_images(sky, frame, 10.0)
    fine = (np.arange(500) + 0.5) / 100 * pixel
    angle = np.hypot(fine[None, :] - 2 * pixel - x0, fine[:, None] - 2 * pixel - y0)
    density = np.interp(angle, hard_psf.radius_deg, hard_psf.density(0, 2.0))
    brute = 1000.0 * density.reshape(5, 100, 5, 100).mean(axis=(1, 3)) * np.radians(pixel) ** 2
    np.testing.assert_allclose(image[0, 62:67, 62:67], brute, rtol=0.01)


def test_sources_outside_an_image_shine_in(config2: Config) -> None:
    psf = build_response(config2).psf
    frame = tangent_frames(np.array([10.0]), np.array([0.0]))
    sky = sky_of(psf, config2.channels, [15.3], [0.0], counts=1e4)
    low, high = expected_images(sky, frame, 10.0)
    assert low[0].sum() > 100 * 0.5
    # The source lies to the east, at growing x: the last column is the brightest.
    assert low[0].sum(axis=0).argmax() == 31
    assert 0 < high[0].sum() < low[0].sum()


def test_counts_far_away_are_left_out_within_the_promised_limits(config2: Config) -> None:
    psf = build_response(config2).psf
    counts = np.array([0.0, 1.0, 1e3, 1e6])
    reach = reach_rad(psf, 0, counts, np.full(4, 2.3), 0.0)
    assert reach[0] < 0
    contained = 0.4 * psf.containment[0, 3] + 0.6 * psf.containment[0, 4]
    left = 1.0 - np.interp(np.degrees(reach[1:]), psf.radius_deg, contained)
    assert (left * counts[1:] <= 1.05 * MAX_LEFT_OUT_COUNTS).all()
    bright = reach_rad(psf, 0, counts, np.full(4, 2.3), 1e5)
    assert (bright <= reach).all()
    assert bright[3] > np.radians(1.0)


def test_diffuse_emission_alone_fills_the_patch_evenly(config2: Config) -> None:
    psf = build_response(config2).psf
    sky = sky_of(psf, config2.channels, [], [], diffuse=1e5)
    frames = tangent_frames(np.array([0.0, 200.0]), np.array([0.0, 80.0]))
    for image, band in zip(expected_images(sky, frames, 10.0), config2.channels, strict=True):
        expected = 1e5 * pixel_solid_angle_sr(band.pixels, 10.0)
        np.testing.assert_allclose(image, np.stack([expected, expected]), rtol=1e-5)


def test_diffuse_emission_agrees_with_the_sum_over_healpix_pixels(config2: Config) -> None:
    psf = build_response(config2).psf
    sky = sky_of(psf, config2.channels, [], [])
    theta, _ = healpy.pix2ang(64, np.arange(healpy.nside2npix(64)))
    sky.diffuse.interstellar[:] = 1e4 / (0.1 + np.abs(np.cos(theta)))
    sky.diffuse.isotropic[:] = sky.diffuse.interstellar[0]
    centre = (30.0, 2.0)
    frame = tangent_frames(np.array([centre[0]]), np.array([centre[1]]))
    image = expected_images(sky, frame, 20.0)[1][0].astype(np.float64)
    # Fine HEALPix pixels whose centre projects into the square.
    fine = healpy.query_disc(1024, frame[0, 0], np.radians(15.0))
    vectors = np.stack(healpy.pix2vec(1024, fine), axis=-1)
    x, y = to_plane(frame[0], vectors)
    square = (np.abs(x) < 10.0) & (np.abs(y) < 10.0)
    values = 2e4 / (0.1 + np.abs(vectors[square, 2]))
    total = values.sum() * healpy.nside2pixarea(1024)
    assert image.sum() == pytest.approx(total, rel=0.01)


def test_years_add_up_to_the_whole_and_follow_the_light_curve(config2: Config) -> None:
    psf = build_response(config2).psf
    sky = sky_of(psf, config2.channels, [10.0, 11.0], [0.0, 0.2], diffuse=1e4)
    frames = tangent_frames(np.array([10.0, 11.0]), np.array([0.0, 0.0]))
    sizes, pixels = [2.0, 1.0], [7, 7]
    whole = render_tangent(sky, frames, sizes, pixels)
    yearly = render_tangent(sky, frames, sizes, pixels, per_year=True)
    for a, b in zip(whole, yearly, strict=True):
        assert a.shape == (2, 7, 7)
        assert b.shape == (2, 4, 7, 7)
        np.testing.assert_allclose(b.sum(axis=1), a, rtol=1e-5)
    dark = sky_of(psf, config2.channels, [10.0, 11.0], [0.0, 0.2])
    per_year = render_tangent(dark, frames, sizes, pixels, per_year=True)[0].sum(axis=(0, 2, 3))
    assert per_year / per_year.sum() * 4 == pytest.approx([1.5, 0.5, 1.0, 1.0], rel=1e-5)


def test_chosen_channels_and_frames_do_not_change_an_image(config2: Config) -> None:
    psf = build_response(config2).psf
    rng = np.random.default_rng(1)
    sky = sky_of(
        psf,
        config2.channels,
        list(rng.uniform(0, 20, 40)),
        list(rng.uniform(-9, 9, 40)),
        diffuse=50,
    )
    frames = tangent_frames(np.linspace(0, 20, 70), np.zeros(70))
    all_frames = expected_images(sky, frames, 10.0)
    (alone,) = render_tangent(sky, frames[66:67], [10.0], [64], channels=[1])
    np.testing.assert_array_equal(all_frames[1][66], alone[0])


def test_a_sky_without_sources_and_no_frames_are_fine(config2: Config) -> None:
    psf = build_response(config2).psf
    sky = sky_of(psf, config2.channels, [], [])
    frames = tangent_frames(np.array([0.0]), np.array([0.0]))
    assert all((image == 0).all() for image in expected_images(sky, frames, 10.0))
    assert [i.shape for i in expected_images(sky, frames[:0], 10.0)] == [(0, 32, 32), (0, 64, 64)]


def test_wrong_number_of_sizes_is_refused(config2: Config) -> None:
    sky = sky_of(build_response(config2).psf, config2.channels, [], [])
    frames = tangent_frames(np.array([0.0]), np.array([0.0]))
    with pytest.raises(ValueError, match="2 channels, 1 sizes"):
        render_tangent(sky, frames, [10.0], [32])


def test_lookup_follows_the_psf(hard_psf: BandPsf) -> None:
    lookup = psf_lookup(hard_psf, 0)
    table = lookup.density_per_sr[3]
    nodes = node_chord2(len(table))
    for radius in (0.0001, 0.003, 0.05, 0.3, 3.0, 20.0):
        chord2 = (2 * np.sin(np.radians(radius) / 2)) ** 2
        value = _lookup(table, chord2)
        assert value == pytest.approx(np.interp(chord2, nodes, table), rel=1e-6)
        assert value == pytest.approx(
            np.interp(radius, hard_psf.radius_deg, hard_psf.density_per_sr[0, 3]), rel=0.01
        )
    assert _lookup(table, 0.0) == table[0]
    assert _lookup(table, (2 * np.sin(np.radians(31.0) / 2)) ** 2) == 0.0
    low, weight = index_weights(hard_psf, np.array([-5.0, 2.2, 50.0, np.nan]))
    assert low.tolist() == [0, 3, len(hard_psf.spectral_index) - 2, 3]
    assert weight == pytest.approx([0.0, 0.4, 1.0, 0.0])
