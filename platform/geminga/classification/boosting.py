"""Gradient boosting on fitted quantities: the baseline beside the network on evidence."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.classification.calibration import Calibration, Prior, fit_calibration, softmax
from geminga.errors import InputError

logger = logging.getLogger(__name__)

_LEAST_MEMBERS = 10
"""Samples per class below which no part of them is held out to stop early."""


@dataclass(frozen=True, eq=False)
class BoostingModel:
    """Boosted trees that answer for classes of equal weight; see `calibrated`.

    Attributes
    ----------
    trees : HistGradientBoostingClassifier
        On the columns `used`: those that had more than one value in the training.
    n_classes : int
        Number of classes K.
    calibration : Calibration, optional
        Temperature and priors.
    """

    trees: HistGradientBoostingClassifier
    used: Bool
    n_classes: int
    calibration: Calibration | None = None

    def logits(self, quantities: Float32) -> Float64:
        """Return log probabilities (n, K), classes of equal weight; -30 of a class never seen."""
        result = np.full((len(quantities), self.n_classes), -30.0)
        if len(quantities):
            p = self.trees.predict_proba(quantities[:, self.used])
            result[:, self.trees.classes_] = np.log(np.maximum(p, 1e-12))
        return result

    def probabilities(
        self,
        quantities: Float32,
        prior: Prior | Float64 = "flat",
        lat_deg: Float64 | None = None,
    ) -> Float64:
        """Return class probabilities (n, K); priors as `Calibration.probabilities`.

        Raises
        ------
        InputError
            If another prior than ``flat`` is asked of trees that were not calibrated.
        """
        logits = self.logits(quantities)
        if self.calibration is not None:
            return self.calibration.probabilities(logits, prior, lat_deg)
        if not (isinstance(prior, str) and prior == "flat"):
            raise InputError(
                "boosting", "has no class mix but the flat one", "calibrate it on other skies"
            )
        return softmax(logits)

    def calibrated(
        self,
        quantities: Float32,
        labels: Int64,
        natural_quantities: Float32,
        natural_labels: Int64,
        natural_lat_deg: Float64,
    ) -> BoostingModel:
        """Return the same trees with temperature and priors, as `fit_calibration` makes them."""
        calibration = fit_calibration(
            self.logits(quantities),
            labels,
            self.logits(natural_quantities),
            natural_labels,
            natural_lat_deg,
        )
        return BoostingModel(self.trees, self.used, self.n_classes, calibration)


def fit_boosting(
    quantities: Float32, labels: Int64, seed: int, n_classes: int | None = None
) -> BoostingModel:
    """Train gradient boosting (Friedman 2001; scikit-learn's histogram version) on quantities.

    Classes weigh alike; training stops when a held-out tenth no longer gains.

    Parameters
    ----------
    quantities : Float32 (n, k)
        See `inputs.class_quantities`; not a number where not measured.
    labels : Int64 (n,)
        Class numbers.
    seed : int
        Of the split and of the binning.
    n_classes : int, optional
        Number of classes; the greatest label and one if not given.

    Raises
    ------
    InputError
        If there are fewer than two classes.
    """
    counts = np.bincount(labels, minlength=n_classes or 0)
    if np.count_nonzero(counts) < 2:
        raise InputError(
            "boosting",
            f"{len(labels)} samples of {np.count_nonzero(counts)} classes",
            "give samples of two classes at least",
        )
    stop = bool(counts[counts > 0].min() >= _LEAST_MEMBERS)
    if not stop:
        logger.info("boosting: a class has %d samples, no early stop", counts[counts > 0].min())
    trees = HistGradientBoostingClassifier(
        learning_rate=0.06,
        max_iter=300,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        l2_regularization=1.0,
        max_features=0.5,
        class_weight="balanced",
        early_stopping=stop,
        n_iter_no_change=15,
        validation_fraction=0.1,
        random_state=seed,
    )
    # Others cannot be binned: a catalogue tells nothing of the detection, for example.
    used = np.array([len(np.unique(v[np.isfinite(v)])) > 1 for v in quantities.T], dtype=bool)
    if not used.any():
        raise InputError("boosting", "no quantity varies", "measure at least one")
    trees.fit(quantities[:, used], labels)
    return BoostingModel(trees, used, len(counts))
