"""Class probabilities of detections."""

from __future__ import annotations

import numpy as np
import torch

from geminga.arrays import Float64, Int64
from geminga.classification.images import SourceImages
from geminga.errors import InputError
from geminga.networks.source_cnn import SourceCnn


def class_probabilities(
    model: SourceCnn,
    images: SourceImages,
    prior: Float64 | None,
    train_prior: Float64 | None = None,
    batch_size: int = 256,
) -> Float64:
    """Return the probability of each class for each detection.

    A network trained on a mix of classes gives posteriors for that mix; for detections of another
    mix they are reweighted by the ratio of the priors (Saerens et al. 2002).

    Parameters
    ----------
    model : SourceCnn
        Classifier; used in evaluation mode.
    images : SourceImages
        Counts around n detections.
    prior : Float64 (C + 1,) or None
        Mix of classes among the detections; None keeps that of the training.
    train_prior : Float64 (C + 1,), optional
        Mix of classes in the training; equal parts (balanced training) if not given.
    batch_size : int
        Detections per call of the network.

    Returns
    -------
    Float64 (n, C + 1)
        Rows add up to 1; order of ``with_fake(classes)``.

    Raises
    ------
    InputError
        If a prior has the wrong length, a negative or non-finite part, or nothing at all.
    """
    n_classes = model.n_classes
    weight = np.ones(n_classes)
    if prior is not None:
        balanced = np.full(n_classes, 1.0 / n_classes)
        before = balanced if train_prior is None else _checked(train_prior, n_classes, "training")
        after = _checked(prior, n_classes, "detections")
        if np.any((before == 0) & (after > 0)):
            raise InputError(
                "class prior of the training",
                f"{before.tolist()} lacks a class that the detections have",
                "train on samples of every class",
            )
        weight = np.divide(after, before, out=np.zeros(n_classes), where=before > 0)
    log_weight = np.log(weight, out=np.full(n_classes, -np.inf), where=weight > 0)

    device = next(model.parameters()).device
    stacked = images.stack()
    result = np.empty((len(images), n_classes), dtype=np.float64)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            n = min(batch_size, len(images) - start)
            # Always full batches: a detection's figures do not depend on how many others there are.
            counts = np.zeros((batch_size, *stacked.shape[1:]), dtype=np.float32)
            latitude = np.zeros(batch_size, dtype=np.float32)
            counts[:n] = stacked[start : start + n]
            latitude[:n] = images.lat_deg[start : start + n]
            logits = model(
                torch.from_numpy(counts).to(device), torch.from_numpy(latitude).to(device)
            )
            result[start : start + n] = logits[:n].double().cpu().numpy()
    model.train(was_training)
    result += log_weight
    result -= result.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(result, out=result)
    result /= result.sum(axis=1, keepdims=True)
    return result


def natural_prior(labels: Int64, n_classes: int) -> Float64:
    """Return the mix of classes (n_classes,) of labels, never zero.

    Half a sample is added to each class (Jeffreys), so that one that happened not to be seen
    stays possible.
    """
    counts = np.bincount(labels, minlength=n_classes) + 0.5
    return np.asarray(counts / counts.sum())


def _checked(prior: Float64, n_classes: int, which: str) -> Float64:
    values = np.asarray(prior, dtype=np.float64)
    if (
        values.shape != (n_classes,)
        or not np.isfinite(values).all()
        or values.min() < 0
        or values.sum() <= 0
    ):
        raise InputError(
            f"class prior of the {which}",
            f"is {values.tolist()}",
            f"give {n_classes} parts, none negative",
        )
    return np.asarray(values / values.sum())
