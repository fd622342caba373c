from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_run, in importlib mode

from tiny_run import TINY, geminga


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests of the tiny run to one process of pytest: no other waits for it."""
    for item in items:
        if "finished" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("tiny"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output folder of a finished tiny run, and what it printed; nobody changes it."""
    out = tmp_path_factory.mktemp("tiny")
    done = geminga("run", "--config", str(TINY), "--set", f"run.output={out}")
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout
