"""Verbs that search for better settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geminga.commands.options import ConfigOption, SetOption
from geminga.config import load_config

TuningOption = Annotated[
    Path, typer.Option("--tuning", "-t", help="YAML file: the space of settings, trials, seed")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command("tune-training")(tune_training_command)
    app.command("tune-localisation")(tune_localisation_command)


def tune_training_command(
    config: ConfigOption, tuning: TuningOption, overrides: SetOption = None
) -> None:
    """Search for settings of a network: Optuna, early stop, a trial each a run in MLflow."""
    resolved = load_config(config, overrides)
    from geminga.pipeline.tune_training import tune_training

    outcome = tune_training(resolved, tuning)
    typer.echo(f"{outcome.text()}\n{outcome.config}")


def tune_localisation_command(
    config: ConfigOption, tuning: TuningOption, overrides: SetOption = None
) -> None:
    """Search for MIUN's localisation settings on validation skies, on its output computed once."""
    resolved = load_config(config, overrides)
    from geminga.pipeline.tune_localisation import tune_localisation

    outcome = tune_localisation(resolved, tuning)
    typer.echo(f"{outcome.text()}\n{outcome.config}")
