"""The levers that `bench_classifier.py` measures, each a row of its table, and how rows are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from geminga.arrays import Bool, Float64
from geminga.classification.evidence import Evidence
from geminga.classification.inputs import BRANCHES
from geminga.errors import InputError
from geminga.evaluation.bootstrap import Bootstrapped, Units, bootstrap, make_units, scatter
from geminga.evaluation.class_metrics import Classified, comparisons_of
from geminga.evaluation.class_parts import CalibrationFigures, PartFigures

BASE = "all branches"
QUICK = "no stamps: detection quantities in their place"
BOOSTED = "gradient boosting on the fitted quantities"
Method = Literal["network", "boosting", "mean", "noise-free", "noisy"]

COLUMNS: dict[str, str] = {
    "balanced_accuracy/BLL against FSRQ, S1 > 5e-10": "BLL / FSRQ, S1 > 5e-10",
    "balanced_accuracy/BLL against FSRQ": "BLL / FSRQ",
    "balanced_accuracy/PSR against PWN+SNR, S1 > 1e-9": "PSR / PWN+SNR, S1 > 1e-9",
    "balanced_accuracy/AGN against galactic": "AGN / galactic",
    "fake_recall": "FAKE at 95 % kept",
    "macro_f1": "macro F1",
    "ece": "calibration error",
}
"""Figures of the table, in the order of its columns, and their headings."""


@dataclass(frozen=True)
class Row:
    """A lever: what a classifier is told, and how it learns.

    `method` is ``network``; ``boosting``; ``mean``, of the rows `BASE` and `BOOSTED`; or a ceiling,
    ``noise-free`` or ``noisy``, from the truth of the same sources. `years` ``errors`` keeps
    their mean error, which knows how many photons there were, and makes every flux the mean. `base` is the row that the
    difference is taken to, `trials` the number of trainings from other starting weights.
    """

    name: str
    prediction: str
    branches: tuple[str, ...] = BRANCHES
    stamps: Literal["both", "narrow", "wide", "none"] = "both"
    detection: bool = True
    years: Literal["likelihood", "summed", "errors", "none"] = "likelihood"
    copies: bool = True
    method: Method = "network"
    base: str = BASE
    trials: int = 1


def plan() -> list[Row]:
    """Return the rows to measure, predictions first written down."""
    image, spectrum, years = BRANCHES
    without = [tuple(b for b in BRANCHES if b != left) for left in BRANCHES]
    rows = [
        Row(BASE, ".85 / .78 / .85 / .95 / .8 / .72", trials=2),
        Row(
            "position alone", "AGN / galactic .85, pairs at chance but for PSR / PWN+SNR .6",
            (years,), "none", False, "none",
        ),
        Row("image branch alone (stamps, detection)", "carries FAKE, pairs .6", (image,)),
        Row("spectrum branch alone", "carries BLL / FSRQ: .03 below all", (spectrum,)),
        Row("years branch alone", "BLL / FSRQ .65 where bright", (years,), trials=2),
        Row(
            "years branch alone, summed years", ".05 below weighted years", (years,),
            years="summed", base="years branch alone", trials=2,
        ),
        Row(
            "years branch alone, mean error without fluxes", "chance but for the position",
            (years,), years="errors", base="years branch alone",
        ),
        Row("image branch left out", "FAKE falls most, by .2", without[0]),
        Row("spectrum branch left out", "BLL / FSRQ falls by .15", without[1]),
        Row("years branch left out", "BLL / FSRQ .02 less where bright", without[2]),
        Row("summed years in place of weighted ones", ".01 less", years="summed"),
        Row("narrow stamps only (3 r68)", "no change", stamps="narrow"),
        Row("wide stamps only (9 r68)", "PSR / PWN+SNR .02 less", stamps="wide"),
        Row(QUICK, "no change but for PSR / PWN+SNR, .02 less", stamps="none", trials=3),
        Row("stamps without detection quantities", "FAKE .1 less", detection=False),
        Row("no jittered copies", "PSR / PWN+SNR .02 less", copies=False),
        Row(
            "no stamps, no years", "BLL / FSRQ .02 less", without[2], "none", base=QUICK, trials=3
        ),
        Row(
            "no stamps, summed years", "BLL / FSRQ .01 less", stamps="none", years="summed",
            base=QUICK, trials=3,
        ),
        Row(
            "no stamps, mean yearly error without fluxes", "as without years", stamps="none",
            years="errors", base=QUICK,
        ),
        Row(BOOSTED, "equal within .01", method="boosting"),
        Row(
            "boosting without years", "BLL / FSRQ .02 less", without[2], years="none",
            method="boosting", base=BOOSTED,
        ),
        Row(
            "boosting with summed years", "BLL / FSRQ .01 less", years="summed",
            method="boosting", base=BOOSTED,
        ),
        Row("mean of network and boosting", ".01 more everywhere", method="mean"),
    ]  # fmt: skip
    for kind, words in (("noisy", "ceiling, noisy"), ("noise-free", "ceiling, noise-free")):
        rows.append(Row(words, "above all rows", method=kind))  # type: ignore[arg-type]
        said = ".02 less" if kind == "noisy" else ".1 less"
        rows.append(
            Row(f"{words}, without years", said, years="none", method=kind, base=words)  # type: ignore[arg-type]
        )
    return rows


def shaped(row: Row, evidence: Evidence, summed: Evidence | None) -> Evidence:
    """Return what a row is told of candidates.

    Parameters
    ----------
    row : Row
    evidence : Evidence
        As measured, narrow scale of each channel first.
    summed : Evidence, optional
        Of the same candidates, with summed years.

    Raises
    ------
    InputError
        If the row needs summed years and there are none, or they are of other candidates.
    """
    n, scales = len(evidence), evidence.stamps.shape[1] // max(evidence.band_flux.shape[1], 1)
    if row.stamps == "none" or not {"image"} & set(row.branches):
        evidence = replace(evidence, stamps=np.zeros((n, 0, 2, 1, 1), np.float32))
    elif row.stamps != "both":
        place = 0 if row.stamps == "narrow" else scales - 1
        evidence = replace(evidence, stamps=evidence.stamps[:, place::scales])
    if not row.detection:
        evidence = replace(evidence, detection=np.full_like(evidence.detection, np.nan))
    if row.years == "none":
        none = np.zeros((n, 0))
        evidence = replace(evidence, year_ratio=none, year_ratio_error=none)
    elif row.years == "errors":
        # The error of a year follows its flux; their mean square is that of the mean flux.
        known = np.isfinite(evidence.year_ratio) & np.isfinite(evidence.year_ratio_error)
        square = np.where(known, evidence.year_ratio_error, 0.0) ** 2
        typical = np.sqrt(square.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
        evidence = replace(
            evidence,
            year_ratio=np.where(known, 1.0, np.nan),
            year_ratio_error=np.where(known, typical[:, None], np.nan),
        )
    elif row.years == "summed":
        if summed is None:
            raise InputError(row.name, "there are no summed years", "measure them: --summed")
        if len(summed) != n or not np.allclose(summed.lon_deg, evidence.lon_deg, atol=1e-9):
            raise InputError(
                "summed years", "are of other candidates", "measure them with the run's settings"
            )
        evidence = replace(
            evidence, year_ratio=summed.year_ratio, year_ratio_error=summed.year_ratio_error
        )
    return evidence


def judge(classified: Classified, units: Units) -> Bootstrapped:
    """Return the figures of the table that these classes have, with resamples of regions."""
    unit = classified.units(units, np.unique(classified.sky))
    number = units.weights.shape[1]
    parts = PartFigures(
        classified, unit, number, comparisons_of(classified.class_names), areas=False
    )
    claims = CalibrationFigures(classified, unit, number)

    def figures(weights: Float64) -> dict[str, Float64]:
        found = parts.figures(weights) | {"ece": claims.figures(weights)["ece"]}
        return {name: value for name, value in found.items() if value.ndim == 0}

    return bootstrap(figures, units)


def mean_of(trials: Sequence[Bootstrapped]) -> Bootstrapped:
    """Return the mean figures of several trainings, draw by draw."""
    first = trials[0]
    return Bootstrapped(
        {k: np.mean([t.value[k] for t in trials], axis=0) for k in first.value},
        {k: np.mean([t.draws[k] for t in trials], axis=0) for k in first.draws},
        first.inflation,
    )


def units_of(skies: int, resamples: int, seed: int) -> Units:
    """Return the resamples that all rows share: regions, for the skies are few."""
    return make_units(skies, resamples, seed, fewest_skies=skies + 1)


def difference(row: Bootstrapped, base: Bootstrapped, name: str) -> tuple[float, float]:
    """Return a figure less that of the base, and its paired error."""
    draws = row.draws[name] - base.draws[name]
    return float(row.value[name] - base.value[name]), float(scatter(draws, row.inflation))


def markdown(
    rows: Sequence[Row], figures: Mapping[str, Bootstrapped], seconds: Mapping[str, float]
) -> str:
    """Return the table: figures, and in brackets the difference to the row's base."""
    measured = [row for row in rows if row.name in figures]
    names = [n for n in COLUMNS if any(n in figures[row.name].value for row in measured)]
    heads = ["lever", "expected", *(COLUMNS[n] for n in names), "s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in measured:
        mine, cells = figures[row.name], [row.name, row.prediction]
        for name in names:
            if name not in mine.value:
                cells.append("")
                continue
            cell = _short(float(mine.value[name]))
            if row.base != row.name and row.base in figures and name in figures[row.base].value:
                change, error = difference(mine, figures[row.base], name)
                cell += f" ({'-' if change < 0 else '+'}{_short(abs(change))} ± {_short(error)})"
            cells.append(cell)
        lines.append("| " + " | ".join([*cells, f"{seconds[row.name]:.0f}"]) + " |")
    return "\n".join(lines)


def metrics(found: Bootstrapped, seconds: float) -> dict[str, float]:
    """Return the figures of a row under names for MLflow."""
    return {**{k: float(v) for k, v in found.value.items()}, "s": seconds}


def as_tree(row: Row, key: str, seconds: float, trainings: Sequence[Mapping[str, Any]]) -> Any:
    """Return what is kept of a finished row beside its probabilities."""
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(row).items()}
    return {"key": key, "row": settings, "seconds": seconds, "trainings": list(trainings)}


def chosen(mask: Bool, limit: int, seed: int) -> np.ndarray:
    """Return the rows of a mask, at most `limit` of them (0 for all), drawn evenly."""
    rows = np.flatnonzero(mask)
    if not limit or len(rows) <= limit:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
