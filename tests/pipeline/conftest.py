from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_run, in importlib mode

from tiny_run import TINY, geminga


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output folder of a finished tiny run, and what it printed."""
    out = tmp_path_factory.mktemp("tiny")
    done = geminga("run", "--config", str(TINY), "--set", f"run.output={out}")
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout
