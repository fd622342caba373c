"""Maps of counts: which photons are read from them, and the way back."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits
from healpix_maps import KEV, NSIDE, random_counts, write_map
from sky_configs import typed

from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import separation_deg, unit_vectors
from geminga.seeds import Stage, generator
from geminga.sky.formats.fits_input import equatorial_from_galactic
from geminga.sky.formats.healpix import read_counts, uniform_in_pixels
from geminga.sky.formats.healpix_write import write_counts
from geminga.sky.photons import Photons, empty_photons, photons_from_vectors


def random_photons(n: int, seed: int = 0) -> Photons:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(n, 3))
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    return photons_from_vectors(xyz, rng.integers(0, 2, n).astype(np.int8), np.zeros(n, np.int8))


def test_each_count_stays_in_its_pixel_and_band(tmp_path: Path, config2: Config):
    counts = random_counts()
    photons = read_counts([write_map(tmp_path / "a.fits", counts)], config2)
    for band, expected in enumerate([counts[0], counts[1] + counts[2]]):
        mine = photons.xyz[photons.channel == band].astype(float)
        found = np.bincount(hp.vec2pix(NSIDE, *mine.T), minlength=hp.nside2npix(NSIDE))
        np.testing.assert_array_equal(found, expected)
    assert photons.origin["files"] == "a.fits"


def test_nested_and_ring_maps_give_the_same_photons(tmp_path: Path, config2: Config):
    counts = random_counts()
    ring = read_counts([write_map(tmp_path / "r.fits", counts)], config2)
    nested = write_map(tmp_path / "n.fits", hp.reorder(counts, r2n=True), ORDERING="NESTED")
    again = read_counts([nested], config2)
    for band in (0, 1):
        a, b = (p.xyz[p.channel == band].astype(float) for p in (ring, again))
        np.testing.assert_allclose(
            np.bincount(hp.vec2pix(4, *a.T), minlength=192),
            np.bincount(hp.vec2pix(4, *b.T), minlength=192),
            atol=1,
        )


def test_equatorial_maps_rotate_the_photons_themselves(tmp_path: Path, config2: Config):
    counts = random_counts()
    galactic = read_counts([write_map(tmp_path / "g.fits", counts)], config2)
    equatorial = read_counts([write_map(tmp_path / "e.fits", counts, COORDSYS="EQU")], config2)
    turned = equatorial_from_galactic(equatorial.xyz.astype(float))
    for channel in (0, 1):
        maps = [
            np.bincount(hp.vec2pix(NSIDE, *xyz[p.channel == channel].T.astype(float)))
            for xyz, p in ((turned, equatorial), (galactic.xyz, galactic))
        ]
        # Putting a photon at its pixel's centre may carry it over a border of the other frame.
        assert np.abs(maps[0] - maps[1]).sum() <= 8


def test_a_source_in_an_equatorial_map_lands_at_its_galactic_place(tmp_path: Path, config2: Config):
    counts = np.zeros((3, hp.nside2npix(NSIDE)))
    pixel = hp.ang2pix(NSIDE, 83.633, 22.0145, lonlat=True)
    counts[:, pixel] = 1000
    photons = read_counts([write_map(tmp_path / "e.fits", counts, COORDSYS="EQU")], config2)
    crab = unit_vectors(np.array([184.5575]), np.array([-5.7843]))
    assert len(photons) == 3000
    assert separation_deg(photons.xyz, crab).max() < 2 * np.degrees(hp.max_pixrad(NSIDE))


def test_draws_are_uniform_inside_a_pixel():
    rng = generator(1, Stage.HEALPIX_JITTER)
    for pixel in (0, 700, 3000):
        vectors = uniform_in_pixels(NSIDE, np.full(16_000, pixel), rng)
        assert np.all(hp.vec2pix(NSIDE, *vectors.T, nest=True) == pixel)
        children = hp.vec2pix(4 * NSIDE, *vectors.T, nest=True) - 16 * pixel
        shares = np.bincount(children, minlength=16)
        assert shares.shape == (16,)
        # Chi-square of 15 degrees of freedom, one in 10^5.
        assert np.sum((shares - 1000) ** 2 / 1000) < 50


def test_the_same_seed_gives_the_same_photons(tmp_path: Path, config2: Config):
    path = write_map(tmp_path / "a.fits", random_counts())
    first, second = read_counts([path], config2), read_counts([path], config2)
    np.testing.assert_array_equal(first.xyz, second.xyz)
    np.testing.assert_array_equal(first.year, second.year)
    other = read_counts([path], config2.model_copy(update={"seed": 1}))
    assert not np.array_equal(first.xyz, other.xyz)


def test_years_are_shared_out_equally(tmp_path: Path, config2: Config):
    photons = read_counts([write_map(tmp_path / "a.fits", random_counts())], config2)
    shares = np.bincount(photons.year, minlength=4) / len(photons)
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_round_trip_through_files(tmp_path: Path, config2: Config):
    photons = random_photons(20_000)
    photons.channel[:100] = -1
    paths = write_counts(photons, config2.channels, tmp_path)
    assert [path.name for path in paths] == ["counts_nside64.fits", "counts_nside128.fits"]
    back = read_counts(paths, config2)
    assert len(back) == 19_900
    for number, band in enumerate(config2.channels):
        maps = [
            np.bincount(
                hp.vec2pix(band.nside, *p.xyz[p.channel == number].astype(float).T),
                minlength=hp.nside2npix(band.nside),
            )
            for p in (photons, back)
        ]
        np.testing.assert_array_equal(maps[0], maps[1])
    # Written again from what was read, the maps stay: every photon is still in its pixel.
    again = write_counts(back, config2.channels, tmp_path / "again")
    with fits.open(paths[0]) as a, fits.open(again[0]) as b:
        np.testing.assert_array_equal(a[1].data["CHANNEL1"], b[1].data["CHANNEL1"])
        assert a["EBOUNDS"].data["E_MIN"][0] == 1e6


def test_bands_of_one_nside_share_a_file(tmp_path: Path, config2: Config):
    bands = [channel.model_copy(update={"nside": 32}) for channel in config2.channels]
    (path,) = write_counts(random_photons(100), bands, tmp_path)
    with fits.open(path) as hdus:
        assert hdus["SKYMAP"].columns.names == ["CHANNEL1", "CHANNEL2"]
        assert hdus["SKYMAP"].header["COORDSYS"] == "GAL"
        assert hdus["SKYMAP"].header["ORDERING"] == "RING"
        total = sum(hdus["SKYMAP"].data[name].sum() for name in hdus["SKYMAP"].columns.names)
        assert total == 100


def test_no_photons_round_trip(tmp_path: Path, config2: Config):
    photons = read_counts(write_counts(empty_photons(), config2.channels, tmp_path), config2)
    assert len(photons) == 0
    assert photons.xyz.shape == (0, 3)


def test_partial_sky_with_explicit_pixels(tmp_path: Path, config2: Config):
    pixels = np.arange(500, 600)
    counts = np.ones((3, 100))
    path = write_map(tmp_path / "a.fits", counts, pixels=pixels, INDXSCHM="EXPLICIT")
    photons = read_counts([path], config2)
    assert len(photons) == 300
    assert np.isin(hp.vec2pix(NSIDE, *photons.xyz.astype(float).T), pixels).mean() > 0.98


def test_one_map_per_band_with_the_energy_keywords(tmp_path: Path, config2: Config):
    paths = []
    for number, (low, high) in enumerate([(1000, 3000), (3000, 30000)]):
        path = tmp_path / f"{number}.fits"
        dss = {"DSTYP1": "ENERGY", "DSUNI1": "MeV", "DSVAL1": f"{low}:{high}"}
        paths.append(write_map(path, random_counts(1), None, names=["COUNTS"], **dss))
    photons = read_counts(paths, config2)
    np.testing.assert_array_equal(np.bincount(photons.channel), 2 * [random_counts(1).sum()])


def test_channels_outside_every_band_are_left_out(tmp_path: Path, config2: Config):
    counts = random_counts(5)
    path = write_map(tmp_path / "a.fits", counts, [0.5e6, *KEV, 90e6])
    assert len(read_counts([path], config2)) == counts[1:4].sum()


def test_rows_of_many_pixels_as_healpy_writes_them(tmp_path: Path, config2: Config):
    path = tmp_path / "a.fits"
    counts = random_counts(2)
    hp.write_map(
        path,
        counts.astype(np.float64),
        coord="G",
        dtype=np.float64,
        column_names=["CHANNEL1", "CHANNEL2"],
        extra_header=[],
    )
    edges = fits.BinTableHDU.from_columns(
        [
            fits.Column("E_MIN", "D", array=[1e6, 3e6]),
            fits.Column("E_MAX", "D", array=[3e6, 30e6]),
        ],
        name="EBOUNDS",
    )
    with fits.open(path) as hdus:
        hdus.append(edges)
        hdus.writeto(tmp_path / "b.fits")
    assert len(read_counts([tmp_path / "b.fits"], config2)) == counts.sum()


def test_the_order_keyword_stands_in_for_nside(tmp_path: Path, config2: Config):
    path = write_map(tmp_path / "a.fits", random_counts(), NSIDE=None, ORDER=4)
    assert len(read_counts([path], config2)) == random_counts().sum()


def test_maps_of_several_event_types(tmp_path: Path, config2: Config):
    config = typed(config2, "FRONT", "BACK")
    front, back = (write_map(tmp_path / f"{n}.fits", random_counts() + n) for n in (0, 1))
    photons = read_counts({"BACK": [back], "FRONT": [front]}, config)
    sums = random_counts().sum(axis=1)
    npix = hp.nside2npix(NSIDE)
    wanted = [sums[0], sums[1] + sums[2], sums[0] + npix, sums[1] + sums[2] + 2 * npix]
    np.testing.assert_array_equal(np.bincount(photons.channel), wanted)
    with pytest.raises(InputError, match="does not say which maps hold FRONT, BACK"):
        read_counts([front, back], config)
    with pytest.raises(InputError, match="has maps of FRONT; give files for each entry"):
        read_counts({"FRONT": [front]}, config)
    with pytest.raises(InputError, match="names no file of BACK"):
        read_counts({"FRONT": [front], "BACK": []}, config)
    for wrong in (("FRONT", "FRONT+BACK"), ("FRONT", "PSF3"), ("FRONT", "FRONT")):
        with pytest.raises(InputError, match="count events twice"):
            read_counts({"FRONT": [front]}, typed(config2, *wrong))
    with pytest.raises(InputError, match="unknown event type 'EDISP1'"):
        read_counts({"FRONT": [front]}, typed(config2, "EDISP1"))


def test_maps_of_several_event_types_round_trip(tmp_path: Path, config2: Config):
    config = typed(config2, "FRONT", "BACK")
    photons = random_photons(5000)
    photons.channel[:] = np.arange(5000) // 1250
    paths = write_counts(photons, config.channels, tmp_path)
    assert [path.name for path in paths] == [
        f"counts_{name}_nside{nside}.fits" for name in ("FRONT", "BACK") for nside in (64, 128)
    ]
    back = read_counts({"FRONT": paths[:2], "BACK": paths[2:]}, config)
    np.testing.assert_array_equal(np.bincount(back.channel), [1250] * 4)


@pytest.mark.data
def test_3fhl_counts_cube(lat_data: Path, config2: Config):
    path = lat_data / "events" / "fermi_3fhl_counts_cube_hpx.fits.gz"
    tree = config2.model_dump()
    for band, (low, high) in zip(tree["bands"], [(10, 18.651314), (18.651314, 2000)], strict=True):
        band.update(emin_gev=low, emax_gev=high)
    tree["response"]["event_types"] = ["FRONT+BACK"]
    config = Config.model_validate(tree)
    photons = read_counts([path], config)
    assert len(photons) == 696_519
    _, lat = photons.lon_lat()
    # Bright in the Galactic plane, so the rotation from equatorial is the right way round.
    plane = np.abs(lat) < 5
    assert plane.mean() > 2.5 * np.sin(np.radians(5))
    vela = unit_vectors(np.array([263.55]), np.array([-2.79]))
    around = separation_deg(photons.xyz[photons.channel == 0], vela)
    assert np.sum(around < 1) > 4 * np.sum((around > 2) & (around < np.sqrt(5)))
    tree["bands"][0]["emax_gev"] = tree["bands"][1]["emin_gev"] = 20.0
    with pytest.raises(InputError, match="cut by an edge of band 10-20 GeV"):
        read_counts([path], Config.model_validate(tree))
