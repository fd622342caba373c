"""How unlike every class a candidate is: Mahalanobis distance in the network's own features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64, Int64

_SHRINKAGE = 0.02
"""Part of the mean variance added to every direction, so that none is without scatter."""
_QUANTILES = 1001
_LEAST_MEMBERS = 2


@dataclass(frozen=True, eq=False)
class UnlikeReference:
    """Where the features of the classes lie, and how far held-out detections are from them.

    Attributes
    ----------
    means : Float64 (K, f)
        Mean features of each class; NaN of a class without members.
    precision : Float64 (f, f)
        Inverse of the covariance within classes.
    distances : Float64 (q,)
        Distances at equal steps of probability, of detections that were not trained on.
    """

    means: Float64
    precision: Float64
    distances: Float64

    def score(self, features: Float64) -> Float64:
        """Return the part (n,) of held-out detections that are nearer to a class than each row."""
        steps = np.linspace(0.0, 1.0, len(self.distances))
        return np.interp(
            nearest_distance(features, self.means, self.precision), self.distances, steps
        )


def fit_unlike(
    features: Float64, labels: Int64, n_classes: int, held_out: Float64
) -> UnlikeReference:
    """Return the reference of the score (Lee et al. 2018, without their input noise).

    One covariance for all classes, shrunk towards a sphere.

    Parameters
    ----------
    features, labels : Float64 (n, f), Int64 (n,)
        Training detections.
    n_classes : int
        Number of classes K.
    held_out : Float64 (m, f)
        Features of detections not trained on: those of the training are nearer to their classes.
    """
    means = np.full((n_classes, features.shape[1]), np.nan)
    within = np.zeros((features.shape[1], features.shape[1]))
    known = 0
    for label in range(n_classes):
        own = features[labels == label]
        if len(own) < _LEAST_MEMBERS:
            continue
        means[label] = own.mean(axis=0)
        # Classes count alike: else the most frequent one alone would set the scatter.
        within += np.cov(own, rowvar=False, bias=True)
        known += 1
    within /= max(known, 1)
    level = max(float(np.trace(within)) / len(within), 1e-12)
    precision: Float64 = np.linalg.inv(within + _SHRINKAGE * level * np.eye(len(within))).astype(
        np.float64
    )
    far = nearest_distance(held_out, means, precision)
    return UnlikeReference(means, precision, np.quantile(far, np.linspace(0.0, 1.0, _QUANTILES)))


def nearest_distance(features: Float64, means: Float64, precision: Float64) -> Float64:
    """Return the Mahalanobis distance (n,) of features (n, f) to the nearest class mean (K, f)."""
    best = np.full(len(features), np.inf)
    for mean in means[np.isfinite(means).all(axis=1)]:
        away = features - mean
        best = np.minimum(best, np.einsum("ij,jk,ik->i", away, precision, away, optimize=True))
    return np.asarray(np.sqrt(best), dtype=np.float64)


def mean_score(references: Sequence[UnlikeReference], features: Sequence[Float64]) -> Float64:
    """Return the mean score (n,) of several networks' features, each with its reference."""
    scores = [r.score(f) for r, f in zip(references, features, strict=True)]
    return np.asarray(np.mean(scores, axis=0))
