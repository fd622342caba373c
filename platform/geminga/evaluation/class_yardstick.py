"""The yardstick of classes: classifiers side by side, with the best that can be beside each figure.

Errors are the scatter over skies drawn with replacement, the same draws for every classifier and
ceiling (`geminga.evaluation.bootstrap`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.errors import InputError
from geminga.evaluation.bootstrap import Bootstrapped, Estimate, Units, bootstrap, make_units
from geminga.evaluation.class_ceilings import with_measured_fake
from geminga.evaluation.class_goals import COMMON_GOALS, LAT_GOALS, Goal, Judged
from geminga.evaluation.class_metrics import Classified, Comparison, comparisons_of
from geminga.evaluation.class_parts import KEPT_CURVE, CalibrationFigures, PartFigures
from geminga.evaluation.class_results import (
    ClassFigures,
    ClassResult,
    ClassRow,
    Flagged,
    RangeFigures,
    Reliability,
)
from geminga.evaluation.working_points import LATITUDES, Latitude
from geminga.evaluation.yardstick import flux_edges

UNLIKE = 0.99
"""Quantile of the training detections beyond which a candidate is called unlike."""

FEWEST_CLAIMS = 10
"""Candidates that a point of a reliability curve stands for at least."""

_RATIOS = ("balanced_accuracy/", "auc/", "macro_f1", "recall_true", "f1_true")
"""What a ceiling is compared in; ``macro_f1`` with FAKE through `with_measured_fake`."""


@dataclass(frozen=True)
class ClassSettings:
    """How classifiers are measured.

    Attributes
    ----------
    comparisons : tuple of Comparison, optional
        Default: `comparisons_of` the classes.
    s1_edges : tuple of float
        Bins of true flux, ph/cm2/s; the end bins take what lies beyond.
    latitudes : tuple of Latitude
        Parts of the sky.
    fewest : int
        Candidates of a class below which it is left out of a range of flux or latitude.
    bins : int
        Of the calibration.
    goals : tuple of Goal
        Rows of the leading table; those of figures that do not exist are left out.
    resamples, seed, region_nside, fewest_skies
        Of the bootstrap (`geminga.evaluation.bootstrap.make_units`).
    """

    comparisons: tuple[Comparison, ...] | None = None
    s1_edges: tuple[float, ...] = flux_edges(1e-11, 1e-7, 4)
    latitudes: tuple[Latitude, ...] = LATITUDES[1:4]
    fewest: int = 5
    bins: int = 15
    goals: tuple[Goal, ...] = (*LAT_GOALS, *COMMON_GOALS)
    resamples: int = 200
    seed: int = 0
    region_nside: int = 8
    fewest_skies: int = 5


def measure_classes(
    classifiers: Mapping[str, Classified],
    ceilings: Mapping[str, Classified] | None = None,
    settings: ClassSettings | None = None,
    title: str = "",
) -> ClassResult:
    """Measure classifiers and ceilings.

    Parameters
    ----------
    classifiers : mapping
        Name of each to the candidates it classified. Those that FAKE is counted for share one set
        of classes.
    ceilings : mapping, optional
        `geminga.evaluation.class_ceilings.measure_ceilings` of the same candidates.
    settings : ClassSettings, optional
        The defaults if not given.
    title : str
        Heading.

    Raises
    ------
    InputError
        If there is no classifier or no candidate, classes or candidates differ, or a comparison
        names an unknown class.
    """
    settings, ceilings = settings or ClassSettings(), ceilings or {}
    first = _checked(classifiers, ceilings)
    comparisons = comparisons_asked(first, settings)
    skies = np.unique(first.sky)
    units = class_units(first, len(skies), settings)
    measure = _Measure(units, skies, comparisons, settings)
    tops = {name: measure.ranges(c) for name, c in ceilings.items()}
    # FAKE as the first (the one that ships) recognises it: a ceiling has one value for all.
    if first.has_fake:
        for name, c in ceilings.items():
            joined = measure.ranges(with_measured_fake(c, first), compared=False)
            for part, result in joined.items():
                if part in tops[name]:
                    tops[name][part] = _with_macro(tops[name][part], result)
    return ClassResult(
        title,
        units.description,
        len(skies),
        tuple(c.name for c in comparisons),
        tuple(g for g in settings.goals if _exists(g.figure, first, comparisons)),
        {name: measure.figures(c, measure.ranges(c), tops) for name, c in classifiers.items()},
        {name: measure.figures(c, tops[name], {}) for name, c in ceilings.items()},
    )


_Ranges = dict[tuple[str, int], Bootstrapped]


class _Measure:
    """Figures of the whole, of ranges of flux (``s1``) and of latitude (``b``)."""

    def __init__(
        self,
        units: Units,
        skies: Int64,
        comparisons: Sequence[Comparison],
        settings: ClassSettings,
    ) -> None:
        self._units, self._skies, self._comparisons = units, skies, comparisons
        self._uncut = [c for c in comparisons if c.s1_cut == 0]
        self._settings = settings

    def rows(self, c: Classified) -> dict[tuple[str, int], Bool]:
        """Return which candidates are in each range, without classes too rare there."""
        result: dict[tuple[str, int], Bool] = {("all", 0): np.ones(len(c), dtype=bool)}
        edges = np.array(self._settings.s1_edges)
        inner = np.searchsorted(edges[1:-1], c.s1_true, side="right")
        true = c.label < len(c.true_classes)
        for k in range(len(edges) - 1):
            result["s1", k] = (inner == k) & true & np.isfinite(c.s1_true)
        for k, latitude in enumerate(self._settings.latitudes):
            result["b", k] = latitude.holds(c.lat_deg)
        for key, held in result.items():
            if key[0] != "all":
                common = np.bincount(c.label[held], minlength=len(c.class_names))
                held &= common[c.label] >= self._settings.fewest
        return {key: held for key, held in result.items() if held.any() or key[0] == "all"}

    def ranges(self, c: Classified, compared: bool = True) -> _Ranges:
        """Return the figures of the whole and of each range, with their resamples."""
        unit, number = c.units(self._units, self._skies), self._units.weights.shape[1]
        result = {}
        for key, rows in self.rows(c).items():
            whole = key[0] == "all"
            asked = self._comparisons if whole else self._uncut
            part = PartFigures(
                c.take(rows), unit[rows], number, asked if compared else (), areas=whole
            )
            result[key] = bootstrap(part.figures, self._units)
        return result

    def figures(self, c: Classified, ranges: _Ranges, tops: Mapping[str, _Ranges]) -> ClassFigures:
        """Return all figures of one classifier or ceiling."""
        calibration = bootstrap(
            CalibrationFigures(
                c, c.units(self._units, self._skies), self._units.weights.shape[1],
                self._settings.bins,
            ).figures,
            self._units,
        )  # fmt: skip
        whole = ranges["all", 0]
        above = {name: top["all", 0] for name, top in tops.items()}
        curve = "fake_curve" in whole.value
        return ClassFigures(
            c.class_names,
            _scalars(whole, above) | _scalars(calibration, {}),
            _class_rows(c, whole, calibration, above),
            tuple(tuple(int(v) for v in row) for row in whole.value["confusion_natural"]),
            _table(whole.value["confusion"]),
            self._named(c, ranges, tops, "s1"),
            self._named(c, ranges, tops, "b"),
            _reliability(c.class_names, calibration),
            KEPT_CURVE if curve else (),
            _floats(whole.value["fake_curve"]) if curve else (),
            _floats(whole.error("fake_curve")) if curve else (),
            _flagged(c),
        )

    def _named(
        self, c: Classified, ranges: _Ranges, tops: Mapping[str, _Ranges], kind: str
    ) -> tuple[RangeFigures, ...]:
        found, rows = [], self.rows(c)
        edges = self._settings.s1_edges
        for (given, k), result in ranges.items():
            if given != kind:
                continue
            latitude = self._settings.latitudes[k] if kind == "b" else None
            low, high = (
                (latitude.low_deg, latitude.high_deg) if latitude else (edges[k], edges[k + 1])
            )
            above = {name: top[kind, k] for name, top in tops.items() if (kind, k) in top}
            found.append(
                RangeFigures(
                    latitude.name if latitude else f"{low:.2g} to {high:.2g}",
                    low,
                    high,
                    _numbers(c.label[rows[kind, k]], len(c.class_names)),
                    _scalars(result, above),
                    _table(result.value["confusion"]),
                )
            )
        return tuple(found)


def _checked(
    classifiers: Mapping[str, Classified], ceilings: Mapping[str, Classified]
) -> Classified:
    if not classifiers:
        raise InputError("classifiers", "none given", "name at least one")
    first = next(iter(classifiers.values()))
    if not len(first):
        raise InputError("classifiers", "no candidate", "classify the candidates of a test sky")
    for name, one in classifiers.items():
        if one.class_names != first.class_names:
            raise InputError(
                name,
                f"tells apart {', '.join(one.class_names)}",
                f"the first has {', '.join(first.class_names)}: train both on the same classes",
            )
        if not (np.array_equal(one.sky, first.sky) and np.array_equal(one.label, first.label)):
            raise InputError(name, "judged other candidates", "classify the same list with each")
    for name, one in ceilings.items():
        if one.class_names != first.true_classes:
            raise InputError(
                name,
                f"is a ceiling of {', '.join(one.class_names)}",
                f"measure it for {', '.join(first.true_classes)}",
            )
    return first


def comparisons_asked(c: Classified, settings: ClassSettings) -> tuple[Comparison, ...]:
    """Return the comparisons of these settings, or the standard ones of the classes.

    Raises
    ------
    InputError
        If one names an unknown class.
    """
    true = c.true_classes
    if settings.comparisons is None:
        return comparisons_of(true)
    for one in settings.comparisons:
        if not one.fits(true):
            raise InputError("comparison", repr(one.name), f"the classes are {', '.join(true)}")
    return settings.comparisons


def class_units(c: Classified, skies: int, settings: ClassSettings) -> Units:
    """Return what is drawn with replacement where candidates lie on this number of skies."""
    few = skies < max(settings.fewest_skies, 2)
    if few and c.lon_deg is None:
        # Without directions there are no regions to draw: whole skies, or no errors for one.
        resamples = settings.resamples if skies > 1 else 0
        return make_units(skies, resamples, settings.seed, settings.region_nside, 2)
    return make_units(
        skies, settings.resamples, settings.seed, settings.region_nside, settings.fewest_skies
    )


def _exists(figure: str, c: Classified, comparisons: Sequence[Comparison]) -> bool:
    kind, _, name = figure.partition("/")
    if name:
        return any(one.name == name for one in comparisons)
    return c.has_fake or kind not in ("macro_f1", "fake_recall")


def _with_macro(ceiling: Bootstrapped, joined: Bootstrapped) -> Bootstrapped:
    """Add macro F1 over all classes from the ceiling joined with a classifier's FAKE."""
    if "macro_f1" not in joined.value:
        return ceiling
    return Bootstrapped(
        {**ceiling.value, "macro_f1": joined.value["macro_f1"]},
        {**ceiling.draws, "macro_f1": joined.draws["macro_f1"]},
        ceiling.inflation,
    )


def _judged(
    name: str, result: Bootstrapped, above: Mapping[str, Bootstrapped], k: int | None = None
) -> Judged:
    """Return a figure, or entry k of it, with what is above it."""
    at = () if k is None else k
    compared = {
        key: top
        for key, top in above.items()
        if name.startswith(_RATIOS) and name in top.value and not name.endswith("_natural")
    }
    ratios = {key: result.ratio(top, name) for key, top in compared.items()}
    return Judged(
        float(result.value[name][at]),
        float(result.error(name)[at]),
        {
            key: Estimate(float(top.value[name][at]), float(top.error(name)[at]))
            for key, top in compared.items()
        },
        {key: Estimate(float(v[at]), float(e[at])) for key, (v, e) in ratios.items()},
    )


def _scalars(result: Bootstrapped, above: Mapping[str, Bootstrapped]) -> dict[str, Judged]:
    names = [name for name, value in result.value.items() if value.ndim == 0]
    return {name: _judged(name, result, above) for name in names}


_OF_CLASSES = ("precision", "recall", "f1", "precision_natural", "recall_natural", "f1_natural")
_OF_TRUE_CLASSES = ("recall_true", "f1_true")
_OF_CALIBRATION = {"ece": "ece_class", "brier": "brier"}


def _class_rows(
    c: Classified,
    whole: Bootstrapped,
    calibration: Bootstrapped,
    above: Mapping[str, Bootstrapped],
) -> dict[str, ClassRow]:
    numbers = _numbers(c.label, len(c.class_names))
    rows = {}
    for k, name in enumerate(c.class_names):
        figures = {key: _judged(key, whole, {}, k) for key in _OF_CLASSES}
        if k < len(c.true_classes):
            figures |= {key: _judged(key, whole, above, k) for key in _OF_TRUE_CLASSES}
        figures |= {key: _judged(of, calibration, {}, k) for key, of in _OF_CALIBRATION.items()}
        rows[name] = ClassRow(numbers[k], figures)
    return rows


def _reliability(classes: Sequence[str], result: Bootstrapped) -> dict[str, Reliability]:
    claim, share, n = (result.value[f"reliability/{x}"] for x in ("claim", "share", "n"))
    error = result.error("reliability/share")
    found = {}
    for k, name in enumerate(classes):
        held = n[k] >= FEWEST_CLAIMS
        found[name] = Reliability(
            _floats(claim[k][held]),
            _floats(share[k][held]),
            _floats(error[k][held]),
            tuple(int(v) for v in n[k][held]),
        )
    return found


def _flagged(c: Classified) -> Flagged:
    right = c.probabilities.argmax(axis=1) == c.label
    nan = math.nan

    def mean(values: Bool) -> float:
        return float(values.mean()) if len(values) else nan

    unlike = {}
    if c.unlike is not None:
        for k, name in enumerate(c.class_names):
            unlike[name] = mean(c.unlike[c.label == k] > UNLIKE)
    if c.ambiguous is None:
        return Flagged(nan, nan, nan, unlike)
    return Flagged(mean(c.ambiguous), mean(right[~c.ambiguous]), mean(right[c.ambiguous]), unlike)


def _numbers(label: Int64, k: int) -> tuple[int, ...]:
    return tuple(int(v) for v in np.bincount(label, minlength=k))


def _table(values: Float64) -> tuple[tuple[float, ...], ...]:
    return tuple(_floats(row) for row in values)


def _floats(values: Float64) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
