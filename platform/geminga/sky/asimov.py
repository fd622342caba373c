"""Expected (Asimov) counts of a simulated sky as HEALPix maps."""

from __future__ import annotations

from collections.abc import Sequence

import healpy
import numpy as np

from geminga.arrays import Float64
from geminga.classes import DIFFUSE_COMPONENTS, components
from geminga.errors import InputError
from geminga.geometry import unit_vectors
from geminga.response import BandPsf
from geminga.sky.sky import Sky


def expected_map(sky: Sky, component: str, channel: int, year: int | None = None) -> Float64:
    """Return expected counts of one component in HEALPix pixels (RING, Galactic).

    Parameters
    ----------
    sky : Sky
    component : str
        A source class, 'interstellar', 'isotropic' or 'extended'.
    channel : int
        Channel number.
    year : int, optional
        One year; all years together by default.

    Returns
    -------
    Float64 (12 nside^2,), nside that of the channel

    Raises
    ------
    InputError
        If the sky has no such component.
    """
    names = components(sky.classes)
    if component not in names:
        raise InputError("component", f"{component!r} is unknown", f"use one of {list(names)}")
    nside = sky.channels[channel].nside
    if component in DIFFUSE_COMPONENTS:
        return _diffuse_map(sky, component, channel, year, nside)
    mine = sky.sources.table["class_name"].to_numpy() == component
    share = sky.shares.sum(axis=1) if year is None else sky.shares[:, year]
    weight = sky.source_counts[mine, channel] * share[mine]
    return _source_map(sky, channel, mine.nonzero()[0], np.asarray(weight, np.float64), nside)


def _diffuse_map(sky: Sky, component: str, channel: int, year: int | None, nside: int) -> Float64:
    counts = sky.component_density(component, channel)
    counts = counts * healpy.nside2pixarea(sky.diffuse.nside)
    if year is not None:
        counts = counts * sky.pixel_shares(sky.diffuse.nside)[year]
    if nside <= sky.diffuse.nside:
        return np.asarray(healpy.ud_grade(counts, nside, power=-2))
    theta, phi = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)))
    fine = healpy.get_interp_val(counts, theta, phi)
    # Interpolation moves a little emission between pixels; the sum is kept.
    return np.asarray(fine * (counts.sum() / max(fine.sum(), 1e-300)))


def _source_map(
    sky: Sky, channel: int, rows: Sequence[int] | np.ndarray, counts: Float64, nside: int
) -> Float64:
    """Spread sources over HEALPix pixels; each source keeps its counts exactly."""
    result = np.zeros(healpy.nside2npix(nside))
    table = sky.sources.table
    vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    pixel_rad = healpy.nside2resol(nside)
    psf = sky.psf
    for row, n in zip(rows, counts, strict=True):
        if n <= 0:
            continue
        index = sky.source_psf_index[row, channel]
        profile = _at_index(psf, psf.density_per_sr[channel], index)
        contained = _at_index(psf, psf.containment[channel], index)
        wanted = contained[-1] * (1.0 - min(0.02 / n, 0.05))
        reach = np.radians(
            psf.radius_deg[min(np.searchsorted(contained, wanted), len(profile) - 1)]
        )
        pixel = healpy.query_disc(nside, vectors[row], reach + 3.0 * pixel_rad)
        density = _density(psf, profile, nside, pixel, vectors[row])
        near = healpy.query_disc(nside, vectors[row], 3.0 * pixel_rad)
        # Children of the pixels at the core resolve it: three or more to half its width.
        half_width = np.radians(psf.radius_deg[np.argmax(profile < 0.5 * profile[0])])
        factor = 2 ** int(np.clip(np.ceil(np.log2(3.0 * pixel_rad / half_width)), 1, 6))
        child = healpy.ring2nest(nside, near)[:, None] * factor**2 + np.arange(factor**2)
        fine = healpy.nest2ring(nside * factor, child.ravel())
        core = _density(psf, profile, nside * factor, fine, vectors[row])
        density[np.searchsorted(pixel, near)] = core.reshape(child.shape).mean(axis=1)
        result[pixel] += n * density / density.sum()
    return result


def _at_index(psf: BandPsf, values: Float64, index: float) -> Float64:
    """Interpolate values (K, R) to a spectral index, shape (R,)."""
    nodes = psf.spectral_index
    x = float(np.clip(index, nodes[0], nodes[-1]))
    low = int(np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, max(len(nodes) - 2, 0)))
    high = min(low + 1, len(nodes) - 1)
    weight = (x - nodes[low]) / (nodes[high] - nodes[low]) if high > low else 0.0
    return np.asarray((1.0 - weight) * values[low] + weight * values[high])


def _density(
    psf: BandPsf, profile: Float64, nside: int, pixel: np.ndarray, vector: Float64
) -> Float64:
    centres = np.stack(healpy.pix2vec(nside, pixel), axis=-1)
    chord = np.linalg.norm(centres - vector, axis=1)
    angle = np.degrees(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)))
    return np.asarray(np.interp(angle, psf.radius_deg, profile, right=0.0))
