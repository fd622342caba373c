from __future__ import annotations

import json

import numpy as np
import pytest

from geminga.errors import InputError
from geminga.evaluation.confusion import ConfusionCounts, count_confusion, empty_confusion

CLASSES = ("AGN", "PSR")  # FAKE is index 2


def small() -> ConfusionCounts:
    true = np.array([0] * 8 + [1] * 4 + [2] * 2)
    given = np.array([0] * 6 + [1, 2] + [1] * 2 + [0] * 2 + [2, 0])
    return count_confusion(true, given, CLASSES, ["PSR", "PSR", "AGN"])


def test_counts_and_balanced_rows() -> None:
    confusion = small()
    assert confusion.classes == ("AGN", "PSR", "FAKE")
    assert confusion.natural().tolist() == [[6, 1, 1], [2, 2, 0], [1, 0, 1]]
    assert confusion.missed.tolist() == [1, 2, 0]
    np.testing.assert_allclose(confusion.balanced().sum(axis=1), 1.0)
    np.testing.assert_allclose(confusion.recall(), [0.75, 0.5, 0.5])
    np.testing.assert_allclose(confusion.precision(), [6 / 9, 2 / 3, 1 / 2])
    assert confusion.balanced_accuracy() == pytest.approx((0.75 + 0.5 + 0.5) / 3)


def test_class_accuracy_weighs_the_other_classes_alike() -> None:
    # AGN: recall 0.75; given to 0.5 of PSR and 0.5 of FAKE.
    np.testing.assert_allclose(small().class_accuracy()[0], (0.75 + 1 - 0.5) / 2)


def test_balanced_mix_does_not_see_how_common_a_class_is() -> None:
    confusion = small()
    common = ConfusionCounts(
        confusion.classes, confusion.counts * np.array([[100], [1], [7]]), confusion.missed
    )
    np.testing.assert_allclose(common.balanced(), confusion.balanced())
    np.testing.assert_allclose(common.class_accuracy(), confusion.class_accuracy())


def test_guessing_is_a_half() -> None:
    confusion = ConfusionCounts(("AGN", "PSR", "FAKE"), np.full((3, 3), 5), np.zeros(3, int))
    np.testing.assert_allclose(confusion.class_accuracy(), 0.5)


def test_classes_without_members() -> None:
    empty = empty_confusion(CLASSES)
    assert np.isnan(empty.balanced()).all()
    assert np.isnan(empty.balanced_accuracy())
    assert np.isnan(empty.class_accuracy()).all()
    only = count_confusion(np.array([0, 0]), np.array([0, 1]), CLASSES)
    assert only.balanced_accuracy() == 0.5


def test_merge() -> None:
    confusion = small()
    total = confusion + confusion + empty_confusion(CLASSES)
    assert total.counts.tolist() == (2 * confusion.counts).tolist()
    assert total.missed.tolist() == [2, 4, 0]
    with pytest.raises(ValueError, match="do not add"):
        confusion + empty_confusion(("BLL",))


def test_groups() -> None:
    grouped = small().grouped({"source": ["AGN", "PSR"], "FAKE": ["FAKE"]})
    assert grouped.counts.tolist() == [[11, 1], [1, 1]]
    assert grouped.missed.tolist() == [3, 0]
    with pytest.raises(ValueError, match="must be in one"):
        small().grouped({"source": ["AGN"]})


@pytest.mark.parametrize(
    ("true", "given", "missed", "message"),
    [
        ([0, 3], [0, 0], [], r"class indices 0\.\.3"),
        ([0, -1], [0, 0], [], r"class indices -1\.\.0"),
        ([0], [0, 0], [], "true and"),
        ([0], [0], ["BLL"], r"unknown classes \['BLL'\]"),
    ],
)
def test_bad_classes(true: list[int], given: list[int], missed: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_confusion(np.array(true), np.array(given), CLASSES, missed)


def test_json() -> None:
    confusion = small()
    again = ConfusionCounts.from_json(json.loads(json.dumps(confusion.to_json())))
    assert again.to_json() == confusion.to_json()
    with pytest.raises(InputError, match="holds no confusion"):
        ConfusionCounts.from_json({"classes": ["AGN"]})
    with pytest.raises(InputError, match="3 classes but counts"):
        ConfusionCounts.from_json({**confusion.to_json(), "counts": [[1]]})
