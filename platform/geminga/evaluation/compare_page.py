"""The page that compares runs: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from geminga.evaluation.compare_config import cautions, settings_table
from geminga.evaluation.compare_figures import CAPTIONS, comparison_figures, confusion_figures
from geminga.evaluation.compare_record import RunRecord, TestSets
from geminga.evaluation.compare_rows import Row
from geminga.evaluation.compare_text import cell_texts, difference_texts, lacks, significance
from geminga.evaluation.style import COLOURS, DPI
from geminga.files import atomic

CLEAR = 2.0
"""Standard errors beyond which a difference is set in bold."""


def write_page(
    path: Path,
    records: Sequence[RunRecord],
    labels: Sequence[str],
    rows: Sequence[Row],
    sets: TestSets,
) -> None:
    """Write the comparison of runs as a self-contained HTML page, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    records, labels
        The runs, and their names on the page.
    rows : sequence of Row
        `geminga.evaluation.compare_rows.compare_rows`.
    sets : TestSets
        Whether the runs share their test skies.

    Raises
    ------
    InputError
        If the page cannot be written.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("geminga.evaluation").joinpath("templates/compare.html")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    differing, places, equal = settings_table([record.config for record in records])
    html = template.render(
        title="Runs compared: " + ", ".join(labels),
        labels=labels,
        colours=[COLOURS[k % len(COLOURS)] for k in range(len(records))],
        sets=sets,
        cautions=cautions(records),
        runs=_about(records),
        groups=_groups(rows, labels),
        with_differences=sets.same_truth,
        errors=_errors(records),
        differing=differing,
        places=places,
        equal=equal,
        figures=[
            (CAPTIONS[name], embedded(figure))
            for name, figure in comparison_figures(records, labels).items()
        ],
        confusions=[
            (label, None if figure is None else embedded(figure), reason)
            for label, figure, reason in confusion_figures(records, labels)
        ],
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def embedded(figure: Figure) -> str:
    """Return a figure as the address of an image that holds its own data."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _groups(rows: Sequence[Row], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows by heading; what is lacking from a whole group is said once, below it."""
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(row.group, {"title": row.group, "rows": []})
        cells = [
            {"text": text, "best": number == row.best, "reason": reason}
            for number, (text, reason) in enumerate(zip(cell_texts(row), row.reasons, strict=True))
        ]
        differences = [
            {"text": text, "beyond": abs(significance(one)) > CLEAR}
            for text, one in zip(difference_texts(row), row.differences, strict=True)
        ]
        group["rows"].append({"label": row.label, "cells": cells, "differences": differences})
    lacking = dict(lacks(rows, labels))
    return [{**group, "reasons": lacking.get(title, [])} for title, group in groups.items()]


def _errors(records: Sequence[RunRecord]) -> str:
    found = dict.fromkeys(r.yardstick.errors for r in records if r.yardstick is not None)
    return "; ".join(found) or "no run was measured against a truth"


def _about(records: Sequence[RunRecord]) -> list[list[str]]:
    """Return rows about the runs: a heading, then a value for each run."""

    def digests(record: RunRecord, name: str) -> str:
        values = list(dict.fromkeys(getattr(sky, name) for sky in record.test_skies))
        shown = ", ".join(value or "not there any more" for value in values[:3])
        return shown + (f", … ({len(values)})" if len(values) > 3 else "")

    table = [
        ["run", *(r.name for r in records)],
        ["read from", *(r.origin for r in records)],
        ["settings (hash)", *(r.config_hash for r in records)],
        ["test skies", *(str(len(r.test_skies)) for r in records)],
        ["true sources", *(f"{sum(s.sources for s in r.test_skies):,}" for r in records)],
        ["photons on them", *(f"{r.photons:,}" if r.photons else "not known" for r in records)],
        ["digests of the truth", *(digests(r, "truth") for r in records)],
        ["digests of the photons", *(digests(r, "photons") for r in records)],
    ]
    keys = list(dict.fromkeys(key for r in records for key in r.versions))
    return table + [[key, *(r.versions.get(key, "-") for r in records)] for key in keys]
