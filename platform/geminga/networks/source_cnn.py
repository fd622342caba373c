"""The classifier of source images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from geminga.networks.blocks import CountsInput, start_weights

_POOLED = 3


class SourceCnn(nn.Module):
    """Convolutional classifier of the reference thesis.

    Batch normalisation, two 3x3 convolutions, maximum pooling to 3 x 3, then the latitude joins
    and dense layers with ReLU lead to one logit per class.

    Parameters
    ----------
    n_channels : int
        Images per source: bands and years.
    pixels : int
        Pixels per side of each image.
    n_classes : int
        Number of classes, FAKE included.
    width : int
        Feature maps of the convolutions.
    dense : sequence of int
        Sizes of the hidden dense layers; the output layer comes on top.
    input_scaling : str
        ``counts`` (thesis) or ``anscombe``.
    """

    def __init__(
        self,
        n_channels: int,
        pixels: int,
        n_classes: int,
        width: int,
        dense: Sequence[int],
        input_scaling: str = "counts",
    ) -> None:
        super().__init__()
        self.shape = (n_channels, pixels, pixels)
        self.n_classes = n_classes
        self.entrance = CountsInput(n_channels, input_scaling)
        self.convolve = nn.Sequential(
            nn.Conv2d(n_channels, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveMaxPool2d(_POOLED),
        )
        sizes = [width * _POOLED**2 + 1, *dense]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(sizes[-1], n_classes)
        start_weights(self)
        nn.init.normal_(self.output.weight, std=0.01)

    def forward(self, images: Tensor, latitude_deg: Tensor) -> Tensor:
        """Return logits (N, classes) of counts (N, channels, n, n) and latitudes (N,) in degrees."""
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"source images {tuple(images.shape[1:])}; this network takes {self.shape}"
            )
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.convolve(self.entrance(images)).flatten(1)
        latitude = (latitude_deg / 90.0)[:, None].to(features.dtype)
        logits: Tensor = self.output(self.hidden(torch.cat([features, latitude], dim=1)))
        return logits.float()
