"""The stage that makes the models of a finished run candidates in MLflow's registry."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geminga.config import Config
from geminga.files import write_json
from geminga.pipeline.aliases import CANDIDATE, DETECTOR
from geminga.pipeline.class_model import CLASS_MODEL, REGISTERED_AS
from geminga.pipeline.evidence import is_measured
from geminga.pipeline.logged import log_folder, log_network
from geminga.pipeline.run_record import RECORD
from geminga.pipeline.runner import Context
from geminga.storage import here

REGISTER = "register"
"""Name of the stage."""
NETWORKS = {"miun": "miun", "ranker": "ranker", REGISTERED_AS: CLASS_MODEL}
"""Registered networks, with the stages that train them."""


def is_wanted(config: Config) -> bool:
    """Return whether models of this configuration are registered."""
    return config.run.register_models


def check(config: Config) -> None:
    """Refuse before any work a configuration whose detector could not be packaged at the end.

    Raises
    ------
    InputError
        If it could not.
    """
    if is_wanted(config) and config.localisation.detector == "likelihood":
        from geminga.pipeline.package import packaged_config

        packaged_config(config, DETECTOR)


def run_register(context: Context, folder: Path) -> Mapping[str, Any]:
    """Register networks and detector as new versions, under the alias `CANDIDATE`.

    With ``localisation.detector: miun`` there is MIUN alone: the others are not trained, or not for
    ``geminga detect``.
    """
    # The package is made from the stages, of which this is one.
    from geminga.pipeline.package import package_model

    config, tracker = context.config, context.tracker
    # A store that this run is new to has not heard of the report finished before.
    tracker.parent_artifact(here(context.folder("report") / RECORD))
    by_likelihood = is_measured(config)
    tags = {
        name: log_network(context, name, context.folder(stage) / "model")
        for name, stage in NETWORKS.items()
        if by_likelihood or name == "miun"
    }
    if by_likelihood:
        with tempfile.TemporaryDirectory() as temporary:
            packaged = package_model(config, DETECTOR, Path(temporary))
            tags[DETECTOR] = log_folder(context, DETECTOR, packaged.folder)
    for name, one in tags.items():
        tracker.register(name, CANDIDATE, one)
    versions = {name: tracker.version(name, one) for name, one in tags.items()}
    write_json(folder / "versions.json", versions)
    lacking = "kept, sent later" if tracker.away else "refused by the store"
    told = {name: f"version {v}" if v else lacking for name, v in versions.items()}
    return {"candidates": ", ".join(f"{name} ({text})" for name, text in told.items())}
