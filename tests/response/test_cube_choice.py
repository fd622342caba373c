"""Which of several exposure cubes a channel takes."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

from geminga.bands import Channel
from geminga.config import Config
from geminga.errors import InputError
from geminga.response import build_response
from geminga.response.cube import read_exposure_cube
from geminga.response.cube_choice import (
    CubeSummary,
    choose_cube,
    same_types,
    summarise_cube,
    types_text,
)
from geminga.sky.formats.healpix_write import write_exposures
from geminga.sky.observation import observation_of

BOTH, FRONT, BACK = frozenset({0, 1}), frozenset({0}), frozenset({1})


def channel(low: float, high: float, zenith: float = 105, *types: str) -> Channel:
    return Channel(
        emin_gev=low,
        emax_gev=high,
        nside=64,
        pixels=32,
        max_zenith_deg=zenith,
        event_types=types or ("FRONT",),
        band=0,
    )


def cube(
    name: str,
    low: float,
    high: float,
    types: frozenset[int] | None = None,
    zenith: float | None = None,
) -> CubeSummary:
    return CubeSummary(Path(name), (low * 1e3, high * 1e3), None, types, zenith)


def test_event_types_energies_and_zenith_cut_decide() -> None:
    cubes = [
        cube("a", 0.3, 1.0, FRONT, 100.0),
        cube("b", 0.3, 2000, FRONT, 105.0),
        cube("c", 0.3, 2000, BACK, 100.0),
    ]
    assert choose_cube(cubes, channel(0.3, 0.5, 100)).path.name == "a"
    assert choose_cube(cubes, channel(0.3, 0.5, 105)).path.name == "b"
    assert choose_cube(cubes, channel(1, 3, 100)).path.name == "b"
    assert choose_cube(cubes, channel(1, 3, 105, "BACK")).path.name == "c"
    assert choose_cube([cube("d", 0.3, 2000)], channel(1, 3)).path.name == "d"


@pytest.mark.parametrize(
    ("cubes", "message"),
    [
        ([cube("a", 0.3, 2000, BACK)], r"no cube is of FRONT: a \(0.3-2000 GeV, BACK\)"),
        ([cube("a", 1.5, 2000)], r"holds the energies of band 1-3 GeV: a \(1.5-2000 GeV\)"),
        ([cube("a", 0.3, 2), cube("b", 2, 10)], "gtexpcube2 with bincalc=EDGE"),
        ([cube("a", 0.3, 20), cube("b", 0.3, 10)], "both fit band 1-3 GeV; give one of them"),
    ],
)
def test_no_cube_or_two(cubes: list[CubeSummary], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_cube(cubes, channel(1, 3))


def test_event_types_are_compared_by_their_events() -> None:
    assert same_types(BOTH, frozenset({2, 3, 4, 5}))
    assert not same_types(BOTH, FRONT)
    assert types_text(BOTH) == "FRONT+BACK"
    assert types_text(frozenset({6})) == "bit 6"


def test_bands_of_two_zenith_cuts_take_their_own_cubes(tmp_path: Path, config2: Config) -> None:
    tree = config2.model_dump(mode="json")
    tree["bands"][0]["max_zenith_deg"] = 90.0
    own = Config.model_validate(tree)
    response = build_response(own)
    paths = write_exposures(response, tmp_path, observation_of(own))
    assert [path.name for path in paths] == ["exposure_zmax90.fits", "exposure_zmax105.fits"]
    summary = summarise_cube(paths[0])
    assert (summary.irf, summary.types, summary.max_zenith_deg) == (
        "P8R2_ULTRACLEANVETO_V6",
        FRONT,
        90.0,
    )
    tree["response"]["exposure_cube"] = [str(path) for path in reversed(paths)]
    back = build_response(Config.model_validate(tree))
    for mine, read in zip(response.exposures, back.exposures, strict=True):
        np.testing.assert_allclose(read.maps_cm2_s, mine.maps_cm2_s, rtol=1e-5)
    assert back.exposures[0] is not back.exposures[1]


def test_a_cube_of_part_of_the_sky_is_zero_elsewhere(tmp_path: Path) -> None:
    pixels = hp.query_disc(32, (0.0, 0.0, 1.0), np.radians(40), nest=False)
    columns = [fits.Column("PIX", "K", array=pixels)]
    columns += [fits.Column(f"ENERGY{i}", "D", array=np.full(len(pixels), 3e11)) for i in (1, 2)]
    table = fits.BinTableHDU.from_columns(columns, name="HPXEXPOSURES")
    table.header.update(NSIDE=32, ORDERING="RING", COORDSYS="GAL", INDXSCHM="EXPLICIT")
    nodes = fits.Column("Energy", "D", array=np.array([1e3, 1e4]), unit="MeV")
    energies = fits.BinTableHDU.from_columns([nodes], name="ENERGIES")
    fits.HDUList([fits.PrimaryHDU(), table, energies]).writeto(tmp_path / "part.fits")
    exposure = read_exposure_cube(tmp_path / "part.fits", 16)
    north, south = exposure.at(np.array([10.0, 10.0]), np.array([80.0, -80.0])).T
    np.testing.assert_allclose(north, 3e11, rtol=1e-6)
    assert not south.any()
