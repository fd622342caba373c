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
    said = revision()
    if not said:
        return {**tags, "git.revision": "unknown", "git.dirty": "unknown: not a git checkout"}
    commit = said.removesuffix(CHANGED)
    tags |= {"git.revision": commit, "mlflow.source.git.commit": commit}
    if said.endswith(CHANGED):
        return {**tags, "git.dirty": "true"}
    given = os.environ.get(VARIABLE)
    return {**tags, "git.dirty": f"unknown: {VARIABLE} says the revision" if given else "false"}


def revision() -> str | None:
    """Return the revision, with `CHANGED` behind it if the tree differs; None if nobody knows it.

    What `VARIABLE` should say to a job, which has no checkout.
    """
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return os.environ.get(VARIABLE) or _git(*describe)


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
