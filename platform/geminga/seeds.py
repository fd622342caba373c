"""Random numbers that never depend on who computes what.

Every draw comes from a generator keyed by (root seed, stage, sky, patch, ...), so that one
worker and eight give the same bytes.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stage(IntEnum):
    """What a random stream is for; the numbers are part of every result and never change."""

    SOURCES = 1
    DIFFUSE = 2
    GRID = 3
    PHOTONS = 4
    POISSON_TRAIN = 5
    POISSON_VALID = 6
    WEIGHTS = 7
    SHUFFLE = 8
    CANDIDATES = 9
    IMAGES = 10
    HEALPIX_JITTER = 11
    KMEANS = 12
    EVENTS = 13
    DEPTH = 14
    INTERSTELLAR = 15
    BOOTSTRAP = 16
    TEXTURE = 17
    EVIDENCE = 18
    CATALOGUE = 19
    CEILING = 20


class Split(IntEnum):
    """Which set a sky belongs to; offsets keep the sky numbers of the sets apart."""

    TRAIN = 0
    VALID = 1
    TEST = 2


SKIES_PER_SPLIT = 1_000_000


def sky_id(split: Split, number: int) -> int:
    """Return the identifier of sky `number` of a set, unique over all sets."""
    return int(split) * SKIES_PER_SPLIT + number


def generator(root: int, stage: Stage, *key: int) -> np.random.Generator:
    """Return the random generator of one (stage, sky, patch, ...) of a run.

    Parameters
    ----------
    root : int
        Root seed of the run.
    stage : Stage
        What the numbers are for.
    *key : int
        Non-negative integers that identify the piece of work, for example sky and patch.
    """
    return np.random.Generator(
        np.random.PCG64DXSM(np.random.SeedSequence(root, spawn_key=(int(stage), *key)))
    )
