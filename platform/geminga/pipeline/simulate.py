"""Stages that make the simulated skies, their patches and the observed photons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geminga.classes import INTERSTELLAR
from geminga.config import Config, data_path
from geminga.distributed.search import Observer, photon_file
from geminga.distributed.session import ray_session
from geminga.distributed.simulate import PatchWriter, SkyWriter, patch_file
from geminga.distributed.work import run_pieces
from geminga.errors import InputError
from geminga.files import write_json
from geminga.patches.grid import grid_for_sky
from geminga.patches.observed import counted_records
from geminga.patches.store import write_records
from geminga.pipeline.runner import Context
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts, diffuse_files, reference_config
from geminga.sky.formats.ft1 import read_events
from geminga.sky.formats.healpix import read_counts

DIFFUSE_FILE = "diffuse.npz"
REFERENCE_FILE = "reference.npz"


def sky_ids(config: Config, *splits: Split) -> list[int]:
    """Return the identifiers of the simulated skies of some sets, in order."""
    numbers = {
        Split.TRAIN: config.sets.train,
        Split.VALID: config.sets.validation,
        Split.TEST: 0 if config.observed is not None else config.sets.test,
    }
    return [sky_id(split, n) for split in splits for n in range(numbers[split])]


def test_sky_ids(config: Config) -> list[int]:
    """Return the skies the searches are judged on: simulated test skies, or the real one."""
    if config.observed is not None:
        return [sky_id(Split.TEST, 0)]
    return sky_ids(config, Split.TEST)


def diffuse_path(context: Context) -> str:
    """Return the file of diffuse counts."""
    return str((context.folder("response") / DIFFUSE_FILE).resolve())


def reference_path(context: Context) -> str:
    """Return the file of diffuse counts that backgrounds are estimated from."""
    return str((context.folder("response") / REFERENCE_FILE).resolve())


def sky_input_files(config: Config) -> Sequence[Path]:
    """Return the files the response and the diffuse emission are read from."""
    cube = config.response.exposure_cube
    named = cube.values() if isinstance(cube, dict) else [cube] if isinstance(cube, str) else cube
    files = [data_path(config, name) for name in named or ()]
    files += [data_path(config, name) for name in config.response.yearly_exposure]
    files += [*diffuse_files(config), *diffuse_files(reference_config(config))]
    files += population_files(config)
    if config.response.caldb is not None:
        folder = data_path(config, config.response.caldb)
        files += sorted(folder.glob(f"*{config.response.irf}*.fits"))
    return files


def population_files(config: Config) -> Sequence[Path]:
    """Return the population file, if the configuration names one of the user's own."""
    path = Path(config.sky.population)
    return [path] if path.suffix == ".json" and path.is_file() else []


def run_response(context: Context, folder: Path) -> Mapping[str, Any]:
    """Build the response and the diffuse counts per steradian."""
    response = build_response(context.config)
    diffuse = diffuse_counts(context.config, response)
    diffuse.save(folder / DIFFUSE_FILE)
    reference = diffuse_counts(reference_config(context.config), response)
    reference.save(folder / REFERENCE_FILE)
    origin = {**response.origin, **diffuse.origin}
    origin["reference"] = reference.origin[INTERSTELLAR]
    write_json(folder / "origin.json", origin)
    return origin


def run_skies(context: Context, folder: Path) -> Mapping[str, Any]:
    """Simulate every sky of every set: sources, expected counts, truth tables."""
    config = context.config
    pieces = [{"sky_id": i} for i in sky_ids(config, Split.TRAIN, Split.VALID, Split.TEST)]
    arguments = (config.model_dump_json(), diffuse_path(context), str(folder.resolve()))
    with ray_session():
        rows = run_pieces(SkyWriter, arguments, pieces, config.run.workers, "skies", "sky")
    write_json(folder / "skies.json", rows)
    mean = sum(row["sources"] for row in rows) / len(rows)
    return {"skies": len(rows), "mean sources a sky": round(mean, 1)}


def run_patches(context: Context, folder: Path) -> Mapping[str, Any]:
    """Cut the training and validation skies into patches of expected counts."""
    config = context.config
    pieces = [{"sky_id": i} for i in sky_ids(config, Split.TRAIN, Split.VALID)]
    arguments = _sky_arguments(context, folder)
    with ray_session():
        rows = run_pieces(PatchWriter, arguments, pieces, config.run.workers, "patches", "sky")
    megabytes = sum(row["bytes"] for row in rows) / 1e6 / len(rows)
    return {"patches": sum(row["patches"] for row in rows), "MB a sky": round(megabytes, 1)}


def run_observe(context: Context, folder: Path) -> Mapping[str, Any]:
    """Draw the photons of the test skies, or read the real ones, and cut them into patches."""
    config = context.config
    if config.observed is not None:
        return _observe_real(config, folder)
    return _observe(context, folder, sky_ids(config, Split.TEST), keep_photons=True)


def run_observe_training(context: Context, folder: Path) -> Mapping[str, Any]:
    """Draw photons of the training and validation skies and cut them into patches.

    Score cuts and the classifier then learn from detections made like those on a test sky: one
    photon list for all patches that overlap.
    """
    skies = sky_ids(context.config, Split.TRAIN, Split.VALID)
    return _observe(context, folder, skies, keep_photons=False)


def _observe(
    context: Context, folder: Path, skies: Sequence[int], keep_photons: bool
) -> Mapping[str, Any]:
    config = context.config
    pieces = [{"sky_id": i} for i in skies]
    arguments = (*_sky_arguments(context, folder), keep_photons)
    with ray_session():
        rows = run_pieces(Observer, arguments, pieces, config.run.workers, "photons", "sky")
    return {"photons": sum(row["photons"] for row in rows)}


def _sky_arguments(context: Context, folder: Path) -> tuple[str, str, str, str]:
    return (
        context.config.model_dump_json(),
        diffuse_path(context),
        str(context.folder("skies").resolve()),
        str(folder.resolve()),
    )


def observed_files(config: Config) -> Sequence[Path]:
    """Return the files of real photons."""
    if config.observed is None:
        return []
    counts = config.observed.counts
    maps = [n for part in counts.values() for n in part] if isinstance(counts, dict) else counts
    return [data_path(config, name) for name in config.observed.events or maps]


def _observe_real(config: Config, folder: Path) -> Mapping[str, Any]:
    observed = config.observed
    if observed is None:
        raise InputError("observed", "is not configured", "name events or counts")
    files = observed_files(config)
    if observed.events:
        photons = read_events(files, observed, config)
    elif isinstance(observed.counts, dict):
        maps = {
            entry: [data_path(config, name) for name in names]
            for entry, names in observed.counts.items()
        }
        photons = read_counts(maps, config)
    else:
        photons = read_counts(files, config)
    (sky,) = test_sky_ids(config)
    photons.save(photon_file(folder, sky))
    grid = grid_for_sky(config, sky)
    write_records(patch_file(folder, sky), counted_records(photons, grid, config, sky))
    return {"photons": len(photons), "files": ", ".join(path.name for path in files)}
