"""Counts maps and exposure cubes as gtbin and gtexpcube2 write them."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits
from gammapy.maps import Map

from geminga.config import Config
from geminga.errors import InputError
from geminga.response import Response, build_response
from geminga.response.cube import CubeSelection, read_exposure_cube
from geminga.sky.formats.healpix_write import write_counts, write_exposure, write_exposures
from geminga.sky.observation import Observation, observation_of
from geminga.sky.photons import Photons, photons_from_vectors

PLACES = ("TTYPE", "TFORM", "TUNIT", "NAXIS", "DS", "CHECKSUM", "DATASUM", "DATE", "COMMENT")


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def observation(config2: Config) -> Observation:
    return observation_of(config2)


def photons_of(config: Config, n: int = 3000) -> Photons:
    rng = np.random.default_rng(4)
    number = rng.integers(0, len(config.channels), n).astype(np.int8)
    return photons_from_vectors(rng.normal(size=(n, 3)), number, np.zeros(n, np.int8))


@pytest.mark.data
def test_a_counts_map_is_laid_out_as_the_published_one(
    tmp_path: Path, lat_data: Path, config2: Config, observation: Observation
) -> None:
    path, _ = write_counts(photons_of(config2), config2.channels, tmp_path, observation)
    official = lat_data / "events" / "fermi_3fhl_counts_cube_hpx.fits.gz"
    with fits.open(official) as real, fits.open(path) as own:
        own.verify("exception")
        assert [hdu.name for hdu in own] == [hdu.name for hdu in real]
        for name in ("SKYMAP", "EBOUNDS"):
            a, b = own[name].columns, real[name].columns
            assert a.names == b.names[: len(a.names)]
            assert a.formats[0] == b.formats[0]
            assert [u or "" for u in a.units] == [u or "" for u in b.units[: len(a.names)]]
        keys = {"PIXTYPE", "ORDERING", "ORDER", "NSIDE", "FIRSTPIX", "LASTPIX", "TELESCOP"}
        assert {key: type(own["SKYMAP"].header[key]) for key in keys} == {
            key: type(real["SKYMAP"].header[key]) for key in keys
        }
        assert own["SKYMAP"].header["COORDSYS"] == "GAL"
        # The same kinds of cut, in the primary header and with the map.
        for hdu in ("PRIMARY", "SKYMAP"):
            kinds = {str(real[hdu].header[f"DSTYP{n}"]).split("(")[0] for n in range(1, 6)} | {
                "POS"
            }
            count = own[hdu].header["NDSKEYS"]
            assert {
                own[hdu].header[f"DSTYP{n}"].split("(")[0] for n in range(1, count + 1)
            } == kinds
        assert own["GTI"].columns.names == ["START", "STOP"]


@pytest.mark.data
def test_an_exposure_cube_is_laid_out_as_the_published_one(
    tmp_path: Path, lat_data: Path, response: Response, observation: Observation
) -> None:
    (path,) = write_exposures(response, tmp_path, observation)
    official = lat_data / "exposure" / "fermi_3fhl_exposure_cube_hpx.fits.gz"
    with fits.open(official) as real, fits.open(path) as own:
        own.verify("exception")
        assert [hdu.name for hdu in own] == [hdu.name for hdu in real]
        table = own["HPXEXPOSURES"]
        assert table.columns.names[:3] == ["ENERGY1", "ENERGY2", "ENERGY3"]
        assert table.columns.formats[0] == real["HPXEXPOSURES"].columns.formats[0]
        missing = {
            key
            for key in real["HPXEXPOSURES"].header
            if not key.startswith(PLACES) and key not in table.header
        }
        assert missing == set()
        assert own["ENERGIES"].columns.names == real["ENERGIES"].columns.names
        kinds = {real[0].header[f"DSTYP{n}"].split("(")[0] for n in range(1, 7)} | {"POS"}
        assert {own[0].header[f"DSTYP{n}"].split("(")[0] for n in range(1, 8)} == kinds


def test_exposure_comes_back(
    tmp_path: Path, config2: Config, response: Response, observation: Observation
) -> None:
    exposure = response.exposures[0]
    (path,) = write_exposures(response, tmp_path, observation)
    wanted = CubeSelection(config2.response.irf, ("FRONT",), 105.0)
    back = read_exposure_cube(path, exposure.nside, wanted)
    np.testing.assert_allclose(back.maps_cm2_s, exposure.maps_cm2_s, rtol=1e-6)
    np.testing.assert_array_equal(back.energy_mev, exposure.energy_mev)
    cube = Map.read(path)
    assert cube.geom.frame == "galactic"
    assert cube.unit == "cm2 s"
    np.testing.assert_allclose(
        cube.geom.axes[0].center.to_value("MeV"), exposure.energy_mev, rtol=1e-6
    )
    np.testing.assert_allclose(cube.data, exposure.maps_cm2_s, rtol=1e-6)
    # Without keywords of an observation it is a cube all the same.
    write_exposure(exposure, tmp_path / "plain.fits")
    again = read_exposure_cube(tmp_path / "plain.fits", exposure.nside)
    np.testing.assert_array_equal(again.maps_cm2_s, back.maps_cm2_s)


def test_a_cube_of_another_selection_is_not_taken_for_it(
    tmp_path: Path, config2: Config, response: Response, observation: Observation
) -> None:
    (path,) = write_exposures(response, tmp_path, observation)
    wanted = CubeSelection(config2.response.irf, ("BACK",), 105.0)
    with pytest.raises(InputError, match=str(path)):
        read_exposure_cube(path, 16, wanted)


def test_zenith_cuts_and_event_types_have_cubes_of_their_own(
    tmp_path: Path, config2: Config, observation: Observation
) -> None:
    tree = config2.model_dump()
    tree["bands"][0]["max_zenith_deg"] = 90.0
    tree["response"]["event_types"] = ["FRONT", "BACK"]
    response = build_response(Config.model_validate(tree))
    paths = write_exposures(response, tmp_path, observation)
    assert [path.name for path in paths] == [
        f"exposure_{name}_zmax{zenith}.fits" for name in ("FRONT", "BACK") for zenith in (90, 105)
    ]
    for path, exposure in zip(paths, response.exposures, strict=True):
        np.testing.assert_allclose(Map.read(path).data, exposure.maps_cm2_s, rtol=1e-6)
    header = fits.getheader(paths[2])
    cuts = {header[f"DSTYP{n}"]: header[f"DSVAL{n}"] for n in range(1, header["NDSKEYS"] + 1)}
    assert cuts["BIT_MASK(EVENT_TYPE,2,P8R2)"] == "1:1"
    assert cuts["ENERGY"] == "1000:3000"
    assert cuts["ZENITH_ANGLE"] == "0:90"
    assert cuts["IRF_VERSION"] == config2.response.irf


def test_gammapy_reads_counts(tmp_path: Path, config2: Config, observation: Observation) -> None:
    channels = [channel.model_copy(update={"nside": 32}) for channel in config2.channels]
    photons = photons_of(config2)
    (path,) = write_counts(photons, channels, tmp_path, observation)
    counts = Map.read(path)
    assert counts.geom.frame == "galactic"
    assert counts.geom.axes[0].name == "energy"
    np.testing.assert_allclose(counts.geom.axes[0].edges.to_value("GeV"), [1.0, 3.0, 30.0])
    for number in (0, 1):
        mine = photons.xyz[photons.channel == number].astype(np.float64)
        wanted = np.bincount(hp.vec2pix(32, *mine.T), minlength=12 * 32**2)
        np.testing.assert_array_equal(counts.data[number], wanted)
