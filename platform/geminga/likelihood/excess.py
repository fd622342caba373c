"""Pixels that hold more photons than a background explains, on the scale of the PSF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geminga.arrays import Bool, Float64
from geminga.compiled import compiled
from geminga.likelihood.field_modes import rebin

WIDEST_PX = 3.0
"""Pixels are joined in blocks of two and more until a Gaussian is no wider than this."""
NARROWEST_PX = 0.5
"""A Gaussian is no narrower than this: half a pixel is already no smoothing."""
LEAST_PHOTONS = 5.0
"""In the kernel's effective area, where one photon at its middle counts as two."""
REACH = 3.0
"""Gaussians end at this many standard deviations."""


@dataclass(frozen=True, eq=False)
class Smoothing:
    """A Gaussian, and the blocks of pixels that it is applied to.

    Attributes
    ----------
    step : int
        Pixels along a side of a block: a Gaussian many pixels wide needs no single ones.
    kernel : Float64 (2 h + 1,)
        Weights of blocks along one direction, of sum 1.
    """

    step: int
    kernel: Float64

    def __call__(self, image: Float64) -> Float64:
        """Return an image (n, n) summed in blocks and smoothed, (n / step, n / step)."""
        if self.step > 1:
            blocks = np.empty((len(image) // self.step,) * 2)
            rebin(image, np.zeros(image.shape, dtype=np.bool_), blocks)
            image = blocks
        return smooth(image, self.kernel)


def smoothing(width_px: float, pixels: int) -> Smoothing:
    """Return a Gaussian of standard deviation `width_px` for images of pixels x pixels."""
    step = 1
    while width_px / (2 * step) >= WIDEST_PX / 2 and pixels % (2 * step) == 0:
        step *= 2
    width = max(width_px / step, NARROWEST_PX)
    half = int(min(max(np.ceil(REACH * width), 1), pixels // step - 1))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / width) ** 2)
    return Smoothing(step, np.asarray(kernel / kernel.sum()))


@compiled
def smooth(image: Float64, kernel: Float64) -> Float64:
    """Return an image (n, n) smoothed in both directions; nothing lies outside it."""
    n, m = image.shape
    half = len(kernel) // 2
    first = np.zeros((n, m))
    for i in range(n):
        for t in range(max(-half, -i), min(half, n - 1 - i) + 1):
            weight = kernel[t + half]
            for j in range(m):
                first[i, j] += weight * image[i + t, j]
    result = np.zeros((n, m))
    for i in range(n):
        for t in range(-half, half + 1):
            weight = kernel[t + half]
            for j in range(max(0, -t), min(m, m - t)):
                result[i, j] += weight * first[i, j + t]
    return result


@compiled
def mark_excess(
    found: Float64,
    wanted: Float64,
    kernel: Float64,
    sigma: float,
    share: float,
    result: Bool,
) -> None:
    """Mark pixels around which smoothed counts exceed what is expected.

    The smoothed counts, divided by their variance over their mean, are taken as Poisson
    (as if the photons fell in one cell of the kernel's effective area); the significance is the
    root of the deviance, 2 (n ln(n / b) - n + b). Fewer than `LEAST_PHOTONS` are no excess
    however little is expected: leaving out every photon of an empty region would leave none.

    Parameters
    ----------
    found, wanted : Float64 (m, m)
        Counts and expected counts, both smoothed with the kernel.
    kernel : Float64 (2 h + 1,)
        Of a `Smoothing`.
    sigma : float
        Least significance.
    share : float
        Least excess relative to what is expected.
    result : bool (n, n)
        n a multiple of m. Set to True where there is an excess, else left as it is.
    """
    # Of a background that is flat over the kernel, the mean over the variance.
    total = 0.0
    for weight in kernel:
        total += weight * weight
    scale = 1.0 / (total * total)
    m = len(found)
    step = len(result) // m
    limit = sigma * sigma
    for i in range(m):
        for j in range(m):
            have = found[i, j] * scale
            mean = wanted[i, j] * scale
            if have < LEAST_PHOTONS or have <= mean * (1.0 + share) or mean <= 0.0:
                continue
            if 2.0 * (have * np.log(have / mean) - have + mean) >= limit:
                result[i * step : (i + 1) * step, j * step : (j + 1) * step] = True
