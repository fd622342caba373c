from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from geminga import progress as module
from geminga.errors import InputError
from geminga.progress import progress


def test_items_pass_through_and_the_work_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("abc"), 3, "skies", "sky")) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "skies" in captured.err


def test_items_are_taken_as_they_are_asked_for() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(5):
            taken.append(number)
            yield number

    shown = progress(items(), 5, "skies", "sky")
    assert taken == []
    assert next(shown) == 0
    assert taken == [0]


def test_errors_of_the_work_are_not_swallowed() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise InputError("sky 2", "is broken", "make it anew")

    with pytest.raises(InputError, match="sky 2: is broken"):
        list(progress(items(), 2, "skies", "sky"))


def test_a_log_gets_whole_lines_with_skies_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_INTERVAL_S", 0.0)
    list(progress(range(6), 6, "patches", "sky", kept=lambda n: n < 2))
    printed = capsys.readouterr().err
    assert "\r" not in printed
    lines = [line.strip() for line in printed.splitlines()]
    assert lines[3].startswith("patches (2 from before): 3/6 sky, ")
    assert re.search(r"[\d.]+sky/s, \d\d:\d\d so far, \d\d:\d\d left$", lines[3])
    assert lines[-1].startswith("patches (2 from before): 6/6 sky, ")


def test_quick_work_leaves_its_end_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress(range(3), 3, "skies", "sky"))
    (first, last) = capsys.readouterr().err.splitlines()
    assert first.strip().startswith("skies: 0/3 sky")
    assert last.strip().startswith("skies: 3/3 sky")


def test_what_was_there_before_is_not_in_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def items() -> Iterator[int]:
        for number in range(6):
            if number >= 4:
                time.sleep(0.1)
            yield number

    list(progress(items(), 6, "skies", "sky", kept=lambda n: n < 4))
    rate = re.search(r"([\d.]+)sky/s", capsys.readouterr().err.splitlines()[-1])
    assert rate is not None
    # Two in 0.2 s or a little more, not six.
    assert float(rate[1]) < 11
