"""The ranker: from what a fit says of a source to the probability that it is real."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from geminga.arrays import Float32, Float64
from geminga.networks.blocks import start_weights

_ROWS = 256
_FARTHEST = 5.0
"""Features farther out than this many standard deviations are no farther: networks extrapolate
badly."""


class Ranker(nn.Module):
    """Small dense network on the features of single sources.

    Features are brought to mean 0 and scatter 1 (of the training set, kept with the weights),
    then pass hidden layers with GELU (Hendrycks & Gimpel 2016) to one logit.

    Parameters
    ----------
    features : int
        Number of features.
    width, depth : int
        Size and number of the hidden layers.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        sizes = [features] + [width] * depth
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(width, 1)
        start_weights(self)
        nn.init.normal_(self.output.weight, std=0.01)

    def standardise(self, features: Float32) -> None:
        """Take centre and scale from the features (n, features) of a training set."""
        values = torch.from_numpy(features.astype(np.float64))
        self.centre.copy_(values.mean(dim=0))
        self.scale.copy_(values.std(dim=0, correction=0).clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N,) of features (N, features)."""
        x = ((features - self.centre) / self.scale).clamp(-_FARTHEST, _FARTHEST)
        logits: Tensor = self.output(self.hidden(x))
        return logits[:, 0].float()


def real_logits(model: Ranker, features: Float32) -> Float64:
    """Return the network's logits (n,) of features (n, features), uncalibrated."""
    model.eval()
    result = np.empty(len(features))
    with torch.inference_mode():
        for start in range(0, len(features), _ROWS):
            part = features[start : start + _ROWS]
            # Every call has as many rows, so that a row has the same bits in any company.
            block = np.zeros((_ROWS, features.shape[1]), np.float32)
            block[: len(part)] = part
            result[start : start + _ROWS] = model(torch.from_numpy(block))[: len(part)].numpy()
    return result


def calibrated(logits: Float64, slope: float, offset: float) -> Float64:
    """Return probabilities 1 / (1 + exp(-(slope logit + offset))) (Platt 1999)."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * (slope * logits + offset))))
