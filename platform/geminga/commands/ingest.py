"""The verb that takes in photons and catalogues: files of any size to maps and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geminga.commands.options import SetOption
from geminga.config import load_config
from geminga.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("ingest")(ingest_command)


def ingest_command(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML configuration: channels, workers")
    ] = None,
    events: Annotated[list[Path] | None, typer.Option(help="FT1 event lists FILE...")] = None,
    catalogs: Annotated[
        list[Path] | None, typer.Option(help="FITS source catalogues FILE...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of maps or tables")] = None,
    start: Annotated[
        float | None, typer.Option("--from", help="first time taken (mission elapsed time, s)")
    ] = None,
    stop: Annotated[
        float | None, typer.Option("--to", help="end of the time taken (mission elapsed time, s)")
    ] = None,
    time_bins: Annotated[
        int | None, typer.Option(help="equal parts of --from to --to that get maps as well")
    ] = None,
    nside: Annotated[int | None, typer.Option(help="of the maps (default: 2048)")] = None,
    piece_rows: Annotated[
        int | None, typer.Option(help="rows read at a time (default: 4000000)")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Count event lists of any length into maps, or read catalogues into tables.

    With --config, --events and --out: counts maps that ``detect --counts`` takes. Called again with
    the same --out it adds the files it has not seen. With --catalogs and --out: one Parquet table
    for each catalogue.
    """
    if bool(events) == bool(catalogs):
        raise InputError(
            "ingest", "takes one kind of files", "give --events FILE..., or --catalogs FILE..."
        )
    if out is None:
        raise InputError("--out", "is not given", "name a folder for the results")
    if catalogs:
        own = {"--config": config, "--from": start, "--to": stop, "--set": overrides,
               "--time-bins": time_bins, "--nside": nside, "--piece-rows": piece_rows}  # fmt: skip
        for option, value in own.items():
            if value is not None and value != []:
                raise InputError(option, "has no meaning with --catalogs", "leave it out")
        from geminga.pipeline.ingest_catalogs import ingest_catalogs

        for path, sources in ingest_catalogs(catalogs, out):
            typer.echo(f"{sources} sources in {path}")
        return
    if config is None:
        raise InputError("--config", "is not given", "name the configuration of the channels")
    resolved = load_config(config, overrides)
    from geminga.pipeline.ingest import NSIDE, PIECE_ROWS, IngestRequest, ingest

    request = IngestRequest(
        tuple(events or ()),
        out,
        start,
        stop,
        1 if time_bins is None else time_bins,
        NSIDE if nside is None else nside,
        PIECE_ROWS if piece_rows is None else piece_rows,
    )
    done = ingest(request, resolved)
    typer.echo(
        f"{done.new_files} new of {done.files} event lists: {done.photons} of {done.rows} events in "
        f"{done.maps[0].parent}"
    )
