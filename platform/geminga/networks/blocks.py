"""Parts that the networks are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def anscombe(counts: Tensor) -> Tensor:
    """Return 2 sqrt(n + 3/8), whose Poisson noise is close to 1 (Anscombe 1948)."""
    return 2.0 * torch.sqrt(counts + 0.375)


class CountsInput(nn.Module):
    """Entrance of count images: optional Anscombe scaling, then batch normalisation per channel.

    Parameters
    ----------
    channels : int
        Number of images side by side.
    scaling : str
        ``counts`` leaves the counts as they are, ``anscombe`` takes 2 sqrt(n + 3/8) first.
    """

    def __init__(self, channels: int, scaling: str) -> None:
        super().__init__()
        self.scale = scaling == "anscombe"
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images (N, channels, n, n)."""
        out: Tensor = self.norm(anscombe(images) if self.scale else images)
        return out


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each followed by batch normalisation and ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Feature maps before and after.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for n in (inputs, outputs):
            # The normalisation that follows makes a bias of the convolution idle.
            layers += [
                nn.Conv2d(n, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UpBlock(nn.Module):
    """Doubling of the resolution, joined with the features of the way down.

    Parameters
    ----------
    inputs : int
        Feature maps from the level below.
    outputs : int
        Feature maps of this level, on the way down and out of this block.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.convolve = DoubleConv(2 * outputs, outputs)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Join maps (N, inputs, n, n) with maps (N, outputs, 2n, 2n)."""
        out: Tensor = self.convolve(torch.cat([skip, self.up(below)], dim=1))
        return out


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Return images (N, n, n) as channels (N, len(images), n, n) in channels-last memory."""
    return torch.stack(list(images), dim=1).contiguous(memory_format=torch.channels_last)


def start_weights(model: nn.Module) -> None:
    """Draw starting weights for ReLU layers (He et al. 2015); biases start at zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
