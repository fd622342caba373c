from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from geminga.errors import InputError
from geminga.evaluation.report import Section, write_report
from geminga.evaluation.style import new_figure, save_figure


class Reader(HTMLParser):
    """Collects text and every address; checks that elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "figure.png"
    save_figure(new_figure(2, 2), path)
    return path


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_report_needs_nothing_beside_it(tmp_path: Path, png: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(
        path,
        "Run <demo>",
        [
            Section("Figures & tables", "One.\n\nTwo.", [["search", "C"], ["MIUN", "0.6 < 0.7"]]),
            Section("Sky", figures=[('All "sky"', png)]),
        ],
        {"config": {"name": "demo", "bands": [{"emin": 1}, {"emin": 2}], "none": {}}, "hash": "ab"},
    )
    reader = read(path)
    for word in ("Run <demo>", "Figures & tables", "0.6 < 0.7", 'All "sky"'):
        assert word in reader.text
    for word in ("config.name", "config.bands.1.emin", "config.none", "hash"):
        assert word in reader.text
    assert reader.tags.count("p") == 2
    assert reader.tags.count("img") == 1
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in reader.addresses)
    assert "http" not in path.read_text(encoding="utf-8")
    assert "script" not in reader.tags


def test_text_cannot_become_markup(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    evil = "<script>alert(1)</script>"
    write_report(path, evil, [Section(evil, evil, [[evil], [evil]])], {evil: evil})
    assert "script" not in read(path).tags


def test_report_without_sections(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", "Empty", [], {})
    assert "Provenance" in read(tmp_path / "report.html").text


def test_missing_figure(tmp_path: Path) -> None:
    section = Section("Sky", figures=[("all", tmp_path / "none.png")])
    with pytest.raises(InputError, match="cannot be read"):
        write_report(tmp_path / "report.html", "Run", [section], {})
    assert not list(tmp_path.iterdir())


def test_figure_that_is_no_png(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    section = Section("Sky", figures=[("all", tmp_path / "a.png")])
    with pytest.raises(InputError, match="not a PNG"):
        write_report(tmp_path / "report.html", "Run", [section], {})


def test_report_below_a_file_is_refused(tmp_path: Path, png: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_report(png / "report.html", "Run", [], {})
