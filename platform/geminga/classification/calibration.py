"""From a network's balanced logits to probabilities that mean what they say, for a chosen mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize_scalar

from geminga.arrays import Bool, Float64, Int64
from geminga.classification.predict import natural_prior
from geminga.errors import InputError

Prior = Literal["natural", "flat", "latitude"]

_LOG_TEMPERATURE = (-1.5, 2.0)
_RIDGE = 1e-3
_BAND_SPREAD = 0.5
"""Expected scatter of the log mix of a band of latitude about the one restored over the whole sky:
keeps classes with few members in a band from being ruled out there."""
_BAND_EDGES = (0.0, 1.0, 3.0, 8.0, 20.0, 40.0, 90.0)
_STEPS = 60


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is between the logits of K classes and their probabilities.

    Attributes
    ----------
    temperature : float
        Logits are divided by it (Guo et al. 2017).
    bias : Float64 (K,)
        Added after that, so that an equal mix of the classes of calibrated detections is met
        (Alexandari et al. 2020).
    natural : Float64 (K,)
        Mix of the classes of detections.
    band_deg : Float64 (B,)
        Typical |b| of the detections of each band of latitude.
    band_log_mix : Float64 (B, K)
        Log weights of the classes there, in place of those of `natural`.
    """

    temperature: float
    bias: Float64
    natural: Float64
    band_deg: Float64
    band_log_mix: Float64

    def probabilities(
        self, logits: Float64, prior: Prior | Float64, lat_deg: Float64 | None = None
    ) -> Float64:
        """Return the probability of each class, rows adding up to 1.

        Parameters
        ----------
        logits : Float64 (n, K)
            Of a network trained on classes of equal weight.
        prior : str or Float64 (K,)
            Mix of the classes among the candidates: ``natural``, as among the detections of
            training skies; ``flat``, equal parts; ``latitude``, restored in bands of |b|; or parts.
        lat_deg : Float64 (n,), optional
            Galactic latitudes, for ``latitude``.

        Raises
        ------
        InputError
            If the prior is not one of these.
        """
        scaled = logits / self.temperature + self.bias
        return softmax(scaled + self._log_weights(prior, lat_deg, len(logits)))

    def _log_weights(self, prior: Prior | Float64, lat_deg: Float64 | None, n: int) -> Float64:
        if isinstance(prior, str):
            if prior == "flat":
                return np.zeros((n, len(self.bias)))
            if prior == "natural":
                return np.tile(np.log(self.natural), (n, 1))
            if prior == "latitude" and lat_deg is not None:
                away = np.abs(lat_deg)
                return np.stack(
                    [np.interp(away, self.band_deg, mix) for mix in self.band_log_mix.T], axis=1
                )
            raise InputError(
                "evidence_net.prior",
                f"{prior!r} is not known here",
                "use natural, flat or latitude (with latitudes), or give the parts of each class",
            )
        parts = checked_mix(prior, len(self.bias))
        logs = np.log(parts, out=np.full(len(parts), -np.inf), where=parts > 0)
        return np.tile(logs, (n, 1))


def fit_calibration(
    logits: Float64,
    labels: Int64,
    natural_logits: Float64,
    natural_labels: Int64,
    natural_lat_deg: Float64,
) -> Calibration:
    """Return the calibration of a network.

    The temperature minimises the mean of the log loss of an equal mix of classes and of that of the
    mix as it is; for each temperature the bias is the one that meets an equal mix.

    Parameters
    ----------
    logits, labels : Float64 (n, K), Int64 (n,)
        Detections of calibration skies, of the kind that will be classified (above the cut), not
        used in training.
    natural_logits, natural_labels, natural_lat_deg : Float64 (m, K), Int64 (m,), Float64 (m,)
        Detections of training skies as they come: the mix of classes, over the sky and by latitude.

    Raises
    ------
    InputError
        If there are no detections to calibrate on.
    """
    if not len(labels) or not len(natural_labels):
        raise InputError(
            "calibration",
            f"{len(labels)} calibration and {len(natural_labels)} training detections",
            "simulate more skies, or lower the cut",
        )
    n_classes = logits.shape[1]
    balanced = balanced_weights(labels, n_classes)
    even = np.full(len(labels), 1.0 / len(labels))
    mix = np.log(natural_prior(labels, n_classes))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        shifted = scaled + fit_bias(scaled, labels, balanced, _RIDGE)
        return 0.5 * (log_loss(shifted, labels, balanced) + log_loss(shifted + mix, labels, even))

    best = minimize_scalar(loss, bounds=_LOG_TEMPERATURE, method="bounded")
    temperature = float(np.exp(best.x))
    bias = fit_bias(logits / temperature, labels, balanced, _RIDGE)
    natural = natural_prior(natural_labels, n_classes)
    restored = natural_logits / temperature + bias + np.log(natural)
    degrees, mixes = _bands(restored, natural_labels, natural_lat_deg)
    return Calibration(temperature, bias, natural, degrees, np.log(natural) + mixes)


def _bands(restored: Float64, labels: Int64, lat_deg: Float64) -> tuple[Float64, Float64]:
    """Return typical |b| (B,) and the bias (B, K) that restores the mix in each band that has any.

    The network knows the latitude, so a prior that depends on it would count it twice; what is left
    to restore is where its answers and the counts of the classes in a band differ.
    """
    away = np.abs(lat_deg)
    edges = np.array(_BAND_EDGES)
    band = np.clip(np.searchsorted(edges, away, side="right") - 1, 0, len(edges) - 2)
    degrees, biases = [], []
    for number in np.unique(band):
        rows = band == number
        weights = np.ones(int(rows.sum()))
        degrees.append(float(np.median(away[rows])))
        biases.append(fit_bias(restored[rows], labels[rows], weights, 1.0 / _BAND_SPREAD**2))
    return np.array(degrees), np.stack(biases)


def fit_bias(logits: Float64, labels: Int64, weights: Float64, ridge: float) -> Float64:
    """Return the bias (K,) that minimises the weighted log loss plus ``ridge / 2 |bias|^2``.

    At the minimum the mean probabilities are the weighted mix of the labels. Classes without labels
    keep 0. Newton steps: the loss is convex.

    Parameters
    ----------
    logits, labels, weights : Float64 (n, K), Int64 (n,), Float64 (n,)
        Detections, their classes and weights.
    ridge : float
        Inverse variance expected of the bias, above 0.
    """
    n_classes = logits.shape[1]
    target = np.bincount(labels, weights, minlength=n_classes)
    seen = np.bincount(labels, minlength=n_classes) > 0
    bias = np.zeros(n_classes)

    def value(trial: Float64) -> float:
        return log_loss(logits + trial, labels, weights) + 0.5 * ridge * float(trial @ trial)

    now = value(bias)
    for _ in range(_STEPS):
        p = softmax(logits + bias)
        slope = weights @ p - target + ridge * bias
        bend = np.diag(weights @ p) - (p * weights[:, None]).T @ p + ridge * np.eye(n_classes)
        step = np.zeros(n_classes)
        step[seen] = np.linalg.solve(bend[np.ix_(seen, seen)], slope[seen])
        size = 1.0
        while value(bias - size * step) > now and size > 1e-6:
            size *= 0.5
        bias = bias - size * step
        before, now = now, value(bias)
        if before - now <= 1e-12 * max(abs(now), 1.0):
            break
    return bias


def balanced_weights(labels: Int64, n_classes: int) -> Float64:
    """Return weights (n,) that add up to 1, as much for each class that there is."""
    counts = np.bincount(labels, minlength=n_classes)
    return np.asarray(1.0 / (counts[labels] * np.count_nonzero(counts)))


def log_loss(logits: Float64, labels: Int64, weights: Float64) -> float:
    """Return the weighted sum of -ln p of the true class."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float(weights @ (total - logits[np.arange(len(labels)), labels]))


def softmax(logits: Float64) -> Float64:
    """Return probabilities (n, K) of logits; a logit of minus infinity is a probability of 0."""
    result = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(result / result.sum(axis=1, keepdims=True))


def checked_mix(mix: Float64, n_classes: int) -> Float64:
    """Return a mix of classes with parts that add up to 1.

    Raises
    ------
    InputError
        If it has another length, a negative or non-finite part, or nothing at all.
    """
    values = np.asarray(mix, dtype=np.float64)
    if (
        values.shape != (n_classes,)
        or not np.isfinite(values).all()
        or values.min() < 0
        or values.sum() <= 0
    ):
        raise InputError(
            "class prior",
            f"is {values.tolist()}",
            f"give {n_classes} parts, none negative",
        )
    return np.asarray(values / values.sum())


def ambiguous(probabilities: Float64, ratio: float) -> Bool:
    """Return which rows (n,) have a second class more than `ratio` times as probable as the first."""
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), dtype=bool)
    ordered = np.sort(probabilities, axis=1)
    return np.asarray(ordered[:, -2] > ratio * ordered[:, -1])
