from __future__ import annotations

import sys
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_run, in importlib mode

from tiny_run import TINY, geminga


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Path, str]:
    """Return the output folder of a finished tiny run, and what it printed.

    Processes of pytest share one: the first that wants it makes it. Nobody changes it.
    """
    root = tmp_path_factory.getbasetemp()
    out = (root if worker_id == "master" else root.parent) / "tiny_run"
    printed = out / "printed.txt"
    with FileLock(f"{out}.lock"):
        if not printed.exists():
            done = geminga("run", "--config", str(TINY), "--set", f"run.output={out}")
            assert done.returncode == 0, done.stderr[-3000:]
            printed.write_text(done.stdout, encoding="utf-8")
    return out, printed.read_text(encoding="utf-8")
