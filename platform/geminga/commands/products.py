"""Verbs that write files for others: populations, maps, event lists, packaged models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geminga.commands.options import ConfigOption, SetOption, SkyOption
from geminga.config import load_config
from geminga.errors import InputError


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command("fit-population")(fit_population_command)
    app.command("write-maps")(write_maps_command)
    app.command("compare-sky")(compare_sky_command)
    app.command("write-events")(write_events_command)
    app.command("package-model")(package_model_command)


def fit_population_command(
    catalog: Annotated[Path, typer.Option(help="4FGL or 2FHL FITS catalogue")],
    out: Annotated[Path, typer.Option(help="population file to write (JSON)")],
) -> None:
    """Fit the source populations to a catalogue and write a population file."""
    from geminga.sky.populations.population import fit_population, save_population

    population = fit_population(catalog)
    save_population(population, out)
    typer.echo(f"population written to {out}")


class MapKind(StrEnum):
    """What ``write-maps`` writes."""

    EXPECTED = "expected"
    COUNTS = "counts"
    EXPOSURE = "exposure"


def write_maps_command(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="folder of the FITS maps")],
    kind: Annotated[MapKind, typer.Option(help="what the maps hold")] = MapKind.EXPECTED,
    component: Annotated[str | None, typer.Option(help="component of expected counts")] = None,
    year: Annotated[
        int | None, typer.Option(help="one time bin of expected counts; all if not given")
    ] = None,
    sky: SkyOption = None,
    overrides: SetOption = None,
) -> None:
    """Write HEALPix maps of a test sky.

    Expected (Asimov) counts, one file per band; counted photons as gtbin writes them; or the
    exposure as gtexpcube2 does.
    """
    only_expected = {"--component": component, "--year": year}
    unused = {} if kind is MapKind.EXPECTED else only_expected
    if kind is MapKind.EXPOSURE:
        unused = {**unused, "--sky": sky}
    for option, value in unused.items():
        if value is not None:
            raise InputError(option, f"{value} has no meaning for {kind} maps", "leave it out")
    resolved = load_config(config, overrides)
    from geminga.pipeline.maps import (
        write_counts_maps,
        write_expected_maps,
        write_exposure_maps,
    )

    if kind is MapKind.EXPOSURE:
        paths = write_exposure_maps(resolved, out)
    elif kind is MapKind.COUNTS:
        paths = write_counts_maps(resolved, out, sky or 0)
    else:
        paths = write_expected_maps(resolved, out, component or "all", year, sky)
    for path in paths:
        typer.echo(str(path))


def compare_sky_command(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="folder of the table and the figures")],
    overrides: SetOption = None,
) -> None:
    """Compare real photons with those expected of a catalogue and the diffuse models, unfitted."""
    resolved = load_config(config, overrides)
    from geminga.pipeline.compare_sky import compare_sky, write_comparison

    typer.echo(write_comparison(compare_sky(resolved), out), nl=False)


def write_events_command(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="FT1 file to write")],
    sky: SkyOption = None,
    overrides: SetOption = None,
) -> None:
    """Write the photons of a test sky as a Fermi-LAT event list (FT1)."""
    resolved = load_config(config, overrides)
    from geminga.pipeline.events import write_event_list

    number = write_event_list(resolved, out, sky or 0)
    typer.echo(f"{number} events written to {out}")


def package_model_command(
    config: ConfigOption,
    name: Annotated[str, typer.Option(help="name of the model")],
    to: Annotated[
        Path | None, typer.Option(help="folder of models; that of the packaged ones if not given")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Make a model for ``detect`` from a finished run: settings, weights, a card about them."""
    resolved = load_config(config, overrides)
    from geminga.pipeline.package import package_model

    made = package_model(resolved, name, to)
    typer.echo(f"model {name}: {made.megabytes:.2f} MB in {made.folder}")
