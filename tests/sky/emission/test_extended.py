"""Extended sources: lists, shapes and their counts."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from geminga.config import Config, SkyConfig
from geminga.errors import InputError
from geminga.response import Response, build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.emission.extended import (
    DISK,
    GAUSSIAN,
    ExtendedList,
    Shape,
    extended_areas,
    read_extended,
)
from geminga.sky.emission.extended_maps import extended_counts, place
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky
from geminga.sky.sky_files import EXTENDED_FILE, save_sky
from geminga.tables import EXTENDED

LIST = "catalogs/LAT_extended_sources_12years.fits"
CATALOG = "catalogs/gll_psc_v27.fit.gz"
SPECTRUM = ["form", "norm", "pivot_mev", "index", "curvature", "exp_index"]


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


def shape(kind: str, major: float, minor: float | None = None, **keys: object) -> Shape:
    place_of = {"lon_deg": 200.0, "lat_deg": 50.0, "angle_deg": 30.0} | keys
    return Shape("one", kind=kind, major_deg=major, minor_deg=minor or major, **place_of)  # type: ignore[arg-type]


def write_list(path: Path, drop: str | None = None, **values: object) -> Path:
    """A list of two sources in the layout of the LAT list."""
    columns: dict[str, tuple[str, object]] = {
        "Source_Name": ("18A", ["Disk 1", "Blob"]),
        "GLON": ("E", [10.0, 200.0]),
        "GLAT": ("E", [0.0, -40.0]),
        "Photon_Flux": ("E", [1e-8, 2e-8]),
        "Model_Form": ("12A", ["Disk", "Map"]),
        "Model_SemiMajor": ("E", [0.5, 1.0]),
        "Model_SemiMinor": ("E", [0.5, 0.5]),
        "Model_PosAng": ("E", [0.0, 45.0]),
        "Spatial_Function": ("12A", ["RadialDisk", "SpatialMap"]),
        "Spatial_Filename": ("45A", ["", "$LATEXTDIR/Templates/Blob.fits"]),
    }
    made = [
        fits.Column(name, kind, array=values.get(name, content))
        for name, (kind, content) in columns.items()
        if name != drop
    ]
    fits.BinTableHDU.from_columns(made, name="EXT").writeto(path, overwrite=True)
    return path


def angles_from(nside: int, pixel: np.ndarray, lon: float, lat: float) -> np.ndarray:
    vectors = np.stack(healpy.pix2vec(nside, pixel), axis=-1)
    centre = healpy.ang2vec(lon, lat, lonlat=True)
    return np.degrees(2 * np.arcsin(np.linalg.norm(vectors - centre, axis=-1) / 2))


@pytest.mark.parametrize("lat", [0.0, 50.0, -89.5])
@pytest.mark.parametrize(
    ("kind", "major", "minor"),
    [(DISK, 0.02, 0.02), (DISK, 0.5, 0.2), (GAUSSIAN, 0.03, 0.03), (GAUSSIAN, 1.0, 0.6)],
)
def test_shares_sum_to_one_and_have_the_centroid(
    kind: str, major: float, minor: float, lat: float
) -> None:
    pixel, share = place(shape(kind, major, minor, lat_deg=lat), 256)
    assert share.sum() == pytest.approx(1.0, abs=1e-12)
    assert (share >= 0).all()
    centroid = share @ np.stack(healpy.pix2vec(256, pixel), axis=-1)
    lon, lat_found = healpy.vec2ang(centroid, lonlat=True)
    off = angles_from(256, np.array([0]), lon[0], lat_found[0]), lat
    assert np.hypot((lon[0] - 200) * np.cos(np.radians(lat)), off[1] - lat_found[0]) < 0.02


def test_disk_and_gaussian_hold_what_they_should() -> None:
    pixel, share = place(shape(DISK, 3.0), 256)
    angle = angles_from(256, pixel, 200.0, 50.0)
    assert angle.max() < 3.5
    for radius in (1.0, 2.0, 2.5):
        assert share[angle < radius].sum() == pytest.approx((radius / 3.0) ** 2, rel=0.06)
    pixel, share = place(shape(GAUSSIAN, 2.0), 256)
    angle = angles_from(256, pixel, 200.0, 50.0)
    assert share[angle < 2.0].sum() == pytest.approx(0.68, abs=0.01)
    assert share[angle < shape(GAUSSIAN, 2.0).radius_deg].sum() == pytest.approx(0.95, abs=0.01)


def test_position_angle_is_from_celestial_north_to_the_east() -> None:
    from astropy.coordinates import Angle, SkyCoord

    centre = SkyCoord(0, 0, unit="deg", frame="galactic")
    end = centre.icrs.directional_offset_by(Angle(40, "deg"), Angle(2, "deg")).galactic
    pixel, share = place(shape(DISK, 2.0, 0.1, lon_deg=0.0, lat_deg=0.0, angle_deg=40.0), 256)
    lon, lat = healpy.pix2ang(256, pixel, lonlat=True)
    lon = (lon + 180) % 360 - 180
    along = np.array([(end.l.deg + 180) % 360 - 180, end.b.deg])
    along /= np.hypot(*along)
    across = np.array([-along[1], along[0]])
    spread = [np.sqrt(share @ (lon * d[0] + lat * d[1]) ** 2) for d in (along, across)]
    assert spread[0] == pytest.approx(1.0, rel=0.03)  # a / 2
    assert spread[1] < 0.15


@pytest.mark.parametrize(("kind", "major"), [(DISK, 0.05), (GAUSSIAN, 0.03), (DISK, 1.5)])
def test_counts_are_flux_times_exposure(kind: str, major: float, response: Response) -> None:
    spectra = pd.DataFrame([("log_parabola", 1e-12, 1e3, 2.2, 0.0, 0.0)], columns=SPECTRUM)
    maps = extended_counts(ExtendedList((shape(kind, major),), spectra, "test"), response, 256)
    assert (maps >= 0).all()
    angle = angles_from(256, np.arange(maps.shape[1]), 200.0, 50.0)
    for channel, nodes in enumerate(response.nodes):
        seen = response.exposure_at_nodes(channel, np.array([200.0]), np.array([50.0]))[:, 0]
        exact = (1e-12 * (nodes.energy_mev / 1e3) ** -2.2 * nodes.weight * seen).sum()
        counts = maps[channel] * healpy.nside2pixarea(256)
        assert counts.sum() == pytest.approx(exact, rel=1e-3)
        # The PSF's own containment, for a source much smaller than it, where pixels allow.
        if major < 0.1 and channel == 0:
            r95 = response.psf.radius_of_containment(0, 2.2, 0.95)
            assert counts[angle < r95].sum() / exact == pytest.approx(0.95, abs=0.02)


def test_list_alone_has_fluxes_and_stand_ins(tmp_path: Path, config2: Config) -> None:
    read = read_extended(config2, str(write_list(tmp_path / "l.fits")))
    assert [s.kind for s in read.shapes] == [DISK, DISK]
    assert "disks stand in for the templates of Blob" in read.origin
    assert "an index of 2.2 stands in for the spectra of Disk 1, Blob" in read.origin
    table = EXTENDED.check(read.table(), "table")
    # 1-100 GeV in the list, 1-1000 GeV in the table: 0.4 % more at index 2.2.
    assert table["s1"].to_numpy() == pytest.approx([1e-8, 2e-8], rel=0.005)
    assert table["radius_deg"].tolist() == [0.5, 1.0]


def test_template_beside_the_list_gives_the_shape(tmp_path: Path, config2: Config) -> None:
    header = fits.Header()
    for axis, (kind, value) in enumerate((("GLON-CAR", 200.0), ("GLAT-CAR", 0.0)), start=1):
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"], header[f"CRVAL{axis}"] = kind, "deg", value
        header[f"CRPIX{axis}"] = 5.5 + (400.0 if axis == 2 else 0.0)
        header[f"CDELT{axis}"] = -0.1 if axis == 1 else 0.1
    image = np.zeros((10, 10), np.float32)
    image[2, 3], image[7, 3] = 3.0, 1.0
    (tmp_path / "Templates").mkdir()
    fits.PrimaryHDU(image, header).writeto(tmp_path / "Templates" / "Blob.fits")
    read = read_extended(config2, str(write_list(tmp_path / "l.fits")))
    assert "disks stand in" not in read.origin
    pixel, share = place(read.shapes[1], 512)
    lon, lat = healpy.pix2ang(512, pixel, lonlat=True)
    assert share @ lat == pytest.approx(-40.25 + (0.75 * 0 + 0.25 * 0.5), abs=0.01)
    assert share @ lon == pytest.approx(200.15, abs=0.01)
    image[0, 0] = np.nan
    fits.PrimaryHDU(image, header).writeto(tmp_path / "Templates" / "Blob.fits", overwrite=True)
    with pytest.raises(InputError, match=r"Blob\.fits: holds intensities that are not finite"):
        place(read.shapes[1], 64)


@pytest.mark.parametrize(
    "column", ["Source_Name", "Model_Form", "Model_SemiMajor", "Model_PosAng", "GLAT"]
)
def test_lists_without_a_column(tmp_path: Path, config2: Config, column: str) -> None:
    path = write_list(tmp_path / "l.fits", drop=column)
    with pytest.raises(InputError, match=f"{column}"):
        read_extended(config2, str(path))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"Model_SemiMajor": [0.0, 1.0]}, "Disk 1 has no position or extent"),
        ({"GLON": [np.nan, 1.0]}, "Disk 1 has no position or extent"),
        ({"Photon_Flux": [1e-8, np.nan]}, "has no photon flux for Blob"),
    ],
)
def test_lists_with_bad_rows(
    tmp_path: Path, config2: Config, values: dict[str, object], match: str
) -> None:
    path = write_list(tmp_path / "l.fits", **values)
    with pytest.raises(InputError, match=match):
        read_extended(config2, str(path))


def test_extended_sources_go_with_the_sky(
    tmp_path: Path, config2: Config, response: Response
) -> None:
    keys = {"extended": str(write_list(tmp_path / "l.fits")), "diffuse_nside": 32}
    config = config2.model_copy(update={"sky": SkyConfig(**(config2.sky.model_dump() | keys))})
    diffuse = diffuse_counts(config, response)
    diffuse.save(tmp_path / "d.npz")
    again = DiffuseCounts.load(tmp_path / "d.npz")
    np.testing.assert_array_equal(again.extended, diffuse.extended)
    pd.testing.assert_frame_equal(again.extended_sources, diffuse.extended_sources)
    population = load_population("4fgl_dr2")
    sky = simulate_sky(config, response, population, diffuse, sky_id(Split.TRAIN, 0))
    save_sky(tmp_path / "sky", sky)
    table = pd.read_parquet(tmp_path / "sky" / EXTENDED_FILE)
    assert table["name"].tolist() == ["Disk 1", "Blob"]
    np.testing.assert_allclose(sky.component_density("extended", 0), diffuse.extended[0])
    # They are no points of the sky.
    assert len(sky.sources.table) == len(sky.source_counts)
    assert not set(table["name"]) & set(sky.sources.table["class_name"])


@pytest.mark.data
def test_the_lat_list_with_spectra_of_the_catalogue(lat_data: Path, config2: Config) -> None:
    config = config2.model_copy(update={"data": str(lat_data)})
    read = read_extended(config, f"{LIST}@{CATALOG}")
    assert len(read.shapes) == 78
    flux = read.table()["s1"].to_numpy()
    with fits.open(lat_data / LIST) as hdus:
        listed = np.asarray(hdus[1].data["Photon_Flux"], np.float64)
    # Fluxes of the list are those of older analyses: the same within a factor of two for most.
    assert np.median(np.abs(np.log(flux / listed))) < 0.3
    by_name = dict(zip(read.table()["name"], flux, strict=True))
    assert by_name["IC 443"] == pytest.approx(5.5e-8, rel=0.15)
    alone = read_extended(config, CATALOG)
    assert len(alone.shapes) == 75
    assert "spectra" not in alone.origin


@pytest.mark.data
def test_areas_of_published_catalogues(lat_data: Path) -> None:
    counts = {"gll_psch_v09": 25, "gll_psch_v13": 55, "gll_psc_v27": 75}
    for name, number in counts.items():
        areas = extended_areas(lat_data / "catalogs" / f"{name}.fit.gz")
        assert len(areas) == number
        assert areas["s1"].isna().all()
        assert areas["radius_deg"].between(0.02, 6).all()
