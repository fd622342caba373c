from __future__ import annotations

import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.matching import match_thesis, near_pairs
from geminga.tables import MATCHES


def points(*rows: tuple[float, ...], names: str = "lon_deg lat_deg s1") -> pd.DataFrame:
    return pd.DataFrame(
        list(rows), columns=names.split()[: len(rows[0])] if rows else names.split()
    )


def pairs(matches: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(matches["candidate"], matches["source"], strict=True))


def test_every_detection_claims_the_brightest_source_near_it() -> None:
    # Two detections near the bright source; the faint one is nearer to the second, and yet missed.
    truth = points((0, 0, 1e-9), (0.2, 0, 1e-10), (50, 0, 1e-8))
    result = match_thesis(points((0, 0.1), (0.15, 0), (90, 0)), truth, 0.3)
    assert pairs(result) == [(0, 0), (1, 0), (-1, 1), (-1, 2), (2, -1)]
    assert list(result.columns) == MATCHES.names
    assert result["separation_deg"][:2].to_numpy() == pytest.approx([0.1, 0.15])


def test_equals_take_the_first_row_and_unknown_brightness_comes_last() -> None:
    truth = points((0, 0, float("nan")), (0.1, 0, 1e-12), (0.1, 0.1, 1e-12))
    assert pairs(match_thesis(points((0, 0)), truth, 0.3)) == [(-1, 0), (0, 1), (-1, 2)]


def test_empty_tables_and_the_inclusive_radius() -> None:
    one, none = points((0, 0, 1e-9)), points()
    assert pairs(match_thesis(none, one, 0.3)) == [(-1, 0)]
    assert pairs(match_thesis(one, none, 0.3)) == [(0, -1)]
    assert pairs(match_thesis(points((0.3, 0)), one, 0.3)) == [(0, 0)]
    assert len(near_pairs(none, none, 0.3).candidate) == 0


def test_skies_are_kept_apart() -> None:
    one = points((0, 0, 1e-9))
    result = match_thesis(one.assign(sky_id=1), one.assign(sky_id=2), 0.3)
    assert pairs(result) == [(-1, 0), (0, -1)]


def test_bad_input() -> None:
    one = points((0, 0, 1e-9))
    with pytest.raises(InputError, match="match radius: 0 deg"):
        match_thesis(one, one, 0)
    with pytest.raises(InputError, match="truth: has no column s10"):
        match_thesis(one, one, 0.3, "s10")
    with pytest.raises(InputError, match="candidates: has no column lat_deg"):
        match_thesis(one.drop(columns="lat_deg"), one, 0.3)
