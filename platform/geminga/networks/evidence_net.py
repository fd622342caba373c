"""The network on evidence: image, spectrum and light curve, each by itself, then joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geminga.networks.blocks import start_weights

N_BRANCHES = 3
IMAGE, SPECTRUM, YEARS = range(N_BRANCHES)
_FARTHEST = 6.0
"""Inputs farther out than this many standard deviations are no farther: networks extrapolate
badly."""
_POOLED = 3
_LEAST_SCALE = 1e-3


class Standardise(nn.Module):
    """Values at mean 0 and scatter 1 of the training set; what is missing is at the mean.

    Parameters
    ----------
    shape : sequence of int
        Shape of one candidate's values that are standardised by themselves; the last axis of an
        input holds these values and as many marks (1 where a value is missing).
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(*shape))
        self.register_buffer("scale", torch.ones(*shape))

    def learn(self, marked: Tensor, rows: Tensor) -> None:
        """Take centre and scale from the values (n, ..., 2 k) of the rows (n,) that have any."""
        if not bool(rows.any()):
            return
        values, missing = marked[rows].double().chunk(2, dim=-1)
        weight = 1.0 - missing
        axes = list(range(values.ndim - self.centre.ndim))
        count = weight.sum(dim=axes)
        centre = (values * weight).sum(dim=axes) / count.clamp(min=1.0)
        spread = ((values - centre) ** 2 * weight).sum(dim=axes) / count.clamp(min=1.0)
        self.centre.copy_(centre)
        # A value that never changes in training says nothing: it stays at its size.
        self.scale.copy_(torch.where(spread.sqrt() > _LEAST_SCALE, spread.sqrt(), 1.0))

    def forward(self, marked: Tensor) -> Tensor:
        """Return the standardised values and the marks (..., 2 k)."""
        values, missing = marked.chunk(2, dim=-1)
        scaled = ((values - self.centre) / self.scale).clamp(-_FARTHEST, _FARTHEST)
        return torch.cat([scaled * (1.0 - missing), missing], dim=-1)


class EvidenceNet(nn.Module):
    """Classifier of candidates from any of three branches, and their position.

    A branch that finds nothing, or is left out by branch dropout, is replaced by a vector that is
    learned. Years pass a network they share and are pooled, so that any number of them will do.

    Parameters
    ----------
    channels : int
        Channels of the spectrum.
    tokens : (int, int)
        Values per channel and per year.
    quantities : (int, int, int)
        Values of the detection (image branch), of the spectrum, of the light curve.
    position : int
        Values of the position.
    planes, pixels : int
        Images per candidate and their size; 0 planes for none.
    n_classes : int
        Number of classes.
    width, image_width : int
        Size of the dense layers; feature maps of the image branch.
    dropout, branch_dropout : float
        Chance that a joined feature, a branch is left out in training.
    """

    seen: Tensor

    def __init__(
        self,
        channels: int,
        tokens: Sequence[int],
        quantities: Sequence[int],
        position: int,
        planes: int,
        pixels: int,
        n_classes: int,
        width: int = 64,
        image_width: int = 16,
        dropout: float = 0.1,
        branch_dropout: float = 0.15,
    ) -> None:
        super().__init__()
        self.n_classes, self.planes, self.channels = n_classes, planes, channels
        self.branch_dropout = branch_dropout
        self.sizes: dict[str, Any] = {
            "channels": channels,
            "tokens": list(tokens),
            "quantities": list(quantities),
            "position": position,
            "planes": planes,
            "pixels": pixels,
        }
        detection, spectral, variability = quantities
        self.scale_channels = Standardise((channels, tokens[0]))
        self.scale_years = Standardise((tokens[1],))
        self.scale_detection = Standardise((detection,))
        self.scale_spectral = Standardise((spectral,))
        self.scale_variability = Standardise((variability,))
        self.scale_position = Standardise((position,))
        self.register_buffer("seen", torch.zeros(N_BRANCHES, dtype=torch.bool))

        side = min(_POOLED, max(pixels, 1))
        pooled = image_width * side**2 if planes else 0
        self.convolve = nn.Sequential()
        if planes:
            self.convolve = nn.Sequential(
                nn.BatchNorm2d(planes),
                nn.Conv2d(planes, image_width, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(image_width, image_width, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.AdaptiveAvgPool2d(side),
                nn.Flatten(),
            )
        self.image = _dense(pooled + 2 * detection, width)
        self.spectrum = _dense(2 * (channels * tokens[0] + spectral), width)
        self.year = nn.Sequential(
            nn.Linear(2 * tokens[1], width // 2), nn.GELU(), nn.Linear(width // 2, width // 2)
        )
        self.years = _dense(2 * (width // 2) + 2 * variability, width)
        self.absent = nn.Parameter(torch.zeros(N_BRANCHES, width))
        self.join = nn.Sequential(
            nn.Linear(N_BRANCHES * width + position, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.GELU(),
        )
        self.drop = nn.Dropout(dropout)
        self.output = nn.Linear(width, n_classes)
        start_weights(self)
        nn.init.normal_(self.output.weight, std=0.01)
        self._quiet_marks(pooled, channels * tokens[0], spectral, tokens[1], variability)

    def _quiet_marks(
        self, pooled: int, channels: int, spectral: int, year: int, variability: int
    ) -> None:
        """Start the weights of marks at 0: a mark that training never sees must not speak later."""
        with torch.no_grad():
            first = [_first(m) for m in (self.image, self.spectrum, self.years, self.year)]
            image, spectrum, years, each_year = first
            # Channels come one by one, values then marks of each.
            tokens = channels // max(self.channels, 1)
            order = torch.arange(2 * channels) % (2 * tokens) >= tokens
            spectrum.weight[:, : 2 * channels][:, order] = 0.0
            spectrum.weight[:, -spectral:] = 0.0
            detection = (image.in_features - pooled) // 2
            image.weight[:, -detection:] = 0.0
            years.weight[:, -variability:] = 0.0
            each_year.weight[:, -year:] = 0.0

    def standardise(self, arrays: Sequence[Tensor]) -> None:
        """Take the scales from the inputs of a training set, and which branches it has at all."""
        spectrum, spectral, years, variability, _, detection, position, present = arrays
        self.scale_channels.learn(spectrum, present[:, SPECTRUM])
        self.scale_spectral.learn(spectral, present[:, SPECTRUM])
        self.scale_years.learn(years, present[:, YEARS])
        self.scale_variability.learn(variability, present[:, YEARS])
        self.scale_detection.learn(detection, present[:, IMAGE])
        unmarked = torch.cat([position, torch.zeros_like(position)], dim=-1)
        self.scale_position.learn(unmarked, torch.ones(len(position), dtype=torch.bool))
        self.seen.copy_(present.any(dim=0))

    def features(
        self,
        spectrum: Tensor,
        spectral: Tensor,
        years: Tensor,
        variability: Tensor,
        image: Tensor,
        detection: Tensor,
        position: Tensor,
        present: Tensor,
    ) -> Tensor:
        """Return what the last layer decides by, (N, width); arguments as in `forward`."""
        present = present & self.seen
        if image.shape[1] != self.planes:
            present = present & (torch.arange(N_BRANCHES, device=present.device) != IMAGE)
        if self.training and self.branch_dropout:
            kept = torch.rand(present.shape, device=present.device) >= self.branch_dropout
            present = present & kept
        branches = (
            self._image(image, detection),
            self.spectrum(
                torch.cat(
                    [self.scale_channels(spectrum).flatten(1), self.scale_spectral(spectral)], dim=1
                )
            ),
            self._years(years, variability),
        )
        joined = torch.where(present[:, :, None], torch.stack(branches, dim=1), self.absent)
        place = (position - self.scale_position.centre) / self.scale_position.scale
        out: Tensor = self.join(torch.cat([joined.flatten(1), place], dim=1))
        return out

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits (N, classes).

        Parameters
        ----------
        *inputs : Tensor
            ``spectrum`` (N, C, 2 t), ``spectral`` (N, 2 k), ``years`` (N, Y, 2 t), ``variability``
            (N, 2 k), ``image`` (N, planes, p, p), ``detection`` (N, 2 k), ``position`` (N, k),
            ``present`` (N, 3) bool: image, spectrum, years. Each 2 k is values, then marks of those
            missing.
        """
        logits: Tensor = self.output(self.drop(self.features(*inputs)))
        return logits.float()

    def _image(self, image: Tensor, detection: Tensor) -> Tensor:
        known = self.scale_detection(detection)
        if not self.planes:
            out: Tensor = self.image(known)
            return out
        if image.shape[1] != self.planes:
            return self.absent[IMAGE].expand(len(known), -1)
        out = self.image(torch.cat([self.convolve(image), known], dim=1))
        return out

    def _years(self, years: Tensor, variability: Tensor) -> Tensor:
        half: int = _first(self.years).in_features - variability.shape[1]
        if years.shape[1]:
            scaled = self.scale_years(years)
            measured = (scaled[:, :, -1:] == 0).to(scaled.dtype)
            each = self.year(scaled)
            count = measured.sum(dim=1).clamp(min=1.0)
            mean = (each * measured).sum(dim=1) / count
            top = torch.where(measured > 0, each, each.new_full((), -1e4)).amax(dim=1)
            pooled = torch.cat([mean, torch.where(measured.any(dim=1), top, 0.0)], dim=1)
        else:
            pooled = years.new_zeros(len(years), half)
        out: Tensor = self.years(torch.cat([pooled, self.scale_variability(variability)], dim=1))
        return out


def _dense(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU())


def _first(layers: nn.Module) -> nn.Linear:
    found = next(layer for layer in layers.modules() if isinstance(layer, nn.Linear))
    return found
