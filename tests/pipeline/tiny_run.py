"""Running the command line on the tiny configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ROOT / "jobs" / "configs" / "tiny.yaml"


def geminga(*arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    """Run the command line from the repository's root."""
    return subprocess.run(
        [sys.executable, "-m", "geminga", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
