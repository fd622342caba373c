"""Which true positives are measured again, and where."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evidence_cases import changed, classed_evidence

from geminga.arrays import Int64
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.classification.recentred import Recentred, recentred
from geminga.config import Config
from geminga.geometry import separation_deg, unit_vectors

FAKE = 4
LOG_ERROR = DETECTION_NAMES.index("log_position_error")


def detections(label: Int64, error_deg: float = 0.05) -> tuple[Evidence, Int64, pd.DataFrame]:
    """Return evidence, partners and truth: sources in an order of their own, found 1 deg off."""
    n = len(label)
    evidence, _ = classed_evidence(n, 1)
    detection = evidence.detection.copy()
    detection[:, LOG_ERROR] = np.log10(error_deg)
    rng = np.random.default_rng(2)
    source = np.where(label < FAKE, rng.permutation(n + 3)[:n], -1)
    truth = pd.DataFrame(
        {"lon_deg": rng.uniform(0, 360, n + 3), "lat_deg": rng.uniform(-89, 89, n + 3)}
    )
    true = label < FAKE
    lat = np.where(true, truth["lat_deg"].to_numpy()[source] - 1.0, 0.0)
    return changed(evidence, detection=detection, lat_deg=lat), source, truth


def with_copies(config: Config, copies: int) -> Config:
    section = config.evidence.model_copy(update={"jittered_copies": copies})
    return config.model_copy(update={"evidence": section})


def times(result: Recentred, label: Int64) -> list[float]:
    """Return how often each true positive of a class is measured again."""
    again = np.bincount(result.rows, minlength=len(label))
    return [float(np.mean(again[label == k])) for k in range(5) if np.any(label == k)]


def test_rare_classes_get_copies(config2: Config) -> None:
    label = np.repeat(np.arange(5), [60, 20, 7, 1, 40])
    evidence, source, truth = detections(label)
    # Up to the most frequent class, and no more than the setting: 60, 60 of 20, 21 of 7, 3 of 1.
    for copies, wanted in ((2, [0, 2, 2, 2, 0]), (9, [0, 2, 7, 9, 0]), (0, [0, 0, 0, 0, 0])):
        result = recentred(evidence, label, source, truth, with_copies(config2, copies), 3)
        assert times(result, label) == wanted
        assert len(result.at[0]) == len(result.at[1]) == len(result.rows)
    assert result.rows.dtype == np.int64


def test_false_detections_and_unmatched_ones_are_not_repeated(config2: Config) -> None:
    label = np.repeat([0, 1, FAKE], [30, 5, 200])
    evidence, source, truth = detections(label)
    source = np.where(np.arange(len(label)) == 30, -1, source)
    result = recentred(evidence, label, source, truth, config2, 3)
    assert set(result.rows.tolist()) == {31, 32, 33, 34}


def test_classes_that_are_absent(config2: Config) -> None:
    label = np.repeat([2, FAKE], [5, 3])
    evidence, source, truth = detections(label)
    assert len(recentred(evidence, label, source, truth, config2, 3).rows) == 0
    for label in (np.full(4, FAKE), np.zeros(0, np.int64)):
        evidence, source, truth = detections(label)
        result = recentred(evidence, label, source, truth, config2, 3)
        assert result.rows.tolist() == result.at[0].tolist() == result.at[1].tolist() == []


@pytest.mark.parametrize("error_deg", [0.02, 0.3])
def test_places_scatter_by_the_position_error_around_the_truth(
    config2: Config, error_deg: float
) -> None:
    label = np.repeat([0, 1], [1200, 400])
    evidence, source, truth = detections(label, error_deg)
    result = recentred(evidence, label, source, truth, config2, 3)
    assert len(result.rows) == 800
    true = truth.iloc[source[result.rows]]
    place = unit_vectors(true["lon_deg"].to_numpy(), true["lat_deg"].to_numpy())
    away = separation_deg(unit_vectors(*result.at), place)
    # Two axes of that scatter: the mean square is twice its square; 800 of them, 3.5 %.
    assert np.mean(away**2) == pytest.approx(2 * error_deg**2, rel=0.12)
    assert np.median(away) == pytest.approx(error_deg * np.sqrt(2 * np.log(2)), rel=0.1)
    # Around the truth: the detections lie a degree to the south.
    north = result.at[1] - true["lat_deg"].to_numpy()
    assert abs(np.mean(north)) < 4 * error_deg / np.sqrt(800)
    # Each copy of a detection is another outcome.
    assert len(np.unique(result.at[0])) == 800


def test_places_depend_on_seed_and_sky_alone(config2: Config) -> None:
    label = np.repeat([0, 1], [40, 10])
    evidence, source, truth = detections(label)

    def at(config: Config, sky: int) -> np.ndarray:
        return np.array(recentred(evidence, label, source, truth, config, sky).at)

    first = at(config2, 3)
    assert np.array_equal(at(config2, 3), first)
    assert (at(config2, 4) != first).all()
    assert (at(config2.model_copy(update={"seed": 1}), 3) != first).all()
