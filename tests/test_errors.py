from __future__ import annotations

import pickle

import pytest

from geminga.errors import GemingaError, InputError


def test_message_names_place_problem_and_remedy() -> None:
    error = InputError("sky.years", "0 is not a number of years", "use 1 or more")
    assert str(error) == "sky.years: 0 is not a number of years; use 1 or more"
    assert (error.where, error.problem, error.remedy) == (
        "sky.years",
        "0 is not a number of years",
        "use 1 or more",
    )


def test_input_error_is_caught_as_geminga_error() -> None:
    with pytest.raises(GemingaError, match=r"file\.fits"):
        raise InputError("file.fits", "is empty", "name another")


def test_error_survives_the_way_between_processes() -> None:
    error = InputError("a", "b", "c")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled on the line itself
    assert type(copy) is InputError
    assert copy.args == error.args
    assert copy.remedy == "c"
