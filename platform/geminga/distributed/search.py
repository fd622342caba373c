"""Workers that observe test skies and search patches for sources."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from geminga.arrays import Float32
from geminga.config import Config
from geminga.distributed.simulate import StoredSkies, patch_file
from geminga.distributed.work import Piece
from geminga.evaluation.metrics import count_pixels
from geminga.files import is_whole, read_json, read_parquet, write_json, write_parquet
from geminga.localisation.cluster import find_sources
from geminga.localisation.kmeans import kmeans_sources
from geminga.localisation.significance import significance_sources
from geminga.localisation.wavelet import wavelet_sources
from geminga.networks.checkpoint import load_checkpoint
from geminga.networks.miun import Miun, score_maps
from geminga.patches.grid import grid_for_sky
from geminga.patches.observed import counted_records
from geminga.patches.records import image_columns
from geminga.patches.store import check_records, read_group, write_records
from geminga.sky.labelled import labelled
from geminga.sky.observe import draw_photons
from geminga.sky.photons import Photons


def photon_file(folder: Path, sky_id: int) -> Path:
    """Return where the photons of a sky are kept."""
    return folder / f"photons_{sky_id:07d}.parquet"


class Observer:
    """Draws the photons of a simulated sky and cuts them into patches.

    Parameters
    ----------
    config_json, diffuse_path, skies : str
        See `StoredSkies`.
    folder : str
        Where the patches go, and the photons if they are kept.
    keep_photons : bool
        Also write the photon list; it can be drawn again from the sky in seconds.
    """

    def __init__(
        self, config_json: str, diffuse_path: str, skies: str, folder: str, keep_photons: bool
    ) -> None:
        self.skies = StoredSkies(config_json, diffuse_path, skies)
        self.folder, self.keep_photons = Path(folder), keep_photons

    def __call__(self, piece: Piece) -> Piece:
        """Observe the sky of ``sky_id``."""
        sky_id, config = int(piece["sky_id"]), self.skies.config
        path, patches = photon_file(self.folder, sky_id), patch_file(self.folder, sky_id)
        sky = self.skies.load(sky_id)
        photons = draw_photons(sky, config.seed)
        if self.keep_photons and not is_whole(path, Photons.load):
            photons.save(path)
        if not is_whole(patches, check_records):
            grid = grid_for_sky(config, sky_id)
            truth = labelled(sky.sources.table, config.sky)
            write_records(patches, counted_records(photons, grid, config, sky_id, truth))
        return {"sky_id": sky_id, "photons": len(photons)}


class MiunScores:
    """MIUN as a pure function of patch images; one thread, so that bits do not depend on cores."""

    def __init__(self, config: Config, weights: Path) -> None:
        torch.set_num_threads(1)
        model, _ = load_checkpoint(weights, config, "miun")
        if not isinstance(model, Miun):
            raise TypeError(f"{weights} holds no MIUN")
        self.model = model
        self.columns = image_columns(config.channels)
        self.batch_size = config.localisation.batch_size
        self.precision = config.miun_training.precision

    def __call__(self, records: dict[str, Any]) -> Float32:
        """Return the network's output (patches, top, top) between 0 and 1 for counted records."""
        images = [records[name] for name in self.columns]
        return score_maps(self.model, images, self.batch_size, self.precision)


class Searcher:
    """Runs the searches on one row group of patches.

    Parameters
    ----------
    config_json : str
        The configuration.
    weights : str
        Folder of MIUN's checkpoint.
    folder : str
        Where the detections go, a table per piece.
    searches : tuple of str
        Which of ``miun``, ``significance``, ``wavelet`` and ``kmeans`` to run.
    """

    def __init__(
        self, config_json: str, weights: str, folder: str, searches: tuple[str, ...]
    ) -> None:
        self.config = Config.model_validate_json(config_json)
        self.scores = MiunScores(self.config, Path(weights))
        self.folder = Path(folder)
        self.searches = searches

    def __call__(self, piece: Piece) -> Piece:
        """Search the patches of ``path``, row group ``group``."""
        path, group = Path(str(piece["path"])), int(piece["group"])
        stem = f"{path.stem}_{group:04d}"
        target = self.folder / f"{stem}.parquet"
        if not (
            is_whole(target, read_parquet) and is_whole(target.with_suffix(".json"), read_json)
        ):
            detections, accuracy = self.search(read_group(path, group))
            write_json(self.folder / f"{stem}.json", accuracy)
            write_parquet(target, detections)
        return {"detections": str(target), "accuracy": str(target.with_suffix(".json"))}

    def search(self, records: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, int]]:
        """Return detections of every search, and pixel counts for the adjusted accuracy."""
        config = self.config
        maps = self.scores(records)
        sky_id, ids = int(records["sky_id"][0]), records["patch_id"]
        frames, size = records["frame"], config.patches.size_deg
        settings = config.localisation
        found: dict[str, pd.DataFrame] = {}
        for name in self.searches:
            if name == "miun":
                found[name] = find_sources(maps, sky_id, ids, frames, size, settings)
            elif name == "kmeans":
                found[name] = kmeans_sources(maps, sky_id, ids, frames, size, settings, config.seed)
            else:
                images = tuple(records[c] for c in image_columns(config.channels))
                search = wavelet_sources if name == "wavelet" else significance_sources
                found[name] = search(images, config.channels, sky_id, ids, frames, size, settings)
        accuracy = asdict(count_pixels(maps, records["target"]))
        return (
            pd.concat([f.assign(search=name) for name, f in found.items()], ignore_index=True),
            accuracy,
        )
