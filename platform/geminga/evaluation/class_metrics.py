"""Classified candidates, and which of their classes are to be told apart.

Two mixes of classes are judged. The *natural* one is that of the candidates themselves, answered
with the natural prior: what a user of the catalogue meets. In the *balanced* one every true class
weighs the same, answered with the flat prior: how well classes are told apart, whatever their
numbers. Pairs and groups of classes are decided by the flat prior too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from geminga.arrays import Bool, Float64, Int64
from geminga.classes import FAKE
from geminga.errors import InputError
from geminga.evaluation.bootstrap import Units


@dataclass(frozen=True)
class Comparison:
    """Two groups of classes that are to be told apart.

    Attributes
    ----------
    name : str
        Heading.
    first, second : tuple of str
        Classes of each.
    s1_cut : float
        Only sources of a larger true flux (1-1000 GeV, ph/cm2/s) are asked.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    s1_cut: float = 0.0

    def fits(self, classes: Sequence[str]) -> bool:
        """Return whether all its classes are among these."""
        return set(self.first) | set(self.second) <= set(classes)


LAT_COMPARISONS = (
    Comparison("BLL against FSRQ, S1 > 5e-10", ("BLL",), ("FSRQ",), 5e-10),
    Comparison("BLL against FSRQ", ("BLL",), ("FSRQ",)),
    Comparison("PSR against PWN+SNR, S1 > 1e-9", ("PSR",), ("PWN+SNR",), 1e-9),
    Comparison("PSR against PWN+SNR", ("PSR",), ("PWN+SNR",)),
    Comparison("AGN against galactic", ("BLL", "FSRQ"), ("PSR", "PWN+SNR")),
    Comparison("PSR against AGN", ("PSR",), ("BLL", "FSRQ")),
)
"""What is asked of LAT classifications; each applies where its classes exist."""


def comparisons_of(classes: Sequence[str]) -> tuple[Comparison, ...]:
    """Return the standard comparisons of these classes, then their remaining pairs, uncut.

    Parameters
    ----------
    classes : sequence of str
        May hold FAKE, which is compared with nothing here.
    """
    true = [name for name in classes if name != FAKE]
    standard = [c for c in LAT_COMPARISONS if c.fits(true)]
    known = {frozenset((c.first, c.second)) for c in standard if c.s1_cut == 0}
    pairs = [
        Comparison(f"{a} against {b}", (a,), (b,))
        for a, b in combinations(true, 2)
        if frozenset(((a,), (b,))) not in known
    ]
    return (*standard, *pairs)


@dataclass(frozen=True, eq=False)
class Classified:
    """Candidates with their true class and what a classifier says of them.

    Attributes
    ----------
    class_names : tuple of str
        The K classes; FAKE, if there, comes last. Ceilings have none.
    sky : Int64 (n,)
        Sky of each candidate.
    label : Int64 (n,)
        True class.
    probabilities, probabilities_flat : Float64 (n, K)
        With the natural prior, and as if all classes were equally common.
    s1_true : Float64 (n,)
        True photon flux 1-1000 GeV, ph/cm2/s; NaN for FAKE.
    lat_deg : Float64 (n,)
        Galactic latitude.
    lon_deg : Float64 (n,), optional
        Needed for bootstrap errors on few skies only.
    unlike : Float64 (n,), optional
        How unlike any class, as a quantile of the training detections.
    ambiguous : Bool (n,), optional
        Whether the second class is nearly as probable as the first.
    """

    class_names: tuple[str, ...]
    sky: Int64
    label: Int64
    probabilities: Float64
    probabilities_flat: Float64
    s1_true: Float64
    lat_deg: Float64
    lon_deg: Float64 | None = None
    unlike: Float64 | None = None
    ambiguous: Bool | None = None

    def __post_init__(self) -> None:
        n, k = len(self.label), len(self.class_names)
        for name in ("probabilities", "probabilities_flat"):
            values = np.asarray(getattr(self, name))
            if values.shape != (n, k):
                raise ValueError(f"classified: {name} {values.shape}, not {(n, k)}")
            off = ~(np.abs(values.sum(axis=1) - 1.0) < 1e-3) | (values < 0).any(axis=1)
            if off.any():
                raise InputError(
                    f"{name} of candidate {int(np.argmax(off))}",
                    f"{values[np.argmax(off)].tolist()} are no shares of one",
                    "classify the candidates anew",
                )
        for name in ("sky", "s1_true", "lat_deg", "lon_deg", "unlike", "ambiguous"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != (n,):
                raise ValueError(f"classified: {name} {np.shape(values)}, not {(n,)}")
        if n and not 0 <= self.label.min() <= self.label.max() < k:
            raise InputError(
                "true classes",
                f"{self.label.min()} to {self.label.max()} for {k} classes",
                "label the candidates with the classes of the classifier",
            )
        if FAKE in self.class_names[:-1] or len(set(self.class_names)) != k:
            raise ValueError(f"classified: classes {self.class_names}")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def has_fake(self) -> bool:
        """Whether FAKE is one of the classes."""
        return bool(self.class_names) and self.class_names[-1] == FAKE

    @property
    def true_classes(self) -> tuple[str, ...]:
        """Classes without FAKE."""
        return tuple(name for name in self.class_names if name != FAKE)

    def take(self, rows: Int64 | Bool) -> Classified:
        """Return some candidates."""
        names = ("sky", "label", "probabilities", "probabilities_flat", "s1_true", "lat_deg")
        kept = {name: getattr(self, name)[rows] for name in names}
        for name in ("lon_deg", "unlike", "ambiguous"):
            values = getattr(self, name)
            kept[name] = None if values is None else values[rows]
        return replace(self, **kept)

    def units(self, units: Units, skies: Int64) -> Int64:
        """Return the bootstrap's unit of each candidate.

        Parameters
        ----------
        units : Units
        skies : Int64
            Every sky, rising; its place is its number among the units.
        """
        lon = np.zeros(len(self)) if self.lon_deg is None else self.lon_deg
        place = np.searchsorted(skies, self.sky)
        return units.of(pd.DataFrame({"sky": place, "lon_deg": lon, "lat_deg": self.lat_deg}))
