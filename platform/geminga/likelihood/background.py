"""Expected counts of everything that is not a point source, estimated from the counts.

A reference model of the diffuse emission is multiplied by a smooth factor that follows the
counts, patch by patch: see `smooth_ratio`. How far the factor strays from one is itself taken
from the patch. What shines and is not yet known as a source would raise the result: pixels with
an excess over a first, stiff fit are left out when the fit is repeated, and sources that are
known enter with their expected counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geminga.arrays import Bool, Float32, Float64
from geminga.compiled import compiled
from geminga.errors import InputError
from geminga.likelihood.background_prior import BackgroundPrior
from geminga.likelihood.diffuse_templates import Templates
from geminga.likelihood.excess import mark_excess
from geminga.likelihood.field_modes import rebin, synthesise
from geminga.likelihood.limits import LEAST_BACKGROUND
from geminga.likelihood.smooth_ratio import MAX_LN, fit_field

NEWTON_STEPS = 8
GRADIENT_STEPS = 12
TOLERANCE = 0.3
"""Fits end when -ln posterior changes by less: far below the one half of a mode's own error."""
SCALE_WEIGHT = 5.0
"""Modes that the prior scatter counts for when the scatter of a patch is measured."""
MIN_SCALE, MAX_SCALE = 0.1, 1.5
"""Range of a patch's scatter relative to the prior's; what lies above it is sources."""


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
        How many times pixels with an excess above the result and `sources_model` are left out
        and the fit is repeated; ``background_mask_rounds`` by default. The first of these fits is
        one of the norms alone where no source is known, or it would follow the sources. With a
        complete `sources_model` none is needed.

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
    if rounds is None:
        rounds = prior.settings.background_mask_rounds
    result = tuple(np.empty(image.shape, dtype=np.float32) for image in counts)
    for patch in range(len(counts[0])):
        estimate = _Patch(patch, counts, templates, prior, sources_model, mask).estimate(rounds)
        for image, values in zip(result, estimate, strict=True):
            image[patch] = values
    return result


class _Patch:
    """The counts and templates of one patch, and what is known of it so far."""

    def __init__(
        self,
        patch: int,
        counts: Sequence[np.ndarray],
        templates: Templates,
        prior: BackgroundPrior,
        sources_model: Sequence[np.ndarray] | None,
        mask: Sequence[Bool] | None,
    ) -> None:
        self.prior = prior
        self.counts = _images(counts, patch)
        self.interstellar = _images(templates.interstellar, patch)
        self.isotropic = _images(templates.isotropic, patch)
        nothing = [np.zeros_like(image) for image in self.counts]
        self.fixed = _images(templates.fixed, patch) or nothing
        self.sources = nothing if sources_model is None else _images(sources_model, patch)
        self.blind = not any(image.any() for image in self.sources)
        self.masked = (
            [np.zeros(image.shape, dtype=np.bool_) for image in self.counts]
            if mask is None
            else [np.ascontiguousarray(image[patch]) for image in mask]
        )
        channels, k, _ = prior.scatter.shape
        self.u, self.v = np.zeros((channels, k, k)), np.zeros(channels)
        self.scale, self.determined = 1.0, 0.0

    def estimate(self, rounds: int) -> list[Float64]:
        """Return the background (n_c, n_c) of each channel."""
        settings = self.prior.settings
        ways = self.prior.smoothings if rounds else ()
        found = [
            [way(np.where(self.masked[c], 0.0, self.counts[c])) for way in each]
            for c, each in enumerate(ways)
        ]
        left_out = self.masked
        for number in range(rounds):
            first = number == 0 and self.blind
            self._bin(left_out)
            self._fit(1 if first else None, start=number == 0)
            expected = self._background()
            if not first:
                self._rescale()
            least = settings.background_first_excess if first else settings.background_mask_excess
            left_out = [mask.copy() for mask in self.masked]
            for c, out in enumerate(left_out):
                whole = np.where(self.masked[c], 0.0, expected[c] + self.sources[c])
                for way, smoothed in zip(ways[c], found[c], strict=True):
                    mark_excess(
                        smoothed, way(whole), way.kernel, settings.background_mask_sigma, least, out
                    )
        self._bin(left_out)
        self._fit(start=rounds == 0)
        for _ in range(settings.background_scale_rounds):
            self._rescale()
            self._fit()
        return self._background()

    def _bin(self, left_out: Sequence[Bool]) -> None:
        """Sum what is not left out in the cells of the fit."""
        size = self.prior.cells
        self.cells = np.empty((4, len(self.counts), size, size))
        fixed = [a + b for a, b in zip(self.fixed, self.sources, strict=True)]
        for row, images in enumerate((self.counts, self.interstellar, self.isotropic, fixed)):
            for c, image in enumerate(images):
                rebin(image, left_out[c], self.cells[row, c])

    def _fit(self, modes: int | None = None, start: bool = False) -> None:
        """Fit the norms and the first modes, all by default, to the cells."""
        if start:
            self._start(self.cells.sum(axis=(2, 3)))
        few = slice(0, modes)
        u = np.ascontiguousarray(self.u[:, few, few])
        self.determined = fit_field(
            self.cells[0],
            self.cells[1],
            self.cells[2],
            self.cells[3],
            np.ascontiguousarray(self.prior.basis[:, few]),
            np.ascontiguousarray(self._scatter()[:, few, few]),
            self.prior.mix,
            self.prior.norm_mix,
            u,
            self.v,
            NEWTON_STEPS,
            GRADIENT_STEPS,
            TOLERANCE,
        )
        self.u[:, few, few] = u

    def _start(self, sums: Float64) -> None:
        """Start the constant modes where each channel's photons sum up to what is counted."""
        counts, interstellar, isotropic, fixed = sums
        ratio = (np.maximum(counts - fixed, 0.0) + 1.0) / (interstellar + isotropic + 1.0)
        constant = np.clip(np.log(ratio), -MAX_LN / 2, MAX_LN / 2) * self.prior.cells
        self.u[:, 0, 0] = np.linalg.solve(self.prior.mix[0], constant / self.prior.scatter[:, 0, 0])

    def _scatter(self) -> Float64:
        """Return the prior scatter of the modes (C, k, k) as far as it is known for the patch."""
        scatter = self.prior.scatter * self.scale
        scatter[:, 0, 0] = self.prior.scatter[:, 0, 0]
        return scatter

    def _rescale(self) -> None:
        """Measure the scatter of all but the constant modes in the last fit.

        The most probable scatter is that of the modes divided by the number of modes that the
        counts determine (MacKay 1992); a few modes with the prior's scatter steady it.
        """
        power = np.sum(self.u**2) - np.sum(self.u[:, 0, 0] ** 2)
        ratio = (self.scale**2 * power + SCALE_WEIGHT) / (self.determined + SCALE_WEIGHT)
        scale = float(np.clip(np.sqrt(ratio), MIN_SCALE, MAX_SCALE))
        constant = self.u[:, 0, 0].copy()
        self.u *= self.scale / scale
        self.u[:, 0, 0] = constant
        self.scale = scale

    def _background(self) -> list[Float64]:
        """Return what the last fit says, in pixels."""
        prior, scatter = self.prior, self._scatter()
        result = []
        for c, basis in enumerate(prior.fine):
            modes = np.zeros_like(self.u[0])
            for j in range(c + 1):
                modes += prior.mix[1, c, j] * self.u[j]
            modes[0, 0] = np.sum(prior.mix[0, c] * self.u[:, 0, 0])
            norm = np.exp(np.clip(np.sum(prior.norm_mix[c] * self.v), -MAX_LN, MAX_LN))
            image = np.empty_like(self.counts[c])
            room = np.empty(basis.shape)
            turned = np.ascontiguousarray(basis.T)
            synthesise(basis, turned, modes * scatter[c], room, image)
            _combine(image, self.interstellar[c], self.isotropic[c], float(norm), self.fixed[c])
            result.append(image)
        return result


def _images(images: Sequence[np.ndarray], patch: int) -> list[Float64]:
    return [np.ascontiguousarray(image[patch], dtype=np.float64) for image in images]


@compiled
def _combine(
    image: Float64, interstellar: Float64, isotropic: Float64, norm: float, fixed: Float64
) -> None:
    """Overwrite a field (n, n) with the background it makes of the templates."""
    for i in range(len(image)):
        for j in range(len(image)):
            factor = np.exp(min(max(image[i, j], -MAX_LN), MAX_LN))
            whole = factor * interstellar[i, j] + norm * isotropic[i, j] + fixed[i, j]
            image[i, j] = max(whole, LEAST_BACKGROUND)


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
        if (image.dtype == np.bool_) != (name == "mask"):
            raise InputError(
                f"{name} of channel {c}",
                f"numbers of type {image.dtype}",
                "a mask is of type bool, and nothing else is",
            )
        if image.dtype != np.bool_ and not (np.isfinite(image).all() and (image >= 0).all()):
            raise InputError(
                f"{name} of channel {c}", "negative or not finite", "give counts per pixel"
            )
