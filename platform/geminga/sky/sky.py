"""A simulated sky: sources and diffuse emission with their expected counts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import healpy
import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.bands import Channel
from geminga.classes import DIFFUSE_COMPONENTS, INTERSTELLAR, ISOTROPIC
from geminga.config import Config
from geminga.response import BandPsf, Response, YearShare
from geminga.sky.detectability import local_ts
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.emission.interstellar import draw_interstellar
from geminga.sky.emission.texture import Texture, draw_texture
from geminga.sky.populations.population import Population
from geminga.sky.populations.sources import SourceSet, draw_sources
from geminga.sky.spectra import differential

SPECTRAL_COLUMNS = ("form", "norm", "pivot_mev", "index", "curvature", "exp_index")
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Sky:
    """Expected counts of one sky.

    Attributes
    ----------
    sky_id : int
    channels : tuple of Channel (C,)
    classes : tuple of str
    sources : SourceSet
        n sources and their yearly factors.
    source_counts : Float64 (n, C)
        Expected counts over the whole observing time at the mean flux, before the PSF spreads them.
    source_psf_index : Float64 (n, C)
        Spectral index that chooses the PSF.
    shares : Float64 (n, Y)
        Part of `source_counts` that falls in each time bin: the year's flux over the mean flux
        times the year's share of the exposure.
    diffuse : DiffuseCounts
        Shared by all skies of a run; read it through `component_density`.
    interstellar_model : int
        Which of the interstellar models of `diffuse`.
    diffuse_norm : Float64 (3, C)
        Factor of each diffuse component in each channel.
    distortion : Float64 (npix,)
        ln of a smooth factor on the interstellar emission (RING, Galactic); empty for none.
    psf : BandPsf
    year_share : YearShare
    texture : Texture
        Fine structure of the interstellar emission; none by default and on test skies.
    """

    sky_id: int
    channels: tuple[Channel, ...]
    classes: tuple[str, ...]
    sources: SourceSet
    source_counts: Float64
    source_psf_index: Float64
    shares: Float64
    diffuse: DiffuseCounts
    interstellar_model: int
    diffuse_norm: Float64
    distortion: Float64
    psf: BandPsf
    year_share: YearShare
    texture: Texture = field(default_factory=Texture)
    _kept: dict[int, Float64] = field(default_factory=dict, init=False, repr=False)
    _densities: dict[int, Float64] = field(default_factory=dict, init=False, repr=False)

    @property
    def years(self) -> int:
        """Number of equal time bins."""
        return int(self.shares.shape[1])

    @property
    def extended_sources(self) -> pd.DataFrame:
        """Table EXTENDED of the sources in the extended component."""
        return self.diffuse.extended_sources

    def component_density(self, component: str, channel: int) -> Float64:
        """Return expected counts per steradian of a diffuse component, shape (npix,).

        Over the whole observing time, at the resolution of `diffuse` (RING, Galactic).
        """
        row = DIFFUSE_COMPONENTS.index(component)
        values = self.diffuse.component(component, self.interstellar_model, channel)
        density = values.astype(np.float64) * self.diffuse_norm[row, channel]
        if component == INTERSTELLAR and len(self.distortion):
            density *= self._distortion_factor()
        if component == INTERSTELLAR and self.texture.amplitude > 0:
            whole = density.sum()
            density *= self.texture.factor(self.psf, channel, self.diffuse.nside)
            # The bright part of the sky holds few structures: their mean is not quite 1.
            density *= whole / max(density.sum(), np.finfo(float).tiny)
        return np.asarray(density)

    def diffuse_density(self, channel: int) -> Float64:
        """Return expected counts per steradian of all diffuse components, shape (npix,)."""
        # Groups of patches read it one after the other.
        if channel not in self._densities:
            whole = sum(self.component_density(name, channel) for name in DIFFUSE_COMPONENTS)
            self._densities[channel] = np.asarray(whole)
        return self._densities[channel]

    def pixel_shares(self, nside: int) -> Float64:
        """Return the share of each time bin in every HEALPix pixel (RING), shape (Y, npix).

        A pixel takes the share of the pixel of `year_share` it lies in.
        """
        return np.array(
            [healpy.ud_grade(m.astype(np.float64), nside) for m in self.year_share.maps]
        )

    def totals(self) -> Float64:
        """Return expected counts of every component, channel and year, shape (K + 3, C, Y)."""
        count = len(self.classes)
        result = np.empty((count + len(DIFFUSE_COMPONENTS), len(self.channels), self.years))
        names = self.sources.table["class_name"].to_numpy()
        for row, name in enumerate(self.classes):
            mine = names == name
            result[row] = np.einsum("nc,ny->cy", self.source_counts[mine], self.shares[mine])
        nside = healpy.npix2nside(self.year_share.maps.shape[1])
        area = healpy.nside2pixarea(self.diffuse.nside)
        for row, name in enumerate(DIFFUSE_COMPONENTS, start=count):
            for channel in range(len(self.channels)):
                density = self.component_density(name, channel)
                if nside <= self.diffuse.nside:
                    coarse = healpy.ud_grade(density, nside, power=-2)
                    result[row, channel] = self.year_share.maps @ coarse * area
                else:
                    result[row, channel] = self.pixel_shares(self.diffuse.nside) @ density * area
        return result

    def with_sources(self, rows: Int64) -> Sky:
        """Return the sky with the point sources of some rows alone."""
        table = self.sources.table.iloc[rows].reset_index(drop=True)
        return replace(
            self,
            sources=SourceSet(table, self.sources.yearly[rows]),
            source_counts=self.source_counts[rows],
            source_psf_index=self.source_psf_index[rows],
            shares=self.shares[rows],
        )

    def _distortion_factor(self) -> Float64:
        nside = self.diffuse.nside
        if nside not in self._kept:
            lon, lat = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)), lonlat=True)
            fine = healpy.get_interp_val(self.distortion, lon, lat, lonlat=True)
            self._kept[nside] = np.exp(fine)
        return self._kept[nside]


def simulate_sky(
    config: Config,
    response: Response,
    population: Population,
    diffuse: DiffuseCounts,
    sky_id: int,
) -> Sky:
    """Draw the sources of a sky and compute what the telescope is expected to count.

    Training and validation skies draw an interstellar model, the normalisations of the diffuse
    components, and a smooth distortion and the fine structure of the interstellar one. Test
    skies take the model that ``sky.test_interstellar`` names, as it is: a real search would know
    it no better.
    """
    sources = draw_sources(population, config, sky_id)
    counts, index = expected_counts(sources.table, response)
    lon, lat = (sources.table[name].to_numpy() for name in ("lon_deg", "lat_deg"))
    model, norm, distortion = draw_interstellar(config, diffuse.models, sky_id)
    norm = norm[:, None] * np.ones(len(response.channels))
    least_ts = config.sky.least_ts
    if least_ts is None:
        norm[DIFFUSE_COMPONENTS.index(ISOTROPIC)] *= diffuse.isotropic_left
    sky = Sky(
        sky_id,
        config.channels,
        config.classes,
        sources,
        counts,
        index,
        sources.yearly * response.year_share.at(lon, lat),
        diffuse,
        model,
        norm,
        distortion,
        response.psf,
        response.year_share,
        draw_texture(config, sky_id),
    )
    return sky if least_ts is None else _without_faint(sky, least_ts)


def expected_source_ts(sky: Sky) -> Float64:
    """Return the TS (n,) expected of every source on the diffuse emission at its place.

    See `detectability.local_ts`.
    """
    lon, lat = (sky.sources.table[name].to_numpy() for name in ("lon_deg", "lat_deg"))
    beneath = [
        healpy.get_interp_val(sky.diffuse_density(c), lon, lat, lonlat=True)
        for c in range(len(sky.channels))
    ]
    return local_ts(sky.psf, sky.source_counts, sky.source_psf_index, np.stack(beneath, axis=1))


def _without_faint(sky: Sky, least_ts: float) -> Sky:
    """Return a sky without the sources whose expected test statistic is below `least_ts`."""
    return sky.with_sources(np.flatnonzero(expected_source_ts(sky) >= least_ts))


def expected_counts(table: pd.DataFrame, response: Response) -> tuple[Float64, Float64]:
    """Integrate spectra times exposure over the energies of every channel.

    Parameters
    ----------
    table : DataFrame
        TRUTH rows.
    response : Response

    Returns
    -------
    counts : Float64 (n, C)
        Expected counts.
    index : Float64 (n, C)
        Spectral index -d ln F / d ln E within each channel, where the counts are: the slope of a
        straight line through ln F, every energy weighted with its counts.
    """
    counts = np.zeros((len(table), len(response.channels)))
    index = np.full_like(counts, 2.0)
    for start in range(0, len(table), _CHUNK):
        part = table.iloc[start : start + _CHUNK]
        rows = slice(start, start + len(part))
        lon, lat = part["lon_deg"].to_numpy(), part["lat_deg"].to_numpy()
        form, norm, pivot, slope, curvature, exp_index = (
            part[name].to_numpy() for name in SPECTRAL_COLUMNS
        )
        for channel, nodes in enumerate(response.nodes):
            flux = differential(form, norm, pivot, slope, curvature, exp_index, nodes.energy_mev)
            seen = response.exposure_at_nodes(channel, lon, lat).T
            share = flux * seen * nodes.weight
            counts[rows, channel] = share.sum(axis=1)
            index[rows, channel] = _weighted_index(np.log(nodes.energy_mev), flux, share)
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
