"""A head with a token for the tests of jobs, started as `make cluster-demo` starts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# For cluster_demo and job_run, in importlib mode.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from cluster_demo import Head, local_head


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """Return a running head of two cores; only its own processes are stopped afterwards."""
    with local_head(2, {"OMP_NUM_THREADS": "1"}) as started:
        yield started
