"""Maps of the test statistic of a point source at every place of a patch.

For every pixel centre of the finest channel, flux and spectral template are chosen that raise the
likelihood most, on a background that is given: TS = 2 max ln(L(flux) / L(0)). Channels of coarse
pixels are evaluated at their own pixel centres and interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import fft

from geminga.arrays import Float32, Float64, Int8, Int64
from geminga.compiled import compiled
from geminga.config import LikelihoodConfig
from geminga.errors import InputError
from geminga.likelihood.kernels import PointKernels
from geminga.likelihood.ladder import best_flux, flux_ladder
from geminga.likelihood.log_sums import (
    TAIL_COEFFICIENTS,
    TAIL_LIMIT,
    add_logarithm,
    multiply_core,
    tail_powers,
)

LEAST_BACKGROUND = 1e-6
POWERS = len(TAIL_COEFFICIENTS)
_PRODUCT_NS = 0.3
_TRANSFORM_NS = 100.0
"""Costs that decide how a channel is summed: a factor of a product; a pixel of a channel's
transforms. Both ways give the same TS to the accuracy of the polynomial."""


@dataclass(frozen=True)
class TsMaps:
    """Best point source at each pixel centre of the finest channel.

    Attributes
    ----------
    ts : Float32 (P, n, n)
        Test statistic; 0 where no source is better than one, and below about 0.5.
    flux : Float32 (P, n, n)
        Its flux, in the unit of 1 / counts_per_flux.
    template : Int8 (P, n, n)
        Its template, -1 where the TS is 0.
    """

    ts: Float32
    flux: Float32
    template: Int8


@dataclass(frozen=True)
class _Split:
    """A channel's kernels, cut into a core and a tail.

    Attributes
    ----------
    cut : float
        Largest value of the tail.
    dy, dx : Int64 (D,)
        Offsets of the core's pixels.
    core : Float64 (D, T)
        Kernels there.
    tail : complex (T, J, N, N // 2 + 1) or None
        Conjugate transforms of (k / cut)^j; none if all is core.
    """

    cut: float
    dy: Int64
    dx: Int64
    core: Float64
    tail: np.ndarray | None


@dataclass(eq=False)
class _Plan:
    """What all patches of the same kernels share.

    Attributes
    ----------
    pixels : tuple of int (C,)
    kernels : tuple of Float64 (T, K, K), one per channel
    width : Float64 (T, C)
        1 / sum k^2.
    inside : Float64 (top, top, T, C)
        Share of a source's photons that falls into the patch and its kernel.
    sizes : dict of int to int
        Padded size of the transforms for each number of pixels.
    """

    pixels: tuple[int, ...]
    kernels: tuple[Float64, ...]
    width: Float64
    inside: Float64
    sizes: dict[int, int]
    splits: dict[tuple[int, int], _Split] = field(default_factory=dict)

    def split(self, channel: int, cut: float) -> _Split:
        """Return kernels cut at `cut` or the next lower of a few values; 0 for core alone."""
        kernels = self.kernels[channel]
        peak = float(kernels.max())
        # Factors of two: a handful of cuts serves all patches.
        level = int(np.floor(np.log2(cut / peak))) if cut > 0 else -99
        level = max(min(level, 0), -99)
        if (channel, level) not in self.splits:
            self.splits[channel, level] = self._make(channel, peak * 2.0**level)
        return self.splits[channel, level]

    def _make(self, channel: int, cut: float) -> _Split:
        kernels = self.kernels[channel]
        half = kernels.shape[1] // 2
        inner = kernels.max(axis=0) > cut
        row, column = np.nonzero(inner)
        core = np.ascontiguousarray(kernels[:, row, column].T)
        tail = None
        if not inner.all():
            size = self.sizes[self.pixels[channel]]
            padded = np.zeros((len(kernels), POWERS, size, size))
            rest = np.where(inner, 0.0, kernels / cut)
            place = np.arange(-half, half + 1) % size
            for power in range(POWERS):
                padded[:, power, place[:, None], place[None, :]] = rest ** (power + 1)
            tail = np.conj(fft.rfft2(padded))
        return _Split(cut, row - half, column - half, core, tail)


def ts_maps(
    counts: Sequence[Float32],
    background: Sequence[Float32],
    kernels: Sequence[PointKernels],
    counts_per_flux: Float64,
    settings: LikelihoodConfig,
) -> TsMaps:
    """Return the test statistic of the best point source at every pixel centre.

    Parameters
    ----------
    counts : sequence of Float32 (P, n_c, n_c), one per channel
        Counts of the patches.
    background : sequence of Float32 (P, n_c, n_c), one per channel
        Expected counts of all else; raised to 1e-6 where lower.
    kernels : sequence of PointKernels (T,)
        One per spectral template, of the same channels.
    counts_per_flux : Float64 (P, T, C)
        Counts of each template per unit of flux, see `kernels.counts_per_flux`.
    settings : LikelihoodConfig
        `map_top_ts`: how far the TS is computed in full.

    Returns
    -------
    TsMaps
        Within 5 % or 0.5 of the exact TS up to `map_top_ts`; brighter sources keep the flux that
        would give about this, and a TS that is too low but highest at the same place.

    Raises
    ------
    InputError
        If shapes do not fit, counts are negative or not finite, or the background not finite.
    """
    _check(counts, background, kernels, counts_per_flux)
    plan = _plan(tuple(kernels), tuple(image.shape[1] for image in counts))
    top, patches = max(plan.pixels), len(counts[0])
    ts = np.zeros((patches, top, top), np.float32)
    flux = np.zeros((patches, top, top), np.float32)
    template = np.full((patches, top, top), -1, np.int8)
    for p in range(patches):
        mine = [np.ascontiguousarray(image[p], np.float32) for image in counts]
        floor = np.float32(LEAST_BACKGROUND)
        behind = [np.ascontiguousarray(np.maximum(b[p], floor), np.float32) for b in background]
        per_flux = np.ascontiguousarray(counts_per_flux[p], np.float64)
        _patch(plan, mine, behind, per_flux, settings.map_top_ts, ts[p], flux[p], template[p])
    return TsMaps(ts, flux, template)


def _patch(
    plan: _Plan,
    counts: list[Float32],
    background: list[Float32],
    per_flux: Float64,
    top_ts: float,
    ts: Float32,
    flux: Float32,
    template: Int8,
) -> None:
    """Fill the maps of one patch."""
    ends = np.array([np.quantile(b[::2, ::2], (0.05, 0.95)) for b in background])
    fluxes = flux_ladder(ends[:, 0], ends[:, 1], plan.width, per_flux, top_ts)
    if not fluxes[:, -1].any():
        return
    tails, cores = None, None
    for n in sorted(set(plan.pixels)):
        tail, core = _one_grid(plan, n, counts, background, fluxes, per_flux)
        tails, cores = _sum(tails, tail, n), _sum(cores, core, n)
    top = max(plan.pixels)
    templates, steps = fluxes.shape
    if tails is None:
        tails = np.zeros((top, top, templates * POWERS))
    if cores is None:
        cores = np.zeros((top, top, templates * steps))
    expected = fluxes[:, -1:] * per_flux
    relative = fluxes / np.where(fluxes[:, -1:] > 0, fluxes[:, -1:], 1.0)
    _maximise(tails, cores, plan.inside, expected, fluxes, relative, ts, flux, template)


def _one_grid(
    plan: _Plan,
    n: int,
    counts: list[Float32],
    background: list[Float32],
    fluxes: Float64,
    per_flux: Float64,
) -> tuple[Float64 | None, Float64 | None]:
    """Sum the channels of n pixels a side.

    Returns
    -------
    tail : Float64 (n, n, T * J) or None
        Coefficients of (flux / last flux)^j.
    core : Float64 (n, n, T * L) or None
        sum n ln(1 + m k / b) over the cores, for every flux.
    """
    templates, steps = fluxes.shape
    size = plan.sizes[n]
    spectrum = None
    product = total = None
    for c in (c for c in range(len(plan.pixels)) if plan.pixels[c] == n):
        seen = counts[c] > 0
        photons = int(np.count_nonzero(seen))
        most = float((fluxes[:, -1] * per_flux[:, c]).max())
        if photons == 0 or most <= 0.0:
            continue
        floor = float(background[c][seen].min())
        split = plan.split(c, TAIL_LIMIT * floor / most)
        all_pixels = plan.kernels[c].shape[1] ** 2
        saved = photons * (all_pixels - len(split.dy)) * templates * steps * _PRODUCT_NS
        if split.tail is None or saved < size**2 * _TRANSFORM_NS:
            split = plan.split(c, 0.0)
        if len(split.dy):
            if product is None or total is None:
                product = np.ones((n, n, templates * steps))
                total = np.zeros_like(product)
            factor = split.core[:, :, None] * (fluxes * per_flux[:, c, None])
            factor = factor.reshape(len(split.dy), -1)
            multiply_core(
                counts[c], background[c], split.dy, split.dx, factor, steps, product, total
            )
        if split.tail is not None:
            powers = np.zeros((POWERS, size, size))
            tail_powers(counts[c], background[c], floor, powers)
            weight = fluxes[:, -1] * per_flux[:, c] * split.cut / floor
            weights = weight[:, None] ** np.arange(1, POWERS + 1)
            part = fft.rfft2(powers) * split.tail * weights[:, :, None, None]
            spectrum = part if spectrum is None else spectrum + part
    tail = None
    if spectrum is not None:
        maps = fft.irfft2(spectrum, (size, size))[..., :n, :n]
        maps = maps * TAIL_COEFFICIENTS[:, None, None]
        tail = np.ascontiguousarray(maps.reshape(-1, n, n).transpose(1, 2, 0))
    if product is not None and total is not None:
        add_logarithm(product.ravel(), 1.0, total.ravel())
    return tail, total


def _sum(coarse: Float64 | None, fine: Float64 | None, n: int) -> Float64 | None:
    """Add maps (m, m, M), interpolated to n pixels a side, to maps (n, n, M)."""
    if coarse is None:
        return fine
    enlarged = coarse
    if coarse.shape[0] != n:
        enlarged = np.empty((n, n, coarse.shape[2]))
        enlarge(coarse, enlarged)
    return enlarged if fine is None else enlarged + fine


@compiled
def enlarge(coarse: Float64, fine: Float64) -> None:
    """Interpolate maps (m, m, M) at the pixel centres of (n, n, M), n above m >= 4: cubic."""
    m, n = coarse.shape[0], fine.shape[0]
    start = np.empty(n, np.int64)
    weight = np.empty((n, 4))
    for i in range(n):
        x = (i + 0.5) * m / n - 0.5
        start[i] = min(max(int(np.floor(x)) - 1, 0), m - 4)
        for a in range(4):
            weight[i, a] = 1.0
            for b in range(4):
                if b != a:
                    weight[i, a] *= (x - start[i] - b) / (a - b)
    lines = np.empty((m, coarse.shape[2]))
    for row in range(n):
        for j in range(m):
            for q in range(coarse.shape[2]):
                lines[j, q] = (
                    weight[row, 0] * coarse[start[row], j, q]
                    + weight[row, 1] * coarse[start[row] + 1, j, q]
                    + weight[row, 2] * coarse[start[row] + 2, j, q]
                    + weight[row, 3] * coarse[start[row] + 3, j, q]
                )
        for column in range(n):
            s = start[column]
            for q in range(coarse.shape[2]):
                fine[row, column, q] = (
                    weight[column, 0] * lines[s, q]
                    + weight[column, 1] * lines[s + 1, q]
                    + weight[column, 2] * lines[s + 2, q]
                    + weight[column, 3] * lines[s + 3, q]
                )


@compiled
def _maximise(
    tails: Float64,
    cores: Float64,
    inside: Float64,
    expected: Float64,
    fluxes: Float64,
    relative: Float64,
    ts: Float32,
    flux: Float32,
    template: Int8,
) -> None:
    """Maximise over flux and template at every pixel.

    `expected` (T, C) are the counts at each template's last flux, `relative` (T, L) the fluxes
    over the last one.
    """
    templates, steps = fluxes.shape
    powers = tails.shape[2] // templates
    values = np.empty((templates, steps))
    highest = np.empty(templates)
    for row in range(ts.shape[0]):
        for column in range(ts.shape[1]):
            best = 0.0
            for t in range(templates):
                lost = 0.0
                for c in range(expected.shape[1]):
                    lost += expected[t, c] * inside[row, column, t, c]
                highest[t] = 0.0
                for step in range(steps):
                    f = relative[t, step]
                    tail = 0.0
                    for j in range(powers - 1, -1, -1):
                        tail = f * (tail + tails[row, column, t * powers + j])
                    value = tail + cores[row, column, t * steps + step] - f * lost
                    values[t, step] = value
                    highest[t] = max(highest[t], value)
                best = max(best, highest[t])
            if best <= 0.0:
                continue
            chosen = 0.0
            for t in range(templates):
                # Between steps the maximum is at most a fifth above the highest value.
                if highest[t] <= 0.8 * best:
                    continue
                where, value = best_flux(fluxes[t], values[t])
                if value > chosen:
                    chosen = value
                    ts[row, column] = 2.0 * value
                    flux[row, column] = where
                    template[row, column] = t


@lru_cache(maxsize=4)
def _plan(kernels: tuple[PointKernels, ...], pixels: tuple[int, ...]) -> _Plan:
    stacks = []
    for c, n in enumerate(pixels):
        half = min(max(k.half_px[c] for k in kernels), n - 1)
        stack = np.zeros((len(kernels), 2 * half + 1, 2 * half + 1))
        for t, kernel in enumerate(kernels):
            inner = half - kernel.half_px[c]
            end = 2 * half + 1 - inner
            stack[t, inner:end, inner:end] = kernel.centred(c)
        stacks.append(stack)
    width = np.array([1.0 / (s**2).sum(axis=(1, 2)) for s in stacks]).T
    sizes = {
        n: fft.next_fast_len(
            max(n + s.shape[1] // 2 for s, m in zip(stacks, pixels, strict=True) if m == n),
            real=True,
        )
        for n in set(pixels)
    }
    top = max(pixels)
    inside = np.zeros((top, top, len(kernels), len(pixels)))
    for c, (n, stack) in enumerate(zip(pixels, stacks, strict=True)):
        share = _inside(stack, n)
        if n != top:
            finer = np.empty((top, top, len(kernels)))
            enlarge(share, finer)
            share = finer
        inside[..., c] = share
    return _Plan(pixels, tuple(stacks), np.ascontiguousarray(width), inside, sizes)


def _inside(stack: Float64, n: int) -> Float64:
    """Return the sum of kernels (T, K, K) within an image of n pixels a side, (n, n, T)."""
    half = stack.shape[1] // 2
    sums = np.zeros((len(stack), stack.shape[1] + 1, stack.shape[1] + 1))
    sums[:, 1:, 1:] = stack.cumsum(axis=1).cumsum(axis=2)
    place = np.arange(n)
    first = np.maximum(half - place, 0)
    last = np.minimum(half + n - place, 2 * half + 1)
    rows = sums[:, last] - sums[:, first]
    return np.ascontiguousarray((rows[:, :, last] - rows[:, :, first]).transpose(1, 2, 0))


def _check(
    counts: Sequence[Float32],
    background: Sequence[Float32],
    kernels: Sequence[PointKernels],
    counts_per_flux: Float64,
) -> None:
    channels = len(counts)
    if not kernels or any(len(k.values) != channels for k in kernels):
        raise InputError(
            "TS map",
            f"{channels} channels of counts, kernels of {[len(k.values) for k in kernels]}",
            "make kernels of the same channels",
        )
    if len(background) != channels or any(
        a.shape != b.shape for a, b in zip(counts, background, strict=False)
    ):
        raise InputError(
            "TS map",
            f"counts {[a.shape for a in counts]}, background {[b.shape for b in background]}",
            "give both for the same patches and channels",
        )
    shape = (len(counts[0]), len(kernels), channels)
    if counts_per_flux.shape != shape:
        raise InputError(
            "TS map", f"counts_per_flux {counts_per_flux.shape} instead of {shape}", "see its shape"
        )
    for c, (image, behind) in enumerate(zip(counts, background, strict=True)):
        if image.ndim != 3 or image.shape[1] != image.shape[2] or image.shape[1] < 4:
            raise InputError(
                f"TS map, channel {c}", f"images {image.shape}", "give (P, n, n), n >= 4"
            )
        if not np.isfinite(image).all() or (image < 0).any():
            raise InputError(
                f"TS map, channel {c}", "counts are negative or not finite", "give photon counts"
            )
        if not np.isfinite(behind).all():
            raise InputError(
                f"TS map, channel {c}", "the background is not finite", "give expected counts"
            )
