"""The command line: ``geminga <verb>``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from geminga import commands, storage
from geminga.commands.options import ConfigOption, SetOption
from geminga.config import load_config
from geminga.errors import GemingaError, InputError
from geminga.logs import say_when_stopped, show_logs
from geminga.pipeline.verbs import DETECT_STAGE, VERBS, PriorKind, spread

app = typer.Typer(
    help="From raw gamma-ray sky maps to source catalogues.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")

USER_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code (2 for an error the user can mend)."""
    show_logs()
    say_when_stopped()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        result = app(args=spread(given), standalone_mode=False)
    except GemingaError as error:
        sys.stderr.write(f"error: {error}\n")
        return USER_ERROR
    except typer.Abort:
        return 130
    except typer.Exit as error:
        return int(error.exit_code)
    except Exception as error:
        # Typer's own usage errors (a wrong option, say) carry an exit code and show themselves.
        if hasattr(error, "exit_code") and hasattr(error, "show"):
            error.show()
            return int(error.exit_code)
        raise
    return result if isinstance(result, int) else 0


@config_app.command("show")
def config_show(config: ConfigOption, overrides: SetOption = None) -> None:
    """Print the resolved settings, defaults and all, as YAML with their hash."""
    resolved = load_config(config, overrides)
    typer.echo(f"# hash {resolved.hash()}")
    typer.echo(yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False), nl=False)


@app.command("detect")
def detect_command(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML configuration: search the skies of a run"),
    ] = None,
    counts: Annotated[
        list[Path] | None, typer.Option(help="gtbin HEALPix counts maps FILE...")
    ] = None,
    events: Annotated[list[Path] | None, typer.Option(help="FT1 event lists FILE...")] = None,
    exposure: Annotated[
        list[str] | None, typer.Option(help="gtexpcube2 cubes FILE..., or 'builtin'")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the catalogue")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="packaged model or its folder, or champion of the registry; else the one that fits"
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow store of a registered model (default: MLFLOW_TRACKING_URI)"),
    ] = None,
    event_types: Annotated[
        str | None, typer.Option(help="event types of files that do not tell, as FRONT+BACK")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="keep sources below the model's score cut")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Find sources in your own photons, or search the skies of a run.

    With --counts or --events, --exposure and --out: search these photons with a packaged model.
    With --config: search the test skies, or the real one, of a configuration.
    """
    own: dict[str, object] = {
        "--counts": counts,
        "--events": events,
        "--exposure": exposure,
        "--out": out,
        "--model": model,
        "--tracking-uri": tracking_uri,
        "--event-types": event_types,
        "--all": everything,
    }
    if config is not None:
        for option, value in own.items():
            if value:
                raise InputError(option, "is given with --config", "leave one of them out")
        return run(config, overrides, DETECT_STAGE)
    if not counts and not events:
        raise InputError(
            "detect", "nothing to search", "give --counts or --events FILE..., or --config"
        )
    if out is None:
        raise InputError("--out", "is not given", "name a folder for the catalogue")
    from geminga.pipeline.detect import CATALOG_FILE, Request, detect
    from geminga.pipeline.registered import given_model

    with given_model(model, tracking_uri) as folder:
        request = Request(
            tuple(counts or ()),
            tuple(events or ()),
            tuple(exposure or ()),
            out,
            folder,
            event_types,
            tuple(overrides or ()),
            everything,
        )
        catalog = detect(request)
    typer.echo(f"{len(catalog)} sources in {out / CATALOG_FILE}")


Files = list[Path] | None


class MatchingKind(StrEnum):
    """How ``evaluate`` pairs detections with sources."""

    ONE_TO_ONE = "one-to-one"
    THESIS = "thesis"


@app.command("evaluate")
def evaluate_command(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML configuration: evaluate its run")
    ] = None,
    overrides: SetOption = None,
    detections: Annotated[
        Files, typer.Option(help="lists of detections, one file per sky (FITS, Parquet, CSV)")
    ] = None,
    truth: Annotated[
        Files, typer.Option(help="true sources, one file per sky in the same order")
    ] = None,
    oracle: Annotated[
        Files, typer.Option(help="detections of a search that knows the true background")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of tables and figures")] = None,
    matching: Annotated[
        MatchingKind | None,
        typer.Option(help="one-to-one, or the thesis' own (default: one-to-one)"),
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="match radius in degrees (default: 0.3)")
    ] = None,
    faintest: Annotated[
        float | None, typer.Option(help="leave sources below this S1 out of the truth (default: 0)")
    ] = None,
    resamples: Annotated[
        int | None, typer.Option(min=0, help="resamples of the bootstrap errors (default: 200)")
    ] = None,
) -> None:
    """Measure completeness, purity, positions and calibration.

    Either of a run (--config), or of any lists of detections (--detections, --truth, --out).
    """
    lists = {
        "--detections": detections, "--truth": truth, "--oracle": oracle, "--out": out,
        "--matching": matching, "--radius": radius, "--faintest": faintest,
        "--resamples": resamples,
    }  # fmt: skip
    given = [name for name, value in lists.items() if value is not None and value != []]
    if config is not None:
        if given:
            raise InputError(
                given[0], "has no meaning with --config", "give a configuration or lists, not both"
            )
        return run(config, overrides, VERBS["evaluate"][0])
    if overrides:
        raise InputError("--set", "has no meaning without --config", "leave it out")
    if not detections or not truth or out is None:
        missing = [name for name in ("--detections", "--truth", "--out") if name not in given]
        raise InputError(
            ", ".join(missing) if given else "evaluate",
            "is missing" if given else "nothing to evaluate",
            "give --config FILE, or --detections FILE... --truth FILE... --out DIR",
        )
    from geminga.evaluation.yardstick import YardstickSettings
    from geminga.pipeline.yardstick import measure_files

    settings = YardstickSettings()
    settings = replace(
        settings,
        matching=settings.matching if matching is None else matching.value,
        match_radius_deg=settings.match_radius_deg if radius is None else radius,
        resamples=settings.resamples if resamples is None else resamples,
    )
    text = measure_files(detections, truth, out, oracle or (), settings, faintest or 0.0)
    typer.echo(text, nl=False)


@app.command("classify")
def classify_command(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML configuration: classify its run")
    ] = None,
    overrides: SetOption = None,
    catalog: Annotated[Path | None, typer.Option(help="FITS catalogue like 4FGL")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of classes, report, figures")] = None,
    prior: Annotated[PriorKind, typer.Option(help="mix of classes")] = PriorKind.NATURAL,
    population: Annotated[str, typer.Option(help="sources to train on")] = "4fgl_dr2",
    sources: Annotated[int, typer.Option(help="simulated sources of a class")] = 12000,
    seed: Annotated[int, typer.Option(min=0, help="root seed")] = 2018,
) -> None:
    """Classify the detections of a run, or the sources of a catalogue by their own columns.

    With --catalog and --out: bands, years and errors as the file has them; trained on simulation.
    """
    if (config is None) == (catalog is None):
        raise InputError("classify", "one thing is classified", "give --config, or --catalog")
    if config is not None:
        if out is not None:
            raise InputError("--out", "has no meaning with --config", "leave it out")
        return run(config, overrides, VERBS["classify"][0])
    if overrides:
        raise InputError("--set", "has no meaning without --config", "leave it out")
    if catalog is None or out is None:
        raise InputError("--out", "is not given", "name a folder for the results")
    from geminga.pipeline.classify_catalogue import CatalogueRequest, classify_catalogue

    request = CatalogueRequest(catalog, out, prior.value, seed, population, sources)
    table = classify_catalogue(request)
    typer.echo(f"{(table['CLASS'] != '').sum()} of {len(table)} sources classified in {out}")


def _add_stage_verb(verb: str, stage: str | None, text: str) -> Callable[..., None]:
    def command(config: ConfigOption, overrides: SetOption = None) -> None:
        run(config, overrides, stage)

    command.__doc__ = text
    app.command(verb)(command)
    return command


def run(path: Path, overrides: list[str] | None, stage: str | None) -> None:
    """Run the pipeline up to a stage and print the summary of the run, if it got that far."""
    # Read first: what is wrong in it is said at once, the stages' imports take seconds.
    config = load_config(path, overrides)
    from geminga.pipeline.runner import run_folder
    from geminga.pipeline.stages import run_pipeline

    run_pipeline(config, stage)
    summary = run_folder(config) / "report" / "summary.txt"
    if stage in (None, "report") and storage.exists(summary):
        typer.echo(storage.here(summary).read_text(encoding="utf-8"), nl=False)


def _register() -> None:
    _add_stage_verb("run", None, "Run the whole pipeline: from skies to the report.")
    for verb, (stage, text) in VERBS.items():
        if verb not in ("classify", "evaluate"):  # which also take files
            _add_stage_verb(verb, stage, text)
    commands.register(app)


_register()


def entry() -> None:
    """Run as the installed command."""
    sys.exit(main())
