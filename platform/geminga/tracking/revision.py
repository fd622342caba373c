"""Which code a run was made with."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import geminga

VARIABLE = "GEMINGA_REVISION"
"""Environment variable that names the revision where there is no checkout: an image, a job."""

CHANGED = "-dirty"
"""What ``git describe --dirty`` puts behind the revision of a changed working tree."""


def code_tags() -> dict[str, str]:
    """Return tags that name version, git revision, and whether the working tree differs from it."""
    tags = {"geminga.version": geminga.__version__, "python": platform.python_version()}
    given = os.environ.get(VARIABLE)
    commit = given.removesuffix(CHANGED) if given else _git("rev-parse", "HEAD")
    if not commit:
        return {**tags, "git.revision": "unknown", "git.dirty": "unknown: not a git checkout"}
    tags |= {"git.revision": commit, "mlflow.source.git.commit": commit}
    if given:
        said = given.endswith(CHANGED)
        return {**tags, "git.dirty": "true" if said else f"unknown: {VARIABLE} says the revision"}
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {**tags, "git.dirty": "unknown" if changed is None else str(bool(changed)).lower()}


def _git(*arguments: str) -> str | None:
    """Return what git says of the checkout this package is a part of; None if it is in none."""
    folder = Path(geminga.__file__).parent
    # An installed package may lie inside the checkout of something else.
    for command in (("ls-files", "--error-unmatch", "__init__.py"), arguments):
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *command],
                capture_output=True, text=True, check=True, timeout=30,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
    return done.stdout.strip()
