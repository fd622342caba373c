"""Stages that search patches for sources: on training and validation skies, then on test skies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geminga import storage
from geminga.config import Config
from geminga.distributed.search import Searcher
from geminga.distributed.session import ray_session
from geminga.distributed.simulate import patch_pieces, sky_folder
from geminga.distributed.work import run_pieces
from geminga.evaluation.extended import masked, matched
from geminga.evaluation.metrics import PixelCounts
from geminga.files import read_json, read_parquet, write_json, write_parquet
from geminga.likelihood.sky_list import GAP_DEG
from geminga.localisation.choose import score_cut
from geminga.localisation.stitch import stitch
from geminga.patches.grid import grid_for_sky
from geminga.pipeline.likelihood import candidates_of, likelihood_search
from geminga.pipeline.ranked import RankedBy
from geminga.pipeline.runner import Context
from geminga.pipeline.simulate import diffuse_path, reference_path, sky_ids, test_sky_ids
from geminga.seeds import Split
from geminga.sky.labelled import labelled
from geminga.sky.sky_files import EXTENDED_FILE, SOURCES_FILE
from geminga.tables import CANDIDATES, EXTENDED, PATCH_DETECTIONS, TRUTH

MIUN = "miun"
SIGNIFICANCE = "significance"
WAVELET = "wavelet"
KMEANS = "kmeans"
LIKELIHOOD = "likelihood"
RANKED = "ranked"
CLASSIFIED = "classified"
ORACLE = "oracle"
CALIBRATED = (LIKELIHOOD, MIUN, SIGNIFICANCE, WAVELET)
"""Searches whose score cut is chosen on validation skies, as far as they are run."""

SEARCH_NAMES = {
    RANKED: "likelihood and ranker",
    CLASSIFIED: "likelihood, ranker and classifier",
    LIKELIHOOD: "likelihood (TS)",
    MIUN: "MIUN",
    SIGNIFICANCE: "threshold search",
    WAVELET: "wavelet search",
    KMEANS: "k-means on MIUN",
    ORACLE: "oracle (true background)",
}
BY_LIKELIHOOD = (LIKELIHOOD, ORACLE)
CUTS_FILE = "cuts.json"


def candidate_file(folder: Path, search: str, sky: int) -> Path:
    """Return where the candidates of a search on a sky are kept."""
    return folder / f"candidates_{search}_{sky:07d}.parquet"


def truth_of(context: Context, sky: int) -> pd.DataFrame:
    """Return the true sources of a simulated sky that lie in its patches and the gaps between."""
    path = sky_folder(context.folder("skies"), sky) / SOURCES_FILE
    truth = TRUTH.check(read_parquet(path), str(path))
    grid = grid_for_sky(context.config, sky)
    inside = grid.covers(truth["lon_deg"].to_numpy(), truth["lat_deg"].to_numpy(), -GAP_DEG) > 0
    return labelled(truth[inside], context.config.sky).reset_index(drop=True)


def extended_of(context: Context, sky: int) -> pd.DataFrame:
    """Return the extended sources of a simulated sky."""
    path = sky_folder(context.folder("skies"), sky) / EXTENDED_FILE
    return EXTENDED.check(read_parquet(path), str(path))


def run_search_training(context: Context, folder: Path) -> Mapping[str, Any]:
    """Search training and validation skies; choose the score cuts on the validation skies."""
    config = context.config
    patches = context.folder("observe_training")
    train, valid = sky_ids(config, Split.TRAIN), sky_ids(config, Split.VALID)
    primary = MIUN if primary_search(config) == MIUN else LIKELIHOOD
    _search(context, folder, patches, train, (primary,))
    calibrated = [name for name in searches_of(config) if name in CALIBRATED]
    _search(context, folder, patches, valid, tuple(calibrated))
    cuts = {name: choose_cut(context, folder, name, valid) for name in calibrated}
    if LIKELIHOOD in cuts:
        cuts[ORACLE] = cuts[LIKELIHOOD]
    write_json(folder / CUTS_FILE, cuts)
    return {f"score cut of the {SEARCH_NAMES[k]}": round(cuts[k], 2) for k in calibrated}


def run_search(context: Context, folder: Path) -> Mapping[str, Any]:
    """Search the test skies with MIUN and the classical searches."""
    config = context.config
    searches = searches_of(config)
    skies = test_sky_ids(config)
    patches = context.folder("observe")
    accuracy = _search(context, folder, patches, skies, searches)
    write_json(folder / "accuracy.json", asdict(accuracy))
    if RANKED in searches:
        rank = RankedBy(context.folder("ranker") / "model", config)
        for sky in skies:
            listed = read_parquet(candidate_file(folder, LIKELIHOOD, sky))
            write_parquet(candidate_file(folder, RANKED, sky), rank(listed))
    return {
        f"candidates of the {SEARCH_NAMES[name]}": sum(
            len(read_parquet(candidate_file(folder, name, sky))) for sky in skies
        )
        for name in searches
    }


def searches_of(config: Config) -> tuple[str, ...]:
    """Return the searches run on the test skies."""
    evaluation = config.evaluation
    by_likelihood = config.localisation.detector == "likelihood"
    wanted = {
        # No search of its own: the list of the ranker, judged again by the classifier.
        CLASSIFIED: False,
        RANKED: by_likelihood,
        LIKELIHOOD: by_likelihood,
        WAVELET: evaluation.wavelet,
        KMEANS: evaluation.kmeans,
        # Only a simulation knows its true background.
        ORACLE: by_likelihood and config.observed is None,
    }
    return tuple(name for name in SEARCH_NAMES if wanted.get(name, True))


def selected(context: Context, search: str, candidates: pd.DataFrame) -> pd.DataFrame:
    """Return the candidates above the score cut of their search."""
    keep = candidates["score"] >= score_cuts(context).get(search, -np.inf)
    return candidates[keep].reset_index(drop=True)


def score_cuts(context: Context) -> dict[str, float]:
    """Return the score cuts chosen on the validation skies."""
    cuts = dict(read_json(context.folder("search_training") / CUTS_FILE))
    ranked = context.folder("ranker") / CUTS_FILE
    return {**cuts, **read_json(ranked)} if storage.exists(ranked) else cuts


def primary_search(config: Config) -> str:
    """Return the search whose detections become the catalogue."""
    return RANKED if config.localisation.detector == "likelihood" else MIUN


def training_candidates(context: Context, sky: int) -> Path:
    """Return the file of that search's candidates on a training or validation sky."""
    name = primary_search(context.config)
    stage = "ranker" if name == RANKED else "search_training"
    return candidate_file(context.folder(stage), name, sky)


def _search(
    context: Context, folder: Path, patches: Path, skies: Sequence[int], searches: tuple[str, ...]
) -> PixelCounts:
    """Run searches on skies and write their candidates; RANKED is a later stage's."""
    on_maps = tuple(n for n in searches if n not in (*BY_LIKELIHOOD, RANKED))
    accuracy = PixelCounts()
    if on_maps:
        accuracy = _search_patches(context, folder, patches, skies, on_maps)
    _by_likelihood(context, folder, patches, skies, searches)
    return accuracy


def _by_likelihood(
    context: Context, folder: Path, patches: Path, skies: Sequence[int], searches: Sequence[str]
) -> None:
    """Run those of the searches that go by likelihood; write their candidates."""
    config = context.config
    true_skies = diffuse_path(context), str(context.folder("skies").resolve())
    for name in searches:
        if name not in BY_LIKELIHOOD:
            continue
        lists = likelihood_search(
            config,
            patches,
            skies,
            folder / name,
            reference_path(context),
            true_skies if name == ORACLE else None,
            name,
        )
        for sky, sources in lists.items():
            write_parquet(candidate_file(folder, name, sky), candidates_of(sources, config, sky))


def _search_patches(
    context: Context,
    folder: Path,
    patches: Path,
    skies: Sequence[int],
    searches: tuple[str, ...],
) -> PixelCounts:
    config = context.config
    pieces_folder = folder / "pieces"
    pieces = patch_pieces(patches, skies)
    weights = str((context.folder("miun") / "model").resolve())
    arguments = (config.model_dump_json(), weights, str(pieces_folder.resolve()), searches)
    with ray_session():
        rows = run_pieces(Searcher, arguments, pieces, config.run.workers, "search", "group")
    accuracy = PixelCounts()
    frames: dict[int, list[pd.DataFrame]] = {sky: [] for sky in skies}
    for piece, row in zip(pieces, rows, strict=True):
        frames[int(str(piece["sky_id"]))].append(read_parquet(Path(row["detections"])))
        accuracy += PixelCounts(**read_json(Path(row["accuracy"])))
    for sky in skies:
        _stitch_sky(config, folder, sky, pd.concat(frames[sky], ignore_index=True), searches)
    return accuracy


def _stitch_sky(
    config: Config, folder: Path, sky: int, detections: pd.DataFrame, searches: tuple[str, ...]
) -> None:
    grid = grid_for_sky(config, sky)
    for name in searches:
        rows = detections[detections["search"] == name]
        table = PATCH_DETECTIONS.check(rows, name) if len(rows) else PATCH_DETECTIONS.empty()
        pixel_deg = config.patches.size_deg / config.top_pixels
        candidates = stitch(table, grid, config.localisation, pixel_deg)
        write_parquet(
            candidate_file(folder, name, sky), candidates if len(candidates) else CANDIDATES.empty()
        )


def choose_cut(context: Context, folder: Path, search: str, skies: Sequence[int]) -> float:
    """Return the lowest score at which validation detections reach the purity floor."""
    config = context.config
    floor = config.localisation.purity_floor
    if floor is None:
        return 0.0
    scores, true = [], []
    for sky in skies:
        candidates = read_parquet(candidate_file(folder, search, sky))
        radius = config.evaluation.match_radius_deg
        is_true = matched(candidates, truth_of(context, sky), radius)
        counted = ~masked(candidates, is_true, extended_of(context, sky), radius)
        scores.append(candidates["score"].to_numpy()[counted])
        true.append(is_true[counted])
    return float(score_cut(np.concatenate(scores), np.concatenate(true), floor))
