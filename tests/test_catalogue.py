from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from geminga import catalogue
from geminga.catalogue import (
    build_catalogue,
    catalog_table,
    galactic_to_icrs,
    probability_column,
    read_fits,
    source_names,
    write_fits,
    write_regions,
)
from geminga.errors import InputError
from geminga.tables import CANDIDATES, CATALOG

CLASSES = ("BLL", "FSRQ", "PSR", "PWN+SNR")
HEADER = {"config_hash": "0123456789abcdef", "version": "0.1.0", "name": "test", "seed": 2018}


def candidates(n: int = 5, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return CANDIDATES.frame(
        {
            "sky_id": np.zeros(n),
            "lon_deg": rng.uniform(0, 360, n),
            "lat_deg": rng.uniform(-90, 90, n),
            "position_error_deg": np.full(n, 0.02),
            "score": rng.uniform(30, 69, n),
            "n_patches": rng.integers(1, 5, n),
            "n_patches_covering": np.full(n, 5),
        }
    )


def probabilities(n: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(len(CLASSES) + 1), n)


@pytest.fixture
def frame() -> pd.DataFrame:
    return build_catalogue(candidates(), probabilities(5), CLASSES)


def test_icrs_of_the_crab_and_the_galactic_pole() -> None:
    # Crab pulsar: l 184.557, b -5.784 is RA 83.633, Dec 22.015 (SIMBAD); north Galactic pole of
    # J2000: RA 192.859, Dec 27.128 (Reid and Brunthaler 2004).
    ra, dec = galactic_to_icrs(np.array([184.5575, 0.0]), np.array([-5.7844, 90.0]))
    np.testing.assert_allclose(ra, [83.633, 192.8595], atol=1e-3)
    np.testing.assert_allclose(dec, [22.0145, 27.1283], atol=1e-3)


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        (83.6331, 22.0145, "GEM J0534.5+2200"),
        (0.0, 0.0, "GEM J0000.0+0000"),
        (359.9999, -0.0001, "GEM J2359.9-0000"),  # cut off, never rounded up to 24 h
        (187.7, -89.9999, "GEM J1230.8-8959"),
        (128.8375, -45.176, "GEM J0835.3-4510"),  # 08h35.35m, Vela
        (8.625, 60.0, "GEM J0034.5+6000"),  # exactly on a digit
        (8.65, 60.0, "GEM J0034.6+6000"),  # 34.6 is a little less in binary
        (360.0, 10.0, "GEM J0000.0+1000"),
    ],
)
def test_names_are_cut_off_as_the_iau_asks(ra: float, dec: float, name: str) -> None:
    assert source_names(np.array([ra]), np.array([dec])) == [name]


@given(st.lists(st.tuples(st.floats(0, 360), st.floats(-90, 90)), min_size=1, max_size=20))
def test_names_have_the_form_and_are_unique(positions: list[tuple[float, float]]) -> None:
    ra, dec = np.array(positions).T
    names = source_names(ra, dec)
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"GEM J([01]\d|2[0-3])[0-5]\d\.\d[+-][0-9]\d[0-5]\d[a-z]*", name)


def test_equal_names_get_letters() -> None:
    names = source_names(np.full(28, 10.0), np.full(28, 5.0))
    assert names[0].endswith("a")
    assert names[25].endswith("z")
    assert names[26:] == ["GEM J0040.0+0500aa", "GEM J0040.0+0500ab"]


def test_catalogue_is_sorted_and_complete(frame: pd.DataFrame) -> None:
    found = candidates()
    assert list(frame.columns) == catalog_table(CLASSES).names
    assert list(frame.columns)[-5:] == ["P_BLL", "P_FSRQ", "P_PSR", "P_PWN_SNR", "P_FAKE"]
    assert frame["SCORE"].is_monotonic_decreasing
    best = int(found["score"].argmax())
    assert frame["GLON"][0] == found["lon_deg"][best]
    assert frame["N_Patches"][0] == found["n_patches"][best]
    np.testing.assert_allclose(frame["Conf_68_Radius"], 1.515 * 0.02)
    p = frame.filter(like="P_", axis=1).drop(columns="N_Patches", errors="ignore")
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    labels = np.array([*CLASSES, "FAKE"])[p.to_numpy().argmax(axis=1)]
    assert frame["CLASS"].tolist() == labels.tolist()


def test_68_percent_of_offsets_lie_within_the_radius() -> None:
    offsets = np.random.default_rng(3).normal(size=(2, 200_000))
    assert np.mean(np.hypot(*offsets) < catalogue.CONF_68) == pytest.approx(0.6827, abs=0.003)


def test_order_of_candidates_does_not_matter(frame: pd.DataFrame) -> None:
    order = [3, 1, 4, 0, 2]
    shuffled = build_catalogue(candidates().iloc[order], probabilities(5)[order], CLASSES)
    pd.testing.assert_frame_equal(shuffled, frame)


def test_without_classifier() -> None:
    frame = build_catalogue(candidates(), None, CLASSES)
    assert frame["CLASS"].tolist() == [""] * 5
    assert frame["P_FAKE"].isna().all()


def test_probabilities_must_fit() -> None:
    with pytest.raises(ValueError, match="shape"):
        build_catalogue(candidates(), probabilities(4), CLASSES)
    with pytest.raises(ValueError, match="sum to 1"):
        build_catalogue(candidates(), probabilities(5) * 2, CLASSES)


def test_classes_that_share_a_column_are_refused() -> None:
    assert probability_column("PWN+SNR") == "P_PWN_SNR"
    with pytest.raises(InputError, match=r"PWN\+SNR and pwn_snr share"):
        catalog_table(["PWN+SNR", "pwn_snr"])


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("classified", [True, False])
def test_round_trip(tmp_path: Path, n: int, classified: bool) -> None:
    frame = build_catalogue(candidates(n), probabilities(n) if classified else None, CLASSES)
    path = tmp_path / "new" / "catalog.fits"
    write_fits(path, frame, CLASSES, HEADER)
    pd.testing.assert_frame_equal(read_fits(path), frame)
    assert [p.name for p in path.parent.iterdir()] == ["catalog.fits"]


def test_header_says_units_meaning_and_provenance(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "catalog.fits"
    write_fits(path, frame, CLASSES, {**HEADER, "IRF": "P8R2\u00b0"})
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        assert header["CONFHASH"] == HEADER["config_hash"]
        assert (header["GEMVERS"], header["RUNNAME"], header["SEED"]) == ("0.1.0", "test", 2018)
        assert header["IRF"] == "P8R2?"
        assert header["RADESYS"] == "ICRS"
        columns = hdus[1].columns
        units = dict(zip(columns.names, columns.units, strict=True))
        assert units["RAJ2000"] == units["Conf_68_Radius"] == "deg"
        comments = {header[f"TTYPE{k}"]: header[f"TCOMM{k}"] for k in range(1, len(units) + 1)}
    assert comments["RAJ2000"] == next(
        c.description for c in CATALOG.columns if c.name == "RAJ2000"
    )
    assert comments["P_PWN_SNR"] == "probability of class PWN+SNR"


def test_header_key_must_be_a_keyword(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'a_long_key'"):
        write_fits(tmp_path / "catalog.fits", frame, CLASSES, {"a_long_key": 1})


def test_two_writes_have_the_same_bytes(tmp_path: Path, frame: pd.DataFrame) -> None:
    write_fits(tmp_path / "a.fits", frame, CLASSES, HEADER)
    write_fits(tmp_path / "b.fits", frame.copy(), CLASSES, dict(HEADER))
    data = (tmp_path / "a.fits").read_bytes()
    assert data == (tmp_path / "b.fits").read_bytes()
    assert b"DATE" not in data


def test_other_suffix_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"ends in '\.gz'"):
        write_fits(tmp_path / "catalog.fits.gz", frame, CLASSES, HEADER)


def test_output_below_a_file_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_fits(tmp_path / "file" / "catalog.fits", frame, CLASSES, HEADER)
    with pytest.raises(InputError, match="cannot be written"):
        write_regions(tmp_path / "file" / "catalog.reg", frame)


def test_full_disk_leaves_the_old_catalogue(
    tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalog.fits"
    write_fits(path, frame, CLASSES, HEADER)
    before = path.read_bytes()

    def full(self: fits.HDUList, name: Path, **_: object) -> None:
        Path(name).write_bytes(before[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fits.HDUList, "writeto", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_fits(path, frame.iloc[:1], CLASSES, HEADER)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["catalog.fits"]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_fits(tmp_path / "none.fits")


@pytest.mark.parametrize("keep", [0, 100, 2880, 5000, -2000])
def test_truncated_file(tmp_path: Path, frame: pd.DataFrame, keep: int) -> None:
    path = tmp_path / "catalog.fits"
    write_fits(path, pd.concat([frame] * 20, ignore_index=True), CLASSES, HEADER)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"not a readable FITS|no FITS table"):
        read_fits(path)


def test_not_fits(tmp_path: Path) -> None:
    path = tmp_path / "catalog.fits"
    path.write_text("name,ra\n" * 1000)
    with pytest.raises(InputError, match="not a readable FITS"):
        read_fits(path)


def test_missing_and_wrong_columns(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "catalog.fits"
    fits.BinTableHDU.from_columns(
        [fits.Column("Source_Name", "20A", array=np.array(["x"]))]
    ).writeto(path)
    with pytest.raises(InputError, match="has no column RAJ2000"):
        read_fits(path)
    write_fits(path, frame, CLASSES, HEADER)
    with fits.open(path) as hdus:
        columns = [
            fits.Column(c.name, "8A", array=np.array(["x"] * 5)) if c.name == "GLON" else c
            for c in hdus[1].columns
        ]
        fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "text.fits")
    with pytest.raises(InputError, match="column GLON holds"):
        read_fits(tmp_path / "text.fits")


def test_regions(tmp_path: Path) -> None:
    found = candidates(2)
    found["position_error_deg"] = [0.02, np.nan]
    frame = build_catalogue(found, probabilities(2), CLASSES)
    path = tmp_path / "catalog.reg"
    write_regions(path, frame)
    lines = path.read_text().splitlines()
    assert lines[2] == "galactic"
    circles = [
        re.fullmatch(r"circle\(([\d.]+),(-?[\d.]+),([\d.]+)d\) # text=\{(.+)\}", line)
        for line in lines[3:]
    ]
    assert len(circles) == 2
    for row, circle in zip(frame.itertuples(), circles, strict=True):
        assert circle is not None
        assert float(circle[1]) == pytest.approx(row.GLON, abs=1e-5)
        assert float(circle[2]) == pytest.approx(row.GLAT, abs=1e-5)
        expected = row.Conf_68_Radius if np.isfinite(row.Conf_68_Radius) else 0.1
        assert float(circle[3]) == pytest.approx(expected, abs=1e-5)
        assert circle[4] == f"{row.Source_Name} {row.CLASS}"


def test_regions_of_no_source(tmp_path: Path) -> None:
    frame = build_catalogue(candidates(0), None, CLASSES)
    write_regions(tmp_path / "catalog.reg", frame)
    assert len((tmp_path / "catalog.reg").read_text().splitlines()) == 3
