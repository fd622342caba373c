"""The command ``geminga classify --catalog``, run as the user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from catalogue_cases import made_up, write

from geminga.cli import USER_ERROR, main

FILES = {
    *("classes.fits", "report.md", "figures.json", "provenance.json", "model"),
    *("roc.png", "calibration.png", "bcu.png", "sky.png"),
}


def classify(catalog: Path, out: Path, *more: str) -> int:
    command = ["classify", "--catalog", str(catalog), "--out", str(out), "--sources", "60"]
    return main([*command, *more])


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classify")
    columns, bounds = made_up(140, years=3)
    columns["Flux_Band"][5] = np.nan
    columns["Flux_Band"][6, 1:] = np.nan
    columns["Flux_History"][7] = np.nan
    assert classify(write(folder / "cat.fits", columns, bounds), folder / "out") == 0
    return folder


def test_what_is_written(result: Path) -> None:
    out = result / "out"
    assert {p.name for p in out.iterdir()} == FILES
    data = fits.getdata(out / "classes.fits")
    assert len(data) == 140
    assert data["Source_Name"][0] == "4FGL J0000"
    names = ["P_BLL", "P_FSRQ", "P_PSR", "P_PWN_SNR"]
    p = np.stack([data[name] for name in names], axis=1)
    known = np.arange(140) != 5
    np.testing.assert_allclose(p[known].sum(axis=1), 1.0)
    assert set(data["CLASS"][known]) <= {"BLL", "FSRQ", "PSR", "PWN+SNR"}
    assert ((data["UNLIKE"][known] >= 0) & (data["UNLIKE"][known] <= 1)).all()
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["simulated"]["training"] == 240
    assert provenance["seed"] == 2018
    assert (out / "model" / "model.json").is_file()


def test_rows_that_cannot_be_classified_are_flagged(result: Path) -> None:
    data = fits.getdata(result / "out" / "classes.fits")
    dark = data[5]
    assert dark["FLAGS"] == 1
    assert dark["CLASS"] == ""
    assert np.isnan(dark["P_BLL"])
    assert np.isnan(dark["UNLIKE"])
    assert dark["N_BANDS"] == 0
    assert data["FLAGS"][6] == 8
    assert data["N_BANDS"][6] == 1
    assert data["FLAGS"][7] == 4
    assert data["N_YEARS"][7] == 0
    assert data["CLASS"][6]
    assert data["CLASS"][7]
    header = fits.getheader(result / "out" / "classes.fits", 1)
    assert "not classified" in header["FLAG1"]
    assert header["PRIOR"] == "natural"


def test_classes_of_the_file_are_the_test(result: Path) -> None:
    text = (result / "out" / "report.md").read_text(encoding="utf-8")
    assert "| associated sources | BLL against FSRQ | 20 / 20 |" in text
    assert "weighted to flux and latitude of BCU" in text
    assert "## Predicted: bcu (20)" in text
    figures = json.loads((result / "out" / "figures.json").read_text(encoding="utf-8"))
    assert figures["contrasts"]["associated"]["BLL against FSRQ"]["auc"]["value"] > 0.7
    assert sum(map(sum, figures["confusion"])) == 80  # four classes, 20 of each


def test_same_seed_same_bytes_and_results_replace_older_ones(result: Path) -> None:
    older = (result / "out" / "classes.fits").read_bytes()
    mine = result / "out" / "mine.txt"
    mine.write_text("kept", encoding="utf-8")
    assert classify(result / "cat.fits", result / "out") == 0
    assert (result / "out" / "classes.fits").read_bytes() == older
    assert mine.read_text(encoding="utf-8") == "kept"
    mine.unlink()
    assert {p.name for p in (result / "out").iterdir()} == FILES


def test_no_classes_no_years(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns, bounds = made_up(120)
    del columns["CLASS1"], columns["ASSOC1"]
    path = write(tmp_path / "cat.fits", columns, bounds)
    assert classify(path, tmp_path / "out", "--prior", "latitude") == 0
    assert "without light curves" in caplog.text
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"sky.png"}
    data = fits.getdata(tmp_path / "out" / "classes.fits")
    assert (data["FLAGS"] == 4).all()
    assert "CLASS1" not in data.names


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((), "give --config, or --catalog"),
        (("--catalog", "none.fits"), "--out: is not given"),
        (("--catalog", "none.fits", "--out", "OUT"), "none.fits: does not exist"),
        (("--catalog", "none.fits", "--out", "OUT", "--sources", "3"), "too few"),
        (("--catalog", "none.fits", "--out", "OUT", "--set", "a=1"), "without --config"),
        (("--catalog", "none.fits", "--config", "c.yaml"), "give --config, or --catalog"),
        (("--config", "c.yaml", "--out", "OUT"), "no meaning with --config"),
    ],
)
def test_refused(
    arguments: tuple[str, ...], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / "out") if a == "OUT" else a for a in arguments]
    assert main(["classify", *given]) == USER_ERROR
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_all_rows_dark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns, bounds = made_up(10)
    columns["Flux_Band"][:] = np.nan
    path = write(tmp_path / "cat.fits", columns, bounds)
    assert classify(path, tmp_path / "out") == USER_ERROR
    assert "has no row with a position" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
