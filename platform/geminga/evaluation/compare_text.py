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
UNPAIRED = " †"
DASH = "-"
_WIDEST = 24
"""Letters of a setting's value in a terminal; the page has all of it."""

LEGEND = (
    "* better than every other run by more than the error of the difference",
    "differences are from the first run; their errors come from the same resamples of the same skies",
    "† no resamples of both were kept: the errors are added in quadrature, which is too large",
)


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


def lacks(rows: Sequence[Row], labels: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return for each heading why figures are lacking, and in which runs."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        for label, reason in zip(labels, row.reasons, strict=True):
            if reason:
                found.setdefault(row.group, {}).setdefault(reason, {})[label] = None
    return [
        (group, [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()])
        for group, reasons in found.items()
    ]


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
    letters = [chr(ord("A") + k) if len(labels) <= 26 else str(k + 1) for k in range(len(labels))]
    lines = [f"{letter}  {label}" for letter, label in zip(letters, labels, strict=True)]
    lines += ["", f"test skies: {sets.text}", *cautions(records), ""]
    others = [f"{letter} - {letters[0]}" for letter in letters[1:]] if sets.same_truth else []
    table = [["", *letters, *others]]
    unpaired, group = False, ""
    for row in rows:
        if row.group != group:
            table.append([row.group, *[""] * (len(letters) + len(others))])
            group = row.group
        cells = [
            text + (BEST if number == row.best else "")
            for number, text in enumerate(cell_texts(row))
        ]
        differences = difference_texts(row) if others else []
        unpaired |= any(text.endswith(UNPAIRED) for text in differences)
        table.append([f"  {row.label}", *cells, *differences])
    lines += aligned(table)
    lacking = [f"- {group}: {line}" for group, said in lacks(rows, letters) for line in said]
    lines += ["", *lacking] if lacking else []
    lines += ["", *LEGEND[: 3 if unpaired else 2]] if others else []
    differing, _, equal = settings_table([record.config for record in records])
    lines += ["", f"settings that differ ({len(equal)} are equal)"]
    shown = [[key, *(shorten(value, _WIDEST) for value in values)] for key, *values in differing]
    lines += aligned([["", *letters], *shown]) if shown else ["none"]
    return "".join(f"{printable(line)}\n" for line in lines)


def printable(line: str) -> str:
    """Return a line without what a terminal would obey: names and settings may be anybody's."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def shorten(text: str, letters: int) -> str:
    """Return a text with its middle left out if it is longer than so many letters."""
    if len(text) <= letters:
        return text
    kept = letters - 1
    return f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"
