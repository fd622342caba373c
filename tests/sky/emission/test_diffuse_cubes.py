"""Map cubes: what is read, in how much memory, and structure inside their cells."""

from __future__ import annotations

import gzip
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from geminga.config import Config, ResponseConfig, SkyConfig
from geminga.errors import InputError
from geminga.response import Response, build_response
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.emission.folding import Planes, interstellar_integrals
from geminga.sky.emission.mapcube import MapCube

CUBE = "diffuse/gll_iem_v07_blockmean_1p5deg.fits"
CUT_OUT = "diffuse/gll_iem_v07_gc.fits.gz"
TEMPLATE = (
    "diffuse/template_dif_nside128.npy.gz@exposure/exposure_2to20GeV_UCV_PSF3_573w_nside128.npy.gz"
)


def write_large(path: Path, step_deg: float, energy_mev: np.ndarray) -> Path:
    """A cube with rows on the poles, written plane by plane: intensity 1e-8 E^-2.4 (1 + sin^2 b)."""
    rows, columns = round(180 / step_deg) + 1, round(360 / step_deg)
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3)])
    header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = columns, rows, len(energy_mev)
    header["EXTEND"] = True
    for axis, (kind, pixels, sign) in enumerate(
        (("GLON-CAR", columns, -1), ("GLAT-CAR", rows, 1)), start=1
    ):
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"] = kind, "deg"
        header[f"CRVAL{axis}"], header[f"CRPIX{axis}"] = 0.0, (pixels + 1) / 2
        header[f"CDELT{axis}"] = sign * step_deg
    lat = np.radians((np.arange(rows) - (rows - 1) / 2) * step_deg)
    shape = np.repeat(1 + np.sin(lat)[:, None] ** 2, columns, axis=1)
    with path.open("wb") as stream:
        stream.write(header.tostring().encode())
        for energy in energy_mev:
            stream.write((1e-8 * (energy / 1e3) ** -2.4 * shape).astype(">f4").tobytes())
        stream.write(b"\0" * (-stream.tell() % 2880))
    column = fits.Column("Energy", "D", "MeV", array=energy_mev)
    fits.append(path, np.asarray(fits.FITS_rec.from_columns([column])), fits.Header())
    with fits.open(path, mode="update") as hdus:
        hdus[1].name = "ENERGIES"
    return path


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """58 MB: 721 x 1440 pixels, 14 energies."""
    path = tmp_path_factory.mktemp("cube") / "large.fits"
    return write_large(path, 0.25, np.geomspace(50.0, 8e5, 14))


def peak_bytes(path: Path, response: Response, nside: int) -> tuple[np.ndarray, int]:
    tracemalloc.start()
    try:
        whole = interstellar_integrals(MapCube(path), response, nside)
        return whole, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_large_cube_takes_little_memory(large: Path, response: Response) -> None:
    assert large.stat().st_size > 55e6
    whole, peak = peak_bytes(large, response, 64)
    assert peak < 30e6
    lat = healpy.pix2ang(64, np.arange(whole.shape[1]), lonlat=True)[1]
    pole, plane = whole[0, np.abs(lat) > 85].mean(), whole[0, np.abs(lat) < 3].mean()
    seen = response.exposures[0].at(np.array([0.0, 180.0]), np.array([89.0, 0.0]))
    assert pole / plane == pytest.approx(2.0, rel=0.5 * np.ptp(seen) / seen.min() + 0.05)


@pytest.mark.slow
def test_a_cube_of_the_official_size_takes_little_memory(
    tmp_path: Path, response: Response
) -> None:
    cube = write_large(tmp_path / "full.fits", 0.125, np.geomspace(50.0, 8.14e5, 28))
    assert cube.stat().st_size > 460e6
    _, peak = peak_bytes(cube, response, 256)
    assert peak < 250e6


def test_every_plane_is_read_once_and_only_those_that_are_needed(
    large: Path, config2: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = config2.model_copy(update={"response": ResponseConfig(event_types=("FRONT", "BACK"))})
    both = build_response(two)
    assert len(both.channels) == 4
    read: Counter[int] = Counter()
    plane = MapCube.plane

    def counted(self: MapCube, number: int, nside: int) -> np.ndarray:
        read[number] += 1
        return plane(self, number, nside)

    monkeypatch.setattr(MapCube, "plane", counted)
    cube = MapCube(large)
    interstellar_integrals(cube, both, 32)
    assert set(read.values()) == {1}
    energy = cube.energy_mev
    needed = (energy > 1e3 / (energy[1] / energy[0])) & (energy < 3e4 * energy[1] / energy[0])
    assert set(read) == set(np.flatnonzero(needed).tolist())


def test_a_gzipped_cube_gives_the_same_and_leaves_nothing_behind(
    tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    zipped = tmp_path / "cube.fits.gz"
    with large.open("rb") as source, gzip.open(zipped, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    cube = MapCube(zipped)
    assert len(list(tmp_path.glob("*.fits"))) == 1
    np.testing.assert_array_equal(cube.plane(3, 16), MapCube(large).plane(3, 16))
    del cube
    assert not list(tmp_path.glob("*.fits"))
    (tmp_path / "cut.fits.gz").write_bytes(zipped.read_bytes()[:100_000])
    with pytest.raises(InputError, match="cannot be unpacked"):
        MapCube(tmp_path / "cut.fits.gz")
    assert not list(tmp_path.glob("*.fits"))


class TwoPlanes:
    """Pixels that are empty in the first plane, in the second, in none."""

    energy_mev = np.array([1e3, 1e4])
    origin = "test"

    def plane(self, number: int, nside: int) -> np.ndarray:
        values = np.full(12 * nside**2, 1e-9 if number else 1e-7)
        values[number] = 0.0
        return values


def test_planes_go_on_as_power_laws_and_empty_pixels_stay_sane() -> None:
    planes = Planes(TwoPlanes(), 1)
    below, between, above = (planes.at(energy) for energy in (1e2, 10**3.5, 1e5))
    assert (below[2], between[2], above[2]) == pytest.approx((1e-5, 1e-8, 1e-11))
    for values in (below, between, above):
        assert np.isfinite(values).all()
        assert values.max() <= below[2] * 1.001
    assert above[0] == pytest.approx(1e-9)  # empty at 1 GeV: no slope is known


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(8)
    path = tmp_path_factory.mktemp("coarse") / "coarse.fits"
    write_large(path, 3.0, np.geomspace(500.0, 1e5, 3))
    with fits.open(path, mode="update") as hdus:
        hdus[0].data = (hdus[0].data * rng.uniform(0.95, 1.05, hdus[0].data.shape)).astype(
            np.float32
        )
    return path


def test_structure_leaves_the_flux_of_every_cell(coarse: Path) -> None:
    rng = np.random.default_rng(9)
    smooth = healpy.smoothing(rng.normal(size=healpy.nside2npix(64)), fwhm=np.radians(2.0))
    cube = MapCube(coarse, np.exp(0.5 * smooth / smooth.std()), "a template")
    assert "filled with the structure of a template" in cube.origin
    with fits.open(coarse) as hdus:
        data = np.asarray(hdus[0].data[1], np.float64)
    side = (np.arange(60) + 0.5) / 60 * 3 - 1.5
    for row, column in ((30, 60), (30, 0), (31, 119), (12, 40), (50, 80), (3, 7)):
        lat, lon = (row - 30) * 3.0 + side, (59.5 - column) * 3.0 + side
        grid = np.meshgrid(lon, lat)
        weight = np.cos(np.radians(grid[1])).ravel()
        values = cube.at(1, grid[0].ravel() % 360, grid[1].ravel())
        assert (values * weight).sum() / weight.sum() == pytest.approx(data[row, column], rel=0.005)
        assert values.std() / values.mean() > 0.05
    whole, plain = cube.plane(1, 64), MapCube(coarse).plane(1, 64)
    assert whole.sum() == pytest.approx(plain.sum(), rel=0.01)


def test_cells_that_cannot_keep_their_flux_are_told_of(
    coarse: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(coarse, tmp_path / "c.fits")
    with fits.open(tmp_path / "c.fits", mode="update") as hdus:
        hdus[0].data[0, 30, 60] *= 1e-3
    cube = MapCube(tmp_path / "c.fits", np.ones(healpy.nside2npix(64)), "flat")
    with caplog.at_level("WARNING"):
        assert (cube.plane(0, 16) > 0).all()
    assert "structure changes the flux of" in caplog.text


def test_a_template_coarser_than_the_cells_is_not_used(
    coarse: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        cube = MapCube(coarse, np.ones(healpy.nside2npix(8)), "coarse.npy")
    assert "not used" in caplog.text
    np.testing.assert_array_equal(cube.plane(0, 16), MapCube(coarse).plane(0, 16))


def test_structure_needs_a_cube(tmp_path: Path, config2: Config, response: Response) -> None:
    np.save(tmp_path / "t.npy", np.ones(healpy.nside2npix(8)))
    sky = SkyConfig(**(config2.sky.model_dump() | {"fine_structure": str(tmp_path / "t.npy")}))
    with pytest.raises(InputError, match="no map cube to fill"):
        diffuse_counts(config2.model_copy(update={"sky": sky}), response)


@pytest.mark.data
def test_structure_at_the_galactic_centre_is_nearer_to_the_full_model(
    lat_data: Path, config2: Config
) -> None:
    from geminga.sky.emission.templates import read_template

    template = read_template(config2.model_copy(update={"data": str(lat_data)}), TEMPLATE)
    with fits.open(lat_data / CUT_OUT) as hdus:
        full = np.asarray(hdus[0].data[15], np.float64)  # 2.5 GeV
        wcs = WCS(hdus[0].header).celestial
    row, column = np.mgrid[0:80, 0:80]
    lon, lat = wcs.wcs_pix2world(column.ravel(), row.ravel(), 0)
    variance, correlation, rms = [], [], []

    def structure(values: np.ndarray) -> np.ndarray:
        return (values / gaussian_filter(values, 1.5 / 2.355 / 0.125))[12:-12, 12:-12].ravel()

    wanted = structure(full)
    for filling in (None, template):
        made = MapCube(lat_data / CUBE, filling, "p6v11").at(15, lon, lat).reshape(80, 80)
        variance.append(structure(made).var())
        correlation.append(np.corrcoef(structure(made), wanted)[0, 1])
        rms.append(np.log(made / full).std())
    assert abs(variance[1] - wanted.var()) < 0.6 * abs(variance[0] - wanted.var())
    assert correlation[1] > correlation[0] + 0.1
    assert rms[1] < 0.75 * rms[0]
