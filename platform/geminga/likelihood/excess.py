"""Pixels that hold more photons than a background explains, on the scale of the PSF."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64
from geminga.compiled import compiled

NARROWEST_PX = 0.5
"""A Gaussian is no narrower than this: half a pixel is already no smoothing."""
REACH = 3.0
"""Gaussians end at this many standard deviations."""


def smoothing_kernel(width_px: float, pixels: int) -> Float64:
    """Return a Gaussian of standard deviation `width_px`, at most as long as an image; sum 1."""
    width = max(width_px, NARROWEST_PX)
    half = int(min(max(np.ceil(REACH * width), 1), pixels - 1))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / width) ** 2)
    return np.asarray(kernel / kernel.sum())


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
def excess_mask(counts: Float64, expected: Float64, kernel: Float64, sigma: float) -> Bool:
    """Return where smoothed counts exceed what is expected by `sigma` or more.

    The smoothed counts, divided by their variance over their mean, are taken as Poisson
    (as if the photons fell in one cell of the kernel's effective area); the significance is the
    signed root of the deviance, 2 (n ln(n / b) - n + b).

    Parameters
    ----------
    counts, expected : Float64 (n, n)
    kernel : Float64 (2 h + 1,)
        `smoothing_kernel`.
    sigma : float

    Returns
    -------
    bool (n, n)
    """
    found = smooth(counts, kernel)
    wanted = smooth(expected, kernel)
    spread = smooth(expected, kernel * kernel)
    n, m = counts.shape
    result = np.zeros((n, m), dtype=np.bool_)
    limit = sigma * sigma
    for i in range(n):
        for j in range(m):
            if found[i, j] <= wanted[i, j] or spread[i, j] <= 0.0:
                continue
            scale = wanted[i, j] / spread[i, j]
            have = found[i, j] * scale
            mean = wanted[i, j] * scale
            result[i, j] = 2.0 * (have * np.log(have / mean) - have + mean) >= limit
    return result
