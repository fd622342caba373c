"""Running the command line on the tiny configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from geminga.bands import edges_mev
from geminga.config import load_config
from geminga.sky.events import Events
from geminga.sky.formats.ft1_write import write_events
from geminga.sky.observation import observation_of
from geminga.sky.photons import Photons

ROOT = Path(__file__).parents[2]
TINY = ROOT / "jobs" / "configs" / "tiny.yaml"


def geminga(*arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    """Run the command line from the repository's root."""
    return subprocess.run(
        [sys.executable, "-m", "geminga", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def write_list(path: Path, photons: Photons) -> None:
    """Write photons as front events in the middle of their bands and time bins."""
    config = load_config(TINY)
    observation = observation_of(config)
    low, high = edges_mev(config.bands).T
    year = (observation.stop_s - observation.start_s) / config.sky.years
    events = Events(
        photons,
        np.sqrt(low * high)[photons.channel].astype(np.float32),
        observation.start_s + (photons.year + 0.5) * year,
        np.zeros(len(photons), np.int8),
    )
    write_events(events, config.channels, path, observation)
