from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits

from geminga.catalogue import build_catalogue, write_fits
from geminga.errors import InputError
from geminga.evaluation.lists import CONF_95, read_detections, read_truth
from geminga.evaluation.positions import COVARIANCE
from geminga.tables import CANDIDATES, TRUTH


def candidates() -> pd.DataFrame:
    return CANDIDATES.frame(
        {
            "sky_id": [5, 5],
            "lon_deg": [10.0, 200.0],
            "lat_deg": [-3.0, 60.0],
            "position_error_deg": [0.02, np.nan],
            "score": [40.0, 12.5],
            "n_patches": [3, 2],
            "n_patches_covering": [4, 4],
        }
    )


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_catalogue_and_the_candidates_are_the_same_list(tmp_path: Path) -> None:
    frame = candidates()
    frame.to_parquet(tmp_path / "list.parquet")
    write_fits(tmp_path / "list.fits", build_catalogue(frame, None, ("A",)), ("A",), {})
    one, other = (read_detections(tmp_path / f"list.{end}") for end in ("parquet", "fits"))
    for name in ("lon_deg", "lat_deg", "score", "position_error_deg"):
        np.testing.assert_allclose(one[name], frame[name], rtol=1e-12)
        np.testing.assert_allclose(other[name], frame[name], rtol=1e-12)
    assert one["sky_id"].tolist() == [5, 5]
    assert "sky_id" not in other.columns


def test_an_empty_list_is_a_list(tmp_path: Path) -> None:
    CANDIDATES.empty().to_parquet(tmp_path / "none.parquet")
    TRUTH.empty().to_parquet(tmp_path / "truth.parquet")
    assert len(read_detections(tmp_path / "none.parquet")) == 0
    assert len(read_truth(tmp_path / "truth.parquet")) == 0
    assert len(read_detections(csv(tmp_path / "none.csv", "glon,glat,score\n"))) == 0


def test_columns_of_others(tmp_path: Path) -> None:
    path = csv(
        tmp_path / "a.csv", "RA, Dec, sqrt_TS, Conf_95_Radius, Flux1000\n0, 0, 5, 0.1, 2e-9\n"
    )
    got = read_detections(path).iloc[0]
    want = SkyCoord(0, 0, unit="deg").galactic
    assert (got["lon_deg"], got["lat_deg"]) == pytest.approx((want.l.deg, want.b.deg), abs=1e-9)
    assert (got["score"], got["s1"]) == (5.0, 2e-9)
    assert got["position_error_deg"] == pytest.approx(0.1 / CONF_95)
    # Galactic positions are preferred, angles outside 0 to 360 turned back.
    both = read_detections(csv(tmp_path / "b.csv", "ra,dec,GLON,GLAT,score\n0,0,-10,4,1\n"))
    assert both[["lon_deg", "lat_deg"]].iloc[0].tolist() == [350.0, 4.0]


def test_units_of_a_fits_column(tmp_path: Path) -> None:
    columns = [
        fits.Column("L", "D", unit="rad", array=[np.pi]),
        fits.Column("B", "E", unit="deg", array=[2.0]),
        fits.Column("SCORE", "J", array=[7]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    got = read_detections(tmp_path / "a.fits")
    assert got.iloc[0].tolist() == pytest.approx([180.0, 2.0, 7.0])


@pytest.mark.parametrize("angle", [0.0, 35.0, 120.0])
def test_an_ellipse_is_turned_into_the_galactic_frame(tmp_path: Path, angle: float) -> None:
    place = SkyCoord(83.0, 22.0, unit="deg")
    names = "RAJ2000,DEJ2000,score,Conf_68_SemiMajor,Conf_68_SemiMinor,Conf_68_PosAng"
    text = f"{names}\n83,22,1,0.1515,0.0303,{angle}\n83,22,1,,,\n"
    got = read_detections(csv(tmp_path / "a.csv", text))
    xx, xy, yy = (float(got[name].iloc[0]) for name in COVARIANCE)
    values, axes = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
    assert np.sqrt(values) == pytest.approx([0.02, 0.1])
    # A step along the major axis, by astropy.
    step = place.directional_offset_by(angle * units.deg, 0.001 * units.deg).galactic
    start = place.galactic
    move = np.array([(step.l - start.l).deg * np.cos(start.b.rad), (step.b - start.b).deg]) / 0.001
    assert abs(move @ axes[:, 1]) == pytest.approx(1.0, abs=1e-4)
    assert got[list(COVARIANCE)].iloc[1].isna().all()


def test_truth_columns(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "l,b,s1,expected_ts,ts\n1,2,1e-9,30,\n3,4,1e-10,,5\n")
    got = read_truth(path)
    assert list(got.columns) == ["lon_deg", "lat_deg", "s1", "ts"]
    assert got["ts"].iloc[0] == 30.0
    assert np.isnan(got["ts"].iloc[1])


@pytest.mark.data
def test_the_fourth_catalogue_is_truth_and_list(lat_data: Path, tmp_path: Path) -> None:
    path = next((lat_data / "catalogs").rglob("gll_psc_v27.fit*"))
    truth = read_truth(path)
    assert len(truth) == 5788
    assert truth["s1"].median() == pytest.approx(3.3e-10, rel=0.02)
    with pytest.raises(InputError, match="score of row 1117 is nan"):
        read_detections(path)  # significances that the catalogue itself does not know
    table = fits.getdata(path, 1)
    fits.BinTableHDU(table[np.isfinite(table["Signif_Avg"])]).writeto(tmp_path / "known.fits")
    seen = read_detections(tmp_path / "known.fits")
    assert (seen["score"] > 3.5).mean() > 0.99  # Signif_Avg
    xx, xy, yy = (seen[name].to_numpy() for name in COVARIANCE)
    known = np.isfinite(xx)
    assert known.mean() > 0.95
    # Turned or not, the major axis is the catalogue's: median 0.066 deg at 95 %.
    ellipses = np.stack([xx, xy, xy, yy], -1)[known].reshape(-1, 2, 2)
    radius = CONF_95 * np.sqrt(np.linalg.eigvalsh(ellipses)[:, 1])
    assert np.median(radius) == pytest.approx(0.066, rel=0.02)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,score\n1,2,3\n", "has no positions among its columns x, y, score; name them lon_deg"),
        ("l,b,weight\n1,2,3\n", "has no score among its columns l, b, weight"),
        ("l,b,score\n1,2,\n", "score of row 0 is nan"),
        ("l,b,score\n1,2,3\n,2,3\n", "l of row 1 is nan"),
        ("l,b,score\n1,95,3\n", "b is 95.0; give degrees from -90 to 90"),
        ("l,b,score\n1,north,3\n", "column b holds"),
        ("", "is not a readable CSV file"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_detections(csv(tmp_path / "a.csv", text))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in '\.txt'"):
        read_detections(tmp_path / "a.txt")
    for end, message in (
        ("fits", "does not exist"),
        ("csv", "not a readable CSV"),
        ("parquet", "not a readable Parquet"),
    ):
        with pytest.raises(InputError, match=message):
            read_truth(tmp_path / f"missing.{end}")
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(InputError, match="holds no FITS table"):
        read_detections(tmp_path / "image.fits")
    with pytest.raises(InputError, match="no photon flux above 1 GeV among l, b"):
        read_truth(csv(tmp_path / "t.csv", "l,b\n1,2\n"))
    columns = [fits.Column(n, "2D", array=np.ones((1, 2))) for n in ("L", "B", "SCORE")]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "wide.fits")
    with pytest.raises(InputError, match="column l holds >f8 values; give one number a row"):
        read_detections(tmp_path / "wide.fits")
    bad = [fits.Column(n, "D", unit="pixel", array=[1.0]) for n in ("L", "B", "SCORE")]
    fits.BinTableHDU.from_columns(bad).writeto(tmp_path / "unit.fits")
    with pytest.raises(InputError, match="unit 'pixel' is not one of deg"):
        read_detections(tmp_path / "unit.fits")
