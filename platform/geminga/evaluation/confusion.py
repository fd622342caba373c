"""Confusion of classes, on the natural mix of sources and on a balanced one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geminga.arrays import Float64, Int64
from geminga.classes import with_fake
from geminga.errors import InputError


@dataclass(frozen=True, eq=False)
class ConfusionCounts:
    """How often each true class was given each class; merges with `+`.

    Attributes
    ----------
    classes : tuple of str
        The K classes of both axes, FAKE last.
    counts : Int64 (K, K)
        [true class, predicted class]; the row FAKE holds detections without a source.
    missed : Int64 (K,)
        True sources no detection was matched with, by class (0 for FAKE).
    """

    classes: tuple[str, ...]
    counts: Int64
    missed: Int64

    def __add__(self, other: ConfusionCounts) -> ConfusionCounts:
        """Merge the counts of two parts of the sky.

        Raises
        ------
        ValueError
            If their classes differ.
        """
        if self.classes != other.classes:
            raise ValueError(f"classes {self.classes} and {other.classes} do not add")
        return ConfusionCounts(self.classes, self.counts + other.counts, self.missed + other.missed)

    def natural(self) -> Int64:
        """Return the counts as found, with the classes as common as they are on the sky."""
        return self.counts

    def balanced(self) -> Float64:
        """Return each row divided by its sum: every true class weighs the same; NaN if empty."""
        total = self.counts.sum(axis=1, keepdims=True)
        result = np.full(self.counts.shape, np.nan)
        np.divide(self.counts, total, out=result, where=total > 0)
        return result

    def recall(self) -> Float64:
        """Return the share of each true class that was recognised, shape (K,)."""
        return np.diagonal(self.balanced()).copy()

    def precision(self) -> Float64:
        """Return the share of each predicted class that is right on the natural mix, (K,)."""
        total = self.counts.sum(axis=0)
        result = np.full(len(total), np.nan)
        np.divide(np.diagonal(self.counts), total, out=result, where=total > 0)
        return result

    def class_accuracy(self) -> Float64:
        """Return the balanced accuracy of each class against the rest, shape (K,).

        Mean of the class's recall and of the share of the others not given it, every other class
        weighing the same; 0.5 is chance. NaN without members or without others.
        """
        shares = self.balanced()
        result = np.full(len(self.classes), np.nan)
        full = self.counts.sum(axis=1) > 0
        for k in range(len(self.classes)):
            others = full.copy()
            others[k] = False
            if full[k] and others.any():
                result[k] = (shares[k, k] + 1.0 - shares[others, k].mean()) / 2.0
        return result

    def balanced_accuracy(self) -> float:
        """Return the mean recall over the classes that have members; NaN without any."""
        recall = self.recall()
        return float(np.nanmean(recall)) if np.isfinite(recall).any() else float("nan")

    def grouped(self, groups: Mapping[str, Sequence[str]]) -> ConfusionCounts:
        """Return the confusion of groups of classes, for example AGN = BLL, FSRQ.

        Raises
        ------
        ValueError
            If a class is unknown, or not in exactly one group.
        """
        members = [name for names in groups.values() for name in names]
        if sorted(members) != sorted(self.classes):
            raise ValueError(f"groups hold {members}; each of {self.classes} must be in one")
        join = np.zeros((len(groups), len(self.classes)), dtype=np.int64)
        for row, names in enumerate(groups.values()):
            join[row, [self.classes.index(name) for name in names]] = 1
        return ConfusionCounts(tuple(groups), join @ self.counts @ join.T, join @ self.missed)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
            "missed": self.missed.tolist(),
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], where: str = "confusion") -> ConfusionCounts:
        """Rebuild counts from `to_json`'s values, read from `where`.

        Raises
        ------
        InputError
            If they are incomplete or misshapen.
        """
        try:
            classes = tuple(str(name) for name in tree["classes"])
            counts = np.array(tree["counts"], dtype=np.int64)
            missed = np.array(tree["missed"], dtype=np.int64)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(where, f"holds no confusion ({error})", "write it anew") from error
        k = len(classes)
        if counts.shape != (k, k) or missed.shape != (k,):
            raise InputError(where, f"{k} classes but counts {counts.shape}", "write it anew")
        return cls(classes, counts, missed)


def empty_confusion(classes: Sequence[str]) -> ConfusionCounts:
    """Return the confusion of nothing for these classes and FAKE."""
    names = with_fake(classes)
    k = len(names)
    return ConfusionCounts(names, np.zeros((k, k), np.int64), np.zeros(k, np.int64))


def count_confusion(
    true_class: Int64,
    predicted_class: Int64,
    classes: Sequence[str],
    missed: Sequence[str] = (),
) -> ConfusionCounts:
    """Count how detections were classified.

    Parameters
    ----------
    true_class, predicted_class : Int64 (n,)
        Indices into ``with_fake(classes)``.
    classes : sequence of str
        The astrophysical classes.
    missed : sequence of str
        Class of each true source without a detection.

    Raises
    ------
    ValueError
        If an index or a missed class is unknown.
    """
    names = with_fake(classes)
    k = len(names)
    true_index, predicted = np.asarray(true_class, np.int64), np.asarray(predicted_class, np.int64)
    if true_index.shape != predicted.shape:
        raise ValueError(f"{true_index.shape} true and {predicted.shape} predicted classes")
    for indices in (true_index, predicted):
        if len(indices) and not 0 <= indices.min() <= indices.max() < k:
            raise ValueError(f"class indices {indices.min()}..{indices.max()} for {names}")
    unknown = set(missed) - set(classes)
    if unknown:
        raise ValueError(f"missed sources of unknown classes {sorted(unknown)}; known {classes}")
    counts = np.bincount(true_index * k + predicted, minlength=k * k).reshape(k, k)
    lost = np.bincount([names.index(name) for name in missed], minlength=k) if missed else 0
    return ConfusionCounts(names, counts.astype(np.int64), np.zeros(k, np.int64) + lost)
