"""Catalogue rows as sources, and their expected counts in the pixels of either frame."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits

from geminga.bands import Band
from geminga.config import (
    Config,
    ImageConfig,
    MiunConfig,
    ObservedConfig,
    ResponseConfig,
    SkyConfig,
)
from geminga.errors import InputError
from geminga.response import build_response
from geminga.sky.catalogue_sky import catalogue_sky, read_catalogue_sources
from geminga.sky.counts_maps import observed_maps, predicted_maps
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.spectra import photon_flux


@pytest.fixture(scope="module")
def config() -> Config:
    return Config(
        name="catalogue",
        bands=(Band(emin_gev=10, emax_gev=100, nside=16, pixels=32),),
        response=ResponseConfig(irf="P8R2_SOURCE_V6", event_types=("FRONT+BACK",)),
        sky=SkyConfig(years=1, diffuse_nside=32),
        images=ImageConfig(box_deg=(1.0,)),
        miun=MiunConfig(width=4),
    )


def write_catalogue(path: Path, flux: float = 1e-10) -> Path:
    """A catalogue like 3FHL: a power law, a log parabola and a disk."""
    columns = {
        "Source_Name": ("20A", ["3FHL J0001", "3FHL J0002", "3FHL J0003e"]),
        "GLON": ("E", [10.0, 200.0, 80.0]),
        "GLAT": ("E", [5.0, -60.0, 1.0]),
        "SpectrumType": ("11A", ["PowerLaw", "LogParabola", "PowerLaw"]),
        "Pivot_Energy": ("E", [20.0, 20.0, 20.0]),
        "Flux_Density": ("E", [flux, 1e-10, 2e-10]),
        "PowerLaw_Index": ("E", [2.0, 9.0, 2.5]),
        "Spectral_Index": ("E", [7.0, 1.5, 7.0]),
        "beta": ("E", [1.0, 0.2, 1.0]),
        "Extended_Source_Name": ("11A", ["", "", "Disk"]),
        "CLASS": ("7A", ["bll", "", "SNR"]),
    }
    shapes = {
        "Source_Name": ("11A", ["Disk", "Unseen"]),
        "GLON": ("E", [80.0, 0.0]),
        "GLAT": ("E", [1.0, 0.0]),
        "Model_Form": ("11A", ["Disk", "Disk"]),
        "Model_SemiMajor": ("E", [1.0, 1.0]),
        "Model_SemiMinor": ("E", [1.0, 1.0]),
        "Model_PosAng": ("E", [0.0, 0.0]),
    }
    tables = [
        fits.BinTableHDU.from_columns([fits.Column(n, f, array=a) for n, (f, a) in part.items()])
        for part in (columns, shapes)
    ]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    return path


def test_rows_become_spectra_of_their_own_kind(tmp_path: Path) -> None:
    found = read_catalogue_sources(write_catalogue(tmp_path / "c.fits"), 1e4)
    assert found.names == ("3FHL J0001", "3FHL J0002")
    table = found.points
    assert table["class_name"].tolist() == ["bll", "unassociated"]
    assert table["norm"].tolist() == pytest.approx([1e-13, 1e-13])
    assert table["index"].tolist() == pytest.approx([2.0, 1.5])
    assert table["curvature"].tolist() == pytest.approx([0.0, 0.2])
    # F0 E0^2 (1/Emin - 1/Emax) of the power law with index 2.
    assert table["s10"][0] == pytest.approx(1e-13 * 2e4**2 * (1e-4 - 1e-6), rel=1e-6)
    assert [shape.name for shape in found.extended.shapes] == ["Disk"]
    assert found.extended.spectra["index"].tolist() == pytest.approx([2.5])


def test_sky_counts_every_source_once_in_either_frame(tmp_path: Path, config: Config) -> None:
    response = build_response(config)
    diffuse = diffuse_counts(config, response)
    sky = catalogue_sky(config, response, diffuse, write_catalogue(tmp_path / "c.fits"))
    assert sky.classes == ("bll", "unassociated")
    assert np.all(sky.diffuse_norm == 1.0)
    galactic, equatorial = (predicted_maps(sky, 16, frame) for frame in (True, False))
    assert galactic["sources"].sum() == pytest.approx(sky.source_counts.sum())
    for name, maps in galactic.items():
        assert equatorial[name].sum() == pytest.approx(maps.sum(), rel=1e-6), name
    # The brightest pixel of the disk is at its place in both frames.
    for maps, frame in ((galactic, "G"), (equatorial, "C")):
        lon, lat = healpy.pix2ang(16, int(maps["extended"][0].argmax()), lonlat=True)
        lon, lat = healpy.Rotator(coord=[frame, "G"])(lon, lat, lonlat=True)
        assert healpy.rotator.angdist([lon, lat], [80.0, 1.0], lonlat=True)[0] < np.radians(4.0)
    # A source in the pixels of the frame its position was turned to.
    place = healpy.Rotator(coord=["G", "C"])(200.0, -60.0, lonlat=True)
    pixel = healpy.ang2pix(16, *place, lonlat=True)
    assert pixel in np.argsort(equatorial["sources"][0])[-8:]


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_rows_without_spectrum_are_named(tmp_path: Path, bad: float) -> None:
    path = write_catalogue(tmp_path / "c.fits", flux=bad)
    with pytest.raises(InputError, match="3FHL J0001 has no position or spectrum"):
        read_catalogue_sources(path, 1e4)


def test_files_without_sources_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    fits.HDUList([fits.PrimaryHDU()]).writeto(path)
    with pytest.raises(InputError, match="no table with a column CLASS"):
        read_catalogue_sources(path, 1e4)
    with pytest.raises(InputError, match=r"none\.fits"):
        read_catalogue_sources(tmp_path / "none.fits", 1e4)


@pytest.mark.data
def test_maps_coarser_than_the_bands_are_named(lat_data: Path) -> None:
    observed = ObservedConfig(counts=("events/fermi_3fhl_counts_cube_hpx.fits.gz",))
    config = Config(
        name="fine",
        data=str(lat_data),
        bands=(Band(emin_gev=10, emax_gev=13.656981, nside=128, pixels=32),),
        response=ResponseConfig(event_types=("FRONT+BACK",)),
        images=ImageConfig(box_deg=(1.0,)),
        observed=observed,
    )
    with pytest.raises(InputError, match="nside 64, coarser than the bands' 128"):
        observed_maps(config, observed, 128)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "column", "low", "high", "rows", "extended"),
    [
        ("gll_psch_v13.fit.gz", "Flux", 1e4, 1e6, 1556, 48),
        ("gll_psch_v09.fit.gz", "Flux50", 5e4, 2e6, 360, 25),
        ("gll_psc_v27.fit.gz", "Flux1000", 1e3, 1e5, 5788, 75),
    ],
)
def test_fluxes_are_the_catalogue_s_own(
    lat_data: Path, name: str, column: str, low: float, high: float, rows: int, extended: int
) -> None:
    path = lat_data / "catalogs" / name
    found = read_catalogue_sources(path, low)
    assert len(found.points) + len(found.extended.shapes) == rows
    assert len(found.extended.shapes) == extended
    with fits.open(path) as hdus:
        listed = dict(
            zip(
                (str(v).strip() for v in hdus[1].data["Source_Name"]),
                hdus[1].data[column],
                strict=True,
            )
        )
    ratio = photon_flux(found.points, low, high) / [float(listed[n]) for n in found.names]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.002)
    assert np.mean(np.abs(ratio - 1.0) < 0.03) > 0.9
