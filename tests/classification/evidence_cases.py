"""Simple evidence whose classes are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from geminga.arrays import Float64, Int64
from geminga.classification.evidence import DETECTION_NAMES, Evidence

EDGES = np.array([[1.0, 3.0], [3.0, 30.0]])
NAMES = ("soft", "hard", "steady", "FAKE")


def power_law(index: Float64, flux: Float64, edges: Float64 = EDGES) -> Float64:
    """Return photon fluxes (n, C) of power laws that have `flux` in all channels together."""
    low, high = edges.T
    part = low ** (1 - index[:, None]) - high ** (1 - index[:, None])
    return np.asarray(flux[:, None] * part / part.sum(axis=1, keepdims=True))


def classed_evidence(
    n: int, seed: int, years: int = 4, planes: int = 2, significance: float = 12.0
) -> tuple[Evidence, Int64]:
    """Return n candidates of four classes: by index, by variability, and by extent of the stamp."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, p=[0.4, 0.3, 0.1, 0.2], size=n)
    index = np.choose(labels, [2.6, 1.8, 2.2, 2.2]) + 0.1 * rng.normal(size=n)
    flux = 1e-9 * 10 ** rng.uniform(0, 1, n)
    true = power_law(index, flux)
    error = np.maximum(true, 2e-10) / significance
    vary = np.where(labels == 0, 0.6, 0.1)[:, None]
    ratio = 1 + vary * rng.normal(size=(n, years))
    detection = rng.normal(size=(n, len(DETECTION_NAMES)))
    detection[:, 1] -= 2.0 * (labels == 3)
    stamps = np.ones((n, planes, 2, 5, 5), np.float32)
    stamps[:, :, 0] = rng.poisson(1.0, (n, planes, 5, 5))
    stamps[:, :, 0, 2, 2] += 8.0 * (labels != 3)[:, None]
    evidence = Evidence(
        rng.uniform(0, 360, n),
        np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        EDGES,
        true + error * rng.normal(size=true.shape),
        error,
        ratio,
        np.full((n, years), 0.1),
        detection,
        stamps,
    )
    return evidence, labels


def changed(evidence: Evidence, **arrays: Any) -> Evidence:
    """Return evidence with other arrays."""
    names = evidence.__dataclass_fields__
    return Evidence(**{name: arrays.get(name, getattr(evidence, name)) for name in names})
