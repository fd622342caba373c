"""The true class of each detection of a simulated sky."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from geminga.arrays import Int64
from geminga.classes import with_fake
from geminga.errors import InputError
from geminga.matching import match


def label_candidates(
    candidates: pd.DataFrame, truth: pd.DataFrame, classes: Sequence[str], match_radius_deg: float
) -> Int64:
    """Return the class of the true source that each detection is matched with.

    Parameters
    ----------
    candidates : DataFrame
        Table CANDIDATES.
    truth : DataFrame
        Table TRUTH.
    classes : sequence of str
        Classes of the configuration.
    match_radius_deg : float
        Largest distance of a detection from its source.

    Returns
    -------
    Int64 (n,)
        Index into ``with_fake(classes)``; unmatched detections, duplicates included, are FAKE.

    Raises
    ------
    InputError
        If a true source has a class that is not among `classes`.
    """
    return partners(candidates, truth, classes, match_radius_deg)[0]


def partners(
    candidates: pd.DataFrame, truth: pd.DataFrame, classes: Sequence[str], match_radius_deg: float
) -> tuple[Int64, Int64]:
    """Return `label_candidates`, and the row of `truth` that each is matched with or -1, each (n,).

    Raises
    ------
    InputError
        If a true source has a class that is not among `classes`.
    """
    names = truth["class_name"].to_numpy(dtype=object)
    number = {name: index for index, name in enumerate(classes)}
    unknown = sorted({str(name) for name in names} - set(number))
    if unknown:
        raise InputError(
            "truth", f"has sources of class {', '.join(unknown)}", f"classes are {list(classes)}"
        )
    labels = np.full(len(candidates), len(with_fake(classes)) - 1, dtype=np.int64)
    pairs = match(candidates, truth, match_radius_deg)
    pairs = pairs[(pairs["candidate"] >= 0) & (pairs["source"] >= 0)]
    rows, sources = pairs["candidate"].to_numpy(), pairs["source"].to_numpy()
    labels[rows] = [number[name] for name in names[sources]]
    partner = np.full(len(candidates), -1, dtype=np.int64)
    partner[rows] = sources
    return labels, partner
