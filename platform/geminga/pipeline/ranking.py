"""The stage that trains the ranker: which fitted sources of simulated skies were real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from torch import nn

from geminga.arrays import Bool, Float64
from geminga.errors import InputError
from geminga.evaluation.extended import masked, matched
from geminga.files import is_whole, read_parquet, write_json, write_parquet
from geminga.localisation.features import feature_names, source_features
from geminga.networks.checkpoint import FEATURES
from geminga.networks.ranker import Ranker, real_logits
from geminga.pipeline.ranked import CALIBRATION, RankedBy
from geminga.pipeline.runner import Context
from geminga.pipeline.search import (
    CUTS_FILE,
    LIKELIHOOD,
    RANKED,
    candidate_file,
    choose_cut,
    extended_of,
    truth_of,
)
from geminga.pipeline.simulate import sky_ids
from geminga.pipeline.train import train_and_save
from geminga.seeds import Split
from geminga.training.rows import TARGET


def run_ranker(context: Context, folder: Path) -> Mapping[str, Any]:
    """Train on the sources fitted in training skies, calibrate on those of validation skies.

    The calibration, two numbers, and the score cut come from the validation skies, as does the
    epoch that is kept.
    """
    config = context.config
    if config.localisation.detector != "likelihood":
        return {"ranker": "not wanted (localisation.detector)"}
    files: dict[Split, list[Path]] = {}
    for split in (Split.TRAIN, Split.VALID):
        files[split] = [rows_file(folder, sky) for sky in sky_ids(config, split)]
        for sky, path in zip(sky_ids(config, split), files[split], strict=True):
            if not is_whole(path, read_parquet):
                write_parquet(path, _labelled_rows(context, sky))
    _check_both(files[Split.TRAIN], "training")
    _check_both(files[Split.VALID], "validation")

    def calibrate(model: nn.Module) -> dict[str, Any]:
        if not isinstance(model, Ranker):
            raise TypeError("not a ranker")
        held = pd.concat([read_parquet(path) for path in files[Split.VALID]], ignore_index=True)
        names = list(feature_names(len(config.channels)))
        logits = real_logits(model, held[names].to_numpy(np.float32))
        return {CALIBRATION: _platt(logits, held[TARGET].to_numpy() > 0)}

    extra = {FEATURES: list(feature_names(len(config.channels)))}
    figures = train_and_save(
        "ranker", context, folder, files[Split.TRAIN], files[Split.VALID], extra, calibrate
    )
    rank = RankedBy(folder / "model", config)
    for sky in sky_ids(config, Split.TRAIN, Split.VALID):
        listed = read_parquet(candidate_file(context.folder("search_training"), LIKELIHOOD, sky))
        write_parquet(candidate_file(folder, RANKED, sky), rank(listed))
    cut = choose_cut(context, folder, RANKED, sky_ids(config, Split.VALID))
    write_json(folder / CUTS_FILE, {RANKED: cut})
    return {**figures, "probability cut": round(cut, 3)}


def rows_file(folder: Path, sky: int) -> Path:
    """Return where the ranker's stage keeps features and truth of a sky's fitted sources."""
    return folder / "rows" / f"rows_{sky:07d}.parquet"


def _labelled_rows(context: Context, sky: int) -> pd.DataFrame:
    """Return features and truth of the fitted sources of a sky, those on extended sources left out."""
    config = context.config
    path = candidate_file(context.folder("search_training"), LIKELIHOOD, sky)
    candidates = read_parquet(path)
    radius = config.evaluation.match_radius_deg
    is_true = matched(candidates, truth_of(context, sky), radius)
    counted = ~masked(candidates, is_true, extended_of(context, sky), radius)
    channels = len(config.channels)
    names = feature_names(channels)
    rows = pd.DataFrame(source_features(candidates, channels), columns=list(names))
    rows[TARGET] = is_true.astype(np.float32)
    return rows[counted].reset_index(drop=True)


def _check_both(files: Sequence[Path], name: str) -> None:
    true = np.concatenate([read_parquet(path)[TARGET].to_numpy() for path in files])
    if not 0 < true.sum() < len(true):
        raise InputError(
            f"{name} skies",
            f"have {int(true.sum())} true ones among {len(true)} detections",
            "the ranker needs both kinds: simulate more skies or lower likelihood.search_least_ts",
        )


def _platt(logits: Float64, is_true: Bool) -> list[float]:
    """Return slope and offset of the logits that fit best (Platt 1999)."""
    fit = LogisticRegression(C=np.inf).fit(logits[:, None], is_true)
    return [float(fit.coef_[0, 0]), float(fit.intercept_[0])]
