"""The likelihood search on one list of photons, its sources judged by a packaged ranker."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from geminga.arrays import Int64
from geminga.classes import INTERSTELLAR
from geminga.config import Config
from geminga.distributed.session import close_ray
from geminga.distributed.simulate import patch_file, response_of
from geminga.errors import InputError
from geminga.patches.covered import covered_records
from geminga.patches.grid import PatchGrid, grid_for_sky
from geminga.patches.store import write_records
from geminga.pipeline.detect_classes import classifier_of
from geminga.pipeline.likelihood import candidates_of, likelihood_search
from geminga.seeds import Split, sky_id
from geminga.sky.coverage import Coverage
from geminga.sky.emission.diffuse import diffuse_counts, reference_config
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts
from geminga.tables import patch_sources

if TYPE_CHECKING:
    from geminga.pipeline.ranked import RankedBy

_LOG = logging.getLogger(__name__)

REFERENCE_FILE = "reference.npz"
RANKER_FOLDER = "ranker"
"""Folder of the weights inside a model's."""
NOTES = "search"
"""Key of ``DataFrame.attrs``: what the provenance says of a search."""
LEAST_TS = 25.0
"""Without a ranker sources from this TS up are kept: the cut of the LAT's catalogues
(arXiv:2005.11208), whose score is no probability."""
FEW_PATCHES = 32
"""As few are searched in this process, before Ray would have started."""


def search_by_likelihood(
    photons: Photons | PixelCounts,
    coverage: Coverage,
    config: Config,
    model_folder: Path,
    everything: bool = False,
) -> pd.DataFrame:
    """Search the covered patches of a sky by likelihood and judge what is found.

    Parameters
    ----------
    photons : Photons or PixelCounts
    coverage : Coverage
        Patches without any of it are skipped, pixels outside say nothing, and sources there are
        dropped.
    config : Config
        Of the model, with the response of the photons.
    model_folder : Path
        Holds the weights in ``ranker``. Without them the score is the TS, which is said in the log
        and in the notes.
    everything : bool
        Keep sources below the model's score cut.

    Returns
    -------
    DataFrame
        CANDIDATES, surest first, with what the fits say (`candidates_of`) and, with a ranker,
        ``probability``, with a classifier the columns of `geminga.pipeline.class_columns`;
        ``attrs[NOTES]`` is what the provenance says.

    Raises
    ------
    InputError
        If the weights are damaged or of another configuration, or an input of the reference model
        of the diffuse emission is missing.
    """
    rank, classify = ranker_of(model_folder, config), classifier_of(model_folder, config)
    sky = sky_id(Split.TEST, 0)
    grid = grid_for_sky(config, sky)
    used = np.flatnonzero(coverage.patch_shares(grid.frames, grid.size_deg) > 0)
    sources, reference = _sources(photons, coverage, config, grid, used, sky)
    found = candidates_of(sources, config, sky)
    lon, lat = found["lon_deg"].to_numpy(), found["lat_deg"].to_numpy()
    found = found[coverage.holds(lon, lat)].reset_index(drop=True)
    cut = LEAST_TS
    if rank is not None:
        found, cut = rank(found), _cut_of(rank, model_folder)
    chosen = np.flatnonzero((found["score"] >= cut) | everything)
    kept = found.iloc[chosen].reset_index(drop=True)
    if classify is not None:
        kept = pd.concat([kept, classify(photons, coverage, found, chosen)], axis=1)
    _LOG.info(
        "%d sources fitted, %d of them with a score of %.3g or more%s",
        len(found),
        int((found["score"] >= cut).sum()),
        cut,
        "; all are written" if everything else "",
    )
    notes: dict[str, Any] = {
        "method": "likelihood",
        "score": "TS: the model has no weights" if rank is None else "probability to be real",
        "score_cut": cut,
        "below_the_cut_kept": everything,
        "patches_searched": len(used),
        "sources_fitted": len(found),
        "reference_diffuse_model": reference,
        "classified": classify is not None,
    }
    kept.attrs[NOTES] = notes
    return kept


def ranker_of(model_folder: Path, config: Config) -> RankedBy | None:
    """Return a model's ranker; None, with a warning, if the model was packaged without weights.

    Raises
    ------
    InputError
        If the weights are damaged or of another configuration, or have no score cut.
    """
    folder = model_folder / RANKER_FOLDER
    if not folder.exists():
        _LOG.warning(
            "model %s has no weights: the score is the TS of the fit, from %g up, and no probability",
            model_folder.name,
            LEAST_TS,
        )
        return None
    # torch takes a second and 200 MB, and what is refused before needs neither.
    from geminga.pipeline.ranked import RankedBy

    rank = RankedBy(folder, config)
    _cut_of(rank, model_folder)
    return rank


def _cut_of(rank: RankedBy, model_folder: Path) -> float:
    if rank.cut is None:
        raise InputError(
            str(model_folder / RANKER_FOLDER),
            "has no score_cut in its model.json",
            "package the model with 'geminga package-model'",
        )
    return rank.cut


def _sources(
    photons: Photons | PixelCounts,
    coverage: Coverage,
    config: Config,
    grid: PatchGrid,
    used: Int64,
    sky: int,
) -> tuple[pd.DataFrame, str]:
    """Return `patch_sources` of the sky, every source once, and the reference model's origin."""
    if not len(used):
        return patch_sources(len(config.channels)).empty(), "none"
    few = len(used) <= FEW_PATCHES
    with tempfile.TemporaryDirectory(prefix="geminga-detect-") as name:
        folder = Path(name).resolve()
        _LOG.info("expected counts of the diffuse emission ...")
        response = response_of(config.model_dump_json())
        reference = diffuse_counts(reference_config(config), response)
        reference.save(folder / REFERENCE_FILE)
        origin = reference.origin[INTERSTELLAR]
        del reference  # the workers map the file
        _LOG.info("photons into %d patches ...", len(used))
        write_records(
            patch_file(folder, sky),
            covered_records(photons, coverage, grid, used, config, sky),
            parts=isinstance(photons, PixelCounts),
        )
        try:
            lists = likelihood_search(
                config, folder, [sky], folder, str(folder / REFERENCE_FILE), label="search",
                here=few,
            )  # fmt: skip
        finally:
            if not few:
                close_ray()
    return lists[sky], origin
