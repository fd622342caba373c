"""A trained ranker, applied to the fitted sources of a sky."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from geminga.config import Config
from geminga.errors import InputError
from geminga.localisation.features import feature_names, source_features
from geminga.networks.checkpoint import FEATURES, load_checkpoint
from geminga.networks.ranker import Ranker, calibrated, real_logits

CALIBRATION = "calibration"
"""Key of the ranker's extra: slope and offset of its logits."""
SCORE_CUT = "score_cut"
"""Key of a packaged ranker's extra: least probability of what it lets into a catalogue."""


class RankedBy:
    """The ranker as a function from the sources of one sky to candidates with probabilities.

    Parameters
    ----------
    folder : Path
        Its checkpoint.
    config : Config
        Settings of the search that made the sources.

    Attributes
    ----------
    cut : float or None
        `SCORE_CUT` of a packaged ranker.

    Raises
    ------
    InputError
        If the checkpoint is missing, damaged or of another configuration.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        torch.set_num_threads(1)  # the same bits on any number of cores
        model, meta = load_checkpoint(folder, config, "ranker")
        if not isinstance(model, Ranker):
            raise TypeError(f"{folder} holds no ranker")
        self.model, self.channels = model, len(config.channels)
        names = tuple(meta["extra"][FEATURES])
        if names != feature_names(self.channels):
            raise InputError(
                str(folder), f"was trained on {len(names)} other features", "train it again"
            )
        cut = meta["extra"].get(SCORE_CUT)
        self.cut = None if cut is None else float(cut)
        self.slope, self.offset = (float(v) for v in meta["extra"][CALIBRATION])

    def __call__(self, candidates: pd.DataFrame) -> pd.DataFrame:
        """Return the candidates, likeliest first; score and ``probability`` are the same."""
        logits = real_logits(self.model, source_features(candidates, self.channels))
        probability = calibrated(logits, self.slope, self.offset)
        order = np.argsort(-probability, kind="stable")
        ranked = candidates.assign(score=probability, probability=probability)
        return ranked.iloc[order].reset_index(drop=True)
