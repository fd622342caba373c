"""A catalogue from a user's photons: ``geminga detect --counts`` and ``--events``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd

import geminga
from geminga.catalogue import build_catalogue, write_fits, write_regions
from geminga.catalogue.build import probabilities_of
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import atomic, file_digest, write_json
from geminga.patches.grid import make_grid
from geminga.pipeline.detect_inputs import (
    Inputs,
    read_inputs,
    run_config,
    summarise_counts,
    summarise_events,
)
from geminga.pipeline.detect_likelihood import NOTES, search_by_likelihood
from geminga.pipeline.models import Model, PhotonFile, choose_model, load_model
from geminga.pipeline.surroundings import surroundings
from geminga.response.cube_choice import CubeSummary, summarise_cube
from geminga.sky.coverage import Coverage
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts
from geminga.tables import CANDIDATES

_LOG = logging.getLogger(__name__)

Search = Callable[[Photons | PixelCounts, Coverage, Config, Path], pd.DataFrame]
"""From photons, the part of the sky they cover, settings and a model's folder to CANDIDATES.

Further columns may follow; ``attrs[NOTES]`` of the table, if there, goes to the provenance."""

SEARCH = search_by_likelihood
"""The search that the command runs."""

BUILTIN = "builtin"
CATALOG_FILE = "catalog.fits"
REGIONS_FILE = "regions.reg"
PROVENANCE_FILE = "provenance.json"


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes
    ----------
    counts, events : tuple of Path
        gtbin HEALPix maps, or FT1 lists: one of the two.
    exposure : tuple of str
        gtexpcube2 cubes, or ``builtin`` alone.
    out : Path
        Folder of the results.
    model : str or None
        Name or folder of a model; chosen by bands and event types if not given.
    event_types : str or None
        Event types of files that do not tell, for example ``FRONT+BACK``.
    overrides : tuple of str
        ``section.key=value`` of the model's configuration.
    everything : bool
        Write sources below the model's score cut as well.
    """

    counts: tuple[Path, ...]
    events: tuple[Path, ...]
    exposure: tuple[str, ...]
    out: Path
    model: str | None = None
    event_types: str | None = None
    overrides: tuple[str, ...] = ()
    everything: bool = False


def detect(request: Request, search: Search | None = None) -> pd.DataFrame:
    """Find the sources in a user's photons and write catalogue, regions and provenance.

    Parameters
    ----------
    request : Request
    search : callable, optional
        `SEARCH` if not given.

    Returns
    -------
    DataFrame
        The catalogue, surest source first.

    Raises
    ------
    InputError
        If a file is missing or unsound, no model fits, or the results cannot be written; nothing
        is written then.
    """
    cubes = _checked(request)
    read = summarise_counts if request.counts else summarise_events
    files = [read(path) for path in request.counts or request.events]
    asked = None if request.model is None else load_model(request.model, request.overrides)
    model = choose_model(files, cubes, asked, request.event_types)
    if asked is None and request.overrides:
        model = load_model(model.name, request.overrides)
    config = run_config(model, files, cubes)
    inputs = read_inputs(config, model, files)
    patches = _patches(inputs)
    if len(inputs.photons):
        search = search or partial(SEARCH, everything=request.everything)
        candidates = search(inputs.photons, inputs.coverage, config, model.folder)
    else:
        _LOG.warning("the files hold not one photon in the model's bands: an empty catalogue")
        candidates = CANDIDATES.empty()
    around = surroundings(config, inputs.response, inputs.coverage)
    probabilities = probabilities_of(candidates, config.classes)
    catalog = build_catalogue(candidates, probabilities, config.classes, around=around)
    told = _provenance(request, model, inputs, files, cubes, patches)
    _write(request, catalog, inputs, {**told, "search": candidates.attrs.get(NOTES, {})})
    _LOG.info("%d sources written to %s", len(catalog), request.out / CATALOG_FILE)
    return catalog


def _checked(request: Request) -> list[CubeSummary]:
    """Check what can be checked before any file of photons is opened; return the exposure cubes."""
    if bool(request.counts) == bool(request.events):
        both = "both are given" if request.counts else "neither is given"
        raise InputError("--counts, --events", both, "give the files of one of them")
    if not request.exposure:
        raise InputError(
            "--exposure",
            "is not given",
            "give the gtexpcube2 cube of these photons, or say '--exposure builtin' to assume a "
            "survey without pointings",
        )
    for path in (*request.counts, *request.events):
        if not path.is_file():
            raise InputError(str(path), "does not exist", "name a FITS file")
    paths = [str(path.resolve()) for path in (*request.counts, *request.events)]
    if len(set(paths)) < len(paths):
        raise InputError("--counts, --events", "name a file twice", "name each file once")
    out = request.out
    if out.exists() and not out.is_dir():
        raise InputError("--out", f"{out} is a file", "name a folder")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError("--out", f"{there} is no folder to write into", "choose another")
    if request.exposure == (BUILTIN,):
        return []
    if BUILTIN in request.exposure:
        raise InputError("--exposure", "names cubes and builtin", "give one or the other")
    return [summarise_cube(Path(name)) for name in dict.fromkeys(request.exposure)]


def _patches(inputs: Inputs) -> dict[str, int]:
    """Return how many patches there are, are skipped, and are partly covered; log it."""
    config, coverage = inputs.config, inputs.coverage
    grid = make_grid(config.patches.grid_nside, config.patches.size_deg)
    share = coverage.patch_shares(grid.frames, grid.size_deg)
    numbers = {
        "all": len(share),
        "skipped_without_data": int(np.sum(share == 0)),
        "partly_covered": int(np.sum((share > 0) & (share < 1))),
    }
    if not coverage.cells.any():
        raise InputError(
            "--exposure", "is zero wherever there are photons", "give the exposure of these photons"
        )
    if not coverage.whole:
        _LOG.warning(
            "%.2f %% of the sky is covered: %d of %d patches hold no data and are skipped, %d are "
            "partly covered",
            100 * coverage.share,
            numbers["skipped_without_data"],
            numbers["all"],
            numbers["partly_covered"],
        )
    return numbers


def _provenance(
    request: Request,
    model: Model,
    inputs: Inputs,
    files: Sequence[PhotonFile],
    cubes: Sequence[CubeSummary],
    patches: Mapping[str, int],
) -> dict[str, Any]:
    config = inputs.config
    counted = inputs.photons.per_channel(len(config.channels))
    return {
        "geminga": geminga.__version__,
        "model": {
            "name": model.name,
            "config_hash": model.config.hash(),
            "files": {
                path.relative_to(model.folder).as_posix(): file_digest(path)
                for path in sorted(model.folder.rglob("*"))
                if path.is_file()
            },
        },
        "inputs": [_described(path) for path in (*request.counts, *request.events)],
        "exposure": [_described(cube.path) for cube in cubes] or BUILTIN,
        "overrides": list(request.overrides),
        "response": {
            "irf": config.response.irf,
            "event_types": list(config.response.event_types),
            "event_types_said_by_the_files": all(file.types is not None for file in files),
            **inputs.response.origin,
        },
        "photons": {
            "all": len(inputs.photons),
            **{c.label: int(n) for c, n in zip(config.channels, counted, strict=True)},
        },
        "sky_covered": round(inputs.coverage.share, 6),
        "patches": dict(patches),
    }


def _described(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def _write(
    request: Request, catalog: pd.DataFrame, inputs: Inputs, provenance: Mapping[str, Any]
) -> None:
    """Write the results under a temporary name and rename them when all are complete."""
    config, out = inputs.config, request.out
    header: dict[str, str | int | float | bool] = {
        "CREATOR": f"geminga {geminga.__version__}",
        "MODEL": str(provenance["model"]["name"]),
        "CONFHASH": str(provenance["model"]["config_hash"]),
        "IRF": config.response.irf,
        "NPHOTONS": int(provenance["photons"]["all"]),
        "SKYCOVER": float(provenance["sky_covered"]),
    }
    if "score" in provenance["search"]:
        header["SCOREIS"] = str(provenance["search"]["score"])
        header["SCORECUT"] = float(provenance["search"]["score_cut"])
    # A folder of the user's may hold more than results: only these three are replaced in it.
    target = out / f".{uuid4().hex[:8]}" if out.is_dir() else out
    with atomic(target) as folder:
        folder.mkdir()
        write_fits(folder / CATALOG_FILE, catalog, config.classes, header, config.channels)
        write_regions(folder / REGIONS_FILE, catalog)
        write_json(folder / PROVENANCE_FILE, dict(provenance))
    if target != out:
        for name in (PROVENANCE_FILE, REGIONS_FILE, CATALOG_FILE):
            (target / name).replace(out / name)
        target.rmdir()
