"""Workers that search patches by likelihood."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geminga.arrays import Bool
from geminga.config import Config
from geminga.distributed.simulate import StoredSkies, diffuse_of, response_of
from geminga.distributed.work import Piece
from geminga.files import is_whole, read_parquet, write_parquet
from geminga.likelihood.diffuse_templates import diffuse_templates
from geminga.likelihood.expected_ts import without_sources
from geminga.likelihood.known import known_sources
from geminga.likelihood.search import (
    PatchSearch,
    make_search,
    places_of,
    search_patch,
)
from geminga.likelihood.source_table import source_columns, source_table
from geminga.patches.covered import outside_columns
from geminga.patches.grid import grid_for_sky
from geminga.patches.records import image_columns
from geminga.patches.render import expected_images
from geminga.patches.store import read_group
from geminga.sky.coverage import exposure_filled
from geminga.sky.sky import Sky


def list_file(folder: Path, sky_id: int) -> Path:
    """Return where the sources of a sky are kept between and after the rounds of a search."""
    return folder / f"sources_{sky_id:07d}.parquet"


@lru_cache(maxsize=1)
def search_of(config_json: str) -> PatchSearch:
    """Return the tables of a search, made once per process."""
    config = Config.model_validate_json(config_json)
    return make_search(config, exposure_filled(response_of(config_json)))


class LikelihoodSearcher:
    """Searches the patches of one row group.

    Parameters
    ----------
    config_json : str
        The configuration.
    reference : str
        Diffuse counts of the reference model.
    folder : str
        Where the tables go, one per piece.
    thresholds : tuple of float
        Of the rounds; see `search_patch`.
    known : str
        Folder of the lists that the search starts from; empty for none. Those sources are
        reported in full, without them they are only found.
    true_skies : (str, str), optional
        Diffuse counts and folder of the simulated skies: with them the true background is used.
    """

    def __init__(
        self,
        config_json: str,
        reference: str,
        folder: str,
        thresholds: tuple[float, ...],
        known: str,
        true_skies: tuple[str, str] | None = None,
    ) -> None:
        self.config = Config.model_validate_json(config_json)
        self.search = search_of(config_json)
        self.reference, self.folder = reference, Path(folder)
        self.thresholds, self.known, self.in_full = thresholds, known, bool(known)
        self.skies = None if true_skies is None else StoredSkies(config_json, *true_skies)
        self.last: tuple[int, Sky] | None = None

    def __call__(self, piece: Piece) -> Piece:
        """Search the patches of ``path``, row group ``group``."""
        path, group, sky_id = (piece[name] for name in ("path", "group", "sky_id"))
        target = self.folder / f"{Path(str(path)).stem}_{int(group):04d}.parquet"
        if not is_whole(target, read_parquet):
            write_parquet(
                target, self.patches(read_group(Path(str(path)), int(group)), int(sky_id))
            )
        return {"sources": str(target)}

    def patches(self, records: dict[str, Any], sky_id: int) -> pd.DataFrame:
        """Return the sources (`patch_sources`) of counted records of one sky."""
        frames, size = records["frame"], self.config.patches.size_deg
        images = [records[name] for name in image_columns(self.config.channels)]
        known = known_sources()
        if self.known:
            known = known_sources(read_parquet(list_file(Path(self.known), sky_id)))
        templates = true = None
        if self.skies is None:
            diffuse = diffuse_of(self.reference)
            templates = diffuse_templates(self.search.response, diffuse, frames, size)
        else:
            true = expected_images(without_sources(self._sky(sky_id)), frames, size)
        columns = []
        places = places_of(self.search, frames, grid_for_sky(self.config, sky_id).frames)
        for p, place in enumerate(places):
            result = search_patch(
                self.search,
                [image[p] for image in images],
                place,
                known,
                self.thresholds,
                templates=None if templates is None else templates.part(slice(p, p + 1)),
                background=None if true is None else [image[p] for image in true],
                outside=_outside(records, self.config, p),
                in_full=self.in_full,
            )
            columns.append(source_columns(result.fit, result.diffuse, place.frame, size))
        channels = len(self.config.channels)
        return source_table(columns, sky_id, records["patch_id"], channels)

    def _sky(self, sky_id: int) -> Sky:
        if self.skies is None:
            raise ValueError("no simulated skies were given")
        if self.last is None or self.last[0] != sky_id:
            self.last = sky_id, self.skies.load(sky_id)
        return self.last[1]


def _outside(records: dict[str, Any], config: Config, patch: int) -> list[Bool] | None:
    """Return which pixels of a patch were not observed, per channel; None if all were."""
    masks = [
        np.asarray(records[name][patch], np.bool_)
        for name in outside_columns(config.channels)
        if name in records
    ]
    return masks if any(mask.any() for mask in masks) else None
