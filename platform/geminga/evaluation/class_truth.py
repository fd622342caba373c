"""What is true of the sources that were found, and what its measurement would be expected to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.classification.evidence import Evidence
from geminga.classification.spectral_fit import fit_spectra
from geminga.errors import InputError
from geminga.matching import match
from geminga.seeds import Stage, generator
from geminga.sky.spectra import local_index, photon_flux

_SIGNIFICANT = 4.0
"""Fluxes of so many errors say what one photon's flux is."""


@dataclass(frozen=True, eq=False)
class FoundSources:
    """True sources that were found on one sky, and how well each was measured.

    Attributes
    ----------
    sky : int
        Sky identifier, part of the key of the noise.
    truth : DataFrame
        Table TRUTH, n rows.
    yearly : Float64 (n, Y)
        Factors of the flux of each year; Y may be 0.
    evidence : Evidence
        Of the n candidates matched with them.
    """

    sky: int
    truth: pd.DataFrame
    yearly: Float64
    evidence: Evidence

    def __post_init__(self) -> None:
        n = len(self.truth)
        if len(self.evidence) != n or self.yearly.ndim != 2 or len(self.yearly) != n:
            raise ValueError(f"{n} sources, {len(self.evidence)} measured, {self.yearly.shape}")
        years = self.evidence.year_ratio.shape[1]
        if years not in (0, self.yearly.shape[1]):
            raise InputError(
                f"sky {self.sky}",
                f"{self.yearly.shape[1]} true years but {years} measured",
                "measure the candidates with the years of the simulation",
            )


def found_sources(
    sky: int,
    candidates: pd.DataFrame,
    truth: pd.DataFrame,
    yearly: Float64,
    evidence: Evidence,
    match_radius_deg: float,
) -> FoundSources:
    """Match candidates with true sources and keep the pairs, in the order of the candidates.

    The order is that of the candidates that `geminga.classification.labels.label_candidates` does
    not call FAKE.

    Parameters
    ----------
    sky : int
        Sky identifier.
    candidates : DataFrame
        Table CANDIDATES, one row per row of `evidence`.
    truth, yearly
        All true sources and their yearly factors.
    evidence : Evidence
        What was measured of the candidates.
    match_radius_deg : float
        Largest distance of a pair.

    Raises
    ------
    InputError
        If tables lack columns, or numbers of years differ.
    """
    pairs = match(candidates, truth, match_radius_deg)
    pairs = pairs[(pairs["candidate"] >= 0) & (pairs["source"] >= 0)].sort_values("candidate")
    rows = pairs["source"].to_numpy(np.int64)
    measured = evidence.take(pairs["candidate"].to_numpy(np.int64))
    return FoundSources(sky, truth.iloc[rows].reset_index(drop=True), yearly[rows], measured)


def true_features(found: FoundSources) -> Float64:
    """Return what is true of each source, shape (n, features).

    Local spectral index at the middle of each channel and its change from one to the next (which
    are index, curvature and cut-off), logarithms of the fluxes, yearly factors over their mean in
    rising order and their scatter, latitude and direction.
    """
    truth, edges = found.truth, found.evidence.edges_gev
    middle = 1e3 * np.sqrt(edges[:, 0] * edges[:, 1])
    index = _columns([local_index(truth, float(e)) for e in middle], len(truth))
    flux = np.log10(np.maximum(_band_flux(found), 1e-300))
    years = np.sort(_over_mean(found.yearly), axis=1)
    s1 = np.log10(truth["s1"].to_numpy(np.float64))
    scatter = years.std(axis=1) if years.shape[1] else np.full(len(truth), np.nan)
    parts = [index, np.diff(index, axis=1), flux, s1[:, None], years, scatter[:, None]]
    lon, lat = (truth[name].to_numpy(np.float64) for name in ("lon_deg", "lat_deg"))
    return np.concatenate([*parts, _direction(lon, lat)], axis=1)


def noisy_features(found: FoundSources, seed: int, draw: int) -> Float64:
    """Return what the expected measurement says of each source, shape (n, features).

    Fluxes of the channels with noise, over their errors and as ratios, a log parabola through them
    (`geminga.classification.spectral_fit`), yearly ratios with noise in rising order, their chi2
    against no change and excess variance, the errors themselves, latitude and direction.

    Parameters
    ----------
    found : FoundSources
    seed, draw : int
        Root seed and number of the draw: the noise is that of (seed, sky, draw).
    """
    evidence = found.evidence
    rng = generator(seed, Stage.CEILING, found.sky, draw)
    flux, error = _remeasured(found, rng)
    fits = fit_spectra(flux, error, evidence.edges_gev)
    level = np.log10(np.maximum(flux, 0.3 * error))
    fitted = (
        fits.index, fits.index_error, fits.curvature, fits.curvature_error, fits.ts_curve,
        fits.pl_index, fits.pl_index_error, fits.chi2, _log10(fits.energy_flux),
    )  # fmt: skip
    return np.concatenate(
        [
            _columns(fitted, len(flux)),
            np.arcsinh(flux / error),
            level,
            np.diff(level, axis=1),
            np.log10(error),
            _noisy_years(found, rng),
            _direction(evidence.lon_deg, evidence.lat_deg),
        ],
        axis=1,
    )


def _band_flux(found: FoundSources) -> Float64:
    """Return true photon fluxes within the channels, ph/cm2/s, shape (n, C)."""
    edges = 1e3 * found.evidence.edges_gev
    return _columns(
        [photon_flux(found.truth, float(a), float(b)) for a, b in edges], len(found.truth)
    )


def _remeasured(found: FoundSources, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Return fluxes with noise drawn anew and the errors such a measurement would state, (n, C).

    A candidate's own error knows how many photons it happened to have. Stated beside a flux with
    other noise it would count them twice, and the ceiling would be too high. The variance is
    therefore split: with a flux of 1/e for one photon it is (background) + F/e, of which the first
    is the candidate's own, at least that of half a photon, and the second is that of the true flux
    for the noise and of the noisy one for the stated error.
    """
    evidence = found.evidence
    own = np.where(evidence.band_flux_error > 0, evidence.band_flux_error, np.nan)
    photon = _photon_flux_of_one(evidence.band_flux, own)
    signal = np.nan_to_num(np.maximum(evidence.band_flux, 0.0)) * photon
    background = np.maximum(own**2 - signal, (0.5 * photon) ** 2)
    true = _band_flux(found)
    flux = true + np.sqrt(background + true * photon) * rng.standard_normal(own.shape)
    return flux, np.sqrt(background + np.maximum(flux, 0.0) * photon)


def _photon_flux_of_one(flux: Float64, error: Float64) -> Float64:
    """Return the flux of one photon in each channel, (C,): the least variance over flux there is.

    The twentieth part of the significant fluxes with the smallest ratio has next to no background;
    0 where no flux is significant, for then the background alone makes the error.
    """
    held = flux > _SIGNIFICANT * error
    ratio = np.where(held, error**2 / np.where(held, flux, 1.0), np.nan)
    return np.array(
        [np.quantile(r[k], 0.05) if k.any() else 0.0 for r, k in zip(ratio.T, held.T, strict=True)]
    )


def _noisy_years(found: FoundSources, rng: np.random.Generator) -> Float64:
    error = found.evidence.year_ratio_error
    if not error.shape[1]:
        return np.zeros((len(error), 0))
    error = np.where(np.isfinite(error) & (error > 0), error, np.nan)
    ratio = _over_mean(found.yearly) + error * rng.standard_normal(error.shape)
    measured = np.isfinite(ratio)
    weight = np.where(measured, 1.0 / error**2, 0.0)
    total = np.maximum(weight.sum(axis=1), 1e-300)
    value = np.where(measured, ratio, 0.0)
    mean = (weight * value).sum(axis=1) / total
    chi2 = (weight * (value - mean[:, None]) ** 2).sum(axis=1)
    typical = np.sqrt(np.maximum(measured.sum(axis=1), 1) / total)
    excess = (chi2 - measured.sum(axis=1) + 1.0) / total
    derived = (np.log10(np.maximum(chi2, 1e-3)), np.log10(typical), excess)
    return np.concatenate([np.sort(ratio, axis=1), _columns(derived, len(error))], axis=1)


def _over_mean(yearly: Float64) -> Float64:
    return yearly / yearly.mean(axis=1, keepdims=True) if yearly.shape[1] else yearly


def _direction(lon_deg: Float64, lat_deg: Float64) -> Float64:
    lon = np.radians(lon_deg)
    return np.stack([lat_deg, np.abs(lat_deg), np.cos(lon), np.sin(lon)], axis=1)


def _columns(columns: Sequence[Float64], n: int) -> Float64:
    return np.stack(columns, axis=1) if len(columns) else np.zeros((n, 0))


def _log10(values: Float64) -> Float64:
    return np.log10(np.maximum(values, 1e-300))
