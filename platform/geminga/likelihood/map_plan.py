"""What the TS maps of all patches share: kernels cut into core and tail, and their transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve

from geminga.arrays import Bool, Float64, Int64
from geminga.compiled import compiled
from geminga.errors import InputError
from geminga.likelihood.kernels import PointKernels
from geminga.likelihood.log_sums import TAIL_COEFFICIENTS

MARGIN = 2
"""Coarse channels are summed this many pixels beyond the patch, to be interpolated up to its edge."""
POWERS = len(TAIL_COEFFICIENTS)
NO_TAIL = -60


@dataclass(frozen=True, eq=False)
class Split:
    """The kernels of a channel and phase, cut into a core and a tail.

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
    tail: NDArray[np.complex128] | None


@dataclass(frozen=True)
class Layout:
    """Where a channel is summed.

    Attributes
    ----------
    pixels : int
        Pixels per side of its images.
    phases : int
        Places per pixel and axis.
    margin : int
        Pixels beyond the patch.
    size : int
        Padded size of its transforms.
    """

    pixels: int
    phases: int
    margin: int
    size: int

    @property
    def grid(self) -> tuple[int, int]:
        """Places per side within the patch, and beyond each side."""
        return self.pixels * self.phases, self.margin * self.phases

    @property
    def side(self) -> int:
        """Pixels per side with margin."""
        return self.pixels + 2 * self.margin

    @property
    def places(self) -> int:
        """Places per side with margin."""
        return self.side * self.phases


@dataclass(eq=False)
class MapPlan:
    """What all patches of the same kernels share.

    Attributes
    ----------
    top : int
        Pixels per side of the maps.
    layouts : tuple of Layout (C,)
    kernels : tuple of Float64 (F, F, T, K, K), one per channel
    width : Float64 (T, C)
        1 / sum k^2.
    inside : Float64 (top, top, T, C)
        Share of a source's photons that falls into the patch and its kernel.
    """

    top: int
    layouts: tuple[Layout, ...]
    kernels: tuple[Float64, ...]
    width: Float64
    inside: Float64
    _splits: dict[tuple[int, int], list[Split]] = field(default_factory=dict)

    def splits(self, channel: int, cut: float) -> list[Split]:
        """Return the kernels of every phase, cut at `cut` or just below; all core for 0."""
        peak = float(self.kernels[channel].max())
        # Factors of two: a handful of cuts serves all patches.
        level = min(int(np.floor(np.log2(cut / peak))), 0) if cut > 0 else NO_TAIL
        key = channel, max(level, NO_TAIL)
        if key not in self._splits:
            layout, value = self.layouts[channel], peak * 2.0**level if level > NO_TAIL else 0.0
            self._splits[key] = [
                _split(kernels, value, layout.size)
                for row in self.kernels[channel]
                for kernels in row
            ]
        return self._splits[key]

    def inside_of(self, observed: Sequence[Bool]) -> Float64:
        """Return `inside` where only some pixels (n_c, n_c) of each channel were observed."""
        inside = np.empty_like(self.inside)
        for c, (layout, stack) in enumerate(zip(self.layouts, self.kernels, strict=True)):
            mask = np.pad(observed[c].astype(np.float64), layout.margin)
            masks = np.broadcast_to(mask, (stack.shape[2], *mask.shape))
            share = np.empty((layout.places, layout.places, stack.shape[2]))
            for a in range(layout.phases):
                for b in range(layout.phases):
                    turned = stack[a, b, :, ::-1, ::-1]
                    sums = fftconvolve(masks, turned, mode="same", axes=(1, 2))
                    share[a :: layout.phases, b :: layout.phases] = sums.transpose(1, 2, 0)
            inside[..., c] = _on_top(share, layout.grid, self.top)
        return inside


def _split(kernels: Float64, cut: float, size: int) -> Split:
    half = kernels.shape[1] // 2
    inner = kernels.max(axis=0) > cut
    row, column = np.nonzero(inner)
    core = np.ascontiguousarray(kernels[:, row, column].T)
    tail = None
    if cut > 0 and not inner.all():
        padded = np.zeros((len(kernels), POWERS, size, size))
        rest = np.where(inner, 0.0, kernels / cut)
        place = np.arange(-half, half + 1) % size
        for power in range(POWERS):
            padded[:, power, place[:, None], place[None, :]] = rest ** (power + 1)
        tail = np.conj(fft.rfft2(padded))
    return Split(cut, row - half, column - half, core, tail)


@lru_cache(maxsize=4)
def map_plan(kernels: tuple[PointKernels, ...], pixels: tuple[int, ...]) -> MapPlan:
    """Prepare the maps of patches with some pixels per side in each channel.

    Raises
    ------
    InputError
        If the kernels have places that the finest channel has not.
    """
    top = max(pixels)
    layouts, stacks = [], []
    inside = np.zeros((top, top, len(kernels), len(pixels)))
    for c, n in enumerate(pixels):
        stack = _stack(kernels, c, n)
        phases = stack.shape[0]
        if n * phases > top or top % (n * phases):
            raise InputError(
                f"TS map, channel {c}",
                f"{phases} phases of {n} pixels do not fit {top} pixels",
                "make kernels with map_phases",
            )
        margin = MARGIN if n * phases < top else 0
        size = fft.next_fast_len(n + margin + stack.shape[-1] // 2, real=True)
        layouts.append(Layout(n, phases, margin, size))
        stacks.append(stack)
        share = _inside(stack, n, margin)
        inside[..., c] = _on_top(share, layouts[-1].grid, top)
    # One size for all channels of a kind: their transforms are added before they go back.
    kinds = [(o.pixels, o.phases) for o in layouts]
    common = [
        max(o.size for o, other in zip(layouts, kinds, strict=True) if other == kind)
        for kind in kinds
    ]
    layouts = [
        Layout(o.pixels, o.phases, o.margin, size) for o, size in zip(layouts, common, strict=True)
    ]
    width = np.array([1.0 / (s[0, 0] ** 2).sum(axis=(1, 2)) for s in stacks]).T
    return MapPlan(top, tuple(layouts), tuple(stacks), np.ascontiguousarray(width), inside)


def _stack(kernels: Sequence[PointKernels], channel: int, pixels: int) -> Float64:
    """Return a channel's kernels in squares of one size, (F, F, T, K, K)."""
    half = min(max(k.half_px[channel] for k in kernels), pixels - 1)
    phases = kernels[0].phases[channel]
    stack = np.zeros((phases, phases, len(kernels), 2 * half + 1, 2 * half + 1))
    for t, kernel in enumerate(kernels):
        inner = half - kernel.half_px[channel]
        end = 2 * half + 1 - inner
        stack[:, :, t, inner:end, inner:end] = kernel.values[channel]
    return stack


def _on_top(share: Float64, grid: tuple[int, int], top: int) -> Float64:
    """Return maps (N, N, T) of a layout's grid on the finest one, (top, top, T)."""
    places, margin = grid
    if places == top:
        return share
    finer = np.empty((top, top, share.shape[2]))
    enlarge(share, margin, finer, 0)
    return finer


def _inside(stack: Float64, n: int, margin: int) -> Float64:
    """Return the sum of kernels over an image of n pixels, for places in it and around."""
    phases, half = stack.shape[0], stack.shape[-1] // 2
    side = n + 2 * margin
    place = np.arange(-margin, n + margin)
    first = np.clip(half - place, 0, 2 * half + 1)
    last = np.clip(half + n - place, 0, 2 * half + 1)
    result = np.empty((side * phases, side * phases, stack.shape[2]))
    for a in range(phases):
        for b in range(phases):
            sums = np.zeros((stack.shape[2], 2 * half + 2, 2 * half + 2))
            sums[:, 1:, 1:] = stack[a, b].cumsum(axis=1).cumsum(axis=2)
            rows = sums[:, last] - sums[:, first]
            share = rows[:, :, last] - rows[:, :, first]
            result[a::phases, b::phases] = share.transpose(1, 2, 0)
    return result


@compiled
def enlarge(coarse: Float64, coarse_margin: int, fine: Float64, fine_margin: int) -> None:
    """Interpolate maps (m, m, M) at the pixel centres of finer ones (n, n, M): cubic, m >= 4.

    The margins say how many of the pixels at each side lie outside the patch.
    """
    m, n = coarse.shape[0], fine.shape[0]
    ratio = (m - 2 * coarse_margin) / (n - 2 * fine_margin)
    start = np.empty(n, np.int64)
    weight = np.empty((n, 4))
    for i in range(n):
        x = (i - fine_margin + 0.5) * ratio - 0.5 + coarse_margin
        start[i] = min(max(int(np.floor(x)) - 1, 0), m - 4)
        for a in range(4):
            weight[i, a] = 1.0
            for b in range(4):
                if b != a:
                    weight[i, a] *= (x - start[i] - b) / (a - b)
    lines = np.empty((m, coarse.shape[2]))
    for row in range(n):
        r = start[row]
        for j in range(m):
            for q in range(coarse.shape[2]):
                lines[j, q] = (
                    weight[row, 0] * coarse[r, j, q]
                    + weight[row, 1] * coarse[r + 1, j, q]
                    + weight[row, 2] * coarse[r + 2, j, q]
                    + weight[row, 3] * coarse[r + 3, j, q]
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
