"""The yardstick of classes as markdown tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.class_goals import Goal, Judged
from geminga.evaluation.class_metrics import LAT_COMPARISONS
from geminga.evaluation.class_results import ClassFigures, ClassResult, RangeFigures


def class_text(result: ClassResult) -> str:
    """Return all tables as markdown: goals, comparisons, classes, flux, latitude, confusion."""
    sources = ", ".join(f"{row.n} {name}" for name, row in _first(result).rows.items())
    skies = "1 sky" if result.skies == 1 else f"{result.skies} skies"
    blocks = [f"{result.title or 'Classes'}: {skies}, {sources}. Errors: {result.errors}."]
    blocks += [leading_table(result), comparison_table(result)]
    for name, one in result.classifiers.items():
        blocks += [f"{name}: each class", class_table(one)]
        for words, ranges in (("true flux S1", one.by_flux), ("latitude", one.by_latitude)):
            if ranges:
                blocks += [f"{name}: by {words}", range_table(ranges, shown_comparisons(result))]
        blocks += [f"{name}: confusion, rows are true classes", confusion_table(one)]
        flags = _flags(one)
        if flags:
            blocks.append(f"{name}: {flags}")
    return "\n\n".join(blocks) + "\n"


def leading_table(result: ClassResult) -> str:
    """Return `leading_rows` as markdown."""
    return markdown(leading_rows(result))


def leading_rows(result: ClassResult) -> list[list[str]]:
    """Return the goals: each classifier, each ceiling, the ratio of the first to it, the goal.

    A figure that meets its goal is in bold; the first row is the head.
    """
    names, tops = list(result.classifiers), list(result.ceilings)
    head = ["figure", "earlier", *names, *tops, *(f"ratio to {top}" for top in tops), "goal"]
    rows = [head]
    for goal in result.goals:
        judged = [result.classifiers[name].figures.get(goal.figure) for name in names]
        first = judged[0]
        ceilings = {} if first is None else first.ceilings
        ratios = {} if first is None else first.ratios
        rows.append(
            [
                goal.label,
                goal.earlier,
                *(_against(one, goal) for one in judged),
                *(_estimate(ceilings, top) for top in tops),
                *(_estimate(ratios, top) for top in tops),
                _goal(goal),
            ]
        )
    return rows


def comparison_table(result: ClassResult) -> str:
    """Return balanced accuracy and AUC of every comparison, classifiers then ceilings."""
    named = {**result.classifiers, **result.ceilings}
    rows = [["balanced accuracy (AUC)", *named]]
    for name in result.comparisons:
        cells = [
            f"{_number(one.figures[f'balanced_accuracy/{name}'])} "
            f"({one.figures[f'auc/{name}'].value:.3f})"
            for one in named.values()
        ]
        rows.append([name, *cells])
    return markdown(rows)


def class_table(figures: ClassFigures) -> str:
    """Return recall, precision and F1 (balanced and natural mix), Brier score and ECE of classes."""
    keys = (
        "recall", "precision", "f1", "recall_natural", "precision_natural", "f1_natural", "brier",
        "ece",
    )  # fmt: skip
    heads = (
        "recall", "precision", "F1", "recall, natural", "precision, natural", "F1, natural", "Brier",
        "ECE",
    )  # fmt: skip
    rows = [["class", "n", *heads]]
    for name in figures.classes:
        row = figures.rows[name]
        rows.append([name, str(row.n), *(_number(row.figures[key]) for key in keys)])
    return markdown(rows)


def range_table(ranges: Sequence[RangeFigures], comparisons: Sequence[str]) -> str:
    """Return figures by flux or latitude; the ratio to the last ceiling in brackets."""
    keys = ["macro_f1_true", "fake_recall", *(f"balanced_accuracy/{name}" for name in comparisons)]
    keys = [k for k in keys if any(k in r.figures and _finite(r.figures[k].value) for r in ranges)]
    heads = {"macro_f1_true": "macro F1, true classes", "fake_recall": "FAKE recognised"}
    rows = [["range", "n", *(heads.get(k, k.partition("/")[2]) for k in keys)]]
    for one in ranges:
        cells = [_with_ratio(one.figures.get(key)) for key in keys]
        rows.append([one.name, str(sum(one.n)), *cells])
    return markdown(rows)


def confusion_table(figures: ClassFigures) -> str:
    """Return both confusion matrices: share of the row on the balanced mix, number on the natural.

    Numbers are in brackets.
    """
    rows = [["true class", *figures.classes]]
    for name, shares, numbers in zip(
        figures.classes, figures.confusion, figures.natural, strict=True
    ):
        cells = [
            f"{share:.2f} ({n})" if _finite(share) else "-"
            for share, n in zip(shares, numbers, strict=True)
        ]
        rows.append([name, *cells])
    return markdown(rows)


def shown_comparisons(result: ClassResult) -> list[str]:
    """Return the uncut comparisons to show by flux and latitude: the standard ones, else all."""
    standard = [c.name for c in LAT_COMPARISONS if c.s1_cut == 0 and c.name in result.comparisons]
    ranges = [r for one in result.classifiers.values() for r in (*one.by_flux, *one.by_latitude)]
    uncut = [n for n in result.comparisons if f"balanced_accuracy/{n}" in _keys(ranges)]
    return standard or uncut


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a markdown table; the first is the header.

    Columns are as wide as their widest cell, so that it reads as plain text too.
    """
    safe = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *(len(row[k]) for row in safe)) for k in range(len(safe[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in safe
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _first(result: ClassResult) -> ClassFigures:
    return next(iter(result.classifiers.values()))


def _keys(ranges: Sequence[RangeFigures]) -> set[str]:
    return {key for one in ranges for key in one.figures}


def _flags(figures: ClassFigures) -> str:
    flags, parts = figures.flags, []
    if _finite(flags.ambiguous):
        parts.append(
            f"{flags.ambiguous:.1%} ambiguous (accuracy {flags.accuracy_ambiguous:.2f}, "
            f"of the others {flags.accuracy_clear:.2f})"
        )
    if flags.unlike:
        shares = ", ".join(
            f"{name} {flags.unlike[name]:.1%}"
            for name in figures.classes
            if _finite(flags.unlike.get(name, math.nan))
        )
        parts.append(f"more unlike any class than 99 % of the training detections: {shares}")
    return "; ".join(parts)


def _against(judged: Judged | None, goal: Goal) -> str:
    if judged is None:
        return "-"
    cell = _number(judged)
    return f"**{cell}**" if goal.reached(judged) else cell


def _goal(goal: Goal) -> str:
    if not _finite(goal.goal):
        return "-"
    text = f"{'at most ' if goal.smaller else ''}{goal.goal:g}"
    if _finite(goal.ratio):
        text += f", {goal.ratio:g} of the {goal.ratio_to}"
    return text


def _with_ratio(judged: Judged | None) -> str:
    if judged is None or not _finite(judged.value):
        return "-"
    ratio = list(judged.ratios.values())[-1].value if judged.ratios else math.nan
    return _number(judged) + (f" ({ratio:.2f})" if _finite(ratio) else "")


def _estimate(estimates: dict[str, Estimate], name: str) -> str:
    one = estimates.get(name)
    return "-" if one is None else _pair(one.value, one.error)


def _number(judged: Judged) -> str:
    return _pair(judged.value, judged.error)


def _pair(value: float, error: float) -> str:
    if not _finite(value):
        return "-"
    return f"{value:.3f} ± {error:.3f}" if _finite(error) else f"{value:.3f}"


def _finite(value: float) -> bool:
    return math.isfinite(value)
