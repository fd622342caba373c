"""The verb that compares finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("compare")(compare_command)


def compare_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN RUN...", help="folders of runs, or MLflow run ids"),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store of run ids (default: MLFLOW_TRACKING_URI)")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the page and the table")] = Path(
        "out/compare"
    ),
) -> None:
    """Compare finished runs: figures with errors, settings that differ, one HTML page."""
    from geminga.pipeline.compare_runs import PAGE, compare_runs

    typer.echo(compare_runs(runs or [], out, tracking_uri), nl=False)
    typer.echo(f"page: {out / PAGE}")
