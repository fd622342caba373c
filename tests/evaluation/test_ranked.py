from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.evaluation.ranked import ranked_list, ranked_match
from geminga.matching import match, match_thesis
from geminga.tables import EXTENDED


def crowd(rng: np.random.Generator, detections: int, sources: int) -> tuple[pd.DataFrame, ...]:
    """Detections and sources in one square degree: every one has several neighbours."""
    found = pd.DataFrame(rng.uniform(0, 1, (detections, 2)), columns=["lon_deg", "lat_deg"])
    truth = pd.DataFrame(rng.uniform(0, 1, (sources, 2)), columns=["lon_deg", "lat_deg"])
    # Coarse values: equal scores and equal fluxes occur.
    return (
        found.assign(score=rng.integers(0, 12, detections) / 4.0),
        truth.assign(s1=rng.integers(1, 8, sources) * 1e-10),
    )


@pytest.mark.parametrize("seed", range(12))
def test_every_cut_is_that_of_the_list_matched_anew(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = crowd(rng, 40, 15)
    result = ranked_match(found, truth, 0.2)
    for cut in np.unique(found["score"]):
        kept = found[found["score"] >= cut].reset_index(drop=True)
        anew = match(kept, truth, 0.2)
        paired = anew[(anew["candidate"] >= 0) & (anew["source"] >= 0)]
        np.testing.assert_array_equal(
            np.flatnonzero(result.found_score >= cut), paired["source"].to_numpy()
        )
        assert result.is_true[found["score"] >= cut].sum() == len(paired)
    partner = match(found, truth, 0.2)["candidate"].to_numpy()[: len(truth)]
    np.testing.assert_array_equal(result.partner, partner)


@pytest.mark.parametrize("seed", range(4))
def test_thesis_cuts_are_those_of_the_list_matched_anew(seed: int) -> None:
    found, truth = crowd(np.random.default_rng(seed), 40, 15)
    result = ranked_match(found, truth, 0.1, "thesis")
    for cut in np.unique(found["score"]):
        kept = found[found["score"] >= cut].reset_index(drop=True)
        anew = match_thesis(kept, truth, 0.1)
        paired = anew[(anew["candidate"] >= 0) & (anew["source"] >= 0)]
        assert result.is_true[found["score"] >= cut].sum() == len(paired)
        assert set(np.flatnonzero(result.found_score >= cut)) == set(paired["source"])
    assert result.is_duplicate.sum() == result.is_true.sum() - (result.found_score > -np.inf).sum()


def test_the_surer_of_two_detections_counts_and_the_other_is_a_duplicate() -> None:
    truth = pd.DataFrame({"lon_deg": [0.0], "lat_deg": [0.0], "s1": [1e-9]})
    found = pd.DataFrame({"lon_deg": [0.01, 0.2, 9.0], "lat_deg": 0.0, "score": [1.0, 5.0, 3.0]})
    result = ranked_match(found, truth, 0.3)
    assert result.is_true.tolist() == [False, True, False]
    assert result.is_duplicate.tolist() == [True, False, False]
    assert result.found_score.tolist() == [5.0]
    # Of the whole list the nearer is the partner, as `match` has it.
    assert result.partner.tolist() == [0]
    thesis = ranked_match(found, truth, 0.3, "thesis")
    assert thesis.is_true.tolist() == [True, True, False]
    assert thesis.is_duplicate.tolist() == [True, False, False]
    assert (thesis.found_score.tolist(), thesis.partner.tolist()) == ([5.0], [0])


def test_detections_on_extended_sources_are_left_out_unless_they_add_a_source() -> None:
    truth = pd.DataFrame({"lon_deg": [10.0], "lat_deg": [0.0], "s1": [1e-9]})
    found = pd.DataFrame(
        {"lon_deg": [10.0, 10.5, 40.0], "lat_deg": 0.0, "score": [1.0, 2.0, 3.0], "sky_id": 77}
    )
    area = EXTENDED.frame(
        {"name": ["x"], "lon_deg": [10.2], "lat_deg": [0.0], "radius_deg": [0.3], "s1": [1e-9]}
    )
    ranked = ranked_list([found], [truth.assign(sky_id=3)], 0.3, extended=[area])
    assert ranked.left_out == 1
    assert ranked.detections["score"].tolist() == [3.0, 1.0]
    assert ranked.detections["is_true"].tolist() == [False, True]
    assert ranked.sources[["s10", "ts"]].isna().all(axis=None)


def test_bad_input() -> None:
    found, truth = crowd(np.random.default_rng(0), 3, 2)
    with pytest.raises(InputError, match="matching: 'nearest'"):
        ranked_match(found, truth, 0.3, "nearest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no column score"):
        ranked_match(found.drop(columns="score"), truth, 0.3)
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match=f"a score is {bad}"):
            ranked_match(found.assign(score=bad), truth, 0.3)
    with pytest.raises(InputError, match="2 lists of detections, 1 of sources"):
        ranked_list([found, found], [truth], 0.3)
    with pytest.raises(InputError, match="0 lists of detections, 0 of sources"):
        ranked_list([], [], 0.3)
    with pytest.raises(InputError, match="0 lists of extended sources for 1 skies"):
        ranked_list([found], [truth], 0.3, extended=[])
