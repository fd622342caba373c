from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from catalogue_cases import made_up, write

from geminga.classification.catalogue_file import FILE_CLASSES, Fluxes, read_catalogue
from geminga.errors import InputError


def test_upper_limits_errors_and_gaps() -> None:
    nan = np.nan
    value = np.array([[2.0, 1.0, 3.0, nan, 5.0]])
    low = np.array([[-0.4, nan, nan, -1.0, -1.0]])
    high = np.array([[0.6, 0.8, nan, 1.0, 0.0]])
    fluxes = Fluxes.of(value, low, high)
    np.testing.assert_allclose(fluxes.error[0, :2], [0.5, 0.8])
    assert fluxes.is_limit.tolist() == [[False, True, False, False, False]]
    # No error at all, or no flux, is no measurement; nor is half of one.
    assert fluxes.measured.tolist() == [[True, True, False, False, True]]
    np.testing.assert_allclose(fluxes.significance(), np.sqrt(4.0**2 + 1.25**2 + 10.0**2))


def test_a_file_becomes_evidence(tmp_path: Path) -> None:
    columns, bounds = made_up(30, years=3)
    catalogue = read_catalogue(write(tmp_path / "cat.fits", columns, bounds))
    evidence = catalogue.evidence()
    assert len(evidence) == 30
    assert evidence.stamps.size == 0
    assert np.isnan(evidence.detection).all()
    np.testing.assert_allclose(evidence.edges_gev, [[0.1, 0.3], [0.3, 1], [1, 10], [10, 100]])
    np.testing.assert_allclose(evidence.band_flux, columns["Flux_Band"])
    np.testing.assert_allclose(np.nanmean(evidence.year_ratio, axis=1), 1.0)
    # The file's systematic error is added in quadrature.
    error = 0.5 * np.abs(columns["Unc_Flux_Band"]).sum(axis=2)
    np.testing.assert_allclose(
        evidence.band_flux_error, np.hypot(error, 0.1 * columns["Flux_Band"]), rtol=1e-6
    )
    assert catalogue.designations[0] == "bll"


def test_rows_without_a_measurement_are_not_evidence(tmp_path: Path) -> None:
    columns, bounds = made_up(5)
    columns["Flux_Band"][1] = np.nan
    columns["Unc_Flux_Band"][2] = np.nan
    columns["GLON"][3] = np.nan
    catalogue = read_catalogue(write(tmp_path / "cat.fits", columns, bounds))
    assert catalogue.usable.tolist() == [True, False, False, False, True]
    assert len(catalogue.evidence()) == 2


def test_years_of_any_number_and_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for years in (1, 7):
        columns, bounds = made_up(6, years=years)
        read = read_catalogue(write(tmp_path / f"{years}.fits", columns, bounds))
        assert read.evidence().year_ratio.shape == (6, years)
    assert not caplog.records
    columns, bounds = made_up(6)
    read = read_catalogue(write(tmp_path / "none.fits", columns, bounds))
    assert read.evidence().year_ratio.shape == (6, 0)
    assert "has no column Flux_History" in caplog.text
    assert "without light curves" in caplog.text


def test_one_band_and_gzip(tmp_path: Path) -> None:
    columns, bounds = made_up(4, bands=1)
    path = write(tmp_path / "cat.fits", columns, bounds)
    packed = tmp_path / "cat.fit.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        assert read_catalogue(file).evidence().band_flux.shape == (4, 1)


def test_rows_of_several_event_types_are_one_band(tmp_path: Path) -> None:
    columns, bounds = made_up(4)
    twice = {name: np.repeat(values, 2) for name, values in bounds.items()}
    read = read_catalogue(write(tmp_path / "4fgl.fits", columns, twice))
    np.testing.assert_allclose(read.edges_gev[:, 0], [0.1, 0.3, 1, 10])
    # As many rows as bands: each has its own, whatever their energies.
    same = {name: np.repeat(values[:1], 4) for name, values in bounds.items()}
    ours = read_catalogue(write(tmp_path / "ours.fits", columns, same))
    np.testing.assert_allclose(ours.edges_gev, [[0.1, 0.3]] * 4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c, b: c.pop("Flux_Band"), "has no column Flux_Band"),
        (lambda c, b: c.pop("GLON"), "has no column GLON"),
        (lambda c, b: b.clear(), "has no table EnergyBounds"),
        (
            lambda c, b: b.update({k: v[:2] for k, v in b.items()}),
            "has 4 bands, but EnergyBounds 2",
        ),
        (lambda c, b: b.update(LowerEnergy=b["UpperEnergy"] * 2), "let them rise"),
        (lambda c, b: c.update({k: v[:0] for k, v in c.items()}), "has no rows"),
        (lambda c, b: c.update(Unc_Flux_Band=c["Unc_Flux_Band"][:, :3]), "has shape"),
        (lambda c, b: c.update(GLAT=np.array(["x"] * 5)), "column GLAT holds"),
    ],
)
def test_bad_catalogues(tmp_path: Path, change: Any, match: str) -> None:
    columns, bounds = made_up(5)
    change(columns, bounds)
    with pytest.raises(InputError, match=match):
        read_catalogue(write(tmp_path / "cat.fits", columns, bounds))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_catalogue(tmp_path / "none.fits")
    text = tmp_path / "text.fits"
    text.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="not a readable FITS file"):
        read_catalogue(text)
    columns, bounds = made_up(5)
    whole = write(tmp_path / "cat.fits", columns, bounds).read_bytes()
    cut = tmp_path / "cut.fits"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable FITS file"):
        read_catalogue(cut)
    empty = tmp_path / "empty.fits"
    fits.PrimaryHDU().writeto(empty)
    with pytest.raises(InputError, match="holds no table"):
        read_catalogue(empty)


@pytest.mark.data
def test_4fgl_dr2(lat_data: Path) -> None:
    catalogue = read_catalogue(lat_data / "catalogs" / "gll_psc_v27.fit.gz")
    assert len(catalogue) == 5788
    assert catalogue.bands.value.shape == (5788, 7)
    np.testing.assert_allclose(catalogue.edges_gev[[0, -1]], [[0.05, 0.1], [30, 300]])
    assert int(catalogue.usable.sum()) == 5788
    ours = [FILE_CLASSES.get(d, "") for d in catalogue.designations]
    assert {c: ours.count(c) for c in ("BLL", "FSRQ", "PSR", "PWN+SNR")} == {
        "BLL": 1308, "FSRQ": 744, "PSR": 271, "PWN+SNR": 157,
    }  # fmt: skip
    # An upper error without a lower one is one standard deviation, not two: years of pulsars,
    # which are steady, scatter by the errors.
    pulsars = np.array(ours) == "PSR"
    years = catalogue.years.value[pulsars]
    pull = (years - years.mean(axis=1, keepdims=True)) / catalogue.years.error[pulsars]
    spread = np.sqrt(np.mean(pull[catalogue.bands.significance()[pulsars] < 30] ** 2) * 10 / 9)
    assert 0.9 < spread < 1.1
