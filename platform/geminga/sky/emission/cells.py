"""Interpolation between the cells of a map cube, and structure inside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import healpy
import numpy as np

from geminga.arrays import Float32, Float64, Int32
from geminga.compiled import compiled

_LOG = logging.getLogger(__name__)
TOLERANCE = 2e-3
"""Largest relative change of a cell's flux that its structure may make."""

_MOST_ROUNDS = 60
_MOST_SAMPLES = 24

SkyOfPixels = Callable[[Float64, Float64], tuple[Float64, Float64, Float64]]


@dataclass(frozen=True)
class CellGrid:
    """Where directions lie on a grid of cells, for bilinear interpolation.

    Attributes
    ----------
    row, column : Int32 (n,)
        Cell below and to the left.
    up, right : Float32 (n,)
        Distance from its centre, 0 to 1.
    closed : bool
        Whether the last column lies beside the first.
    """

    row: Int32
    column: Int32
    up: Float32
    right: Float32
    closed: bool

    @classmethod
    def of(cls, row: Float64, column: Float64, shape: tuple[int, int], closed: bool) -> CellGrid:
        """Return the grid positions of pixel coordinates; those off the edge move onto it."""
        rows, columns = shape
        row = np.clip(row, 0.0, rows - 1.0)
        column = column if closed else np.clip(column, 0.0, columns - 1.0)
        low, left = np.floor(row), np.floor(column)
        return cls(
            low.astype(np.int32),
            left.astype(np.int32),
            (row - low).astype(np.float32),
            (column - left).astype(np.float32),
            closed,
        )

    @classmethod
    def join(cls, parts: Sequence[CellGrid]) -> CellGrid:
        """Return the parts, one after the other."""
        return cls(
            np.concatenate([p.row for p in parts]),
            np.concatenate([p.column for p in parts]),
            np.concatenate([p.up for p in parts]),
            np.concatenate([p.right for p in parts]),
            parts[0].closed,
        )


@compiled
def interpolate_cells(
    data: Float32,
    row: Int32,
    column: Int32,
    up: Float32,
    right: Float32,
    closed: bool,
    group: int,
) -> Float64:
    """Interpolate bilinearly between cells; every `group` positions are averaged.

    Parameters
    ----------
    data : Float32 (rows, columns)
    row, column, up, right, closed
        As in `CellGrid`, n positions.
    group : int
        Number of positions that make one result.

    Returns
    -------
    Float64 (n / group,)
    """
    rows, columns = data.shape
    result = np.empty(len(row) // group)
    for i in range(len(result)):
        total = 0.0
        for k in range(i * group, (i + 1) * group):
            low, left = row[k], column[k]
            high = min(low + 1, rows - 1)
            beside = left + 1
            if beside >= columns:
                beside = 0 if closed else columns - 1
            x = np.float64(right[k])
            below = (1.0 - x) * data[low, left] + x * data[low, beside]
            above = (1.0 - x) * data[high, left] + x * data[high, beside]
            total += below + np.float64(up[k]) * (above - below)
        result[i] = total / group
    return result


@compiled
def _cell_means(
    ratio: Float64,
    template: Float32,
    weight: Float32,
    closed: bool,
) -> Float64:
    """Return the mean over each cell of the interpolated ratio times the template.

    Parameters
    ----------
    ratio : Float64 (rows, columns)
    template, weight : Float32 (rows, columns, k, k)
        Template and solid angle (summing to 1 in a cell) at k x k places in each cell.
    """
    rows, columns = ratio.shape
    samples = template.shape[2]
    result = np.zeros((rows, columns))
    for r in range(rows):
        for a in range(samples):
            y = (a + 0.5) / samples - 0.5
            low = r if y >= 0 else r - 1
            up = y if y >= 0 else y + 1.0
            r0, r1 = max(low, 0), min(low + 1, rows - 1)
            for c in range(columns):
                for b in range(samples):
                    x = (b + 0.5) / samples - 0.5
                    left = c if x >= 0 else c - 1
                    right = x if x >= 0 else x + 1.0
                    c0, c1 = left, left + 1
                    if c0 < 0:
                        c0 = columns - 1 if closed else 0
                    if c1 >= columns:
                        c1 = 0 if closed else columns - 1
                    below = (1.0 - right) * ratio[r0, c0] + right * ratio[r0, c1]
                    above = (1.0 - right) * ratio[r1, c0] + right * ratio[r1, c1]
                    value = below + up * (above - below)
                    result[r, c] += value * template[r, c, a, b] * weight[r, c, a, b]
    return result


@dataclass(frozen=True)
class FilledCells:
    """A template that fills cells with structure and leaves the flux of each as it is.

    Intensity is ``R(p) T(p)``: T the template, R interpolated between cells, as the intensity is
    without a template. R starts as the cell's intensity over the template's mean in it, and is
    corrected until the mean of the product over each cell is the cell's intensity.

    Attributes
    ----------
    template : Float64 (npix,)
        RING, Galactic.
    samples, weight : Float32 (rows, columns, k, k)
        Template and solid angle at places in each cell; weights sum to 1 in a cell.
    closed : bool
        Whether the last column lies beside the first.
    """

    template: Float64
    samples: Float32
    weight: Float32
    closed: bool
    _kept: dict[int, Float64] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        template: Float64,
        shape: tuple[int, int],
        closed: bool,
        finer: float,
        sky: SkyOfPixels,
    ) -> FilledCells:
        """Sample a template in the cells of a cube.

        Parameters
        ----------
        template : Float64 (npix,)
        shape : (int, int)
            Rows and columns.
        closed : bool
            Whether the last column lies beside the first.
        finer : float
            Width of a cell over that of a template pixel.
        sky : callable
            From row and column to Galactic lon and lat in degrees and solid angle (any unit),
            which is 0 beyond the poles.
        """
        rows, columns = shape
        k = int(np.clip(np.ceil(3 * finer), 2, _MOST_SAMPLES))
        offset = (np.arange(k) + 0.5) / k - 0.5
        samples = np.zeros((rows, columns, k, k), dtype=np.float32)
        weight = np.zeros_like(samples)
        for row in range(rows):
            y, x = np.meshgrid(row + offset, (np.arange(columns)[:, None] + offset).ravel())
            lon, lat, solid = sky(y.ravel(), x.ravel())
            values = healpy.get_interp_val(template, lon, lat, lonlat=True)
            # x changes slowest: (columns, k, rows of samples) to (columns, rows, columns).
            samples[row] = values.reshape(columns, k, k).transpose(0, 2, 1)
            weight[row] = solid.reshape(columns, k, k).transpose(0, 2, 1)
        total = weight.sum(axis=(2, 3), keepdims=True)
        weight /= np.where(total > 0, total, 1.0)
        return cls(template, samples, weight, closed)

    def ratio(self, data: Float32) -> Float32:
        """Return R (rows, columns) for the intensity of the cells (rows, columns)."""
        mean = (self.samples * self.weight).sum(axis=(2, 3), dtype=np.float64)
        positive = mean > 0
        wanted = data.astype(np.float64)
        ratio = np.where(positive, wanted / np.where(positive, mean, 1.0), 0.0)
        for _ in range(_MOST_ROUNDS):
            made = _cell_means(ratio, self.samples, self.weight, self.closed)
            some = (made > 0) & (wanted > 0)
            change = np.where(some, wanted / np.where(some, made, 1.0), 1.0)
            if np.abs(change - 1.0).max() < TOLERANCE:
                break
            ratio *= change
        else:
            off = np.abs(change - 1.0)
            # A cell much fainter than its neighbours cannot be: what lies between is interpolated.
            _LOG.warning(
                "structure changes the flux of %d of %d cells by more than %g, by %.2g at most",
                (off > TOLERANCE).sum(),
                off.size,
                TOLERANCE,
                off.max(),
            )
        return ratio.astype(np.float32)

    def at(self, lon_deg: Float64, lat_deg: Float64) -> Float64:
        """Return the template at Galactic directions, each (n,)."""
        return np.asarray(healpy.get_interp_val(self.template, lon_deg, lat_deg, lonlat=True))

    def at_pixels(self, nside: int) -> Float64:
        """Return the template at the HEALPix pixels (RING) of another resolution."""
        if nside not in self._kept:
            if nside <= int(healpy.npix2nside(len(self.template))):
                values = healpy.ud_grade(self.template, nside)
            else:
                values = self.at(*healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True))
            self._kept[nside] = np.asarray(values)
        return self._kept[nside]
