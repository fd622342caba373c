"""Columns of the catalogue that come from the classifier's evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from geminga.catalogue import build_catalogue, catalog_table, read_fits, write_fits
from geminga.catalogue.classified import CLASSIFIED, history_names
from geminga.errors import InputError
from geminga.tables import CANDIDATES

CLASSES = ("BLL", "PSR")


def candidates(years: int = 3) -> pd.DataFrame:
    frame = CANDIDATES.frame(
        {
            "sky_id": [0, 0],
            "lon_deg": [10.0, 20.0],
            "lat_deg": [30.0, 40.0],
            "position_error_deg": [0.1, 0.1],
            "score": [0.5, 0.9],
            "n_patches": [1, 1],
            "n_patches_covering": [1, 1],
        }
    )
    for number, column in enumerate(CLASSIFIED):
        values = [False, True] if column.dtype == "bool" else [float(number), number + 0.5]
        frame[column.name] = values
    for year in range(years):
        frame[f"Flux_History_{year}"] = [1e-9, 0.0]
        frame[f"Unc_Flux_History_{year}"] = [1e-10 * (year + 1), 2e-10]
    return frame


def catalogue(years: int = 3) -> pd.DataFrame:
    probabilities = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    return build_catalogue(candidates(years), probabilities, CLASSES)


def test_rows_keep_their_evidence_when_sorted() -> None:
    frame = catalogue()
    assert frame["SCORE"].tolist() == [0.9, 0.5]
    assert frame["AMBIGUOUS"].tolist() == [True, False]
    assert frame["LP_Index"].tolist() == [0.5, 0.0]
    assert frame["Flux_History_1"].tolist() == [0.0, 1e-9]


@pytest.mark.parametrize("years", [0, 1, 3])
def test_file_gives_back_the_frame(tmp_path: Path, years: int) -> None:
    frame = catalogue(years)
    path = tmp_path / "cat.fits"
    write_fits(path, frame, CLASSES, {})
    pd.testing.assert_frame_equal(read_fits(path), frame)
    assert len(history_names(frame.columns)) == 2 * years


def test_history_is_an_array_with_errors_down_and_up(tmp_path: Path) -> None:
    path = tmp_path / "cat.fits"
    write_fits(path, catalogue(), CLASSES, {})
    table = fits.getdata(path, 1)
    assert table["Flux_History"].shape == (2, 3)
    assert table["Unc_Flux_History"].shape == (2, 3, 2)
    # No error downwards where the flux is 0.
    assert np.isnan(table["Unc_Flux_History"][0, :, 0]).all()
    assert table["Unc_Flux_History"][1, 2].tolist() == pytest.approx([-3e-10, 3e-10])


def test_without_evidence_there_are_no_columns_of_it() -> None:
    names = catalog_table(CLASSES).names
    assert not {c.name for c in CLASSIFIED} & set(names)


def test_history_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cat.fits"
    write_fits(path, catalogue(), CLASSES, {})
    with fits.open(path) as hdus:
        table = hdus[1]
        columns = [c for c in table.columns if c.name != "Unc_Flux_History"]
        fits.BinTableHDU.from_columns(columns, name=table.name).writeto(tmp_path / "bad.fits")
    with pytest.raises(InputError, match=r"Flux_History has shape \(2, 3\)"):
        read_fits(tmp_path / "bad.fits")
