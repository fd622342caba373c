"""Submitting jobs to a head, and reading what becomes of them."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster_demo import RAY, Head

TINY = "jobs/configs/tiny.yaml"
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Done:
    """A job that has ended: what ``ray job submit`` left with and printed."""

    code: int
    printed: str

    @property
    def log(self) -> list[str]:
        """The lines of the job itself."""
        lines = self.printed.splitlines()
        start = next(n for n, line in enumerate(lines) if line.startswith("Running entrypoint"))
        return lines[start + 1 :]


def submit(
    head: Head,
    *entrypoint: str,
    env_vars: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Done:
    """Submit a job and wait for its end."""
    done = subprocess.run(
        head.submit(*entrypoint, env_vars=env_vars, folder=folder),
        env=dict(head.environment), cwd="/", capture_output=True, text=True, check=False,
        timeout=PATIENCE_S,
    )  # fmt: skip
    return Done(done.returncode, done.stdout)


def start(head: Head, *entrypoint: str, env_vars: Mapping[str, str] | None = None) -> str:
    """Submit a job and return its identifier at once."""
    command = head.submit(*entrypoint, env_vars=env_vars)
    command.insert(command.index("--working-dir"), "--no-wait")
    done = subprocess.run(
        command, env=dict(head.environment), cwd="/", capture_output=True, text=True, check=True
    )
    found = re.search(r"Job '(raysubmit_\w+)' submitted", done.stdout)
    assert found is not None, done.stdout
    return found[1]


def ask(head: Head, verb: str, job: str) -> str:
    """Ask about a job: ``status``, ``logs``, ``stop``."""
    return subprocess.run(
        [*RAY, "job", verb, "--address", head.dashboard, job],
        env=dict(head.environment), cwd="/", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.02)


def settings(out: Path, *more: str, name: str = "tiny") -> list[str]:
    """Return the arguments of a run of the tiny configuration kept in a folder."""
    given = (f"run.storage=file://{out}", f"name={name}", *more)
    return ["--config", TINY, *(word for setting in given for word in ("--set", setting))]


def finished_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of every file with a final name; of stages begun and finished alike.

    A stage's own folder changes its name when it ends, so a file is known by its stage.
    """
    found = {}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(p.endswith((".tmp", ".old")) for p in parts):
            continue
        stage = re.sub(r"^\.(\w+)\.[0-9a-f]+\.partial$", r"\1", parts[0])
        status = path.stat()
        found["/".join((stage, *parts[1:]))] = (status.st_ino, status.st_mtime_ns)
    return found


def told(folder: Path, stage: str) -> dict[str, object]:
    """Return what a finished stage says of itself."""
    note: dict[str, object] = json.loads((folder / stage / "stage.json").read_text("utf-8"))
    return note
