"""The images of all sources of one patch, in one piece of memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.compiled import compiled
from geminga.likelihood.source_model import GUARD, NEAR_PIXELS, SUBSTEPS, SourceModel, lookup

DEGREE = np.pi / 180.0


@dataclass(eq=False)
class Stamps:
    """Unit images of m sources, and how they change with the sources' positions.

    Attributes
    ----------
    model : SourceModel
    box : Int64 (m, C, 4)
        First row, one past the last, first column, one past the last.
    begin : Int64 (m, C)
        Where a source's pixels of a channel begin in `values`.
    values : Float64 (3, total)
        Expected counts per count of the source, and their derivatives with x and y per degree.
    """

    model: SourceModel
    box: Int64
    begin: Int64
    values: Float64

    def draw(self, x_deg: Float64, y_deg: Float64, index: Float64, which: Bool) -> None:
        """Compute the images of some sources (m,) anew at positions and photon indices (m,)."""
        model = self.model
        low = np.clip(np.searchsorted(model.index, index, side="right") - 1, 0, None)
        low = np.minimum(low, max(len(model.index) - 2, 0)).astype(np.int64)
        high = np.minimum(low + 1, len(model.index) - 1)
        gap = np.maximum(model.index[high] - model.index[low], 1e-9)
        weight = np.clip((index - model.index[low]) / gap, 0.0, 1.0)
        _draw(
            self.values,
            self.box,
            self.begin,
            x_deg * DEGREE,
            y_deg * DEGREE,
            low,
            weight,
            which,
            model.pixels,
            model.size_deg * DEGREE,
            model.near,
            model.far,
        )

    def copy(self) -> Stamps:
        """Return stamps with values of their own."""
        return Stamps(self.model, self.box, self.begin, self.values.copy())


def place(model: SourceModel, x_deg: Float64, y_deg: Float64, counts: Float64) -> Stamps:
    """Lay out the images of sources with these expected counts (m, C); their values are zero.

    An image is the square that holds all but `TAIL_COUNTS` of a source's counts, as far as it lies
    in the patch.
    """
    reach = model.reach(counts)
    step = model.size_deg / model.pixels
    box = np.empty((*counts.shape, 4), dtype=np.int64)
    for axis, position in ((0, y_deg), (2, x_deg)):
        at = position[:, None] + model.size_deg / 2.0
        box[..., axis] = np.floor((at - reach) / step)
        box[..., axis + 1] = np.ceil((at + reach) / step)
    box = np.clip(box, 0, model.pixels[None, :, None])
    size = (box[..., 1] - box[..., 0]) * (box[..., 3] - box[..., 2])
    begin = np.concatenate([[0], np.cumsum(size.ravel())]).astype(np.int64)
    return Stamps(
        model,
        np.ascontiguousarray(box),
        np.ascontiguousarray(begin[:-1].reshape(size.shape)),
        np.zeros((3, int(begin[-1]))),
    )


@compiled
def _draw(
    values: Float64,
    box: Int64,
    begin: Int64,
    x: Float64,
    y: Float64,
    low: Int64,
    weight: Float64,
    which: Bool,
    pixels: Int64,
    size: float,
    near: Float64,
    far: Float64,
) -> None:
    """Fill the images of the chosen sources; positions and size are tangents of angles."""
    side = near.shape[2]
    table = np.empty((side, side))
    radial = np.empty(far.shape[2])
    for s in range(len(x)):
        if not which[s]:
            continue
        xs, ys = x[s], y[s]
        q = 1.0 + xs * xs + ys * ys
        upper = min(low[s] + 1, near.shape[1] - 1)
        w = weight[s]
        for c in range(len(pixels)):
            r0, r1, c0, c1 = box[s, c, 0], box[s, c, 1], box[s, c, 2], box[s, c, 3]
            if r1 <= r0 or c1 <= c0:
                continue
            for i in range(side):
                for j in range(side):
                    table[i, j] = (1.0 - w) * near[c, low[s], i, j] + w * near[c, upper, i, j]
            for i in range(far.shape[2]):
                radial[i] = (1.0 - w) * far[c, low[s], i] + w * far[c, upper, i]
            step = size / pixels[c]
            at = begin[s, c]
            for row in range(r0, r1):
                yp = (row + 0.5) * step - 0.5 * size
                for column in range(c0, c1):
                    xp = (column + 0.5) * step - 0.5 * size
                    shrink = 1.0 / (1.0 + xp * xp + yp * yp)
                    area = step * step * shrink * np.sqrt(shrink)
                    dx, dy = xp - xs, yp - ys
                    if abs(dx) < NEAR_PIXELS * step and abs(dy) < NEAR_PIXELS * step:
                        mxx, mxy, myy = _metric_root(0.5 * (xs + xp), 0.5 * (ys + yp))
                        u = (mxx * dx + mxy * dy) / step
                        v = (mxy * dx + myy * dy) / step
                        value, du, dv = _cubic(table, abs(u) * SUBSTEPS, abs(v) * SUBSTEPS)
                        du *= -area * SUBSTEPS / step * (1.0 if u >= 0.0 else -1.0)
                        dv *= -area * SUBSTEPS / step * (1.0 if v >= 0.0 else -1.0)
                        values[0, at] = value * area
                        values[1, at] = (mxx * du + mxy * dv) * DEGREE
                        values[2, at] = (mxy * du + myy * dv) * DEGREE
                    else:
                        norm = np.sqrt(shrink / q)
                        cosine = (1.0 + xs * xp + ys * yp) * norm
                        value, slope = lookup(radial, 2.0 - 2.0 * cosine)
                        slope *= -2.0 * area * DEGREE
                        values[0, at] = value * area
                        values[1, at] = slope * (xp * norm - cosine * xs / q)
                        values[2, at] = slope * (yp * norm - cosine * ys / q)
                    at += 1


@compiled
def _metric_root(x: float, y: float) -> tuple[float, float, float]:
    """Return the matrix (xx, xy, yy) that turns steps on the plane into steps on the sphere.

    It is the root of the metric I / q - r r^T / q^2 of the plane, q = 1 + r^2; no step grows.
    """
    q = 1.0 + x * x + y * y
    across, along = 1.0 / np.sqrt(q), 1.0 / q
    bend = -across * along / (1.0 + across)  # (along - across) / r^2, finite at zero
    return across + bend * x * x, bend * x * y, across + bend * y * y


@compiled
def _cubic(table: Float64, u: float, v: float) -> tuple[float, float, float]:
    """Return a table's value and derivatives at column u, row v of its nodes from GUARD on.

    Catmull-Rom in both axes.
    """
    j, i = int(u), int(v)
    a0, a1, a2, a3, s0, s1, s2, s3 = _weights(u - j)
    b0, b1, b2, b3, t0, t1, t2, t3 = _weights(v - i)
    j += GUARD - 1
    i += GUARD - 1
    value, du, dv = 0.0, 0.0, 0.0
    for k in range(4):
        line = table[i + k]
        along = a0 * line[j] + a1 * line[j + 1] + a2 * line[j + 2] + a3 * line[j + 3]
        slope = s0 * line[j] + s1 * line[j + 1] + s2 * line[j + 2] + s3 * line[j + 3]
        b = b0 if k == 0 else b1 if k == 1 else b2 if k == 2 else b3
        t = t0 if k == 0 else t1 if k == 1 else t2 if k == 2 else t3
        value += b * along
        du += b * slope
        dv += t * along
    return value, du, dv


@compiled
def _weights(t: float) -> tuple[float, float, float, float, float, float, float, float]:
    """Return the weights of four nodes, and those of the derivative, a part t past the second."""
    return (
        t * (-0.5 + t * (1.0 - 0.5 * t)),
        1.0 + t * t * (-2.5 + 1.5 * t),
        t * (0.5 + t * (2.0 - 1.5 * t)),
        t * t * (-0.5 + 0.5 * t),
        -0.5 + t * (2.0 - 1.5 * t),
        t * (-5.0 + 4.5 * t),
        0.5 + t * (4.0 - 4.5 * t),
        t * (-1.0 + 1.5 * t),
    )


@compiled
def add_sources(
    image: Float64, values: Float64, box: Int64, begin: Int64, amplitude: Float64, layout: Int64
) -> None:
    """Add sources with counts `amplitude` (m, C) to the flat image of all channels.

    `layout` (2, C) holds pixels per side and the start of each channel.
    """
    for s in range(len(box)):
        for c in range(box.shape[1]):
            a = amplitude[s, c]
            if a == 0.0:
                continue
            n, start = layout[0, c], layout[1, c]
            at = begin[s, c]
            for row in range(box[s, c, 0], box[s, c, 1]):
                for p in range(start + row * n + box[s, c, 2], start + row * n + box[s, c, 3]):
                    image[p] += a * values[0, at]
                    at += 1
