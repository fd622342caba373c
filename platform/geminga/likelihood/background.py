"""Expected counts of everything that is not a point source, estimated from the counts.

A reference model of the diffuse emission is multiplied by a smooth factor that follows the
counts, patch by patch: see `smooth_ratio`. What shines and is not yet known as a source would
raise it; pixels with an excess are therefore left out in a second fit, and sources that are
known enter with their expected counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Bool, Float32, Float64
from geminga.bands import edges_mev
from geminga.errors import InputError
from geminga.likelihood.diffuse_templates import Templates
from geminga.likelihood.excess import excess_mask, smoothing_kernel
from geminga.likelihood.smooth_ratio import MAX_LN, cosine_modes, fit_field, synthesise
from geminga.response import Response
from geminga.sections import LikelihoodConfig

MIN_COUNTS = 1e-6
"""A pixel's expected counts are never lower."""
PSF_INDEX = 2.4
NUGGET = 0.003
"""Variance of what channels do not share, relative to the field: keeps matrices positive."""
REFERENCE_WAVELENGTH_DEG = 20.0
"""Wavelength of the mode whose scatter `background_scatter` is, in a patch of half that width."""
NEWTON_STEPS = 8
GRADIENT_STEPS = 12
TOLERANCE = 1.0
"""Fits end when -ln posterior changes by less: a mode is then known to about one sigma of all."""


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
    mix, norm_mix : Float64 (C, C)
        Cholesky factors of the covariance between channels: of the field, relative; of the
        isotropic norms.
    pixels : tuple of int (C,)
    kernels : tuple of Float64, one per channel
        One-dimensional Gaussians as wide as the PSF, for excesses.
    settings : LikelihoodConfig
    """

    cells: int
    basis: Float64
    scatter: Float64
    mix: Float64
    norm_mix: Float64
    pixels: tuple[int, ...]
    kernels: tuple[Float64, ...]
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
    kernels = []
    for c, n in enumerate(pixels):
        r68 = response.psf.radius_of_containment(c, PSF_INDEX, 0.68)
        window = response.psf.harmonic(c, PSF_INDEX, int(np.ceil(180.0 * modes * 1.5 / size_deg)))
        # A wave of the plane with this wavelength has l = 360 deg / wavelength.
        smoothing = np.interp(360.0 / wavelength, np.arange(len(window)), window / window[0])
        scatter[c] = spectrum * np.maximum(smoothing, 0.0)
        kernels.append(smoothing_kernel(settings.background_mask_width * r68 / size_deg * n, n))
    ln_energy = np.log(edges_mev(response.channels)).mean(axis=1)
    apart = (ln_energy[:, None] - ln_energy[None, :]) / settings.background_energy_scale
    correlation = np.exp(-0.5 * apart**2) + NUGGET * np.eye(len(pixels))
    mix = np.linalg.cholesky(correlation / (1.0 + NUGGET))
    return BackgroundPrior(
        cells,
        cosine_modes(cells, modes),
        scatter,
        mix,
        mix * settings.background_norm_scatter,
        pixels,
        tuple(kernels),
        settings,
    )


def estimate_background(
    counts: Sequence[np.ndarray],
    templates: Templates,
    prior: BackgroundPrior,
    *,
    sources_model: Sequence[np.ndarray] | None = None,
    mask: Sequence[Bool] | None = None,
    rounds: int | None = None,
) -> tuple[Float32, ...]:
    """Estimate the expected background counts of every pixel.

    A patch's result does not depend on the patches given with it.

    Parameters
    ----------
    counts : sequence of arrays (P, n_c, n_c), one per channel
        Photons, or expected counts.
    templates : Templates
        Reference model of the diffuse emission in these patches.
    prior : BackgroundPrior
    sources_model : sequence of arrays (P, n_c, n_c), optional
        Expected counts of the sources known so far; they are not part of the result.
    mask : sequence of bool arrays (P, n_c, n_c), optional
        True where pixels are left out of the fit.
    rounds : int, optional
        How many times pixels with an excess above the result are left out and the fit is
        repeated; ``background_mask_rounds`` by default. An excess is one above
        `sources_model`.

    Returns
    -------
    tuple of Float32 (P, n_c, n_c)
        Always above zero.

    Raises
    ------
    InputError
        If there are not as many images as channels, shapes disagree, or a number is negative or
        not finite.
    """
    _check("counts", counts, counts, prior)
    for name, images in (
        ("interstellar template", templates.interstellar),
        ("isotropic template", templates.isotropic),
        ("fixed template", templates.fixed or None),
        ("sources_model", sources_model),
        ("mask", mask),
    ):
        if images is not None:
            _check(name, images, counts, prior)
    repeats = prior.settings.background_mask_rounds if rounds is None else rounds
    result = tuple(np.empty(image.shape, dtype=np.float32) for image in counts)
    for patch in range(len(counts[0])):
        _one_patch(patch, counts, templates, prior, sources_model, mask, repeats, result)
    return result


def _one_patch(
    patch: int,
    counts: Sequence[np.ndarray],
    templates: Templates,
    prior: BackgroundPrior,
    sources_model: Sequence[np.ndarray] | None,
    mask: Sequence[Bool] | None,
    repeats: int,
    result: Sequence[Float32],
) -> None:
    channels = len(counts)
    n = [np.asarray(image[patch], dtype=np.float64) for image in counts]
    parts = [
        [np.asarray(image[patch], dtype=np.float64) for image in images]
        for images in (templates.interstellar, templates.isotropic)
    ]
    fixed = [np.zeros_like(image) for image in n]
    for images in (templates.fixed, () if sources_model is None else sources_model):
        for c, image in enumerate(images):
            fixed[c] += image[patch]
    kept = [np.ones(image.shape) for image in n]
    if mask is not None:
        kept = [1.0 - image[patch] for image in mask]
    k = prior.basis.shape[1]
    u, v = np.zeros((channels, k, k)), np.zeros(channels)
    known = (
        fixed
        if sources_model is None
        else [np.asarray(m[patch], np.float64) for m in sources_model]
    )
    for round_ in range(repeats + 1):
        cells = [
            np.stack(
                [
                    _rebin(image * keep, prior.cells)
                    for image, keep in zip(images, kept, strict=True)
                ]
            )
            for images in (n, *parts, fixed)
        ]
        if round_ == 0:
            _start(cells, prior, u)
        fit_field(
            cells[0],
            cells[1],
            cells[2],
            cells[3],
            prior.basis,
            prior.scatter,
            prior.mix,
            prior.norm_mix,
            u,
            v,
            NEWTON_STEPS,
            GRADIENT_STEPS,
            TOLERANCE,
        )
        norms = np.exp(np.clip(prior.norm_mix @ v, -MAX_LN, MAX_LN))
        modes = prior.scatter * np.einsum("cj,jab->cab", prior.mix, u)
        for c in range(channels):
            whole = parts[0][c] * _factor(prior, modes[c], prior.pixels[c]) + parts[1][c] * norms[c]
            if templates.fixed:
                whole += templates.fixed[c][patch]
            result[c][patch] = np.maximum(whole, MIN_COUNTS)
            if round_ < repeats:
                expected = result[c][patch] + (0.0 if sources_model is None else known[c])
                excess = excess_mask(
                    n[c], expected, prior.kernels[c], prior.settings.background_mask_sigma
                )
                before = np.ones_like(n[c]) if mask is None else 1.0 - mask[c][patch]
                kept[c] = before * ~excess


def _rebin(image: Float64, cells: int) -> Float64:
    """Sum an image (n, n) into (cells, cells)."""
    step = len(image) // cells
    return np.asarray(image.reshape(cells, step, cells, step).sum(axis=(1, 3)))


def _start(cells: Sequence[Float64], prior: BackgroundPrior, u: Float64) -> None:
    """Start the constant modes where each channel's photons sum up to what is counted."""
    counts, interstellar, isotropic, fixed = (image.sum(axis=(1, 2)) for image in cells)
    ratio = (np.maximum(counts - fixed, 0.0) + 1.0) / (interstellar + isotropic + 1.0)
    constant = np.clip(np.log(ratio), -MAX_LN / 2, MAX_LN / 2) * prior.cells
    u[:, 0, 0] = np.linalg.solve(prior.mix, constant / prior.scatter[:, 0, 0])


def _factor(prior: BackgroundPrior, modes: Float64, pixels: int) -> Float64:
    """Return exp of a field at the centres of pixels x pixels pixels."""
    k = len(modes)
    # Modes are orthonormal over the cells; in finer pixels they keep their height.
    basis = cosine_modes(pixels, k) * np.sqrt(pixels / prior.cells)
    field = np.empty((pixels, pixels))
    synthesise(basis, np.ascontiguousarray(basis.T), modes, np.empty((pixels, k)), field)
    return np.asarray(np.exp(np.clip(field, -MAX_LN, MAX_LN)))


def _check(
    name: str, images: Sequence[np.ndarray], counts: Sequence[np.ndarray], prior: BackgroundPrior
) -> None:
    if len(images) != len(prior.pixels):
        raise InputError(
            name, f"{len(images)} images for {len(prior.pixels)} channels", "give one per channel"
        )
    for c, (image, like) in enumerate(zip(images, counts, strict=True)):
        wanted = (len(like), prior.pixels[c], prior.pixels[c])
        if image.shape != wanted:
            raise InputError(f"{name} of channel {c}", f"shape {image.shape}", f"must be {wanted}")
        if image.dtype != np.bool_ and not (np.isfinite(image).all() and (image >= 0).all()):
            raise InputError(
                f"{name} of channel {c}", "negative or not finite", "give counts per pixel"
            )
