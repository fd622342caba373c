"""MIUN, the multi-input U-Net: count images of several resolutions in, one source map out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from geminga.arrays import Float32
from geminga.networks.blocks import CountsInput, DoubleConv, UpBlock, stack_images, start_weights

_START_PROBABILITY = 0.03
"""Output before training: about the part of a patch that target disks cover."""


class Miun(nn.Module):
    """Multi-input U-Net (the reference thesis; U-Net: Ronneberger et al. 2015).

    Level k has ``top / 2^k`` pixels per side, down to the bottleneck. The bands with that many
    pixels pass their own batch normalisation and join at the entrance of the level, beside what
    comes down from the level above. Feature maps double from level to level.

    Parameters
    ----------
    pixels : sequence of int
        Pixels per side of each band's image, in band order.
    width : int
        Feature maps at the top level.
    bottleneck_pixels : int
        Pixels per side at the bottom; below every band's.
    input_scaling : str
        ``counts`` (thesis) or ``anscombe``.
    dropout : float
        Probability that a feature map of the bottleneck is dropped in training.
    """

    def __init__(
        self,
        pixels: Sequence[int],
        width: int,
        bottleneck_pixels: int,
        input_scaling: str = "counts",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pixels = tuple(pixels)
        self.top = max(pixels)
        sizes: list[int] = []
        size = self.top
        while size > bottleneck_pixels:
            sizes.append(size)
            size //= 2
        if size != bottleneck_pixels or not set(pixels) <= set(sizes):
            raise ValueError(
                f"images of {sorted(set(pixels))} pixels do not fit levels of {sizes} pixels "
                f"above a bottleneck of {bottleneck_pixels}"
            )
        self.bands_of_level = [[b for b, n in enumerate(pixels) if n == size] for size in sizes]

        self.entrances = nn.ModuleDict()
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        above = 0
        for level, members in enumerate(self.bands_of_level):
            if members:
                self.entrances[str(level)] = CountsInput(len(members), input_scaling)
            features = width * 2**level
            self.down.append(DoubleConv(above + len(members), features))
            self.up.append(UpBlock(2 * features, features))
            above = features
        self.bottom = DoubleConv(above, 2 * above)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(dropout)
        self.output = nn.Conv2d(width, 1, 1)
        start_weights(self)
        nn.init.normal_(self.output.weight, std=0.01)
        assert self.output.bias is not None
        nn.init.constant_(
            self.output.bias, float(np.log(_START_PROBABILITY / (1 - _START_PROBABILITY)))
        )

    def forward(self, *images: Tensor) -> Tensor:
        """Return logits (N, top, top) of count images (N, n_b, n_b), one tensor per band."""
        if tuple(image.shape[-1] for image in images) != self.pixels:
            raise ValueError(
                f"images of {tuple(image.shape[-1] for image in images)} pixels; "
                f"this network takes {self.pixels}"
            )
        x: Tensor | None = None
        skips: list[Tensor] = []
        for level, members in enumerate(self.bands_of_level):
            parts = [] if x is None else [self.pool(x)]
            if members:
                stacked = stack_images([images[b] for b in members])
                parts.append(self.entrances[str(level)](stacked))
            x = self.down[level](torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
            skips.append(x)
        x = self.dropout(self.bottom(self.pool(skips[-1])))
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = block(x, skip)
        logits: Tensor = self.output(x)
        return logits[:, 0].float()

    def scores(self, *images: Tensor) -> Tensor:
        """Return the probability (N, top, top) that each pixel lies in the disk of a source."""
        return torch.sigmoid(self.forward(*images))


def score_maps(
    model: Miun, images: Sequence[Float32], batch_size: int, precision: str = "float32"
) -> Float32:
    """Run MIUN over patches.

    Every call of the network has exactly `batch_size` patches (the last is filled up with empty
    ones), so that a patch gets the same bytes whichever patches come with it.

    Parameters
    ----------
    model : Miun
        Network; evaluation mode is set for the run.
    images : sequence of arrays
        Counts (P, n_b, n_b) per band, any number type.
    batch_size : int
        Patches per call of the network.
    precision : str
        ``float32`` or ``bfloat16``.

    Returns
    -------
    array (P, top, top), float32
        Network output, 0 to 1.
    """
    device = next(model.parameters()).device
    n_patches = len(images[0])
    result = np.empty((n_patches, model.top, model.top), dtype=np.float32)
    was_training = model.training
    model.eval()
    with (
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        for start in range(0, n_patches, batch_size):
            n = min(batch_size, n_patches - start)
            batch = []
            for image in images:
                block = np.zeros((batch_size, *image.shape[1:]), dtype=np.float32)
                block[:n] = image[start : start + n]
                batch.append(torch.from_numpy(block).to(device))
            result[start : start + n] = model.scores(*batch)[:n].cpu().numpy()
    model.train(was_training)
    return result
