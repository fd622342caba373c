"""A quiet run to compare with, and a head to break."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# For cluster_demo, job_run and fault_run, in importlib mode.
sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent))

from cluster_demo import Head, local_head
from fault_run import finish, on


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Return a running head of two cores that is there for a module."""
    with local_head(2, {"OMP_NUM_THREADS": "1"}) as started:
        yield started


class QuietRuns(dict[str, Path]):
    """The folder of a run that nothing happened to, by verb; made when it is first asked for."""

    def __init__(self, make: Callable[[str], Path]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, verb: str) -> Path:
        out = self.make(verb)
        with local_head(2, {"OMP_NUM_THREADS": "1"}) as calm:
            finish(verb, out, on(calm), out / "log")
        self[verb] = out / "tiny"
        return self[verb]


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> QuietRuns:
    """Return quiet runs to compare broken ones with."""
    return QuietRuns(lambda verb: tmp_path_factory.mktemp(f"quiet_{verb}"))
