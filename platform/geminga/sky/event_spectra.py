"""Energies of simulated photons: inside its channel a photon follows its component's spectrum.

The spectrum is intensity or flux times exposure on a grid of energies, a power law in between.
What is taken for it:

- point sources: their own spectrum and the exposure at their place;
- interstellar emission: the sky's model, in pixels of `SPECTRUM_NSIDE`, before the PSF mixes them;
- isotropic emission: its table;
- extended sources: the spectrum of the source whose centre is nearest.

With energy dispersion the same spectrum stands for that of measured energies inside the channel's
band (how many photons it counts is exact): what dispersion changes of the shape inside a band is
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import healpy
import numpy as np

from geminga.arrays import Float32, Float64, Int32, Int64
from geminga.bands import Band
from geminga.classes import DIFFUSE_COMPONENTS
from geminga.compiled import compiled
from geminga.geometry import unit_vectors
from geminga.response import Response, interpolate_energy
from geminga.sky.emission.diffuse_models import Interstellar, Isotropic
from geminga.sky.emission.extended import ExtendedList
from geminga.sky.emission.folding import Planes
from geminga.sky.sky import SPECTRAL_COLUMNS, Sky
from geminga.sky.spectra import differential

SPECTRUM_NSIDE = 64
_POINTS_PER_DECADE = 16
_CHUNK = 4096


@dataclass(frozen=True)
class DiffuseSpectra:
    """The diffuse models of a sky, for their spectra: isotropic tables of each channel.

    `extended` is None without such sources.
    """

    interstellar: Interstellar
    isotropic: tuple[Isotropic, ...]
    extended: ExtendedList | None = None


@dataclass(frozen=True)
class EnergyTable:
    """Spectra of a channel's components, as distributions of ln E.

    Attributes
    ----------
    log_energy : Float64 (K,)
        Equal steps in ln(E/MeV) over the band.
    log_weight : Float32 (rows, K)
        ln of counts per ln E, the highest of each row 0.
    cumulative : Float32 (rows, K)
        Share of the counts below each energy.
    """

    log_energy: Float64
    log_weight: Float32
    cumulative: Float32

    def draw(self, row: Int64, quantile: Float64) -> Float64:
        """Return the energies in MeV at quantiles (n,) of the rows' spectra."""
        return _energies(self.log_energy, self.log_weight, self.cumulative, row, quantile)


def energy_grid(band: Band) -> Float64:
    """Return ln(E/MeV) from edge to edge of a band in equal steps."""
    low, high = np.log(band.emin_gev * 1e3), np.log(band.emax_gev * 1e3)
    steps = max(2, int(np.ceil((high - low) / np.log(10.0) * _POINTS_PER_DECADE)))
    return np.linspace(low, high, steps + 1)


def table_of(log_energy: Float64, log_weight: Float64) -> EnergyTable:
    """Return the distributions of spectra ln(E dN/dE) of shape (rows, K)."""
    scaled = log_weight - log_weight.max(axis=1, keepdims=True)
    # Between two energies a power law: int w dx = step w0 (e^g - 1) / g with g = ln(w1/w0).
    change = np.diff(scaled, axis=1)
    flat = np.abs(change) < 1e-6
    safe = np.where(flat, 1.0, change)
    area = np.exp(scaled[:, :-1]) * np.where(flat, 1.0 + 0.5 * change, np.expm1(safe) / safe)
    cumulative = np.zeros_like(scaled)
    np.cumsum(area, axis=1, out=cumulative[:, 1:])
    cumulative /= cumulative[:, -1:]
    return EnergyTable(log_energy, scaled.astype(np.float32), cumulative.astype(np.float32))


def source_table(sky: Sky, response: Response, channel: int, rows: Int64) -> EnergyTable:
    """Return the spectra of some sources (row numbers of the truth table) in a channel."""
    log_energy = energy_grid(response.channels[channel])
    log_weight = np.empty((len(rows), len(log_energy)))
    for part in _parts(len(rows)):
        table = sky.sources.table.iloc[rows[part]]
        form, norm, pivot, index, curvature, exp_index = (
            table[name].to_numpy() for name in SPECTRAL_COLUMNS
        )
        flux = differential(form, norm, pivot, index, curvature, exp_index, np.exp(log_energy))
        lon, lat = table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy()
        seen = _exposure(response, channel, log_energy, lon, lat).T
        log_weight[part] = _log(flux) + _log(seen) + log_energy
    return table_of(log_energy, log_weight)


def diffuse_table(spectra: DiffuseSpectra, response: Response, channel: int) -> EnergyTable:
    """Return the spectra of the diffuse components: rows component after component.

    Row ``k * 12 * SPECTRUM_NSIDE**2 + p`` is that of component k of DIFFUSE_COMPONENTS in pixel p.
    """
    log_energy = energy_grid(response.channels[channel])
    npix = healpy.nside2npix(SPECTRUM_NSIDE)
    lon, lat = healpy.pix2ang(SPECTRUM_NSIDE, np.arange(npix), lonlat=True)
    planes = Planes(spectra.interstellar, SPECTRUM_NSIDE)
    log_weight = np.empty((len(DIFFUSE_COMPONENTS), npix, len(log_energy)))
    for k, x in enumerate(log_energy):
        log_weight[0, :, k] = _log(planes.at(float(np.exp(x))))
    log_weight[1] = _log(spectra.isotropic[channel].at(np.exp(log_energy)))
    log_weight[2] = _nearest_extended(spectra.extended, lon, lat, log_energy)
    for part in _parts(npix):
        seen = _exposure(response, channel, log_energy, lon[part], lat[part]).T
        log_weight[:, part] += _log(seen) + log_energy
    return table_of(log_energy, log_weight.reshape(-1, len(log_energy)))


def _nearest_extended(
    extended: ExtendedList | None, lon: Float64, lat: Float64, log_energy: Float64
) -> Float64:
    """Return ln(flux) (n, K) of the extended source nearest to each direction."""
    if extended is None or not extended.shapes:
        return np.zeros((len(lon), len(log_energy)))
    form, norm, pivot, index, curvature, exp_index = (
        extended.spectra[name].to_numpy() for name in SPECTRAL_COLUMNS
    )
    flux = differential(form, norm, pivot, index, curvature, exp_index, np.exp(log_energy))
    centres = unit_vectors(
        np.array([shape.lon_deg for shape in extended.shapes]),
        np.array([shape.lat_deg for shape in extended.shapes]),
    )
    nearest = np.argmax(unit_vectors(lon, lat) @ centres.T, axis=1)
    return np.asarray(_log(flux)[nearest])


@dataclass(frozen=True)
class ComponentShares:
    """Which diffuse component the photons of a channel's map pixels come from.

    Attributes
    ----------
    cumulative : Float32 (components - 1, npix)
        Share of the pixel's expected counts up to each component.
    coarse : Int64 (npix,)
        Pixel of `SPECTRUM_NSIDE` that each pixel's centre lies in.
    """

    cumulative: Float32
    coarse: Int64


def component_shares(sky: Sky, channel: int) -> ComponentShares:
    """Return the shares of the diffuse components in the pixels of a sky's diffuse maps."""
    total = sky.diffuse_density(channel)
    total = np.where(total > 0.0, total, 1.0)
    cumulative = np.zeros((len(DIFFUSE_COMPONENTS) - 1, len(total)), dtype=np.float32)
    below = np.zeros(len(total))
    for row, name in zip(cumulative, DIFFUSE_COMPONENTS, strict=False):
        below += sky.component_density(name, channel)
        row[:] = below / total
    nside = sky.diffuse.nside
    vectors = healpy.pix2vec(nside, np.arange(len(total)))
    return ComponentShares(cumulative, np.asarray(healpy.vec2pix(SPECTRUM_NSIDE, *vectors)))


def diffuse_rows(shares: ComponentShares, pixel: Int32 | Int64, quantile: Float64) -> Int64:
    """Return the row of `diffuse_table` for photons from pixels (n,) of the diffuse maps."""
    component = np.zeros(len(pixel), dtype=np.int64)
    for below in shares.cumulative:
        component += quantile >= below[pixel]
    return np.asarray(component * healpy.nside2npix(SPECTRUM_NSIDE) + shares.coarse[pixel])


def _exposure(
    response: Response, channel: int, log_energy: Float64, lon: Float64, lat: Float64
) -> Float64:
    exposure = response.exposures[channel]
    nodes = exposure.energy_mev
    # A band may end a part in a thousand beyond the exposure's energies.
    energy = np.clip(np.exp(log_energy), nodes[0], nodes[-1])
    return interpolate_energy(exposure.at(lon, lat), nodes, energy)


def _log(values: Float64) -> Float64:
    return np.log(np.maximum(values, 1e-300))


def _parts(n: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


@compiled
def _energies(
    log_energy: Float64,
    log_weight: Float32,
    cumulative: Float32,
    row: Int64,
    quantile: Float64,
) -> Float64:
    """Return the energies (n,) at quantiles of the distributions of rows."""
    result = np.empty(len(row))
    last = len(log_energy) - 2
    for i in range(len(row)):
        r, q = row[i], quantile[i]
        low, high = 0, last
        while low < high:
            middle = (low + high + 1) // 2
            if cumulative[r, middle] <= q:
                low = middle
            else:
                high = middle - 1
        inside = cumulative[r, low + 1] - cumulative[r, low]
        part = min(max((q - cumulative[r, low]) / inside, 0.0), 1.0) if inside > 0.0 else 0.5
        change = np.float64(log_weight[r, low + 1]) - np.float64(log_weight[r, low])
        if abs(change) > 1e-6:
            # The end of a steep fall: the last photon stays inside the step.
            part = min(np.log1p(max(part * np.expm1(change), -1.0 + 1e-12)) / change, 1.0)
        step = log_energy[low + 1] - log_energy[low]
        result[i] = np.exp(log_energy[low] + part * step)
    return result
