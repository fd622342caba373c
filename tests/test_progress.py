from __future__ import annotations

from collections.abc import Iterator

import pytest

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
