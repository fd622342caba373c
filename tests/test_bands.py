from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from geminga.bands import Band, band_of_energy, check_bands, edges_mev, is_power_of_two, pixel_sizes

LOW = Band(emin_gev=0.3, emax_gev=1, nside=64, pixels=32)
HIGH = Band(emin_gev=2, emax_gev=2000, nside=1024, pixels=128)


def test_edges_are_in_mev_with_one_row_per_band() -> None:
    np.testing.assert_allclose(edges_mev([LOW, HIGH]), [[300, 1000], [2000, 2_000_000]])


def test_one_band_is_enough() -> None:
    check_bands([LOW])
    assert edges_mev([LOW]).shape == (1, 2)
    assert pixel_sizes([LOW]) == (32,)


def test_energies_fall_in_half_open_bands_and_gaps_in_none() -> None:
    energy = np.array([0.0, 299.9, 300.0, 999.9, 1000.0, 1999.0, 2000.0, 2e6, np.inf, np.nan])
    number = band_of_energy([LOW, HIGH], energy)
    assert number.dtype == np.int8
    assert number.tolist() == [-1, -1, 0, 0, -1, -1, 1, -1, -1, -1]


def test_touching_bands_share_no_energy() -> None:
    next_band = Band(emin_gev=1, emax_gev=2, nside=64, pixels=32)
    check_bands([LOW, next_band])
    assert band_of_energy([LOW, next_band], np.array([1000.0])).tolist() == [1]


def test_label_is_short() -> None:
    assert LOW.label == "0.3-1 GeV"


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ([], "no band"),
        ([HIGH, LOW], "2-2000 GeV and 0.3-1 GeV overlap or run backwards"),
        ([LOW, LOW], "overlap"),
        ([LOW, Band(emin_gev=0.9, emax_gev=3, nside=64, pixels=32)], "0.3-1 GeV and 0.9-3 GeV"),
    ],
)
def test_bands_must_rise(bands: list[Band], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_bands(bands)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emax_gev": 0.2}, "0.3-0.2 GeV runs backwards"),
        ({"emax_gev": 0.3}, "runs backwards"),
        ({"emin_gev": 0}, "greater than 0"),
        ({"emin_gev": -1}, "greater than 0"),
        ({"emax_gev": float("inf")}, "finite"),
        ({"emax_gev": float("nan")}, "finite"),
        ({"nside": 100}, "nside 100 is not a power of two"),
        ({"nside": 0}, "nside 0 is not a power of two"),
        ({"pixels": 48}, "pixels 48 is not a power of two"),
        ({"pixels": -2}, "pixels -2 is not a power of two"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_bad_band_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Band.model_validate({"emin_gev": 0.3, "emax_gev": 1, "nside": 64, "pixels": 32, **change})


def test_bands_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        LOW.nside = 32  # type: ignore[misc]


@pytest.mark.parametrize(
    ("n", "answer"), [(-2, False), (0, False), (1, True), (6, False), (64, True)]
)
def test_power_of_two(n: int, answer: bool) -> None:
    assert is_power_of_two(n) is answer
