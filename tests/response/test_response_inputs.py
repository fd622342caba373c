"""What a user can get wrong about response files; the files are made here."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
from astropy.io import fits

from geminga.bands import Band
from geminga.config import Config, ImageConfig, ResponseConfig
from geminga.errors import InputError
from geminga.response import Response, build_response
from geminga.response.caldb import check_event_types
from geminga.response.cube import read_exposure_cube
from geminga.response.exposure import map_centres

NSIDE = 8
NPIX = 12 * NSIDE**2


def respond(
    folder: Path | None = None, edges: tuple[float, float] = (1.0, 3.0), **response: Any
) -> Response:
    return build_response(
        Config(
            data=None if folder is None else str(folder),
            bands=(Band(emin_gev=edges[0], emax_gev=edges[1], nside=64, pixels=64),),
            response=ResponseConfig.model_validate(response),
            images=ImageConfig(box_deg=(1.0,)),
        )
    )


def declination_map(frame: str, nested: bool = False) -> Any:
    """Exposure rising with declination, on pixels of the given frame."""
    lon, lat = map_centres(NSIDE)
    if frame == "G":
        lat = healpy.Rotator(coord=["G", "C"])(lon, lat, lonlat=True)[1]
    values = 1e11 * (2.0 + np.sin(np.radians(lat)))
    return healpy.reorder(values, r2n=True) if nested else values


def write_cube(path: Path, sky: Any, *, energies: bool = True, **keys: Any) -> Path:
    columns = [fits.Column(f"ENERGY{i + 1}", "D", array=sky * (1.0 + i)) for i in range(3)]
    table = fits.BinTableHDU.from_columns(columns, name="HPXEXPOSURES")
    for key, value in ({"ORDERING": "RING", "NSIDE": NSIDE, "COORDSYS": "EQU"} | keys).items():
        if value is not None:
            table.header[key] = value
    hdus = [fits.PrimaryHDU(), table]
    if energies:
        energy = fits.Column("Energy", "D", array=np.array([500.0, 2000.0, 8000.0]))
        hdus.append(fits.BinTableHDU.from_columns([energy], name="ENERGIES"))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def check_follows_declination(path: Path) -> None:
    exposure = read_exposure_cube(path, 16)
    lon, lat = map_centres(16)
    dec = healpy.Rotator(coord=["G", "C"])(lon, lat, lonlat=True)[1]
    expected = 1e11 * (2.0 + np.sin(np.radians(dec)))
    np.testing.assert_allclose(exposure.maps_cm2_s[0], expected, rtol=0.02)
    np.testing.assert_allclose(exposure.maps_cm2_s[2], 3 * expected, rtol=0.02)
    assert exposure.origin == "gtexpcube2 cube cube.fits"


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("frame", "keys"),
    [
        ("C", {"COORDSYS": "EQU"}),
        ("C", {"COORDSYS": "CEL"}),
        ("C", {"COORDSYS": None, "RADECSYS": "FK5", "EQUINOX": 2000.0}),
        ("G", {"COORDSYS": "GAL"}),
        ("G", {"COORDSYS": None}),
    ],
)
def test_every_frame_and_ordering(
    tmp_path: Path, frame: str, keys: dict[str, Any], nested: bool
) -> None:
    path = write_cube(
        tmp_path / "cube.fits",
        declination_map(frame, nested),
        **{"ORDERING": "NESTED" if nested else "RING", **keys},
    )
    check_follows_declination(path)


def test_cube_is_used(tmp_path: Path) -> None:
    write_cube(tmp_path / "cube.fits", declination_map("C"))
    response = respond(tmp_path, exposure_cube="cube.fits", exposure_nside=8)
    assert response.exposures[0].nside == 8
    assert response.origin["exposure"] == "gtexpcube2 cube cube.fits"


def test_named_frame_that_contradicts_the_map_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_cube(tmp_path / "cube.fits", declination_map("C"), COORDSYS="GAL")
    with caplog.at_level(logging.WARNING):
        read_exposure_cube(path, 8)
    assert "declination" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energies": False}, "no table ENERGIES"),
        ({"COORDSYS": "ECL"}, "COORDSYS is 'ECL'; it must be GAL or EQU"),
        ({"COORDSYS": None, "RADECSYS": None}, "header suggests Galactic and its map the other"),
        ({"ORDERING": "SPIRAL"}, "ORDERING is 'SPIRAL'; it must be RING or NESTED"),
        ({"ORDERING": None}, "ORDERING is 'MISSING'"),
        ({"NSIDE": 16}, "768 pixels do not make a whole sky of NSIDE 16"),
    ],
)
def test_bad_cube(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_cube(tmp_path / "cube.fits", declination_map("C"), **change)
    with pytest.raises(InputError, match=message):
        read_exposure_cube(path, 8)


def test_cube_with_bad_values(tmp_path: Path) -> None:
    sky = declination_map("C")
    sky[7] = np.nan
    with pytest.raises(InputError, match="holds NaN"):
        read_exposure_cube(write_cube(tmp_path / "cube.fits", sky), 8)
    sky[7] = -1.0
    with pytest.raises(InputError, match="negative"):
        read_exposure_cube(write_cube(tmp_path / "cube.fits", sky), 8)
    with pytest.raises(InputError, match="700 pixels"):
        read_exposure_cube(write_cube(tmp_path / "cube.fits", sky[:700], NSIDE=None), 8)


def test_unsound_files(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "cube.fits", declination_map("C"))
    whole = cube.read_bytes()
    with pytest.raises(InputError, match="not found"):
        respond(tmp_path, exposure_cube="none.fits")
    for name, content in (
        ("short.fits", whole[: len(whole) // 2]),
        ("text.fits", b"not a FITS file\n" * 100),
        ("empty.fits", b""),
        ("short.fits.gz", gzip.compress(whole)[: len(gzip.compress(whole)) // 2]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"not a sound FITS file|has no table"):
            respond(tmp_path, exposure_cube=name)


def test_band_outside_the_cube(tmp_path: Path) -> None:
    write_cube(tmp_path / "cube.fits", declination_map("C"))
    with pytest.raises(InputError, match=r"0.1-3 GeV is not within the exposure's 0.5-8 GeV"):
        respond(tmp_path, (0.1, 3.0), exposure_cube="cube.fits")


def test_band_outside_the_built_in_tables() -> None:
    with pytest.raises(InputError, match="not within the exposure"):
        respond(edges=(0.01, 1.0))
    with pytest.raises(InputError, match="not within the exposure"):
        respond(edges=(100.0, 5000.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"irf": "P7REP"}, "'P7REP' is not built in; built in are P8R2_SOURCE_V6, P8R2_ULTRA"),
        ({"event_types": ("FRNT",)}, "unknown event type 'FRNT'; choose from FRONT, BACK, PSF0"),
        ({"event_types": ("FRONT+FRONT",)}, "repeats a type"),
        ({"event_types": ("FRONT+PSF3",)}, "counts photons twice"),
    ],
)
def test_bad_selection(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        respond(**settings)


def test_no_event_type() -> None:
    with pytest.raises(InputError, match="no event type given"):
        check_event_types(())


def write_caldb(
    folder: Path,
    *,
    drop: str = "",
    nan: bool = False,
    name: str = "RPSF_FRONT",
    core: float = 1.0,
    area_m2: float = 0.5,
) -> None:
    """A small CALDB: a King function of one width at every energy and angle."""
    axes = [
        fits.Column("ENERG_LO", "3E", array=np.array([[10.0, 1e3, 1e5]])),
        fits.Column("ENERG_HI", "3E", array=np.array([[1e3, 1e5, 1e7]])),
        fits.Column("CTHETA_LO", "2E", array=np.array([[0.2, 0.6]])),
        fits.Column("CTHETA_HI", "2E", array=np.array([[0.6, 1.0]])),
    ]
    values = {"NTAIL": 0.0, "SCORE": 1.0, "STAIL": 1.0, "GCORE": 3.0, "GTAIL": 3.0}
    values["SCORE"] = np.nan if nan else core
    columns = [
        fits.Column(key, "6E", dim="(3, 2)", array=np.full((1, 2, 3), value))
        for key, value in values.items()
        if key != drop
    ]
    psf = fits.BinTableHDU.from_columns([*axes, *columns], name=name)
    scaling = fits.Column("PSFSCALE", "3E", array=np.array([[0.0, 0.01, -0.8]]))
    scale = fits.BinTableHDU.from_columns([scaling], name="PSF_SCALING_PARAMS_FRONT")
    area = fits.Column("EFFAREA", "6E", dim="(3, 2)", array=np.full((1, 2, 3), area_m2))
    aeff = fits.BinTableHDU.from_columns([*axes, area], name="EFFECTIVE AREA_FRONT")
    folder.mkdir(exist_ok=True, parents=True)
    fits.HDUList([fits.PrimaryHDU(), psf, scale]).writeto(
        folder / "psf_MINE_FB.fits", overwrite=True
    )
    fits.HDUList([fits.PrimaryHDU(), aeff]).writeto(folder / "aeff_MINE_FB.fits", overwrite=True)


def test_caldb_of_a_known_king_function(tmp_path: Path) -> None:
    write_caldb(tmp_path / "caldb" / "bcf")
    response = respond(tmp_path, irf="MINE", caldb="caldb", edges=(1.5, 3.0))
    # King function: 1 - (1 + x^2 / (2 g s^2))^(1 - g) = 0.5 at x^2 = 6 (sqrt 2 - 1).
    expected = np.degrees(0.01 * np.sqrt(6.0 * (np.sqrt(2.0) - 1.0)))
    found = response.psf_tables[0].containment_radius_deg(2000.0, 0.5)
    assert found == pytest.approx(expected, rel=2e-3)
    assert response.psf.radius_of_containment(0, 2.0, 0.5) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"drop": "STAIL"}, "has no column STAIL; columns there: ENERG_LO"),
        ({"nan": True}, "column SCORE holds NaN"),
        ({"core": -1.0}, "column SCORE is not positive"),
        ({"area_m2": -0.5}, "column EFFAREA is negative"),
        ({"name": "RPSF_BACK"}, "has no table RPSF_FRONT; tables there: RPSF_BACK"),
    ],
)
def test_bad_caldb(tmp_path: Path, fault: dict[str, Any], message: str) -> None:
    write_caldb(tmp_path / "caldb", **fault)
    with pytest.raises(InputError, match=message):
        respond(tmp_path, irf="MINE", caldb="caldb", edges=(1.5, 3.0))


def test_missing_caldb_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        respond(tmp_path, irf="MINE", caldb="caldb")
    write_caldb(tmp_path / "caldb")
    with pytest.raises(InputError, match=r"has no psf_YOURS_FB.fits.*classes there: MINE"):
        respond(tmp_path, irf="YOURS", caldb="caldb")
    (tmp_path / "caldb" / "aeff_MINE_FB.fits").write_bytes(b"SIMPLE")
    with pytest.raises(InputError, match="not a sound FITS file"):
        respond(tmp_path, irf="MINE", caldb="caldb", edges=(1.5, 3.0))
