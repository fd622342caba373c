"""Classes of what was found in a user's photons, by a packaged classifier."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geminga.arrays import Int64
from geminga.config import Config
from geminga.distributed.simulate import response_of
from geminga.sky.coverage import Coverage, exposure_filled
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts

if TYPE_CHECKING:
    from geminga.classification.class_model import ClassModel

_LOG = logging.getLogger(__name__)

CLASSES_FOLDER = "classes"
"""Folder of the classifier inside a model's."""

Classify = Callable[[Photons | PixelCounts, Coverage, pd.DataFrame, Int64], pd.DataFrame]


def classifier_of(model_folder: Path, config: Config) -> Classify | None:
    """Return a model's classifier as a function; None, said in the log, if it has none.

    The function takes the photons, what they cover, all sources of the sky, and the rows of those
    to be classified; it returns the columns of `geminga.pipeline.class_columns` for them.

    Raises
    ------
    InputError
        If the weights are damaged or of another configuration.
    """
    folder = model_folder / CLASSES_FOLDER
    if not folder.exists():
        _LOG.info("model %s has no classifier: CLASS stays empty", model_folder.name)
        return None
    # torch takes a second and 200 MB, and what is refused before needs neither.
    from geminga.classification.class_model import ClassModel

    model = ClassModel.load(folder, config)

    def classify(
        photons: Photons | PixelCounts, coverage: Coverage, found: pd.DataFrame, rows: Int64
    ) -> pd.DataFrame:
        return _classified(model, config, photons, coverage, found, rows)

    return classify


def _classified(
    model: ClassModel,
    config: Config,
    photons: Photons | PixelCounts,
    coverage: Coverage,
    found: pd.DataFrame,
    rows: Int64,
) -> pd.DataFrame:
    from geminga.classification.measure_evidence import measure_evidence
    from geminga.pipeline.class_columns import class_columns

    _LOG.info("evidence on %d sources ...", len(rows))
    response = exposure_filled(response_of(config.model_dump_json()))
    evidence = measure_evidence(photons, found, response, config, rows, coverage=coverage)
    if evidence.year_ratio.shape[1] < 2:
        _LOG.warning("the photons have no times: classified without light curves")
    return class_columns(evidence, found["s1"].to_numpy(np.float64)[rows], model, config)
