"""Response against the numbers of the LAT files (shared/data/README.md)."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits

from geminga.bands import Band
from geminga.config import Config, ImageConfig, ResponseConfig
from geminga.response import Response, build_response, interpolate_energy
from geminga.response.average import RADIUS_DEG, average_type
from geminga.response.builtin import TABLE, load_tables
from geminga.response.caldb import read_area, read_king
from geminga.response.radial import cumulative_shell, invert_cumulative, radius_nodes
from geminga.response.survey import ObservingProfile

pytestmark = pytest.mark.data

CUBE_3FHL = "exposure/fermi_3fhl_exposure_cube_hpx.fits.gz"
CUBE_2FHL = "exposure/fermi_2fhl_exposure_cube_hpx.fits.gz"


def respond(
    folder: Path,
    irf: str,
    types: tuple[str, ...],
    edges: tuple[float, float] = (10.0, 2000.0),
    **response: object,
) -> Response:
    return build_response(
        Config(
            data=str(folder),
            bands=(Band(emin_gev=edges[0], emax_gev=edges[1], nside=64, pixels=64),),
            response=ResponseConfig.model_validate(
                {"irf": irf, "event_types": ("+".join(types),), **response}
            ),
            images=ImageConfig(box_deg=(1.0,)),
        )
    )


@pytest.mark.parametrize(
    ("irf", "event_type", "expected"),
    [
        ("P8R3_SOURCE_V3", "FRONT", (1.062, 0.649, 0.378, 0.197, 0.099, 0.068)),
        ("P8R3_SOURCE_V3", "BACK", (1.929, 1.201, 0.667, 0.347, 0.193, 0.137)),
        ("P8R2_ULTRACLEANVETO_V6", "FRONT", (0.982, 0.592, 0.344, 0.182, 0.095, 0.067)),
    ],
)
def test_on_axis_psf(
    lat_data: Path, irf: str, event_type: str, expected: tuple[float, ...]
) -> None:
    king = read_king(lat_data / "irfs", irf, event_type)
    r = radius_nodes(400, 60.0, 0.01)
    # All the time at cos theta = 0.95, the last node of the table.
    only = ObservingProfile(np.array([0.93, 0.97]), np.array([1.0]))
    averaged = average_type(king, read_area(lat_data / "irfs", irf, event_type), only)
    for energy, r68 in zip((400, 700, 1400, 3500, 11000, 30000), expected, strict=True):
        found = invert_cumulative(r, cumulative_shell(r, king.density(energy, 0.95, r)), 0.68)
        assert found == pytest.approx(r68, rel=0.02), energy
        # The same of the table that is used: nodes, middles, and linear between them.
        density = averaged.density_at(float(energy))
        used = invert_cumulative(RADIUS_DEG, cumulative_shell(RADIUS_DEG, density), 0.68)
        assert used == pytest.approx(r68, rel=0.02), energy


@pytest.mark.parametrize("source", ["caldb", "builtin"])
@pytest.mark.parametrize("name", ["3fhl", "2fhl"])
def test_gtpsf(lat_data: Path, name: str, source: str) -> None:
    folder = {"caldb": "irfs"} if source == "caldb" else {}
    table = respond(lat_data, "P8R2_SOURCE_V6", ("FRONT", "BACK"), **folder).psf_tables[0]
    with fits.open(lat_data / f"irfs/fermi_{name}_psf_gc.fits.gz") as hdus:
        energies, densities = hdus[1].data["Energy"], hdus[1].data["Psf"]
        theta = np.asarray(hdus[2].data.field(0), dtype=np.float64)
    for energy, density in zip(energies, densities, strict=True):
        cumulative = cumulative_shell(theta, density.astype(np.float64))
        for fraction, tolerance in ((0.5, 0.01), (0.68, 0.014), (0.95, 0.02)):
            expected = invert_cumulative(theta, cumulative, fraction)
            found = table.containment_radius_deg(float(energy), fraction)
            assert found == pytest.approx(expected, rel=tolerance), (energy, fraction)
    assert table.containment_radius_deg(1e4, 0.68) == pytest.approx(0.157, rel=0.01)
    assert table.containment_radius_deg(2.7e4, 0.68) == pytest.approx(0.109, rel=0.01)


@pytest.mark.parametrize(
    ("irf", "event_type", "expected_m2"),
    [
        ("P8R2_ULTRACLEANVETO_V6", "FRONT", (0.259, 0.345, 0.387, 0.388, 0.385)),
        ("P8R2_ULTRACLEANVETO_V6", "BACK", (0.242, 0.345, 0.390, 0.388, 0.380)),
        ("P8R3_SOURCE_V3", "FRONT", (0.347, 0.443, 0.510, 0.509, 0.500)),
        ("P8R3_SOURCE_V3", "BACK", (0.307, 0.387, 0.415, 0.414, 0.405)),
    ],
)
def test_on_axis_area(
    lat_data: Path, irf: str, event_type: str, expected_m2: tuple[float, ...]
) -> None:
    area = read_area(lat_data / "irfs", irf, event_type)
    found = [area.at(e, np.array([1.0]))[0] / 1e4 for e in (400, 1000, 3500, 11000, 30000)]
    np.testing.assert_allclose(found, expected_m2, rtol=0.01)


@pytest.mark.parametrize(
    ("irf", "expected"),
    [
        ("P8R2_SOURCE_V6", (2.88, 3.73, 4.14, 4.10, 4.15)),
        ("P8R2_ULTRACLEANVETO_V6", (1.87, 2.71, 3.17, 3.14, 3.15)),
    ],
)
def test_built_in_exposure_of_nine_years(
    lat_data: Path, irf: str, expected: tuple[float, ...]
) -> None:
    exposure = respond(lat_data, irf, ("FRONT", "BACK"), duration_years=9.0).exposures[0]
    found = interpolate_energy(
        exposure.mean()[:, None],
        exposure.energy_mev,
        np.array([400.0, 1000.0, 3500.0, 11000.0, 30000.0]),
    )[:, 0]
    np.testing.assert_allclose(found / 1e11, expected, rtol=0.03)


@pytest.mark.parametrize(
    ("cube", "emin", "years"), [(CUBE_3FHL, 10.0, 6.993), (CUBE_2FHL, 50.0, 6.492)]
)
def test_built_in_exposure_against_the_cubes(
    lat_data: Path, cube: str, emin: float, years: float
) -> None:
    both = ("P8R2_SOURCE_V6", ("FRONT", "BACK"), (emin, 2000.0))
    official = respond(lat_data, *both, exposure_cube=cube).exposures[0]
    built_in = respond(lat_data, *both, duration_years=years).exposures[0]
    for energy in (emin * 1e3, 1e5, 5e5, 2e6):
        a, b = (
            interpolate_energy(x.maps_cm2_s, x.energy_mev, np.array([energy]))[0]
            for x in (official, built_in)
        )
        assert b.mean() == pytest.approx(a.mean(), rel=0.01)
        # The pattern is one in declination; the rest is how it varies along right ascension.
        assert np.std(b / a) < 0.06


def test_both_cubes_are_turned_to_galactic(lat_data: Path) -> None:
    """A map known to be Galactic agrees with both cubes, which name no frame."""
    with gzip.open(lat_data / "exposure/exposure_2to20GeV_UCV_PSF3_573w_nside128.npy.gz") as stream:
        reference = healpy.ud_grade(np.load(stream), 32)
    for cube, emin in ((CUBE_3FHL, 10.0), (CUBE_2FHL, 50.0)):
        exposure = respond(
            lat_data, "P8R2_SOURCE_V6", ("FRONT", "BACK"), (emin, 2000.0), exposure_cube=cube
        ).exposures[0]
        assert exposure.nside == 32
        assert np.corrcoef(exposure.maps_cm2_s[0], reference)[0, 1] > 0.93


def test_pattern_of_one_quartile_at_another_zenith_cut(lat_data: Path) -> None:
    """A published map of 573 weeks, best quartile, whose cuts are not stated, points at 90 deg.

    Nothing of it went into the tables: zenith ratio, time and angles of the quartile's area are
    the orbit model's.
    """
    with gzip.open(lat_data / "exposure/exposure_2to20GeV_UCV_PSF3_573w_nside128.npy.gz") as stream:
        reference = healpy.ud_grade(np.load(stream), 32)
    scatter = {}
    for cut in (80.0, 90.0, 105.0):
        band = Band(emin_gev=2, emax_gev=20, nside=64, pixels=64, max_zenith_deg=cut)
        settings = ResponseConfig(
            irf="P8R2_ULTRACLEANVETO_V6", event_types=("PSF3",), duration_years=573 * 7 / 365.25
        )
        exposure = build_response(
            Config(bands=(band,), response=settings, images=ImageConfig(box_deg=(1.0,)))
        ).exposures[0]
        found = interpolate_energy(exposure.maps_cm2_s, exposure.energy_mev, np.array([4500.0]))[0]
        scatter[cut] = np.std(found / found.mean() / (reference / reference.mean()))
        if cut == 90.0:
            assert found.mean() == pytest.approx(reference.mean(), rel=0.05)
            assert np.corrcoef(found, reference)[0, 1] > 0.95
    assert scatter[90.0] < 0.05
    assert min(scatter[80.0], scatter[105.0]) > 0.065


def test_pattern_changes_with_energy_as_in_the_cube(lat_data: Path) -> None:
    both = ("P8R2_SOURCE_V6", ("FRONT", "BACK"))
    official = respond(lat_data, *both, exposure_cube=CUBE_3FHL).exposures[0]
    model = respond(lat_data, *both, duration_years=6.993).exposures[0]
    change = []
    for exposure in (official, model):
        low, high = interpolate_energy(
            exposure.maps_cm2_s, exposure.energy_mev, np.array([1e4, 2e6])
        )
        change.append(high / high.mean() / (low / low.mean()))
    assert np.std(change[0]) > 0.02
    assert np.std(change[1] / change[0]) < 0.008


@pytest.mark.parametrize("types", [("FRONT",), ("PSF3",), ("FRONT", "BACK")])
def test_built_in_equals_caldb(lat_data: Path, types: tuple[str, ...]) -> None:
    for irf in ("P8R2_ULTRACLEANVETO_V6", "P8R3_SOURCE_V3"):
        a = respond(lat_data, irf, types, (0.1, 2000.0), caldb="irfs")
        b = respond(lat_data, irf, types, (0.1, 2000.0))
        np.testing.assert_allclose(b.psf.density_per_sr, a.psf.density_per_sr, rtol=3e-3)
        np.testing.assert_allclose(b.exposures[0].maps_cm2_s, a.exposures[0].maps_cm2_s, rtol=1e-5)
        assert a.origin["psf"].startswith("CALDB")


def test_script_makes_the_shipped_table(
    lat_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    path = root / "scripts" / "make_builtin_response.py"
    spec = importlib.util.spec_from_file_location("make_builtin_response", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", ["make", str(lat_data), str(tmp_path / TABLE)])
    script.main()
    shipped = root / "platform" / "geminga" / "response" / TABLE
    assert shipped.stat().st_size < 400_000
    with np.load(tmp_path / TABLE) as new, np.load(shipped) as old:
        assert set(new.files) == set(old.files)
        for name in new.files:
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)
    # Good time 0.83 of the calendar, dead time a tenth: an independent estimate of the livetime.
    assert load_tables().livetime_share == pytest.approx(0.83 * 0.9, rel=0.03)
