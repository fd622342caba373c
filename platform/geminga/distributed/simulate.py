"""Workers that simulate skies and cut them into patches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from geminga import storage
from geminga.classes import components
from geminga.config import Config
from geminga.distributed.work import KEPT, Piece
from geminga.files import atomic, is_whole, read_parquet, write_json
from geminga.patches.grid import grid_for_sky
from geminga.patches.records import make_records
from geminga.patches.store import PATCHES_PER_GROUP, check_records, group_sizes, write_records
from geminga.response import Response, build_response
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, simulate_sky
from geminga.sky.sky_files import SOURCES_FILE, load_sky, save_sky


@lru_cache(maxsize=1)
def response_of(config_json: str) -> Response:
    """Return the response of a configuration, built once per process."""
    return build_response(Config.model_validate_json(config_json))


def diffuse_of(path: str) -> DiffuseCounts:
    """Return diffuse counts, opened once per process; workers of a machine share the maps."""
    local = storage.here(Path(path))
    status = local.stat() if local.is_file() else None
    return _diffuse_of(path, (status.st_ino, status.st_mtime_ns) if status else None)


@lru_cache(maxsize=1)
def _diffuse_of(path: str, version: tuple[int, int] | None) -> DiffuseCounts:
    """Open the file; `version` tells a new file of the same name from the old one."""
    return DiffuseCounts.load(Path(path))


def sky_folder(folder: Path, sky_id: int) -> Path:
    """Return where a simulated sky is kept."""
    return folder / f"sky_{sky_id:07d}"


def patch_file(folder: Path, sky_id: int) -> Path:
    """Return where the patches of a sky are kept."""
    return folder / f"patches_{sky_id:07d}.parquet"


def patch_pieces(folder: Path, skies: Sequence[int]) -> list[dict[str, int | float | str]]:
    """Return a piece of work for every row group of the patches of some skies."""
    return [
        {"path": str(patch_file(folder, sky).resolve()), "group": group, "sky_id": sky}
        for sky in skies
        for group in range(len(group_sizes(patch_file(folder, sky))))
    ]


class SkyWriter:
    """Simulates a sky and writes it; a finished one is left as it is.

    Parameters
    ----------
    config_json : str
        The configuration.
    diffuse_path : str
        Diffuse counts made from it.
    folder : str
        Where the skies go.
    """

    def __init__(self, config_json: str, diffuse_path: str, folder: str) -> None:
        self.config = Config.model_validate_json(config_json)
        self.response = response_of(config_json)
        self.diffuse = diffuse_of(diffuse_path)
        self.population = load_population(self.config.sky.population)
        self.folder = Path(folder)

    def __call__(self, piece: Piece) -> Piece:
        """Simulate the sky of ``sky_id``."""
        sky_id = int(piece["sky_id"])
        target = sky_folder(self.folder, sky_id)
        kept = is_whole(target, self._load)
        if not kept:
            sky = simulate_sky(self.config, self.response, self.population, self.diffuse, sky_id)
            totals = {
                "axes": ["component", "channel", "year"],
                "components": components(self.config.classes),
                "channels": [c.label for c in self.config.channels],
                "counts": sky.totals().tolist(),
            }
            # A sky's folder is there with all its files, or not at all.
            with atomic(target) as temporary:
                save_sky(temporary, sky)
                write_json(temporary / "expected_counts.json", totals)
        truth = read_parquet(target / SOURCES_FILE)
        return {"sky_id": sky_id, "sources": len(truth), KEPT: kept}

    def _load(self, folder: Path) -> Sky:
        return load_sky(folder, self.config, self.response, self.diffuse)


class StoredSkies:
    """The simulated skies of a run, as a worker reads them.

    Parameters
    ----------
    config_json : str
        The configuration.
    diffuse_path : str
        Diffuse counts made from it.
    skies : str
        Where the simulated skies are.
    """

    def __init__(self, config_json: str, diffuse_path: str, skies: str) -> None:
        self.config = Config.model_validate_json(config_json)
        self.response = response_of(config_json)
        self.diffuse = diffuse_of(diffuse_path)
        self.folder = Path(skies)

    def load(self, sky_id: int) -> Sky:
        """Read one sky."""
        return load_sky(sky_folder(self.folder, sky_id), self.config, self.response, self.diffuse)


class PatchWriter:
    """Cuts a simulated sky into patches of expected counts; a finished one is left as it is.

    Parameters
    ----------
    config_json, diffuse_path, skies : str
        See `StoredSkies`.
    folder : str
        Where the patches go.
    """

    def __init__(self, config_json: str, diffuse_path: str, skies: str, folder: str) -> None:
        self.skies = StoredSkies(config_json, diffuse_path, skies)
        self.folder = Path(folder)

    def __call__(self, piece: Piece) -> Piece:
        """Cut the sky of ``sky_id``."""
        sky_id, config = int(piece["sky_id"]), self.skies.config
        target = patch_file(self.folder, sky_id)
        grid = grid_for_sky(config, sky_id)
        count = len(grid.frames)
        kept = is_whole(target, check_records)
        if not kept:
            sky = self.skies.load(sky_id)
            write_records(
                target,
                (
                    make_records(
                        sky, grid, config, range(first, min(first + PATCHES_PER_GROUP, count))
                    )
                    for first in range(0, count, PATCHES_PER_GROUP)
                ),
            )
        return {
            "sky_id": sky_id,
            "patches": count,
            "bytes": storage.here(target).stat().st_size,
            KEPT: kept,
        }
