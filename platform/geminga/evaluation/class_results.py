"""What the yardstick of classes measures, as a tree of plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from geminga.errors import InputError
from geminga.evaluation.class_goals import Goal, Judged
from geminga.evaluation.summary import plain, slug


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Attributes
    ----------
    n : int
        Candidates that truly belong to it.
    figures : dict of Judged
        ``recall``, ``precision`` and ``f1`` on the balanced mix, the same with ``_natural`` on the
        natural one, ``recall_true`` and ``f1_true`` among true sources alone, ``brier``, ``ece``.
    """

    n: int
    figures: dict[str, Judged]


@dataclass(frozen=True)
class RangeFigures:
    """Candidates within a range of true flux (no FAKE) or of latitude.

    Attributes
    ----------
    name : str
        Heading.
    low, high : float
        Edges: ph/cm2/s or degrees.
    n : tuple of int
        Candidates of each class.
    figures : dict of Judged
        As in `ClassFigures`, without those of calibration.
    confusion : tuple of tuple of float
        Shares of each row [true][predicted], balanced mix; NaN without members.
    """

    name: str
    low: float
    high: float
    n: tuple[int, ...]
    figures: dict[str, Judged]
    confusion: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Reliability:
    """Claimed probability against what came true, in bins of equal width that hold enough."""

    claim: tuple[float, ...]
    share: tuple[float, ...]
    error: tuple[float, ...]
    n: tuple[int, ...]


@dataclass(frozen=True)
class Flagged:
    """What the flags of a classifier say; NaN where it has none.

    Attributes
    ----------
    ambiguous : float
        Share of the candidates flagged.
    accuracy_clear, accuracy_ambiguous : float
        Accuracy (natural mix) of the others and of the flagged.
    unlike : dict of float
        By class, the share that is more unlike any class than 99 % of the training detections.
    """

    ambiguous: float
    accuracy_clear: float
    accuracy_ambiguous: float
    unlike: dict[str, float]


@dataclass(frozen=True)
class ClassFigures:
    """All figures of one classifier, or of one ceiling.

    Attributes
    ----------
    classes : tuple of str
        Its classes.
    figures : dict of Judged
        ``balanced_accuracy/<comparison>``, ``auc/<comparison>``; ``macro_f1`` over all classes with
        FAKE, ``macro_f1_true`` over the true ones (true sources alone, FAKE no answer), balanced
        mix both; ``macro_f1_natural``, ``accuracy_natural``; ``fake_recall`` (share of FAKE above
        the probability of FAKE that 95 % of the true sources stay below); ``ece`` of the most
        probable class, ``ece_classes`` the mean over the classes; ``brier_sum``.
    rows : dict of ClassRow
        By class.
    natural : tuple of tuple of int
        Numbers [true][predicted], natural mix and prior.
    confusion : tuple of tuple of float
        Shares of each row, balanced mix.
    by_flux, by_latitude : tuple of RangeFigures
    reliability : dict of Reliability
        By class.
    fake_kept, fake_recognised, fake_error : tuple of float
        Share of the FAKE recognised where a share of the true sources is kept; empty for ceilings.
    flags : Flagged
    """

    classes: tuple[str, ...]
    figures: dict[str, Judged]
    rows: dict[str, ClassRow]
    natural: tuple[tuple[int, ...], ...]
    confusion: tuple[tuple[float, ...], ...]
    by_flux: tuple[RangeFigures, ...]
    by_latitude: tuple[RangeFigures, ...]
    reliability: dict[str, Reliability]
    fake_kept: tuple[float, ...]
    fake_recognised: tuple[float, ...]
    fake_error: tuple[float, ...]
    flags: Flagged


@dataclass(frozen=True)
class ClassResult:
    """Classifiers side by side, with the ceilings.

    Attributes
    ----------
    title, errors : str
        What was measured, and what the errors are.
    skies : int
        Number of skies.
    comparisons : tuple of str
        Names of the comparisons; those without a cut in flux are also given by flux and latitude.
    goals : tuple of Goal
        Rows of the leading table.
    classifiers, ceilings : dict of ClassFigures
        By name, as given.
    """

    title: str
    errors: str
    skies: int
    comparisons: tuple[str, ...]
    goals: tuple[Goal, ...]
    classifiers: dict[str, ClassFigures]
    ceilings: dict[str, ClassFigures]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file; numbers that are not finite become text.

        ``order`` names classifiers and ceilings in their order, which a file sorted by name loses.
        """
        tree: dict[str, Any] = plain(asdict(self))
        tree["order"] = {
            "classifiers": list(self.classifiers),
            "ceilings": list(self.ceilings),
        }
        return tree

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], where: str = "classes") -> ClassResult:
        """Rebuild a result from `to_json`'s values, read from `where`.

        Raises
        ------
        InputError
            If a figure is missing or of another kind.
        """
        try:
            given = {k: v for k, v in tree.items() if k != "order"}
            for kind in ("classifiers", "ceilings"):
                given[kind] = {name: _in_order(given[kind][name]) for name in tree["order"][kind]}
            return TypeAdapter(cls).validate_python(given)
        except (ValidationError, KeyError, TypeError) as error:
            problem = f"is no result of classes ({' '.join(str(error).split())[:120]})"
            raise InputError(where, problem, "write it anew") from error

    def metrics(self) -> dict[str, float]:
        """Return figures, finite ones alone, under flat names as MLflow takes them.

        For example ``evidence_network/macro_f1``, the same with ``_error``, and
        ``evidence_network/macro_f1/of_noisy_expectation`` (the ratio) with ``_error``;
        ``evidence_network/BLL/brier``; ``ceiling/noisy_expectation/macro_f1_true``.
        """
        flat: dict[str, float] = {}
        named = [(slug(name), one) for name, one in self.classifiers.items()]
        named += [(f"ceiling/{slug(name)}", one) for name, one in self.ceilings.items()]
        for start, one in named:
            for key, judged in one.figures.items():
                flat |= _metrics(f"{start}/{_key(key)}", judged)
            for class_name, row in one.rows.items():
                for key, judged in row.figures.items():
                    flat |= _metrics(f"{start}/{slug(class_name)}/{_key(key)}", judged)
            flat[f"{start}/ambiguous"] = one.flags.ambiguous
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}


def _in_order(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a classifier with those of its classes in their order."""
    tables = {
        kind: {name: tree[kind][name] for name in tree["classes"]}
        for kind in ("rows", "reliability")
    }
    return {**tree, **tables}


def _key(key: str) -> str:
    return "/".join(slug(part) for part in key.split("/"))


def _metrics(name: str, judged: Judged) -> dict[str, float]:
    flat = {name: judged.value, f"{name}_error": judged.error}
    for ceiling, ratio in judged.ratios.items():
        flat[f"{name}/of_{slug(ceiling)}"] = ratio.value
        flat[f"{name}/of_{slug(ceiling)}_error"] = ratio.error
    return flat
