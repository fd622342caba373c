"""Catalogues of fitted sources: columns as in the LAT catalogues, ellipses, channels, regions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from gammapy.catalog import SourceCatalogObject4FGL
from gammapy.utils.table import table_standardise_units_inplace

from geminga.bands import Band, Channel, make_channels
from geminga.catalogue import (
    CONF_68,
    CONF_95,
    build_catalogue,
    catalog_table,
    read_fits,
    write_fits,
    write_regions,
)
from geminga.catalogue.ellipses import covariance_of, ellipse_of
from geminga.catalogue.fitted import flux_density
from geminga.errors import InputError
from geminga.evaluation.lists import read_detections
from geminga.likelihood.position_errors import COVARIANCE, TAIL
from geminga.sky.spectra import photon_flux
from geminga.tables import CANDIDATES, patch_sources

CLASSES = ("BLL", "PSR")


def channels(n: int) -> tuple[Channel, ...]:
    bands = [
        Band(emin_gev=10.0**k, emax_gev=10.0 ** (k + 1), nside=64, pixels=32) for k in range(n)
    ]
    return make_channels(bands, ("FRONT",))


def candidates(n: int = 6, n_channels: int = 2, seed: int = 5) -> pd.DataFrame:
    """Fitted sources all over the sky, the last with no covariance, the first dark in channel 0."""
    rng = np.random.default_rng(seed)
    table = CANDIDATES.with_columns(
        [c for c in patch_sources(n_channels).columns if c.name not in CANDIDATES.names]
    )
    values = {c.name: rng.uniform(1.0, 2.0, n) for c in table.columns if c.dtype == "float64"}
    values |= {c.name: np.ones(n) for c in table.columns if c.dtype != "float64"}
    axes = rng.uniform(0.01, 0.1, (2, n))
    angle = rng.uniform(0, np.pi, n)
    s, c = np.sin(angle), np.cos(angle)
    values |= {
        "lon_deg": rng.uniform(0, 360, n),
        "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        "ts": np.sort(rng.uniform(6, 900, n))[::-1],
        "s1": 10 ** rng.uniform(-10.5, -8, n),
        "cov_east_deg2": axes[0] ** 2 * s * s + axes[1] ** 2 * c * c,
        "cov_cross_deg2": (axes[0] ** 2 - axes[1] ** 2) * s * c,
        "cov_north_deg2": axes[0] ** 2 * c * c + axes[1] ** 2 * s * s,
        "converged": np.ones(n, np.bool_),
    }
    values["score"] = values["ts"]
    frame = table.frame(values).assign(**{TAIL: 1.0 + 3.0 / values["ts"]})
    if n and n_channels:
        frame.loc[0, "flux_0"] = 0.0
    if n:
        frame.loc[n - 1, "cov_north_deg2"] = np.nan
    return frame


@pytest.fixture
def frame() -> pd.DataFrame:
    return build_catalogue(candidates(), None, CLASSES)


def test_other_searches_keep_their_catalogue() -> None:
    plain = build_catalogue(CANDIDATES.check(candidates(), ""), None, CLASSES)
    assert list(plain.columns) == catalog_table(CLASSES).names
    part = build_catalogue(candidates().drop(columns="goodness"), None, CLASSES)
    pd.testing.assert_frame_equal(part, plain)


def test_columns_say_what_the_fit_says(frame: pd.DataFrame) -> None:
    found = candidates()
    for name, column in {
        "TS": "ts", "Flux1000": "s1", "Unc_Flux1000": "s1_error", "PL_Index": "index",
        "Unc_PL_Index": "index_error", "Flux_Band_1": "flux_1", "Unc_Flux_Band_0": "flux_error_0",
    }.items():  # fmt: skip
        np.testing.assert_array_equal(frame[name], found[column], err_msg=name)
    np.testing.assert_allclose(frame["Signif_Avg"] ** 2, found["ts"])
    assert "PROBABILITY" not in frame
    assert list(frame.columns)[-4:] == ["Flags", "P_BLL", "P_PSR", "P_FAKE"]
    given = found.assign(probability=np.linspace(1, 0.5, len(found)), score=np.arange(6.0))
    again = build_catalogue(given, None, CLASSES)
    np.testing.assert_array_equal(again["PROBABILITY"], given["probability"][::-1])


@pytest.mark.parametrize("index", [1.0, 1.5, 2.7])
def test_flux_density_is_that_of_the_power_law(index: float) -> None:
    row = pd.DataFrame(
        {
            "form": ["log_parabola"], "norm": flux_density(np.array([3e-9]), np.array([index])),
            "pivot_mev": [1e3], "index": [index], "curvature": [0.0], "exp_index": [0.0],
        }
    )  # fmt: skip
    assert photon_flux(row, 1e3, 1e6)[0] == pytest.approx(3e-9, rel=1e-6)


def test_position_angle_is_from_celestial_north_to_the_east() -> None:
    """A step along the major axis, by astropy, moves as the Galactic covariance says."""
    found = candidates(40)
    cov = found[list(COVARIANCE)].to_numpy()
    lon, lat = found["lon_deg"].to_numpy(), found["lat_deg"].to_numpy()
    major, minor, angle = ellipse_of(lon, lat, cov)
    assert np.isnan([major[-1], minor[-1], angle[-1]]).all()
    assert np.all((angle[:-1] > -90) & (angle[:-1] <= 90))
    for k in range(39):
        place = SkyCoord(l=lon[k] * u.deg, b=lat[k] * u.deg, frame="galactic").icrs
        step = place.directional_offset_by(angle[k] * u.deg, 1e-3 * u.deg).galactic
        east = ((step.l.deg - lon[k] + 180) % 360 - 180) * np.cos(np.radians(lat[k]))
        move = np.array([east, step.b.deg - lat[k]]) / 1e-3
        matrix = np.array([[cov[k, 0], cov[k, 1]], [cov[k, 1], cov[k, 2]]])
        assert move @ matrix @ move == pytest.approx(major[k] ** 2, rel=2e-3)
        assert np.linalg.det(matrix) == pytest.approx((major[k] * minor[k]) ** 2)
    back = covariance_of(lon, lat, major, minor, angle)
    np.testing.assert_allclose(back[:-1], cov[:-1], rtol=1e-9, atol=1e-14)
    assert np.isnan(back[-1]).all()


def test_not_positive_definite_is_unknown() -> None:
    cov = np.array([[1.0, 2.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 0.0, -2.0], [np.inf, 0.0, 1.0]])
    major, _, angle = ellipse_of(np.zeros(4), np.zeros(4), cov)
    assert np.isnan(major).all()
    assert np.isnan(angle).all()


@pytest.mark.parametrize(("n", "n_channels"), [(6, 2), (1, 1), (0, 3), (3, 0)])
def test_round_trip(tmp_path: Path, n: int, n_channels: int) -> None:
    frame = build_catalogue(candidates(n, n_channels), None, CLASSES)
    path = tmp_path / "c.fits"
    write_fits(path, frame, CLASSES, {}, channels(n_channels))
    pd.testing.assert_frame_equal(read_fits(path), frame)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert len(hdus) == (3 if n_channels else 2)


def test_ellipses_and_tails_survive_the_file(tmp_path: Path, frame: pd.DataFrame) -> None:
    write_fits(tmp_path / "c.fits", frame, CLASSES, {}, channels(2))
    got, found = read_detections(tmp_path / "c.fits"), candidates()
    good = slice(0, -1)
    for name in (*COVARIANCE, TAIL):
        np.testing.assert_allclose(got[name][good], found[name][good], rtol=1e-9, atol=1e-14)
    assert got["cov_east_deg2"].isna().iloc[-1]
    for name in ("lon_deg", "lat_deg", "score", "s1", "ts"):
        np.testing.assert_allclose(got[name], found[name])
    ratio = frame["Conf_95_SemiMajor"] / frame["Conf_68_SemiMajor"]
    np.testing.assert_allclose(ratio[good], found[TAIL][good] * CONF_95 / CONF_68)


def test_lists_with_a_tail_and_without(tmp_path: Path) -> None:
    found = candidates()
    found.to_parquet(tmp_path / "a.parquet")
    found.drop(columns=TAIL).to_parquet(tmp_path / "b.parquet")
    one, other = (read_detections(tmp_path / f"{name}.parquet") for name in "ab")
    np.testing.assert_array_equal(one[TAIL], found[TAIL])
    assert TAIL not in other
    frame = build_catalogue(found.drop(columns=TAIL), None, CLASSES)
    ratio = (frame["Conf_95_SemiMinor"] / frame["Conf_68_SemiMinor"])[:-1]
    np.testing.assert_allclose(ratio, CONF_95 / CONF_68)


def test_astropy_sees_units_arrays_and_bounds(tmp_path: Path, frame: pd.DataFrame) -> None:
    write_fits(tmp_path / "c.fits", frame, CLASSES, {"seed": 1}, channels(2))
    table = Table.read(tmp_path / "c.fits", hdu=1)
    assert table["Flux1000"].unit == u.Unit("ph cm-2 s-1")
    assert table["Conf_95_SemiMajor"].unit == u.deg
    assert table["Flux_Band"].shape == (6, 2)
    assert table["Unc_Flux_Band"].shape == (6, 2, 2)
    assert np.isnan(table["Unc_Flux_Band"].filled(np.nan)[0, 0, 0])  # an upper limit
    assert table["Unc_Flux_Band"][1, 0, 0] == -table["Unc_Flux_Band"][1, 0, 1]
    bounds = Table.read(tmp_path / "c.fits", hdu="EnergyBounds")
    assert bounds["LowerEnergy"].quantity.to_value("GeV").tolist() == [1.0, 10.0]
    assert bounds["UpperEnergy"].quantity.to_value("GeV").tolist() == [10.0, 100.0]
    assert bounds["EventTypes"].tolist() == ["FRONT", "FRONT"]
    header = fits.getheader(tmp_path / "c.fits", 1)
    number = [header[f"TTYPE{k}"] for k in range(1, header["TFIELDS"] + 1)].index("Flux1000") + 1
    assert (header[f"TEMIN{number}"], header[f"TEMAX{number}"]) == (1e3, 1e6)
    for k in range(1, header["TFIELDS"] + 1):
        assert header[f"TCOMM{k}"]
    assert header[f"TCOMM{number}"] == "photon flux 1-1000 GeV"


def test_gammapy_takes_a_row_for_one_of_4fgl(tmp_path: Path, frame: pd.DataFrame) -> None:
    write_fits(tmp_path / "c.fits", frame, CLASSES, {}, channels(2))
    table = Table.read(tmp_path / "c.fits", hdu=1)
    table_standardise_units_inplace(table)  # as gammapy does with 4FGL: photons have no unit
    row = table[1]
    names = list(table.colnames)
    data = {n: (row[n] * (table[n].unit or 1) if table[n].unit else row[n]) for n in names}
    source = SourceCatalogObject4FGL(data)
    assert source.name == frame["Source_Name"][1]
    assert source.position.ra.deg == pytest.approx(frame["RAJ2000"][1])
    model = source.spectral_model()
    assert model is not None
    flux = model.integral(1 * u.GeV, 1000 * u.GeV).to_value("cm-2 s-1")
    assert flux == pytest.approx(frame["Flux1000"][1], rel=1e-3)
    assert model.index.error == frame["Unc_PL_Index"][1]


def test_channels_must_be_those_of_the_fluxes(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="2 fluxes of channels, but 3 channels"):
        write_fits(tmp_path / "c.fits", frame, CLASSES, {}, channels(3))
    write_fits(tmp_path / "c.fits", frame, CLASSES, {})
    with fits.open(tmp_path / "c.fits") as hdus:
        assert len(hdus) == 2
        columns = [
            fits.Column(c.name, "2D", array=np.zeros((6, 2))) if c.name == "Unc_Flux_Band" else c
            for c in hdus[1].columns
        ]
        fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "bad.fits")
    with pytest.raises(InputError, match=r"Flux_Band has shape \(6, 2\), Unc_Flux_Band \(6, 2\)"):
        read_fits(tmp_path / "bad.fits")


def test_regions_draw_the_95_percent_ellipse(tmp_path: Path, frame: pd.DataFrame) -> None:
    write_regions(tmp_path / "c.reg", frame)
    lines = (tmp_path / "c.reg").read_text().splitlines()[3:]
    assert lines[-1].startswith("circle(")
    cov = candidates()[list(COVARIANCE)].to_numpy()
    for k, line in enumerate(lines[:-1]):
        match = re.match(r"ellipse\(([^,]+),([^,]+),([^,]+)d,([^,]+)d,([^)]+)\)", line)
        assert match is not None
        _, _, minor, major, angle = (float(value) for value in match.groups())
        assert major == pytest.approx(frame["Conf_95_SemiMajor"][k], abs=1e-5)
        assert minor == pytest.approx(frame["Conf_95_SemiMinor"][k], abs=1e-5)
        # From Galactic north to the east.
        along = np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
        matrix = np.array([[cov[k, 0], cov[k, 1]], [cov[k, 1], cov[k, 2]]])
        assert along @ matrix @ along == pytest.approx(np.linalg.eigvalsh(matrix)[1], rel=1e-4)
