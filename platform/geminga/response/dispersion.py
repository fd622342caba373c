"""Energy dispersion: the probability to measure an energy, given the true one.

The CALDB files (EDISPVER 3) hold the function used by the Fermi tools (latResponse, Edisp3): with
x = (E'/E - 1) / S(E, theta), two asymmetric generalised Gaussians,

    D(x) = F g(x; S1, K1, BIAS, PINDEX1) + (1 - F) g(x; S2, K2, BIAS2, PINDEX2)
    g(x; s, k, b, p) = p k / (s Gamma(1/p) (1 + k^2)) exp(-(k u/s)^p) for u = x - b >= 0,
                       ... exp(-(-u/(k s))^p) for u < 0
    S = c0 lg^2 + c1 cos^2 + c2 lg + c3 cos + c4 lg cos + c5,  lg = log10(E / MeV)

Averaged over incidence angles it is kept as quantiles of ln(E'/E): between energies the quantiles
are interpolated, so that a peak moves instead of splitting in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import gamma, ndtr, ndtri

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.response.average import LOWEST_ENERGY_MEV, TypeResponse
from geminga.response.caldb import (
    EVENT_TYPE_FILES,
    AreaTable,
    caldb_file,
    open_fits,
    read_axes,
    read_column,
    read_table,
)
from geminga.response.king import bracket
from geminga.response.survey import ObservingProfile

COLUMNS = ("F", "S1", "K1", "BIAS", "BIAS2", "S2", "K2", "PINDEX1", "PINDEX2")
VERSION = 3
# Quantiles at these normal deviates: 1e-6 to 1 - 1e-6, and a Gaussian is a straight line.
DEVIATE = np.linspace(-4.75, 4.75, 77)
# Measured over true energy, fine around 1 and reaching from 0.01 to 20.
LN_RATIO: Float64 = np.concatenate(
    [
        -0.01 * np.sinh(np.linspace(np.arcsinh(460.0), 0.0, 700, endpoint=False)),
        0.01 * np.sinh(np.linspace(0.0, np.arcsinh(300.0), 700)),
    ]
)


@dataclass(frozen=True)
class DispersionFile:
    """Parameters of one event type: `parameters` (C, E) by column, `scaling` (6,)."""

    event_type: str
    energy_mev: Float64
    costheta: Float64
    parameters: dict[str, Float64]
    scaling: Float64

    def scale(self, energy_mev: float, costheta: Float64 | float) -> Float64:
        """Return S(E, theta)."""
        c, lg, cosine = self.scaling, np.log10(energy_mev), np.asarray(costheta, np.float64)
        return np.asarray(
            c[0] * lg**2 + c[1] * cosine**2 + c[2] * lg + c[3] * cosine + c[4] * lg * cosine + c[5]
        )

    def density(self, c: int, e: int, x: Float64) -> Float64:
        """Return D(x) at one node of the table."""
        f, s1, k1, b1, b2, s2, k2, p1, p2 = (self.parameters[n][c, e] for n in COLUMNS)
        return np.asarray(f * _peak(x, s1, k1, b1, p1) + (1.0 - f) * _peak(x, s2, k2, b2, p2))


def _peak(x: Float64, s: float, k: float, b: float, p: float) -> Float64:
    u = x - b
    exponent = np.where(u >= 0.0, k * np.abs(u) / s, np.abs(u) / (k * s)) ** p
    return np.asarray(p * k / (s * gamma(1.0 / p) * (1.0 + k * k)) * np.exp(-exponent))


@dataclass(frozen=True)
class DispersionTable:
    """Energy dispersion of one event type, averaged over incidence angles.

    Attributes
    ----------
    event_type : str
        FRONT, BACK or PSF0 to PSF3.
    energy_mev : Float64 (E,)
        True energies.
    ln_ratio : Float64 (E, Q)
        ln(measured / true) below which Phi(`DEVIATE`) of the photons fall.
    """

    event_type: str
    energy_mev: Float64
    ln_ratio: Float64

    def below(self, limit_mev: float, energy_mev: Float64) -> Float64:
        """Return the probability to be measured below a limit, shape of `energy_mev` (n,)."""
        result = np.zeros(len(energy_mev))
        for number, energy in enumerate(energy_mev):
            low, high, upper = bracket(np.log(self.energy_mev), float(np.log(energy)))
            quantiles = (1.0 - upper) * self.ln_ratio[low] + upper * self.ln_ratio[high]
            deviate = np.interp(
                np.log(limit_mev / energy), quantiles, DEVIATE, left=-np.inf, right=np.inf
            )
            result[number] = ndtr(deviate)
        return result

    def quantile(self, probability: float, energy_mev: float) -> float:
        """Return the ratio of measured to true energy below which a part of the photons fall."""
        low, high, upper = bracket(np.log(self.energy_mev), float(np.log(energy_mev)))
        quantiles = (1.0 - upper) * self.ln_ratio[low] + upper * self.ln_ratio[high]
        return float(np.exp(np.interp(ndtri(probability), DEVIATE, quantiles)))


@dataclass(frozen=True)
class Dispersion:
    """Energy dispersion of several event types together, each weighted with its area."""

    tables: tuple[DispersionTable, ...]
    types: tuple[TypeResponse, ...]
    origin: str

    def inside(self, emin_mev: float, emax_mev: float, energy_mev: Float64) -> Float64:
        """Return the probability to be measured between two energies, shape (n,)."""
        areas = np.array([t.area_at(energy_mev) for t in self.types])
        parts = np.array(
            [t.below(emax_mev, energy_mev) - t.below(emin_mev, energy_mev) for t in self.tables]
        )
        return np.asarray((areas * parts).sum(axis=0) / areas.sum(axis=0))

    @property
    def span_mev(self) -> tuple[float, float]:
        """True energies that the area tables hold."""
        energy = self.types[0].area_energy_mev
        return float(energy[0]), float(energy[-1])

    def area(self, energy_mev: Float64) -> Float64:
        """Return the summed area in cm2, shape (n,)."""
        return np.asarray(np.sum([t.area_at(energy_mev) for t in self.types], axis=0))


def read_dispersion(folder: Path, irf: str, event_type: str) -> DispersionFile:
    """Read the energy dispersion of one event type from ``edisp_<irf>_FB.fits`` or ``_PSF.fits``.

    Raises
    ------
    InputError
        If the file is missing or unsound, lacks a table or column, or is of another version.
    """
    path = caldb_file(folder, "edisp", irf, EVENT_TYPE_FILES[event_type])
    with open_fits(path, "use the edisp_* file of the LAT calibration database") as hdus:
        table = read_table(hdus, f"ENERGY DISPERSION_{event_type}", path)
        version = hdus[f"ENERGY DISPERSION_{event_type}"].header.get("EDISPVER", VERSION)
        if version != VERSION:
            raise InputError(
                str(path),
                f"EDISPVER is {version}",
                f"version {VERSION} is read: take dispersion_irf of a Pass 8 release 3 class",
            )
        energy, costheta = read_axes(table, path)
        parameters = {
            name: read_column(table, name, path).reshape(len(costheta), len(energy))
            for name in COLUMNS
        }
        scaling = read_column(
            read_table(hdus, f"EDISP_SCALING_PARAMS_{event_type}", path), "EDISPSCALE", path
        ).ravel()
    for name in ("S1", "K1", "S2", "K2", "PINDEX1", "PINDEX2"):
        if np.any(parameters[name] <= 0.0):
            raise InputError(str(path), f"column {name} is not positive", "fetch the file anew")
    return DispersionFile(event_type, energy, costheta, parameters, scaling)


def mean_ratio_density(
    file: DispersionFile, area: AreaTable, profile: ObservingProfile, number: int
) -> Float64:
    """Return the exposure-weighted density of E'/E at an energy node, at exp(`LN_RATIO`).

    Functions of the neighbouring nodes in cos theta are mixed at the same x, as the Fermi tools do.
    """
    energy = float(file.energy_mev[number])
    time_area = profile.share * area.at(energy, profile.centres)
    x = np.expm1(LN_RATIO)
    fine = np.concatenate([-np.geomspace(1e3, 1e-3, 3000), [0.0], np.geomspace(1e-3, 1e3, 3000)])
    nodes = [file.density(c, number, fine) for c in range(len(file.costheta))]
    result = np.zeros_like(x)
    for cosine, part in zip(profile.centres, time_area / time_area.sum(), strict=True):
        # The Fermi tools take the last node's angle for those beyond it.
        scale = float(file.scale(energy, min(float(cosine), float(file.costheta[-1]))))
        low, high, upper = bracket(file.costheta, float(cosine))
        mixed = (1.0 - upper) * nodes[low] + upper * nodes[high]
        result += part * np.interp(x / scale, fine, mixed) / scale
    return np.asarray(result)


def average_dispersion(
    file: DispersionFile, area: AreaTable, profile: ObservingProfile
) -> DispersionTable:
    """Average the energy dispersion of one event type over incidence angles."""
    first = max(int(np.searchsorted(file.energy_mev, LOWEST_ENERGY_MEV)) - 1, 0)
    ratio = np.exp(LN_RATIO)
    rows = []
    for number in range(first, len(file.energy_mev)):
        density = mean_ratio_density(file, area, profile, number)
        steps = 0.5 * (density[1:] + density[:-1]) * np.diff(ratio)
        cumulative = np.concatenate([[0.0], np.cumsum(steps)])
        cumulative /= cumulative[-1]
        # Steps too small to move the sum would make the inverse ambiguous.
        rising = np.concatenate([[True], np.diff(cumulative) > 0.0])
        rows.append(np.interp(ndtr(DEVIATE), cumulative[rising], LN_RATIO[rising]))
    return DispersionTable(file.event_type, file.energy_mev[first:], np.array(rows))


def caldb_dispersion(
    folder: Path,
    irf: str,
    event_types: Sequence[str],
    areas: Sequence[AreaTable],
    profile: ObservingProfile,
) -> tuple[DispersionTable, ...]:
    """Read and average the energy dispersion of each event type from a CALDB folder."""
    return tuple(
        average_dispersion(read_dispersion(folder, irf, name), area, profile)
        for name, area in zip(event_types, areas, strict=True)
    )
