"""The comparison of runs as cells of text, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.compare_config import cautions, settings_table
from geminga.evaluation.compare_record import RunRecord, TestSets
from geminga.evaluation.compare_rows import Row
from geminga.evaluation.summary import aligned
from geminga.evaluation.yardstick_text import with_error

BEST = " *"
UNPAIRED = " (unpaired)"
DASH = "-"

LEGEND = (
    "* better than every other run by more than the error of the difference; differences are from "
    "the first run, their errors from the same resamples of the same skies unless called unpaired"
)

_LONGEST = 34


def cell_texts(row: Row) -> list[str]:
    """Return the figure of each run as text; a dash where there is none."""
    return [
        DASH if cell is None else with_error(cell.estimate, row.form) for cell in row.cells
    ]  # fmt: skip


def difference_texts(row: Row) -> list[str]:
    """Return the difference of each run from the first as text, with its sign."""
    sign = row.form.replace("{:", "{:+")
    texts = []
    for one in row.differences:
        if one is None:
            texts.append(DASH)
            continue
        text = sign.format(one.value)
        if math.isfinite(one.error):
            text += f" ± {row.form.format(one.error)}"
        texts.append(text if row.paired else text + UNPAIRED)
    return texts


def significance(one: Estimate | None) -> float:
    """Return a difference in units of its error; NaN where there is none."""
    if one is None or not one.error > 0:
        return math.nan
    return one.value / one.error


def comparison_text(
    records: Sequence[RunRecord], labels: Sequence[str], rows: Sequence[Row], sets: TestSets
) -> str:
    """Return the comparison as text for a terminal.

    Parameters
    ----------
    records : sequence of RunRecord
    labels : sequence of str
        Name of each run in the table's header.
    rows : sequence of Row
        `geminga.evaluation.compare_rows.compare_rows`.
    sets : TestSets
        Whether the runs share their test skies.
    """
    lines = [f"test skies: {sets.text}", *cautions(records), ""]
    with_difference = sets.same_truth
    others = [f"{label} - {labels[0]}" for label in labels[1:]] if with_difference else []
    table = [["", *map(_short, labels), *map(_short, others)]]
    reasons: dict[str, None] = {}
    group = ""
    for row in rows:
        if row.group != group:
            table.append([row.group.upper(), *[""] * (len(labels) + len(others))])
            group = row.group
        cells = [
            text + (BEST if number == row.best else "")
            for number, text in enumerate(cell_texts(row))
        ]
        table.append([f"  {row.label}", *cells, *(difference_texts(row) if others else [])])
        for label, reason in zip(labels, row.reasons, strict=True):
            if reason:
                reasons.setdefault(f"- in {row.group}: {label}: {reason}")
    lines += aligned(table)
    lines += ["", *reasons] if reasons else []
    lines += ["", LEGEND] if with_difference else []
    differing, _, equal = settings_table([record.config for record in records])
    lines += ["", f"settings that differ ({len(equal)} are equal)"]
    lines += aligned([["", *map(_short, labels)], *([k, *map(_short, v)] for k, *v in differing)])
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
