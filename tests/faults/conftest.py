"""A quiet run to compare with, and a head to break."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# For cluster_demo, job_run and fault_run, in importlib mode.
sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent))

from cluster_demo import Head, local_head
from fault_run import SETTINGS, finish, on


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Return a running head of two cores that is there for a module."""
    with local_head(2, {"OMP_NUM_THREADS": "1"}) as started:
        yield started


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of a run that nothing happened to, for each verb that is broken."""
    folders = {verb: tmp_path_factory.mktemp(f"quiet_{verb}") for verb in SETTINGS}
    with local_head(2, {"OMP_NUM_THREADS": "1"}) as calm:
        for verb, out in folders.items():
            finish(verb, out, on(calm), out / "log")
    return {verb: out / "tiny" for verb, out in folders.items()}
