"""Maps of the test statistic of a point source at every place of a patch.

For every pixel centre of the finest channel, flux and spectral template are chosen that raise the
likelihood most, on a background that is given: TS = 2 max ln(L(flux) / L(0)). Channels of coarse
pixels are evaluated at their own pixel centres and interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from geminga.arrays import Bool, Float32, Float64, Int8
from geminga.compiled import compiled
from geminga.config import LikelihoodConfig
from geminga.errors import InputError
from geminga.likelihood.kernels import PointKernels
from geminga.likelihood.ladder import best_flux, flux_ladder
from geminga.likelihood.limits import LEAST_BACKGROUND
from geminga.likelihood.log_sums import (
    TAIL_COEFFICIENTS,
    TAIL_LIMIT,
    add_logarithm,
    multiply_core,
    tail_powers,
)
from geminga.likelihood.map_plan import POWERS, Layout, MapPlan, Split, enlarge, map_plan

UNSEEN_COUNTS = 1e6
"""Counts, and background, of pixels that were not observed: equal and so large that no source
there changes the likelihood. From this background up maps leave a pixel out."""
HOLE = 0.02
"""Backgrounds below this part of the median of a channel's counted pixels are raised to it."""
_PAIR_NS, _PRODUCT_NS, _LOGARITHM_NS = 6.0, 0.5, 2.5
_FORWARD_NS, _BACKWARD_NS = 65.0, 10.0
"""Costs that decide how a channel is summed: a photon's pixel of a core, and each factor of its
products, or of its logarithms where counts are no whole numbers; a pixel of a channel's transforms,
and of its spectra for one phase and template. Both ways give the same TS to the accuracy of the
polynomial."""


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
        Expected counts of all else; raised to 1e-6, and to 2 % of the channel's median at counted
        pixels, where lower.
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
    plan = map_plan(tuple(kernels), tuple(image.shape[1] for image in counts))
    top, patches = plan.top, len(counts[0])
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
    plan: MapPlan,
    counts: list[Float32],
    background: list[Float32],
    per_flux: Float64,
    top_ts: float,
    ts: Float32,
    flux: Float32,
    template: Int8,
) -> None:
    """Fill the maps of one patch."""
    inside, observed = plan.inside, [b < UNSEEN_COUNTS for b in background]
    values = [b[::2, ::2] for b in background]
    if not all(mask.all() for mask in observed):
        inside = plan.inside_of(observed)
        counts = [
            np.where(mask, n, np.float32(0.0)) for mask, n in zip(observed, counts, strict=True)
        ]
        values = [b[mask] for b, mask in zip(background, observed, strict=True)]
        if not all(len(v) for v in values):
            return
    ends = np.array([np.quantile(v, (0.05, 0.95)) for v in values])
    fluxes = flux_ladder(ends[:, 0], ends[:, 1], plan.width, per_flux, top_ts)
    if not fluxes[:, -1].any():
        return
    top = plan.top
    templates, steps = fluxes.shape
    tails = _Sum(np.zeros((top, top, templates * POWERS)))
    cores = _Sum(np.zeros((top, top, templates * steps)))
    # From coarse to fine, so that each grid is enlarged once.
    for grid in sorted({o.grid for o in plan.layouts}, key=lambda g: (g[0], -g[1])):
        chosen = [c for c, o in enumerate(plan.layouts) if o.grid == grid]
        tail, core = _one_grid(plan, chosen, counts, background, fluxes, per_flux)
        tails.add(tail, grid[1])
        cores.add(core, grid[1])
    expected = fluxes[:, -1:] * per_flux
    relative = fluxes / np.where(fluxes[:, -1:] > 0, fluxes[:, -1:], 1.0)
    _maximise(
        tails.on_top(), cores.on_top(), inside, expected, fluxes, relative, ts, flux, template
    )


class _Sum:
    """A sum of maps on ever finer grids."""

    def __init__(self, zeros: Float64) -> None:
        self._top = zeros
        self._maps: Float64 | None = None
        self._margin = 0

    def add(self, maps: Float64 | None, margin: int) -> None:
        """Add maps with a margin, of a grid not coarser than those before."""
        if maps is None:
            return
        if self._maps is not None:
            if self._maps.shape != maps.shape:
                enlarged = np.empty_like(maps)
                enlarge(self._maps, self._margin, enlarged, margin)
                self._maps = enlarged
            maps = maps + self._maps
        self._maps, self._margin = maps, margin

    def on_top(self) -> Float64:
        """Return the sum on the finest grid; zeros if nothing was added."""
        if self._maps is None or self._maps.shape == self._top.shape:
            return self._top if self._maps is None else self._maps
        enlarge(self._maps, self._margin, self._top, 0)
        return self._top


def _one_grid(
    plan: MapPlan,
    chosen: list[int],
    counts: list[Float32],
    background: list[Float32],
    fluxes: Float64,
    per_flux: Float64,
) -> tuple[Float64 | None, Float64 | None]:
    """Sum the channels whose places are the same.

    Returns
    -------
    tail : Float64 (N, N, T * J) or None
        Coefficients of (flux / last flux)^j; N places with margin.
    core : Float64 (N, N, T * L) or None
        sum n ln(1 + m k / b) over the cores, for every flux.
    """
    templates, steps = fluxes.shape
    places = plan.layouts[chosen[0]].places
    spectra: dict[Layout, list[NDArray[np.complex128]]] = {}
    product = total = None
    for c in chosen:
        layout = plan.layouts[c]
        phases = layout.phases
        seen = counts[c] > 0
        photons = int(np.count_nonzero(seen))
        most = float((fluxes[:, -1] * per_flux[:, c]).max())
        if photons == 0 or most <= 0.0:
            continue
        behind, floor = _without_holes(background[c], seen)
        splits = plan.splits(c, TAIL_LIMIT * floor / most)
        left = plan.kernels[c].shape[-1] ** 2 - len(splits[0].dy)
        broken = int(np.count_nonzero(counts[c] % 1.0))
        each = photons * _PRODUCT_NS + broken * (_LOGARITHM_NS - _PRODUCT_NS)
        saved = left * phases**2 * (photons * _PAIR_NS + templates * steps * each)
        if saved < layout.size**2 * (_FORWARD_NS + phases**2 * templates * _BACKWARD_NS):
            splits = plan.splits(c, 0.0)
        parts = _tail_spectra(
            splits, layout, counts[c], behind, floor, fluxes[:, -1] * per_flux[:, c]
        )
        if parts:
            # Channels of one layout are added before they are transformed back.
            before = spectra.get(layout)
            spectra[layout] = (
                parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]
            )
        if any(len(split.dy) for split in splits) and (product is None or total is None):
            product = np.ones((places, places, templates * steps))
            total = np.zeros_like(product)
        expected = fluxes * per_flux[:, c, None]
        for number, split in enumerate(splits):
            if product is None or total is None:
                break
            factor = (split.core[:, :, None] * expected).reshape(len(split.dy), templates * steps)
            place = layout.margin, phases, number // phases, number % phases
            multiply_core(
                counts[c], behind, split.dy, split.dx, factor, steps, *place, product, total
            )
    if product is not None and total is not None:
        add_logarithm(product.ravel(), 1.0, total.ravel())
    if not spectra:
        return None, total
    tail = np.zeros((places, places, templates * POWERS))
    for layout, parts in spectra.items():
        phases, side = layout.phases, layout.side
        for number, spectrum in enumerate(parts):
            maps = fft.irfft2(spectrum, (layout.size, layout.size))[..., :side, :side]
            maps *= TAIL_COEFFICIENTS[:, None, None]
            flat = maps.reshape(-1, side, side).transpose(1, 2, 0)
            tail[number // phases :: phases, number % phases :: phases] += flat
    return tail, total


def _without_holes(background: Float32, seen: Bool) -> tuple[Float32, float]:
    """Return a background and its lowest value at counted pixels.

    A photon where next to none is expected would make all of every kernel a core: pixels are
    raised to `HOLE` of the median of the counted ones.
    """
    values = background[seen]
    lowest, least = float(values.min()), HOLE * float(np.median(values))
    if lowest >= least:
        return background, lowest
    return np.maximum(background, np.float32(least)), float(np.float32(least))


def _tail_spectra(
    splits: list[Split],
    layout: Layout,
    counts: Float32,
    background: Float32,
    floor: float,
    expected: Float64,
) -> list[NDArray[np.complex128]]:
    """Return transforms (T, J, N, N // 2 + 1) of the tail's powers for every phase; none if empty.

    `expected` (T,) are the counts at each template's last flux, `floor` the lowest background
    of a counted pixel.
    """
    if all(split.tail is None for split in splits):
        return []
    powers = np.zeros((POWERS, layout.size, layout.size))
    tail_powers(counts, background, floor, layout.margin, powers)
    transform = fft.rfft2(powers)
    weight = expected * splits[0].cut / floor
    weights = weight[:, None] ** np.arange(1, POWERS + 1)
    shape = len(expected), POWERS, *transform.shape[1:]
    return [
        np.zeros(shape, np.complex128)
        if split.tail is None
        else transform * split.tail * weights[:, :, None, None]
        for split in splits
    ]


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
