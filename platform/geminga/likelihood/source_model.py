"""Images of a point source at any sub-pixel position of a patch, with their derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from geminga.arrays import Float64, Int64
from geminga.bands import Channel, pixel_sizes
from geminga.compiled import compiled
from geminga.patches.psf_lookup import BIT_SHIFT, FIRST_BITS, node_chord2, psf_lookup
from geminga.response import BandPsf, Response

BIT_MASK = (1 << BIT_SHIFT) - 1
NEAR_PIXELS = 3
"""Within this many pixels of a source, along both axes, the pixel's square shape is followed."""
SUBSTEPS = 16
"""Nodes per pixel of the table for them."""
GUARD = 1
"""Nodes before the first one, which the cubic interpolation at zero offset reads."""
NODES = GUARD + NEAR_PIXELS * SUBSTEPS + 3
TAIL_COUNTS = 1.0
"""Counts of a source that may lie outside its image."""
LEAST_CONTAINMENT = 0.95
"""Part of every source's counts that its image holds, however faint it is."""
INDEX_STEP = 0.1
REFERENCE_MEV = (1e3, 1e6)
"""Fluxes are those of photons between these energies."""


@dataclass(frozen=True, eq=False)
class SourceModel:
    """The PSF of every channel, integrated over pixels, for one pixelation of patches.

    Near a source the integral over a pixel is read from a table of the pixel's offset in both
    axes, cubic between 16 nodes a pixel; farther out from a table of the distance, an average
    over the orientations of the pixel (they differ by some parts in a thousand there).

    Attributes
    ----------
    pixels : Int64 (C,)
        Pixels per side of each channel.
    start : Int64 (C + 1,)
        Where each channel begins in the flat arrays of all pixels of a patch.
    size_deg : float
        Width of the patches.
    index : Float64 (K,)
        Photon indices of the tables; between them the images are interpolated.
    near : Float64 (C, K, NODES, NODES)
        Mean PSF per steradian over a pixel, by offset in steps of pixel / 16 from -1 step on.
    far : Float64 (C, K, nodes)
        The same by squared chord (see `patches.psf_lookup`).
    reach_deg : Float64 (C, R)
        Radius of containment of the parts `contained` for a photon index of 2.5.
    contained : Float64 (R,)
    edges_mev : Float64 (C, 2)
        Limits of the channels.
    """

    pixels: Int64
    start: Int64
    size_deg: float
    index: Float64
    near: Float64
    far: Float64
    reach_deg: Float64
    contained: Float64
    edges_mev: Float64

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.pixels)

    def reach(self, counts: Float64) -> Float64:
        """Return how far the images of sources with these counts (m, C) extend, degrees (m, C)."""
        part = np.clip(
            1.0 - TAIL_COUNTS / np.maximum(counts, 1e-3), LEAST_CONTAINMENT, self.contained[-1]
        )
        result = np.empty_like(part)
        for channel in range(self.channels):
            result[:, channel] = np.interp(
                part[:, channel], self.contained, self.reach_deg[channel]
            )
        return result


def make_source_model(
    psf: BandPsf,
    channels: Sequence[Channel],
    size_deg: float,
    index_limits: tuple[float, float] = (1.0, 5.0),
) -> SourceModel:
    """Tabulate the pixel-integrated PSF of every channel.

    Parameters
    ----------
    psf : BandPsf
    channels : sequence of Channel (C,)
    size_deg : float
        Width of the patches, degrees.
    index_limits : (float, float)
        Photon indices that will be asked for; those outside take the nearest.
    """
    nodes = psf.spectral_index
    first = max(int(np.searchsorted(nodes, index_limits[0], side="right")) - 1, 0)
    last = min(int(np.searchsorted(nodes, index_limits[1])), len(nodes) - 1)
    chosen = slice(first, last + 1)
    pixels = np.array(pixel_sizes(channels), dtype=np.int64)
    near, far = [], []
    for channel, n in enumerate(pixels):
        density = psf_lookup(psf, channel).density_per_sr[chosen]
        step = float(np.radians(size_deg / n))
        near.append(_near_table(density, step))
        far.append(_far_table(density, np.sqrt(node_chord2(density.shape[1])), step))
    contained = 1.0 - np.geomspace(1.0 - LEAST_CONTAINMENT, 1e-6, 200)
    reach = [
        [psf.radius_of_containment(c, 2.5, float(part)) for part in contained]
        for c in range(len(channels))
    ]
    return SourceModel(
        pixels,
        np.concatenate([[0], np.cumsum(pixels**2)]).astype(np.int64),
        float(size_deg),
        nodes[chosen].copy(),
        np.array(near),
        np.array(far),
        np.maximum(np.array(reach), 1.5 * size_deg / pixels[:, None]),
        contained,
        np.array([[c.emin_gev, c.emax_gev] for c in channels]) * 1e3,
    )


@dataclass(frozen=True, eq=False)
class Spectra:
    """Counts per flux of power laws at some directions, as functions of the photon index.

    Attributes
    ----------
    index : Float64 (I,)
        Evenly spaced.
    coefficients : Float64 (n, C, I - 1, 4)
        Cubic pieces of ln(counts per flux), lowest power first; counts per ph/cm2/s between 1
        and 1000 GeV.
    """

    index: Float64
    coefficients: Float64

    def at(self, index: Float64) -> tuple[Float64, Float64]:
        """Return counts per flux (m, C) and their logarithmic derivatives (m, C) at indices (m,).

        Row s belongs to direction s, or to the only direction there is.
        """
        piece = np.clip(
            ((index - self.index[0]) / (self.index[1] - self.index[0])).astype(np.int64),
            0,
            len(self.index) - 2,
        )
        t = (index - self.index[piece])[:, None]
        rows = np.arange(len(index)) if len(self.coefficients) > 1 else np.zeros_like(piece)
        a, b, c, d = np.moveaxis(self.coefficients[rows, :, piece], -1, 0)
        return np.exp(a + t * (b + t * (c + t * d))), b + t * (2.0 * c + t * 3.0 * d)

    def at_each(self, index: Float64) -> Float64:
        """Return counts per flux (n, I, C) of every direction at each of the indices (I,)."""
        one = [self.part(slice(n, n + 1)) for n in range(len(self))]
        return np.array([each.at(index)[0] for each in one])

    def __len__(self) -> int:
        return len(self.coefficients)

    def part(self, rows: slice) -> Spectra:
        """Return the spectra of some directions."""
        return Spectra(self.index, self.coefficients[rows])

    def band_share(self, index: Float64, edges_mev: Float64) -> Float64:
        """Return flux in bands (C, 2) over flux between 1 and 1000 GeV of power laws, (m, C)."""
        return power_law_integral(index[:, None], edges_mev[:, 0], edges_mev[:, 1]) / (
            power_law_integral(index[:, None], *REFERENCE_MEV)
        )


def power_law_integral(index: Float64, low: Float64 | float, high: Float64 | float) -> Float64:
    """Return the integral of (E / 1 GeV)^-index between two energies in MeV, in GeV."""
    a, b = np.log(np.asarray(low) / 1e3), np.log(np.asarray(high) / 1e3)
    slope = 1.0 - index
    # exp(a s) * (exp((b - a) s) - 1) / s, whose limit at s = 0 is b - a.
    x = (b - a) * slope
    ratio = np.where(np.abs(x) < 1e-9, 1.0, np.expm1(x) / np.where(np.abs(x) < 1e-9, 1.0, x))
    return np.asarray(np.exp(a * slope) * (b - a) * ratio)


def make_spectra(
    response: Response,
    lon_deg: Float64,
    lat_deg: Float64,
    index_limits: tuple[float, float] = (1.0, 5.0),
) -> Spectra:
    """Integrate power laws times exposure over every channel at directions (n,).

    Parameters
    ----------
    response : Response
    lon_deg, lat_deg : Float64 (n,)
        Galactic directions, degrees: one for each source, or one for a whole patch (exposure
        changes by some per cent across it).
    index_limits : (float, float)
        Photon indices between which fits may go.
    """
    low, high = index_limits
    index = np.linspace(low, high, max(4, 1 + int(np.ceil((high - low) / INDEX_STEP))))
    counts = np.empty((len(index), len(np.atleast_1d(lon_deg)), len(response.nodes)))
    for channel, nodes in enumerate(response.nodes):
        exposure = response.exposure_at_nodes(channel, lon_deg, lat_deg)
        law = (nodes.energy_mev / 1e3) ** -index[:, None] * nodes.weight / 1e3
        counts[..., channel] = np.einsum("ie,en->in", law, exposure)
    counts /= power_law_integral(index, *REFERENCE_MEV)[:, None, None]
    spline = CubicSpline(index, np.log(np.maximum(counts, np.finfo(float).tiny)), axis=0)
    coefficients = np.moveaxis(spline.c[::-1], (0, 1, 2, 3), (3, 2, 0, 1))
    return Spectra(index, np.ascontiguousarray(coefficients))


@compiled
def lookup(table: Float64, chord2: float) -> tuple[float, float]:
    """Return a table of `patches.psf_lookup` and its slope at a squared chord; 0 beyond it."""
    bits = np.float32(chord2).view(np.int32) - FIRST_BITS
    if bits <= 0:
        return table[0], 0.0
    i = bits >> BIT_SHIFT
    if i >= len(table) - 1:
        return 0.0, 0.0
    # Nodes are evenly spaced within each factor of two, 2^NODE_BITS of them.
    low = np.int32((i << BIT_SHIFT) + FIRST_BITS).view(np.float32)
    high = np.int32(((i + 1) << BIT_SHIFT) + FIRST_BITS).view(np.float32)
    slope = (table[i + 1] - table[i]) / (np.float64(high) - np.float64(low))
    return table[i] + (bits & BIT_MASK) / (BIT_MASK + 1.0) * (table[i + 1] - table[i]), slope


@compiled
def _near_table(density: Float64, step: float) -> Float64:
    """Return means over a pixel of width `step` (radian) by its offset, (K, NODES, NODES)."""
    half = SUBSTEPS // 2
    first = -half - GUARD
    cells = NODES + SUBSTEPS
    gauss = 0.5 / np.sqrt(3.0)
    table = np.empty((len(density), NODES, NODES))
    mean = np.empty((cells, cells))
    rows = np.empty((NODES, cells))
    for k in range(len(density)):
        for i in range(cells):
            for j in range(cells):
                total = 0.0
                # Two by two points in each quarter of a cell.
                for a in range(4):
                    y = (first + i + 0.25 + 0.5 * (a // 2) + gauss * (a % 2 - 0.5)) / SUBSTEPS
                    for b in range(4):
                        x = (first + j + 0.25 + 0.5 * (b // 2) + gauss * (b % 2 - 0.5)) / SUBSTEPS
                        total += lookup(density[k], (x * x + y * y) * step * step)[0]
                mean[i, j] = total / 16.0
        for i in range(NODES):
            for j in range(cells):
                rows[i, j] = mean[i : i + SUBSTEPS, j].mean()
        for i in range(NODES):
            for j in range(NODES):
                table[k, i, j] = rows[i, j : j + SUBSTEPS].mean()
    return table


@compiled
def _far_table(density: Float64, chord: Float64, step: float) -> Float64:
    """Return means over a pixel by distance, averaged over eight orientations of the pixel."""
    table = density.copy()
    points = np.array([-0.8611363115940526, -0.3399810435848563])
    weights = np.array([0.3478548451374538, 0.6521451548625461]) / 2.0
    for i in range(len(chord)):
        # Nearer, the other table is read; farther, a point stands for the pixel.
        if chord[i] < 0.5 * NEAR_PIXELS * step or chord[i] > 30.0 * step:
            continue
        for k in range(len(density)):
            total = 0.0
            for angle in range(8):
                phi = (angle + 0.5) * np.pi / 32.0
                for a in range(4):
                    y = points[a % 2] * (1.0 if a < 2 else -1.0) * step / 2.0
                    for b in range(4):
                        x = points[b % 2] * (1.0 if b < 2 else -1.0) * step / 2.0
                        dx, dy = chord[i] * np.cos(phi) + x, chord[i] * np.sin(phi) + y
                        value = lookup(density[k], dx * dx + dy * dy)[0]
                        total += weights[a % 2] * weights[b % 2] * value
            table[k, i] = total / 8.0
    return table
