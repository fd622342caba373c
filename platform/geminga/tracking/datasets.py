"""What a run is fed, as MLflow's dataset inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import geminga

_LONGEST_DIGEST = 36
"""The most characters MLflow keeps of a digest."""


def dataset(
    name: str,
    digest: str,
    context: str,
    made_by: Mapping[str, str | int],
    profile: Mapping[str, object],
) -> dict[str, str]:
    """Return a row for `Tracker.datasets`.

    Parameters
    ----------
    name, digest : str
        What it is called, and what its contents are known by.
    context : str
        What it is for: training, validation, test, input.
    made_by : mapping
        All that is needed to make or find it again.
    profile : mapping
        What is in it.
    """
    tags = {key: str(value) for key, value in made_by.items()}
    return {
        "name": name,
        "digest": digest[:_LONGEST_DIGEST],
        "context": context,
        "source": json.dumps({"tags": {**tags, "geminga.version": geminga.__version__}}),
        "profile": json.dumps(dict(profile)),
    }


def file_datasets(paths: Sequence[Path], digests: Callable[[Path], str]) -> list[dict[str, str]]:
    """Return a row for each file from outside."""
    return [
        dataset(
            path.name,
            digests(path),
            "input",
            {"mlflow.source.name": path.name},
            {"bytes": path.stat().st_size},
        )
        for path in dict.fromkeys(paths)
    ]
