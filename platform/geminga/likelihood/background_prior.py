"""What is expected of the background of a patch before its counts are seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64
from geminga.bands import edges_mev
from geminga.likelihood.excess import Smoothing, smoothing
from geminga.likelihood.field_modes import cosine_modes
from geminga.response import Response
from geminga.sections import LikelihoodConfig

PSF_INDEX = 2.4
"""Spectral index of diffuse emission for the choice of its PSF."""
NUGGET = 0.003
"""Variance of what channels do not share, relative to the field: keeps matrices positive."""
REFERENCE_WAVELENGTH_DEG = 20.0
"""Wavelength of the mode whose scatter is ``background_scatter``, in a patch half as wide."""


@dataclass(frozen=True, eq=False)
class BackgroundPrior:
    """What is expected of a patch before its counts are seen, the same for all patches.

    Attributes
    ----------
    cells : int
        The fit is made in cells x cells cells of a patch, which all channels share.
    basis : Float64 (cells, k)
        Cosine modes.
    scatter : Float64 (C, k, k)
        Prior standard deviation of each mode of the logarithmic factor; orthonormal modes.
    mix : Float64 (2, C, C)
        Cholesky factors of the correlation between channels, of the constant mode and of all
        others.
    norm_mix : Float64 (C, C)
        Cholesky factor of the covariance of the isotropic norms.
    pixels : tuple of int (C,)
    smoothings : tuple of tuples of Smoothing, one per channel
        Gaussians of about the width of the PSF, for excesses.
    fine : tuple of Float64 (n_c, k), one per channel
        The same modes at the centres of the channel's pixels.
    settings : LikelihoodConfig
    """

    cells: int
    basis: Float64
    scatter: Float64
    mix: Float64
    norm_mix: Float64
    pixels: tuple[int, ...]
    smoothings: tuple[tuple[Smoothing, ...], ...]
    fine: tuple[Float64, ...]
    settings: LikelihoodConfig


def background_prior(
    response: Response, size_deg: float, settings: LikelihoodConfig
) -> BackgroundPrior:
    """Return what `estimate_background` expects of the patches of a configuration.

    The factor on the interstellar model has a falling spectrum: a mode of wavelength w has the
    standard deviation ``background_scatter`` (w / 20 deg)^``background_slope``, as measured
    between gll_iem_v07, GALPROP-based templates and the built-in model
    (`tests/benchmarks/bench_background.py`). The PSF of a channel smooths it.

    Parameters
    ----------
    response : Response
    size_deg : float
        Width of a patch.
    settings : LikelihoodConfig
        Its fields ``background_...``.
    """
    pixels = tuple(channel.pixels for channel in response.channels)
    finest = settings.background_scale_deg
    # Two cells a scale; pixels are a power of two, so that every channel fills cells evenly.
    cells = min(2 ** int(np.ceil(np.log2(2.0 * size_deg / finest))), *pixels)
    modes = int(min(max(np.ceil(size_deg / finest), 1), cells))
    number = np.hypot(*np.meshgrid(np.arange(modes), np.arange(modes), indexing="ij"))
    wavelength = 2.0 * size_deg / np.maximum(number, 1e-9)
    relative = (wavelength / REFERENCE_WAVELENGTH_DEG) ** settings.background_slope
    # Power per mode of an orthonormal cosine: the mean square over the patch times its cells,
    # and a larger patch shares the same power among more modes.
    share = REFERENCE_WAVELENGTH_DEG / 2.0 / size_deg
    spectrum = settings.background_scatter * relative * share * cells
    spectrum[0, 0] = settings.background_norm_scatter * cells
    scatter = np.empty((len(pixels), modes, modes))
    smoothings = []
    for c, n in enumerate(pixels):
        r68 = response.psf.radius_of_containment(c, PSF_INDEX, 0.68)
        window = response.psf.harmonic(c, PSF_INDEX, int(np.ceil(180.0 * modes * 1.5 / size_deg)))
        # A wave of the plane with this wavelength has l = 360 deg / wavelength.
        passed = np.interp(360.0 / wavelength, np.arange(len(window)), window / window[0])
        scatter[c] = spectrum * np.maximum(passed, 0.0)
        smoothings.append(
            tuple(
                smoothing(width * r68 / size_deg * n, n)
                for width in settings.background_mask_widths
            )
        )
    ln_energy = np.log(edges_mev(response.channels)).mean(axis=1)
    mix = np.stack(
        [
            _correlation_root(ln_energy, scale)
            for scale in (settings.background_norm_energy_scale, settings.background_energy_scale)
        ]
    )
    return BackgroundPrior(
        cells,
        cosine_modes(cells, modes),
        scatter,
        mix,
        mix[0] * settings.background_norm_scatter,
        pixels,
        tuple(smoothings),
        # Modes are orthonormal over the cells; in finer pixels they keep their height.
        tuple(cosine_modes(n, modes) * np.sqrt(n / cells) for n in pixels),
        settings,
    )


def _correlation_root(ln_energy: Float64, scale: float) -> Float64:
    """Return the Cholesky factor (C, C) of a correlation that falls with the ratio of energies."""
    apart = (ln_energy[:, None] - ln_energy[None, :]) / scale
    correlation = np.exp(-0.5 * apart**2) + NUGGET * np.eye(len(ln_energy))
    return np.asarray(np.linalg.cholesky(correlation / (1.0 + NUGGET)))
