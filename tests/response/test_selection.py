"""Event types, and the exposure cubes that go with them: what is refused and what is turned."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from geminga.bands import Band
from geminga.config import Config, ImageConfig, ResponseConfig
from geminga.errors import InputError
from geminga.response import Response, build_response, interpolate_energy
from geminga.response.cube import CubeSelection, read_exposure_cube
from geminga.response.exposure import Exposure, map_centres

START, STOP = 239557417.0, 239557417.0 + 1e8


def respond(folder: Path | None = None, **response: Any) -> Response:
    return build_response(
        Config(
            data=None if folder is None else str(folder),
            bands=(
                Band(emin_gev=1, emax_gev=3, nside=64, pixels=32),
                Band(emin_gev=3, emax_gev=7, nside=64, pixels=64),
            ),
            response=ResponseConfig.model_validate(response),
            images=ImageConfig(box_deg=(1.0, 1.0)),
        )
    )


def write_cube(path: Path, unit: str | None = None, scale: float = 1.0, **keys: Any) -> Path:
    """A cube of 1000 cm2 times 1e8 s, rising with energy."""
    lat = map_centres(8)[1]
    sky = 1e11 * scale * (1.0 + 0.2 * np.sin(np.radians(lat)))
    columns = [
        fits.Column(f"ENERGY{i + 1}", "D", array=sky * (1.0 + i), unit=unit) for i in range(3)
    ]
    table = fits.BinTableHDU.from_columns(columns, name="HPXEXPOSURES")
    table.header.update({"ORDERING": "RING", "NSIDE": 8, "COORDSYS": "EQU"})
    energy = fits.Column("Energy", "D", array=np.array([500.0, 2000.0, 8000.0]))
    primary = fits.PrimaryHDU()
    primary.header.update(keys)
    energies = fits.BinTableHDU.from_columns([energy], name="ENERGIES")
    fits.HDUList([primary, table, energies]).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("FRNT",), "unknown event type 'FRNT'; choose from FRONT, BACK, PSF0"),
        (("FRONT+",), "unknown event type ''"),
        (("PSF0+PSF0",), "repeats a type"),
        (("FRONT+PSF0",), "counts photons twice"),
        (("FRONT", "FRONT"), "repeats a type"),
        (("FRONT", "FRONT+BACK"), "repeats a type"),
        (("FRONT", "PSF3"), "counts photons twice"),
    ],
)
def test_bad_event_types(entries: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        respond(event_types=entries)


def test_channels_of_each_entry() -> None:
    response = respond(event_types=("FRONT", "BACK"))
    assert [c.event_types for c in response.channels] == [("FRONT",)] * 2 + [("BACK",)] * 2
    assert response.exposures[0] is response.exposures[1]
    assert response.exposures[0] is not response.exposures[2]
    both = respond(event_types=("FRONT+BACK",))
    np.testing.assert_allclose(
        both.exposures[0].maps_cm2_s,
        response.exposures[0].maps_cm2_s + response.exposures[2].maps_cm2_s,
        rtol=1e-4,
    )
    # Front converts in thin foils and has the narrower PSF.
    front, back = (response.psf.radius_of_containment(c, 2.0, 0.68) for c in (0, 2))
    assert front < 0.7 * back


def test_quartiles_are_ordered() -> None:
    response = respond(event_types=("PSF0", "PSF1", "PSF2", "PSF3"))
    radii = [response.psf.radius_of_containment(2 * q, 2.0, 0.68) for q in range(4)]
    assert np.all(np.diff(radii) < 0)
    areas = [e.mean()[30] for e in response.exposures[::2]]
    assert max(areas) < 1.4 * min(areas)


def test_a_cube_for_each_entry(tmp_path: Path) -> None:
    write_cube(tmp_path / "front.fits")
    write_cube(tmp_path / "back.fits", scale=2.0)
    entries = ("FRONT", "BACK")
    cubes = {"FRONT": "front.fits", "BACK": "back.fits"}
    response = respond(tmp_path, event_types=entries, exposure_cube=cubes)
    np.testing.assert_allclose(
        response.exposures[2].maps_cm2_s, 2.0 * response.exposures[0].maps_cm2_s, rtol=1e-6
    )
    for cube, message in (
        ("front.fits", "'front.fits' is one cube for 2 entries of event_types; give one for each"),
        ({"FRONT": "front.fits"}, r"has no file of \['BACK'\]; give one for each of FRONT, BACK"),
        (cubes | {"PSF3": "front.fits"}, r"names \['PSF3'\]"),
    ):
        with pytest.raises(InputError, match=message):
            respond(tmp_path, event_types=entries, exposure_cube=cube)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [(None, 1.0), ("cm2 s", 1.0), ("cm^2 s", 1.0), ("cm**2.s", 1.0), ("s m2", 1e4), ("m2 s", 1e4)],
)
def test_units_are_turned(
    tmp_path: Path, unit: str | None, factor: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_cube(tmp_path / "cube.fits", unit, 1.0 / factor, TSTART=START, TSTOP=STOP)
    with caplog.at_level(logging.INFO, logger="geminga.response"):
        exposure = read_exposure_cube(path, 8)
    assert exposure.mean()[0] == pytest.approx(1e11, rel=1e-3)
    if unit is None:
        assert "names no unit: taken as cm2 s" in caplog.text


@pytest.mark.parametrize("unit", ["ph", "cm2", "s", "erg"])
def test_other_units_are_refused(tmp_path: Path, unit: str) -> None:
    path = write_cube(tmp_path / "cube.fits", unit)
    with pytest.raises(InputError, match=f"the unit of exposure is '{unit}'; it must be cm2 s"):
        read_exposure_cube(path, 8)


def test_unnamed_square_metres_are_found_out(tmp_path: Path) -> None:
    path = write_cube(tmp_path / "cube.fits", scale=1e-4, TSTART=START, TSTOP=STOP)
    with pytest.raises(InputError, match=r"mean exposure over TSTOP - TSTART is 0.3 cm2"):
        read_exposure_cube(path, 8)


def keys(irf: str = "P8R2_SOURCE_V6", types: int = 3, zenith: float = 105.0) -> dict[str, str]:
    return {
        "DSTYP1": f"BIT_MASK(EVENT_TYPE,{types},P8R2)",
        "DSVAL1": "1:1",
        "DSTYP2": "ZENITH_ANGLE",
        "DSVAL2": f"0:{zenith:g}",
        "DSTYP3": "IRF_VERSION",
        "DSVAL3": irf,
    }


BOTH = CubeSelection("P8R2_SOURCE_V6", ("FRONT", "BACK"), 105.0)
QUARTILES = CubeSelection("P8R2_SOURCE_V6", ("PSF0", "PSF1", "PSF2", "PSF3"), 105.0)


def test_cube_of_the_selection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_cube(tmp_path / "cube.fits", **keys())
    with caplog.at_level(logging.INFO, logger="geminga.response"):
        read_exposure_cube(path, 8, BOTH)
        # All quartiles together are all events, as front and back together are.
        read_exposure_cube(path, 8, QUARTILES)
    assert "has the bands' zenith cut of 105 deg" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"irf": "P8R3_SOURCE_V3"}, "is of P8R3_SOURCE_V3, not of response.irf P8R2_SOURCE_V6"),
        ({"types": 1}, r"is of FRONT, not of FRONT\+BACK; use the cube of the event types"),
        ({"types": 32}, r"is of PSF3, not of FRONT\+BACK"),
    ],
)
def test_cube_of_another_selection(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_cube(tmp_path / "cube.fits", **keys(**change))
    with pytest.raises(InputError, match=message):
        read_exposure_cube(path, 8, BOTH)


def test_own_zenith_cut_of_a_cube_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_cube(tmp_path / "cube.fits", **keys(zenith=90.0))
    with caplog.at_level(logging.WARNING, logger="geminga.response"):
        respond(
            tmp_path,
            irf="P8R2_SOURCE_V6",
            event_types=("FRONT+BACK",),
            exposure_cube="cube.fits",
        )
    assert "holds its own zenith cut of 90 deg" in caplog.text


def test_cube_that_ends_too_early_for_energy_dispersion(tmp_path: Path) -> None:
    write_cube(tmp_path / "cube.fits")
    settings = {"irf": "P8R3_SOURCE_V3", "exposure_cube": "cube.fits", "energy_dispersion": True}
    wide = respond(tmp_path, **settings)
    assert "extrapolated from 0.5-8" in wide.origin["exposure"]
    with pytest.raises(InputError, match=r"photons of .* GeV spill .* at most a factor of 3 is"):
        Exposure(np.array([10.0, 20.0]), np.ones((2, 12), np.float32), "x").reaching(3.0, 20.0)


def test_extrapolation_follows_the_last_slope() -> None:
    energy = np.array([1e3, 1e4, 1e5])
    maps = np.repeat((energy[:, None] / 1e3) ** [[0.5]], 12, axis=1).astype(np.float32)
    exposure = Exposure(energy, maps, "test")
    assert exposure.reaching(1e3, 1e5) is exposure
    wider = exposure.reaching(500.0, 2e5)
    np.testing.assert_allclose(wider.energy_mev, [500.0, 1e3, 1e4, 1e5, 2e5])
    np.testing.assert_allclose(wider.maps_cm2_s[:, 0], np.sqrt(wider.energy_mev / 1e3), rtol=1e-5)


def test_exposure_at_nodes_is_that_of_the_maps() -> None:
    response = respond()
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    for channel, (exposure, nodes) in enumerate(
        zip(response.exposures, response.nodes, strict=True)
    ):
        slow = interpolate_energy(exposure.at(lon, lat), exposure.energy_mev, nodes.energy_mev)
        found = response.exposure_at_nodes(channel, lon, lat)
        np.testing.assert_allclose(found, slow, rtol=2e-4)


@pytest.mark.slow
def test_a_hundred_thousand_sources_take_about_a_second() -> None:
    edges = (0.3, 0.5, 1, 2, 7, 20, 1000)
    bands = tuple(
        Band(emin_gev=a, emax_gev=b, nside=64, pixels=64) for a, b in itertools.pairwise(edges)
    )
    response = build_response(Config(bands=bands))
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(0, 360, 100_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 100_000)))
    response.exposure_at_nodes(0, lon[:10], lat[:10])
    start = perf_counter()
    for channel in range(len(bands)):
        response.exposure_at_nodes(channel, lon, lat)
    assert perf_counter() - start < 3.0
