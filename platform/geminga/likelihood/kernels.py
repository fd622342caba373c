"""Point-source templates: the PSF integrated over pixels, and counts per unit of flux."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float32, Float64
from geminga.bands import Channel
from geminga.compiled import compiled
from geminga.errors import InputError
from geminga.patches.psf_lookup import node_chord2, psf_lookup
from geminga.response import BandPsf, Response, band_exposure

FLUX_RANGE_GEV = (1.0, 1000.0)
"""Range of the photon flux that templates are normalised to ("s1")."""
MAX_CELLS = 24
"""Most cells per side a pixel is cut into, close to the source."""
CELL = 0.25
"""Side of a cell in units of the distance from the source, or of the PSF's core if that is more."""


@dataclass(frozen=True, eq=False)
class PointKernels:
    """Share of a source's photons in each pixel around it, for sources at sub-pixel phases.

    A source of phase (i, j) lies in the middle pixel of the kernel, at ((i + 1/2) / F - 1/2,
    (j + 1/2) / F - 1/2) pixels along (y, x) from the middle of that pixel.

    Attributes
    ----------
    values : tuple of Float32 (F_c, F_c, K_c, K_c), one per channel
        Indexed [phase along y, phase along x, row, column]; sums to the share of the PSF that
        the square holds.
    half_px : tuple of int
        K_c = 2 half_px + 1.
    phases : tuple of int
        F_c, phases per pixel and axis; the middle one of an odd number is the pixel's centre.
    pixel_deg : tuple of float
        Pixel width of each channel, degrees on the tangent plane.
    index : float
        Photon index whose PSF this is.
    """

    values: tuple[Float32, ...]
    half_px: tuple[int, ...]
    phases: tuple[int, ...]
    pixel_deg: tuple[float, ...]
    index: float


def make_kernels(
    psf: BandPsf,
    channels: Sequence[Channel],
    size_deg: float,
    index: float,
    containment: float = 0.98,
    max_radius_deg: float = 3.0,
    phases: int | Sequence[int] = 1,
) -> PointKernels:
    """Integrate the PSF of a photon index over the pixels around a source.

    The plane is tangent at the source: towards the corners of a patch of 10 deg the true image is
    stretched by up to 1.5 %, which this leaves out.

    Parameters
    ----------
    psf : BandPsf
        PSF of the channels.
    channels : sequence of Channel
        Their pixels per side of a patch.
    size_deg : float
        Width of a patch, degrees.
    index : float
        Photon index of the source.
    containment : float
        The square reaches as far as the circle that holds this share of the photons, ...
    max_radius_deg : float
        ... or to this distance, if that is less.
    phases : int or sequence of int (C,)
        Places of the source per pixel and axis, for all or each of the channels; for TS maps see
        `map_phases`.

    Raises
    ------
    InputError
        If a number is out of range.
    """
    if not 0 < containment < 1:
        raise InputError("likelihood.containment", f"{containment} is not in (0, 1)", "use 0.98")
    if max_radius_deg <= 0:
        raise InputError("likelihood.max_radius_deg", f"{max_radius_deg} is not above 0", "use 3")
    each = (phases,) * len(channels) if isinstance(phases, int) else tuple(phases)
    if len(each) != len(channels) or min(each) < 1:
        raise InputError(
            "kernel phases", f"{phases} for {len(channels)} channels", "give one from 1 up for each"
        )
    values, halves, widths = [], [], []
    for number, channel in enumerate(channels):
        pixel = size_deg / channel.pixels
        radius = min(psf.radius_of_containment(number, index, containment), max_radius_deg)
        # Beyond the width of a patch there is no pixel to compare with.
        half = min(max(int(np.ceil(radius / pixel - 0.5)), 1), channel.pixels - 1)
        chord2, density, core = _profile(psf, number, index)
        offset = (np.arange(each[number]) + 0.5) / each[number] - 0.5
        kernel = _integrate(float(np.radians(pixel)), half, offset, chord2, density, core)
        values.append(kernel.astype(np.float32))
        halves.append(half)
        widths.append(pixel)
    return PointKernels(tuple(values), tuple(halves), each, tuple(widths), float(index))


def map_phases(channels: Sequence[Channel]) -> tuple[int, ...]:
    """Return the phases of kernels for TS maps: two for channels coarser than the finest.

    Two places per pixel and axis follow the PSF of a channel whose core is about two pixels wide.
    """
    top = max(c.pixels for c in channels)
    return tuple(1 if c.pixels == top else 2 for c in channels)


def counts_per_flux(
    response: Response,
    channels: Sequence[Channel],
    lon: Float64,
    lat: Float64,
    indices: Sequence[float],
) -> Float64:
    """Return the expected counts of power laws per unit of photon flux from 1 to 1000 GeV.

    Parameters
    ----------
    response : Response
        Response of the channels.
    channels : sequence of Channel
        The response's channels.
    lon, lat : Float64 (n,)
        Galactic directions in degrees.
    indices : sequence of float (T,)
        Photon indices.

    Returns
    -------
    Float64 (n, T, C)
        In cm2 s: counts over the flux in ph/cm2/s.
    """
    if tuple(channels) != response.channels:
        raise ValueError("the channels are not those of the response")
    lon = np.atleast_1d(np.asarray(lon, np.float64))
    lat = np.atleast_1d(np.asarray(lat, np.float64))
    result = np.empty((len(lon), len(indices), len(channels)))
    for t, index in enumerate(indices):
        share = [power_law_share(index, c.emin_gev, c.emax_gev) for c in channels]
        result[:, t] = (band_exposure(response, lon, lat, index) * np.array(share)[:, None]).T
    return result


def power_law_share(index: float, emin_gev: float, emax_gev: float) -> float:
    """Return a power law's photon flux between two energies over that from 1 to 1000 GeV."""
    return _power_integral(index, emin_gev, emax_gev) / _power_integral(index, *FLUX_RANGE_GEV)


def _power_integral(index: float, low: float, high: float) -> float:
    slope = 1.0 - index
    ratio = float(np.log(high / low))
    # expm1(s r) / s, whose limit at index 1 is the logarithm.
    return ratio if slope == 0.0 else float(low**slope * np.expm1(slope * ratio) / slope)


def _profile(psf: BandPsf, channel: int, index: float) -> tuple[Float64, Float64, float]:
    """Return squared chord and density per steradian at the nodes rendering uses, and the core."""
    lookup = psf_lookup(psf, channel)
    nodes = psf.spectral_index
    x = float(np.clip(index, nodes[0], nodes[-1]))
    low = int(np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, max(len(nodes) - 2, 0)))
    high = min(low + 1, len(nodes) - 1)
    weight = 0.0 if high == low else (x - nodes[low]) / (nodes[high] - nodes[low])
    density = (1 - weight) * lookup.density_per_sr[low] + weight * lookup.density_per_sr[high]
    core = (1 - weight) * lookup.core_rad[low] + weight * lookup.core_rad[high]
    return node_chord2(density.shape[0]), np.ascontiguousarray(density), float(core)


@compiled
def _integrate(
    pixel: float, half: int, offset: Float64, chord2: Float64, density: Float64, core: float
) -> Float64:
    """Integrate a density per steradian over pixels of a tangent plane, (F, F, K, K).

    Each pixel is cut into cells with 2 x 2 Gauss-Legendre points, the finer the nearer it lies.
    """
    phases, side = len(offset), 2 * half + 1
    result = np.empty((phases, phases, side, side))
    gauss = 0.28867513459481287
    for a in range(phases):
        for b in range(phases):
            for row in range(side):
                for column in range(side):
                    y = row - half - offset[a]
                    x = column - half - offset[b]
                    scale = np.sqrt(x * x + y * y + (2.0 * core / pixel) ** 2)
                    cells = min(max(int(np.ceil(1.0 / (CELL * scale))), 1), MAX_CELLS)
                    total = 0.0
                    for i in range(2 * cells):
                        shift = gauss if i % 2 else -gauss
                        yy = (y + (i // 2 + 0.5 + shift) / cells - 0.5) * pixel
                        for j in range(2 * cells):
                            shift = gauss if j % 2 else -gauss
                            xx = (x + (j // 2 + 0.5 + shift) / cells - 0.5) * pixel
                            norm = 1.0 / np.sqrt(1.0 + xx * xx + yy * yy)
                            value = np.interp(2.0 - 2.0 * norm, chord2, density)
                            total += value * norm**3
                    result[a, b, row, column] = total * (pixel / (2.0 * cells)) ** 2
    return result
