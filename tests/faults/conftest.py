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
from fault_run import finish, on


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Return a running head of two cores that is there for a module."""
    with local_head(2, {"OMP_NUM_THREADS": "1"}) as started:
        yield started


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("quiet")
    with local_head(2, {"OMP_NUM_THREADS": "1"}) as calm:
        finish("patches", out, on(calm), out / "log")
        finish("detect", out, on(calm), out / "log")
    return out / "tiny"
