from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from geminga.errors import InputError
from geminga.evaluation.reference import REFERENCE, read_reference_catalog

COLUMNS: dict[str, tuple[str, Any]] = {
    "Source_Name": ("18A", ["Crab", "North", "Cloud"]),
    "RAJ2000": ("E", [83.633, 192.85948, 80.0]),
    "DEJ2000": ("E", [22.0145, 27.12825, -68.0]),
    "GLON": ("E", [184.5575, 0.0, 279.0]),
    "GLAT": ("E", [-5.7843, 90.0, -33.0]),
    "Flux": ("E", [1e-9, 2e-11, 3e-11]),
    "CLASS": ("7A", ["PSR ", "", "gal"]),
    "Extended_Source_Name": ("18A", ["", "", "LMC"]),
}


def write_catalog(
    path: Path, drop: tuple[str, ...] = (), extended: list[str] | None = None
) -> Path:
    columns = [
        fits.Column(name, form, array=values)
        for name, (form, values) in COLUMNS.items()
        if name not in drop
    ]
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="Catalog")]
    if extended is not None:
        names = [fits.Column("Source_Name", "18A", array=extended)]
        hdus.append(fits.BinTableHDU.from_columns(names, name="Extended Sources"))
    fits.HDUList(hdus).writeto(path)
    return path


def test_columns_and_values(tmp_path: Path):
    frame = read_reference_catalog(write_catalog(tmp_path / "a.fits"), "test")
    assert list(frame.columns) == REFERENCE.names
    assert list(frame["name"]) == ["Crab", "North", "Cloud"]
    assert list(frame["class_name"]) == ["PSR", "", "gal"]
    assert list(frame["extended"]) == [False, False, True]
    np.testing.assert_allclose(frame["flux"], [1e-9, 2e-11, 3e-11], rtol=1e-6)
    np.testing.assert_allclose(frame["lon_deg"], [184.5575, 0.0, 279.0], rtol=1e-6)


def test_positions_from_ra_dec(tmp_path: Path):
    path = write_catalog(tmp_path / "a.fits", drop=("GLON", "GLAT"))
    frame = read_reference_catalog(path, "test")
    assert frame["lon_deg"][0] == pytest.approx(184.5575, abs=1e-3)
    np.testing.assert_allclose(frame["lat_deg"][:2], [-5.7843, 90.0], atol=1e-3)


def test_extended_sources_of_a_second_table(tmp_path: Path):
    path = write_catalog(
        tmp_path / "a.fits", drop=("Extended_Source_Name",), extended=["Crab", "Elsewhere"]
    )
    assert list(read_reference_catalog(path, "test")["extended"]) == [True, False, False]


def test_a_catalogue_silent_on_extension_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = write_catalog(tmp_path / "a.fits", drop=("Extended_Source_Name",))
    assert not read_reference_catalog(path, "test")["extended"].any()
    assert "does not say which sources are extended" in caplog.text


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (("Source_Name",), "no column Source_Name"),
        (("GLON", "RAJ2000"), "has no positions"),
        (("Flux",), "no column of flux; needs one of Flux50, Flux, Flux1000"),
        (("CLASS",), "no column of class; needs one of CLASS, CLASS1"),
    ],
)
def test_missing_columns_are_named(tmp_path: Path, drop: tuple[str, ...], message: str):
    path = write_catalog(tmp_path / "a.fits", drop=drop)
    with pytest.raises(InputError, match=message):
        read_reference_catalog(path, "test")


def test_a_source_without_position(tmp_path: Path):
    path = write_catalog(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["GLAT"][1] = np.nan
    with pytest.raises(InputError, match="source North has no position"):
        read_reference_catalog(path, "test")


def test_files_that_are_no_catalogues(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.fits.*does not exist"):
        read_reference_catalog(tmp_path / "none.fits", "test")
    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match="has no table"):
        read_reference_catalog(tmp_path / "a.fits", "test")


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "rows", "extended", "faintest", "brightest"),
    [
        ("gll_psch_v09.fit.gz", 360, 25, 7.46e-12, 1.31e-9),
        ("gll_psch_v13.fit.gz", 1556, 48, 1.2857e-11, 1.2154e-8),
        ("gll_psc_v27.fit.gz", 5788, 75, 1.1304e-11, 1.3517e-6),
    ],
)
def test_published_catalogues(
    lat_data: Path, file: str, rows: int, extended: int, faintest: float, brightest: float
):
    frame = read_reference_catalog(lat_data / "catalogs" / file, file)
    assert len(frame) == rows
    assert frame["extended"].sum() == extended
    assert frame["flux"].min() == pytest.approx(faintest, rel=1e-3)
    assert frame["flux"].max() == pytest.approx(brightest, rel=1e-3)
    assert frame["lon_deg"].between(0, 360).all()
    assert frame["name"].is_unique
