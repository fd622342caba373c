"""Catalogues that cannot be classified, through the command line: one line, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue_cases import made_up, write

from geminga.classification.catalogue_file import read_catalogue
from geminga.cli import USER_ERROR, main

Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, b: c.pop("Flux_Band"), "has no column Flux_Band"),
        (lambda c, b: c.pop("Unc_Flux_Band"), "has no column Unc_Flux_Band"),
        (lambda c, b: c.pop("GLAT"), "has no column GLAT"),
        (lambda c, b: b.clear(), "has no table EnergyBounds"),
        (lambda c, b: b.pop("UpperEnergy"), "UpperEnergy"),
        (lambda c, b: c.update(Flux_Band=c["Flux_Band"][:, :3]), "Flux_Band"),
        (
            lambda c, b: c.update(Unc_Flux_History=c["Unc_Flux_History"][:, :2]),
            "Unc_Flux_History (20, 2, 2); give n rows",
        ),
    ],
)
def test_one_line(
    change: Change, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, bounds = made_up(20, years=3)
    change(columns, bounds)
    path = write(tmp_path / "cat.fits", columns, bounds)
    out = tmp_path / "out"
    assert main(["classify", "--catalog", str(path), "--out", str(out)]) == USER_ERROR
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1
    assert not out.exists()


def test_what_is_not_finite_is_not_measured(tmp_path: Path) -> None:
    columns, bounds = made_up(5, years=3)
    columns["Flux_Band"][0, 0] = np.inf
    columns["Flux_Band"][1] = -np.inf
    columns["Unc_Flux_Band"][2, 1] = 0.0
    columns["Flux_History"][3, 0] = np.inf
    columns["GLAT"][4] = 120.0
    read = read_catalogue(write(tmp_path / "cat.fits", columns, bounds))
    assert read.bands.measured[[0, 1, 2]].sum(axis=1).tolist() == [3, 0, 3]
    assert read.years.measured[3].tolist() == [False, True, True]
    assert read.usable.tolist() == [True, False, True, True, False]
    evidence = read.evidence()
    assert not np.isinf(evidence.band_flux).any()
    # The mean is that of the years there are.
    assert np.nanmean(evidence.year_ratio, axis=1) == pytest.approx(1.0)
