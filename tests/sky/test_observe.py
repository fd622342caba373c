from __future__ import annotations

from dataclasses import replace

import healpy
import numpy as np
import pytest
from scipy import stats

from geminga.bands import Channel
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import separation_deg, tangent_frames, unit_vectors
from geminga.patches.project import bin_photons
from geminga.patches.render import expected_images
from geminga.response import BandPsf, build_response, equal_shares
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.observe import draw_photons
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky
from geminga.tables import TRUTH

NSIDE = 64


@pytest.fixture(scope="module")
def psf(config2: Config) -> BandPsf:
    return build_response(config2).psf


def sky_of(
    psf: BandPsf, bands: tuple[Channel, ...], lon: list[float], lat: list[float], counts: float
) -> Sky:
    n = len(lon)
    data = {c.name: np.zeros(n) for c in TRUTH.columns if c.dtype != "str"}
    text = {c.name: ["BLL"] * n for c in TRUTH.columns if c.dtype == "str"}
    table = TRUTH.frame({**data, **text, "lon_deg": lon, "lat_deg": lat})
    shape = (n, len(bands))
    npix = healpy.nside2npix(NSIDE)
    return Sky(
        7,
        bands,
        ("BLL",),
        SourceSet(table, np.tile([2.0, 1.0, 0.75, 0.25], (n, 1))),
        np.full(shape, counts),
        np.full(shape, 2.3),
        np.tile([0.5, 0.25, 0.1875, 0.0625], (n, 1)),
        DiffuseCounts.of_maps(*np.zeros((2, len(bands), npix), np.float32)),
        0,
        np.array([0.9, 1.1, 1.0])[:, None] * np.ones(len(bands)),
        np.empty(0),
        psf,
        equal_shares(4),
    )


def with_diffuse(sky: Sky, density: object) -> Sky:
    """Return the sky with a map of expected counts/sr in both components, before their norms."""
    maps = np.empty((len(sky.channels), healpy.nside2npix(NSIDE)), np.float32)
    maps[:] = density
    return replace(sky, diffuse=DiffuseCounts.of_maps(maps, maps))


@pytest.mark.parametrize("place", [(0.0, 0.0), (50.0, 90.0), (359.999, -45.0)])
def test_source_photons_follow_the_psf_and_the_light_curve(
    psf: BandPsf, config2: Config, place: tuple[float, float]
) -> None:
    sky = sky_of(psf, config2.channels, [place[0]], [place[1]], 2e4)
    photons = draw_photons(sky, 1)
    assert len(photons) == pytest.approx(4e4, abs=5 * 200)
    assert np.linalg.norm(photons.xyz, axis=1) == pytest.approx(np.ones(len(photons)), abs=1e-6)
    centre = unit_vectors(np.array(place[0]), np.array(place[1]))
    for band in (0, 1):
        mine = photons.select(photons.channel == band)
        angle = separation_deg(mine.xyz.astype(np.float64), centre)
        contained = 0.4 * psf.containment[band, 3] + 0.6 * psf.containment[band, 4]
        p = stats.kstest(angle, lambda r, c=contained: np.interp(r, psf.radius_deg, c)).pvalue
        assert p > 1e-4
    # No preferred direction: the mean lies on the source.
    frame = tangent_frames(np.array([place[0]]), np.array([place[1]]))[0]
    near = photons.xyz[photons.xyz @ centre > np.cos(np.radians(1.0))] @ frame.T
    scatter = near.std(axis=0)[1:] / np.sqrt(len(near))
    assert (np.abs(near.mean(axis=0)[1:]) < 4.5 * scatter).all()
    share = np.bincount(photons.year, minlength=4) / len(photons)
    assert share == pytest.approx([0.5, 0.25, 0.1875, 0.0625], abs=0.01)


def test_diffuse_photons_are_poisson_and_uniform_in_their_pixels(
    psf: BandPsf, config2: Config
) -> None:
    sky = sky_of(psf, config2.channels, [], [], 0.0)
    theta, _ = healpy.pix2ang(NSIDE, np.arange(healpy.nside2npix(NSIDE)))
    sky = with_diffuse(sky, 4000.0 / (0.2 + np.abs(np.cos(theta))) * np.array([[1.0], [0.0]]))
    photons = draw_photons(sky, 5)
    assert (photons.channel == 0).all()
    mean = sky.diffuse_density(0) * healpy.nside2pixarea(NSIDE)
    pixel = healpy.vec2pix(NSIDE, *photons.xyz.astype(np.float64).T)
    counts = np.bincount(pixel, minlength=len(mean))
    chi2 = ((counts - mean) ** 2 / mean).mean()
    assert chi2 == pytest.approx(1.0, abs=6 * np.sqrt(2.2 / len(mean)))
    # The children of the pixels are hit alike.
    fine = healpy.vec2pix(NSIDE * 4, *photons.xyz.astype(np.float64).T, nest=True)
    assert stats.chisquare(np.bincount(fine % 16, minlength=16)).pvalue > 1e-4
    assert stats.chisquare(np.bincount(photons.year, minlength=4)).pvalue > 1e-4


def test_binned_photons_agree_with_the_expected_images(psf: BandPsf, config2: Config) -> None:
    rng = np.random.default_rng(2)
    sky = sky_of(
        psf, config2.channels, list(rng.uniform(0, 30, 30)), list(rng.uniform(-8, 8, 30)), 3000.0
    )
    theta, phi = healpy.pix2ang(NSIDE, np.arange(healpy.nside2npix(NSIDE)))
    sky = with_diffuse(sky, 3e4 / (0.3 + np.abs(np.cos(theta))) + 1e3 * np.cos(phi))
    frames = tangent_frames(np.array([5.0, 15.0, 25.0]), np.array([-3.0, 0.0, 4.0]))
    expected = expected_images(sky, frames, 10.0)
    counted = bin_photons(draw_photons(sky, 3), frames, 10.0, config2.channels)
    for mean, n in zip(expected, counted, strict=True):
        mean64, n64 = mean.astype(np.float64), n.astype(np.float64)
        chi2 = ((n64 - mean64) ** 2 / mean64).mean()
        assert chi2 == pytest.approx(1.0, abs=5 * np.sqrt(2.5 / mean.size))
        assert n64.sum() == pytest.approx(mean64.sum(), abs=5 * np.sqrt(1.5 * mean64.sum()))


def test_the_same_seed_gives_the_same_photons(psf: BandPsf, config2: Config) -> None:
    sky = sky_of(psf, config2.channels, [3.0, 4.0], [5.0, -80.0], 500.0)
    sky = with_diffuse(sky, 100.0)
    a, b, other = draw_photons(sky, 1), draw_photons(sky, 1), draw_photons(sky, 2)
    np.testing.assert_array_equal(a.xyz, b.xyz)
    np.testing.assert_array_equal(a.year, b.year)
    assert len(a) != len(other) or (a.xyz != other.xyz).any()
    assert a.origin["sky_id"] == "7"
    assert a.origin["root_seed"] == "1"


def test_many_photons_pass_the_chunks_unbroken(
    psf: BandPsf, config2: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geminga.sky.observe.CHUNK", 97)
    sky = sky_of(psf, config2.channels, [3.0, 100.0], [5.0, -80.0], 400.0)
    sky = with_diffuse(sky, 20.0)
    photons = draw_photons(sky, 1)
    assert len(photons) == pytest.approx(1600 + 2 * 40 * 4 * np.pi, abs=250)
    for band in (0, 1):
        mine = photons.xyz[photons.channel == band].astype(np.float64)
        for lon, lat in ((3.0, 5.0), (100.0, -80.0)):
            centre = unit_vectors(np.array(lon), np.array(lat))
            assert (separation_deg(mine, centre) < 10).sum() == pytest.approx(400, abs=100)


def test_a_dark_sky_gives_no_photons(psf: BandPsf, config2: Config) -> None:
    assert len(draw_photons(sky_of(psf, config2.channels, [], [], 0.0), 1)) == 0


def test_more_years_than_a_photon_can_name_are_refused(psf: BandPsf, config2: Config) -> None:
    sky = replace(sky_of(psf, config2.channels, [], [], 0.0), shares=np.empty((0, 200)))
    with pytest.raises(InputError, match=r"sky\.years: 200 is too many"):
        draw_photons(sky, 1)
