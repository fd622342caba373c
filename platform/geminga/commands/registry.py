"""Verbs about MLflow: promotion of models, and what waits for a server that was away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geminga.commands.options import SetOption
from geminga.config import load_config
from geminga.errors import InputError

REFUSED = 3
"""Exit code of ``promote`` when the rule keeps the champion that is there."""


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command("promote")(promote_command)
    app.command("sync-tracking")(sync_tracking_command)


def promote_command(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="configuration of the run meant")
    ] = None,
    run: Annotated[str | None, typer.Option(help="MLflow run meant, by its id")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="registered model (repeatable); all if not given")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="rule of promotion (default: mlflow/registry.yaml)")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store (default: MLFLOW_TRACKING_URI)")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Make candidates of the model registry champions, if the rule lets them.

    Those of a run (--config or --run), else the newest. Exit code 3 if the rule refuses one.
    """
    if config is not None and (run is not None or tracking_uri is not None):
        option = "--run" if run is not None else "--tracking-uri"
        raise InputError(option, "is given with --config", "leave one of them out")
    if overrides and config is None:
        raise InputError("--set", "has no meaning without --config", "leave it out")
    from geminga.pipeline.promote import RULES, promote, read_rules
    from geminga.tracking.registry import Registry

    rule = read_rules(rules or RULES)
    if config is not None:
        from geminga.pipeline.tracked import tracked_run

        run, tracking_uri = tracked_run(load_config(config, overrides))
    verdicts = promote(Registry(tracking_uri), rule, run, name or ())
    for model, verdict in verdicts.items():
        word = "champion" if verdict.promoted else "refused"
        typer.echo(f"{model}: {word}: {'; '.join(verdict.reasons)}")
    if not all(verdict.promoted for verdict in verdicts.values()):
        raise typer.Exit(REFUSED)


def sync_tracking_command(
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML configuration")],
    overrides: SetOption = None,
) -> None:
    """Send what a run kept while the MLflow server was away."""
    resolved = load_config(config, overrides)
    from geminga.pipeline.tracked import sync_tracking

    typer.echo(sync_tracking(resolved))
