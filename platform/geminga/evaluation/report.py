"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from geminga import storage
from geminga.errors import InputError
from geminga.files import atomic


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes
    ----------
    title : str
        Heading.
    text : str
        Plain text; blank lines part paragraphs.
    table : list of rows or None
        Cells as text; the first row is the header.
    figures : list of (str, Path)
        Caption and PNG file of each figure.
    """

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] | None = None
    figures: Sequence[tuple[str, Path]] = field(default_factory=tuple)


def write_report(
    path: Path, title: str, sections: Sequence[Section], provenance: Mapping[str, Any]
) -> None:
    """Write a self-contained HTML report, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    title : str
        Heading of the report.
    sections : sequence of Section
        In order; their PNG files are embedded.
    provenance : mapping
        Name to value, nested as you like: resolved configuration, hash, versions, seeds. Shown
        at the end.

    Raises
    ------
    InputError
        If a figure cannot be read or is not a PNG, or the report cannot be written.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("geminga.evaluation").joinpath("templates/report.html")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    content = [
        {
            "id": f"section-{number}",
            "title": section.title,
            "paragraphs": [p.strip() for p in section.text.split("\n\n") if p.strip()],
            "header": list(section.table[0]) if section.table else [],
            "rows": [list(row) for row in section.table[1:]] if section.table else [],
            "figures": [(caption, _embedded(png)) for caption, png in section.figures],
        }
        for number, section in enumerate(sections, start=1)
    ]
    html = template.render(title=title, sections=content, provenance=_flat(provenance))
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _embedded(path: Path) -> str:
    try:
        data = storage.here(path).read_bytes()
    except OSError as error:
        raise InputError(
            str(path), f"cannot be read ({error.strerror})", "draw the figure anew"
        ) from error
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise InputError(str(path), "is not a PNG file", "draw the figure anew")
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _flat(tree: Mapping[str, Any], start: str = "") -> list[tuple[str, str]]:
    """Return (dotted name, value) of every leaf of a tree."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{start}.{key}" if start else str(key)
        if isinstance(value, Mapping) and value:
            rows += _flat(value, name)
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            for number, item in enumerate(value):
                rows += _flat({str(number): item}, name)
        else:
            rows.append((name, str(value)))
    return rows
