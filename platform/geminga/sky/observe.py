"""Drawing the photons that the telescope counts from a simulated sky."""

from __future__ import annotations

from collections.abc import Iterator

import healpy
import numpy as np

from geminga.arrays import Float64, Int8, Int32, Int64
from geminga.compiled import compiled
from geminga.errors import InputError
from geminga.geometry import unit_vectors
from geminga.seeds import Stage, generator
from geminga.sky.photons import NSIDE, Photons, photon_keys, photons_from_keys
from geminga.sky.sky import Sky

MAX_YEARS = int(np.iinfo(np.int8).max)
CHUNK = 1 << 20
"""Photons placed at a time: bounds the memory beside the result."""


def draw_photons(sky: Sky, root_seed: int) -> Photons:
    """Draw one observation of a sky.

    Counts are Poisson per source, channel and year, and per HEALPix pixel of the diffuse maps;
    a source's photons follow the PSF of its spectral index, diffuse photons are uniform in
    their pixel, and in time as the exposure is. Directions are centres of the pixels that photon
    lists are kept in.

    Parameters
    ----------
    sky : Sky
    root_seed : int
        The result depends on it and the sky's number alone.

    Returns
    -------
    Photons

    Raises
    ------
    InputError
        If the sky has more years than a photon can name.
    """
    keys, _ = _draw(sky, root_seed, with_cells=False)
    return photons_from_keys(keys, _origin(sky, root_seed))


def draw_photons_and_cells(sky: Sky, root_seed: int) -> tuple[Photons, Int32]:
    """Draw the photons of `draw_photons` and tell where each comes from.

    Returns
    -------
    photons : Photons
        The same, in the same order.
    cell : Int32 (n,)
        Row number of the source; for a diffuse photon the number of sources plus the RING number
        of its pixel of the diffuse maps.
    """
    keys, cell = _draw(sky, root_seed, with_cells=True)
    # Photons of one key are the same in all but their cell: stable, so that those follow too.
    order = np.argsort(keys, kind="stable")
    keys, cell = keys[order], cell[order]
    del order
    return photons_from_keys(keys, _origin(sky, root_seed)), cell


def _origin(sky: Sky, root_seed: int) -> dict[str, str]:
    return {
        "kind": "simulated",
        "sky_id": str(sky.sky_id),
        "root_seed": str(root_seed),
        **sky.diffuse.origin,
    }


def _draw(sky: Sky, root_seed: int, with_cells: bool) -> tuple[Int64, Int32]:
    """Return keys (n,) of the photons in order of channels and cells, and those cells if wanted."""
    if sky.years > MAX_YEARS:
        raise InputError("sky.years", f"{sky.years} is too many", f"use at most {MAX_YEARS}")
    drawn = []
    for channel in range(len(sky.channels)):
        rng = generator(root_seed, Stage.PHOTONS, sky.sky_id, channel)
        sources = rng.poisson(sky.source_counts[:, channel, None] * sky.shares)
        density = sky.diffuse_density(channel)
        pixels = rng.poisson(density * healpy.nside2pixarea(sky.diffuse.nside))
        drawn.append((rng, sources, pixels.astype(np.int32)))
    n = int(sum(sources.sum() + pixels.sum() for _, sources, pixels in drawn))
    keys = np.empty(n, dtype=np.int64)
    cells = np.empty(n if with_cells else 0, dtype=np.int32)
    end = 0
    for channel, (rng, sources, pixels) in enumerate(drawn):
        for first_cell, parts in (
            (0, _source_photons(sky, channel, sources, rng)),
            (len(sources), _diffuse_photons(sky, pixels, rng)),
        ):
            for cell, pixel, year in parts:
                part = slice(end, end + len(year))
                keys[part] = photon_keys(pixel, channel, year)
                if with_cells:
                    cells[part] = cell + first_cell
                end += len(year)
    return keys, cells


def _chunks(counts: Int32 | Int64) -> Iterator[tuple[Int64, int]]:
    """Yield (cell of each photon, number) for `counts` per cell, at most CHUNK at a time."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, CHUNK):
        stop = min(start + CHUNK, total)
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop - 1, side="right"))
        edges = np.clip(ends[first : last + 1], start, stop)
        cells = np.repeat(np.arange(first, last + 1), np.diff(edges, prepend=start))
        yield cells, stop - start


def _source_photons(
    sky: Sky, channel: int, counts: Int64, rng: np.random.Generator
) -> Iterator[tuple[Int64, Int64, Int8]]:
    """Yield source, pixel and year (n,) of source photons; `counts` is (sources, Y)."""
    table = sky.sources.table
    vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    psf = sky.psf
    nodes = psf.spectral_index
    index = np.clip(sky.source_psf_index[:, channel], nodes[0], nodes[-1])
    # Where the index lies among the nodes, as a real number: its fraction is the upper weight.
    place = np.interp(index, nodes, np.arange(len(nodes), dtype=np.float64))
    for cell, n in _chunks(counts.ravel()):
        source, year = np.divmod(cell, sky.years)
        # Between two nodes the PSF is the mean of their PSFs: each photon takes one of them.
        profile = np.floor(place[source] + rng.random(n)).astype(np.int64)
        profile = np.minimum(profile, len(nodes) - 1)
        quantile = rng.random(n)
        angle = np.empty(n)
        for k in range(len(nodes)):
            mine = profile == k
            contained = psf.containment[channel, k]
            angle[mine] = np.interp(quantile[mine] * contained[-1], contained, psf.radius_deg)
        azimuth = rng.uniform(0.0, 2.0 * np.pi, n)
        placed = _offset(vectors[source], np.radians(angle), azimuth)
        yield source, healpy.vec2pix(NSIDE, *placed.T, nest=True), year.astype(np.int8)


@compiled
def _offset(vectors: Float64, angle: Float64, azimuth: Float64) -> Float64:
    """Return directions (n, 3) at an angle from others, in a direction around them (radian)."""
    result = np.empty(vectors.shape, dtype=np.float64)
    for i in range(len(vectors)):
        x, y, z = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        # Two axes across the direction, from the coordinate axis it is farthest from.
        if abs(z) < 0.7:
            norm = np.sqrt(x * x + y * y)
            ax, ay, az = -y / norm, x / norm, 0.0
        else:
            norm = np.sqrt(y * y + z * z)
            ax, ay, az = 0.0, -z / norm, y / norm
        bx, by, bz = y * az - z * ay, z * ax - x * az, x * ay - y * ax
        along, across = np.cos(angle[i]), np.sin(angle[i])
        ca, cb = across * np.cos(azimuth[i]), across * np.sin(azimuth[i])
        result[i, 0] = along * x + ca * ax + cb * bx
        result[i, 1] = along * y + ca * ay + cb * by
        result[i, 2] = along * z + ca * az + cb * bz
    return result


def _diffuse_photons(
    sky: Sky, counts: Int32, rng: np.random.Generator
) -> Iterator[tuple[Int64, Int64, Int8]]:
    """Yield map pixel, photon pixel and year (n,) of diffuse photons; `counts` is per pixel."""
    nside = sky.diffuse.nside
    children = (NSIDE // nside) ** 2
    nested = healpy.ring2nest(nside, np.arange(len(counts)))
    cumulative = np.cumsum(sky.year_share.maps.astype(np.float64), axis=0)
    coarse = int(healpy.npix2nside(cumulative.shape[1]))
    # In NESTED order the coarse pixel is what is left of the number of the fine one.
    cumulative = cumulative[:, healpy.nest2ring(coarse, np.arange(cumulative.shape[1]))]
    parts = (NSIDE // coarse) ** 2
    for pixel, n in _chunks(counts):
        child = nested[pixel] * children + rng.integers(0, children, n)
        yield pixel, child, _years(cumulative, child // parts, rng.random(n))


@compiled
def _years(cumulative: Float64, pixel: Int64, quantile: Float64) -> Int8:
    """Return the time bin (n,) in which each quantile falls in the shares (Y, npix) of a pixel."""
    result = np.empty(len(pixel), dtype=np.int8)
    last = len(cumulative) - 1
    for i in range(len(pixel)):
        year = 0
        while year < last and quantile[i] >= cumulative[year, pixel[i]]:
            year += 1
        result[i] = year
    return result
