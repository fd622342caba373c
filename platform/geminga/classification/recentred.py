"""True positives to be measured again off their centre, so that rare classes are not starved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.config import Config
from geminga.geometry import lon_lat, tangent_frames
from geminga.seeds import Stage, generator

_LOG_ERROR = DETECTION_NAMES.index("log_position_error")


@dataclass(frozen=True)
class Recentred:
    """Rows of the evidence to be measured again, and where.

    Attributes
    ----------
    rows : Int64 (m,)
    at : (Float64 (m,), Float64 (m,))
        Galactic longitude and latitude, degrees.
    """

    rows: Int64
    at: tuple[Float64, Float64]


def recentred(
    evidence: Evidence,
    label: Int64,
    source: Int64,
    sources: pd.DataFrame,
    config: Config,
    sky_id: int,
) -> Recentred:
    """Choose true positives of the rarer classes and places near their true positions.

    A class gets as many further rows for each of its own, at most ``evidence.jittered_copies``, as
    bring it up to the most frequent class. Each place is the true position moved by the position
    error of the detection: another outcome of the same localisation.

    Parameters
    ----------
    evidence : Evidence
        Of the n candidates of a sky.
    label : Int64 (n,)
        Index into ``with_fake(classes)``.
    source : Int64 (n,)
        Row of each true positive in `sources`; -1 of others.
    sources : DataFrame
        Table TRUTH of the sky.
    config : Config
        Classes, seed and ``evidence.jittered_copies``.
    sky_id : int
        With the seed it fixes the places.
    """
    true = (source >= 0) & (label < len(config.classes))
    numbers = np.bincount(label[true], minlength=len(config.classes))
    rows = [np.zeros(0, np.int64)]
    for number, count in enumerate(numbers):
        copies = min(int(numbers.max() // max(count, 1)) - 1, config.evidence.jittered_copies)
        if count:
            rows.append(np.repeat(np.flatnonzero(true & (label == number)), max(copies, 0)))
    chosen = np.concatenate(rows)
    place = sources.iloc[source[chosen]]
    frames = tangent_frames(place["lon_deg"].to_numpy(), place["lat_deg"].to_numpy())
    rng = generator(config.seed, Stage.EVIDENCE, sky_id)
    error_rad = np.radians(10.0 ** evidence.detection[chosen, _LOG_ERROR])
    shift = rng.normal(size=(len(chosen), 2)) * error_rad[:, None]
    moved = frames[:, 0] + np.einsum("nk,nkd->nd", shift, frames[:, 1:])
    return Recentred(chosen, lon_lat(moved))
