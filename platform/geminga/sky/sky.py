"""A simulated sky: sources and diffuse emission with their expected counts."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.bands import Band
from geminga.classes import DIFFUSE_COMPONENTS, components
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import atomic, read_parquet, write_parquet
from geminga.geometry import unit_vectors
from geminga.response import BandPsf, Response, interpolate_energy
from geminga.seeds import SKIES_PER_SPLIT, Split, Stage, generator
from geminga.sky.diffuse import DiffuseCounts
from geminga.sky.population import Population
from geminga.sky.quadrature import band_nodes
from geminga.sky.sources import SourceSet, draw_sources
from geminga.sky.spectra import differential
from geminga.tables import TRUTH

SOURCES_FILE = "sources.parquet"
COUNTS_FILE = "counts.npz"
_CHUNK = 8192


@dataclass(frozen=True)
class Sky:
    """Expected counts of one sky.

    Attributes
    ----------
    sky_id : int
    bands : tuple of Band
    classes : tuple of str
    sources : SourceSet
        n sources and their yearly factors.
    source_counts : Float64 (n, B)
        Expected counts over the whole observing time, before the PSF spreads them.
    source_psf_index : Float64 (n, B)
        Spectral index that chooses the PSF.
    diffuse : DiffuseCounts
        Shared by all skies of a run.
    diffuse_norm : Float64 (2,)
        Factor of each diffuse component.
    psf : BandPsf
    years : int
        Number of equal time bins.
    """

    sky_id: int
    bands: tuple[Band, ...]
    classes: tuple[str, ...]
    sources: SourceSet
    source_counts: Float64
    source_psf_index: Float64
    diffuse: DiffuseCounts
    diffuse_norm: Float64
    psf: BandPsf
    years: int

    def totals(self) -> Float64:
        """Return expected counts of every component, band and year, shape (C + 2, B, Y)."""
        result = np.empty((len(self.classes) + 2, len(self.bands), self.years))
        names = self.sources.table["class_name"].to_numpy()
        for row, name in enumerate(self.classes):
            mine = names == name
            result[row] = np.einsum(
                "nb,ny->by", self.source_counts[mine], self.sources.yearly[mine] / self.years
            )
        solid_angle = healpy.nside2pixarea(self.diffuse.nside)
        whole = self.diffuse.counts_per_sr.sum(axis=2, dtype=np.float64) * solid_angle
        result[len(self.classes) :] = (self.diffuse_norm[:, None] * whole / self.years)[..., None]
        return result


def simulate_sky(
    config: Config,
    response: Response,
    population: Population,
    diffuse: DiffuseCounts,
    sky_id: int,
) -> Sky:
    """Draw the sources of a sky and compute what the telescope is expected to count.

    The normalisations of the diffuse components are drawn for training and validation skies
    and 1 for test skies, whose diffuse emission a real search would know no better.
    """
    sources = draw_sources(population, config, sky_id)
    counts, index = expected_counts(sources.table, response)
    norm = np.ones(len(DIFFUSE_COMPONENTS))
    if sky_id // SKIES_PER_SPLIT != Split.TEST:
        rng = generator(config.seed, Stage.DIFFUSE, sky_id)
        norm = np.exp(config.sky.interstellar_norm_scatter * rng.normal(size=len(norm)))
    return Sky(
        sky_id,
        config.bands,
        config.classes,
        sources,
        counts,
        index,
        diffuse,
        norm,
        response.psf,
        config.sky.years,
    )


def expected_counts(table: pd.DataFrame, response: Response) -> tuple[Float64, Float64]:
    """Integrate spectra times exposure over every band.

    Parameters
    ----------
    table : DataFrame
        TRUTH rows.
    response : Response

    Returns
    -------
    counts : Float64 (n, B)
        Expected counts.
    index : Float64 (n, B)
        Spectral index -d ln F / d ln E within each band, where the counts are: the slope of a
        straight line through ln F, every energy weighted with its counts.
    """
    counts = np.zeros((len(table), len(response.bands)))
    index = np.full_like(counts, 2.0)
    for start in range(0, len(table), _CHUNK):
        part = table.iloc[start : start + _CHUNK]
        rows = slice(start, start + len(part))
        exposure = response.exposure.at(part["lon_deg"].to_numpy(), part["lat_deg"].to_numpy())
        spectral = [
            part[name].to_numpy()
            for name in ("form", "norm", "pivot_mev", "index", "curvature", "exp_index")
        ]
        for band, edges in enumerate(response.bands):
            energy, weight = band_nodes(edges)
            flux = differential(
                spectral[0],
                spectral[1],
                spectral[2],
                spectral[3],
                spectral[4],
                spectral[5],
                energy,
            )
            seen = interpolate_energy(exposure, response.exposure.energy_mev, energy).T
            share = flux * seen * weight
            counts[rows, band] = share.sum(axis=1)
            index[rows, band] = _weighted_index(np.log(energy), flux, share)
    return counts, index


def _weighted_index(log_energy: Float64, flux: Float64, share: Float64) -> Float64:
    total = np.maximum(share.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    weight = share / total
    log_flux = np.log(np.maximum(flux, np.finfo(float).tiny))
    x = log_energy - (weight * log_energy).sum(axis=1, keepdims=True)
    variance = (weight * x**2).sum(axis=1)
    slope = (weight * x * log_flux).sum(axis=1) / np.where(variance > 0, variance, 1.0)
    # A source whose flux vanishes in the band (a pulsar far above its cutoff) has no slope.
    return np.asarray(np.where(share.sum(axis=1) > 0, -slope, 2.0))


def expected_map(sky: Sky, component: str, band: int, year: int | None = None) -> Float64:
    """Return expected counts of one component in HEALPix pixels (RING, Galactic).

    Parameters
    ----------
    sky : Sky
    component : str
        A source class, 'interstellar' or 'isotropic'.
    band : int
        Band number.
    year : int, optional
        One year; all years together by default.

    Returns
    -------
    Float64 (12 nside^2,), nside that of the band

    Raises
    ------
    InputError
        If the sky has no such component.
    """
    names = components(sky.classes)
    if component not in names:
        raise InputError("component", f"{component!r} is unknown", f"use one of {list(names)}")
    nside = sky.bands[band].nside
    if component in DIFFUSE_COMPONENTS:
        row = DIFFUSE_COMPONENTS.index(component)
        density = sky.diffuse.counts_per_sr[row, band].astype(np.float64) * sky.diffuse_norm[row]
        counts = density * healpy.nside2pixarea(sky.diffuse.nside)
        share = 1.0 if year is None else 1.0 / sky.years
        if nside > sky.diffuse.nside:
            theta, phi = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)))
            fine = healpy.get_interp_val(counts, theta, phi)
            # Interpolation moves a little emission between pixels; the sum is kept.
            return np.asarray(fine * (counts.sum() / max(fine.sum(), 1e-300)) * share)
        return np.asarray(healpy.ud_grade(counts, nside, power=-2)) * share
    mine = sky.sources.table["class_name"].to_numpy() == component
    weight = sky.source_counts[mine, band]
    if year is not None:
        weight = weight * sky.sources.yearly[mine, year] / sky.years
    return _source_map(sky, band, mine.nonzero()[0], np.asarray(weight, dtype=np.float64), nside)


def _source_map(
    sky: Sky, band: int, rows: Sequence[int] | np.ndarray, counts: Float64, nside: int
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
        index = sky.source_psf_index[row, band]
        profile = _at_index(psf, psf.density_per_sr[band], index)
        contained = _at_index(psf, psf.containment[band], index)
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


def save_sky(folder: Path, sky: Sky) -> None:
    """Write what is particular to a sky: sources, counts, normalisations (about 1 MB)."""
    with atomic(folder) as temporary:
        temporary.mkdir()
        write_parquet(temporary / SOURCES_FILE, sky.sources.table)
        with (temporary / COUNTS_FILE).open("wb") as stream:
            np.savez_compressed(
                stream,
                sky_id=np.int64(sky.sky_id),
                yearly=sky.sources.yearly,
                source_counts=sky.source_counts,
                source_psf_index=sky.source_psf_index,
                diffuse_norm=sky.diffuse_norm,
            )


def load_sky(folder: Path, config: Config, response: Response, diffuse: DiffuseCounts) -> Sky:
    """Read a sky that `save_sky` wrote; response and diffuse emission are those of the run.

    Raises
    ------
    InputError
        If files are missing, damaged, or of a configuration with other bands or years.
    """
    table = TRUTH.check(read_parquet(folder / SOURCES_FILE), str(folder / SOURCES_FILE))
    path = folder / COUNTS_FILE
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        sky_id = int(content["sky_id"])
        yearly = content["yearly"]
        counts = content["source_counts"]
        index = content["source_psf_index"]
        norm = content["diffuse_norm"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            str(path), f"is not a readable sky ({error})", "simulate the sky anew"
        ) from error
    wanted = (len(table), len(config.bands)), (len(table), config.sky.years)
    if (counts.shape, yearly.shape) != wanted:
        raise InputError(
            str(path),
            f"has counts {counts.shape} and years {yearly.shape}",
            f"the configuration needs {wanted[0]} and {wanted[1]}; simulate the sky anew",
        )
    return Sky(
        sky_id,
        config.bands,
        config.classes,
        SourceSet(table, yearly),
        counts,
        index,
        diffuse,
        norm,
        response.psf,
        config.sky.years,
    )
