from __future__ import annotations

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
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    list(progress(range(6), 6, "patches", "sky", kept=lambda n: n == 0))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "    patches: 2/6 skies (1 from before), 3 skies/min, 1 min 20 s left",
        "    patches: 4/6 skies (1 from before), 4.5 skies/min, 27 s left",
        "    patches: 6/6 skies (1 from before), 4.29 skies/min, 1 min 10 s",
    ]


def test_the_rate_is_that_of_the_last_minutes() -> None:
    rate = module.Rate(0.0)
    assert rate.per_second(0.0) == 0.0
    for second in range(100):
        rate.add(float(second))
    assert rate.per_second(99.0) == pytest.approx(100 / 99)
    for minute in range(1, 30):
        rate.add(99.0 + 60.0 * minute)
    assert rate.per_second(99.0 + 29 * 60.0) == pytest.approx(1 / 60)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599.9, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert module.duration(seconds) == text
