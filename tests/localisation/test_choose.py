from __future__ import annotations

import logging

import numpy as np
import pytest

from geminga.errors import InputError
from geminga.localisation import completeness_at_purity, score_cut

SCORES = np.array([1.0, 5.0, 4.0, 2.0, 3.0])
TRUE = np.array([False, True, True, True, False])
# From the top: 5 T (1), 4 T (1), 3 F (2/3), 2 T (3/4), 1 F (3/5)


@pytest.mark.parametrize(
    ("floor", "cut"), [(0.0, 1.0), (0.6, 1.0), (0.7, 2.0), (0.75, 2.0), (0.8, 4.0), (1.0, 4.0)]
)
def test_smallest_cut_that_reaches_the_floor(floor: float, cut: float) -> None:
    assert score_cut(SCORES, TRUE, floor) == cut


def test_detections_of_equal_score_stand_or_fall_together() -> None:
    scores, true = np.array([3.0, 3.0, 2.0]), np.array([True, False, True])
    assert score_cut(scores, true, 0.6) == 2.0
    assert score_cut(scores[:2], true[:2], 0.5) == 3.0


def test_the_best_purity_where_the_floor_is_out_of_reach(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        cut = score_cut(np.array([3.0, 2.0, 1.0]), np.array([False, True, False]), 0.9)
    assert cut == 2.0
    assert "0.900" in caplog.text


def test_no_detections_keep_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert score_cut(np.empty(0), np.empty(0, bool), 0.8) == 0.0
    assert "no validation detection" in caplog.text
    assert completeness_at_purity(np.empty(0), np.empty(0, bool), 5, 0.8) == (0.0, np.inf)


def test_completeness_at_purity() -> None:
    assert completeness_at_purity(SCORES, TRUE, 6, 0.75) == (0.5, 2.0)
    assert completeness_at_purity(SCORES, TRUE, 6, 0.9) == (2 / 6, 4.0)
    false = np.zeros(5, bool)
    assert completeness_at_purity(SCORES, false, 6, 0.5) == (0.0, np.inf)
    completeness, cut = completeness_at_purity(SCORES, false, 0, 0.5)
    assert np.isnan(completeness)
    assert cut == np.inf


def test_the_cut_delivers_its_purity_on_random_detections() -> None:
    rng = np.random.default_rng(1)
    true = rng.random(2000) < 0.5
    scores = np.round(rng.normal(np.where(true, 1.5, 0.0)), 1)
    cut = score_cut(scores, true, 0.85)
    assert true[scores >= cut].mean() >= 0.85
    lower = np.unique(scores[scores < cut])
    assert all(true[scores >= c].mean() < 0.85 for c in lower)
    assert completeness_at_purity(scores, true, true.sum(), 0.85)[1] == cut


def test_bad_input() -> None:
    with pytest.raises(InputError, match="one flag per score"):
        score_cut(SCORES, TRUE[:2], 0.8)
    with pytest.raises(InputError, match="NaN"):
        score_cut(np.array([np.nan]), np.array([True]), 0.8)
    with pytest.raises(InputError, match="below the 3 true detections"):
        completeness_at_purity(SCORES, TRUE, 2, 0.5)
