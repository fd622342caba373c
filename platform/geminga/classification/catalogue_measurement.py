"""How a catalogue measures, learnt from its own errors, and sources measured like that.

A flux f with error s in a band is, to good accuracy, that of counts n in a single bin of exposure E
and expected background B: ``f = (n - B) / E`` and ``s = sqrt(n) / E``. E follows from the sources
that outshine their background, where ``f / s^2 = E``; B of each row from its flux and error. A year
is such a bin too, of which the variance that grows with the flux is read off the file. What is
simulated takes B, and the errors of its years, from rows near to it. No class is looked at.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.special import gammaincc, gammainccinv

from geminga.arrays import Bool, Float64, Int64
from geminga.classification.catalogue_file import CatalogueFile, Fluxes, to_evidence
from geminga.classification.evidence import Evidence
from geminga.errors import InputError
from geminga.sky.spectra import photon_flux

_LOG = logging.getLogger(__name__)

YEARLY_SYSTEMATIC = 0.02
"""Relative systematic error of a yearly flux (Abdollahi et al. 2020, section 3.6)."""

# Share of the file's rows of a hardness that may be less significant than any simulated one.
_LEAST_SIGNIFICANT = 0.05
# Rows that the least significance of a hardness, or another relation, is read off.
_PER_BIN = 50
_MOST_BINS = 16
# Exposure is read off this share of the rows, those of most significance, but off ten at least.
_BRIGHTEST = 0.01
_FEWEST = 10
_NEIGHBOURS = 8
_LIMIT = 0.05  # upper limits have 95 % confidence
_GAUSSIAN_FROM = 1e4  # counts above which a Gaussian is drawn


@dataclass(frozen=True, eq=False)
class Measurement:
    """How a catalogue measures, learnt from its own errors.

    Attributes
    ----------
    edges_gev : Float64 (C, 2)
    systematic : Float64 (C,)
        Relative systematic errors of the bands.
    exposure : Float64 (C,)
        cm2 s, effective.
    background : Float64 (m, C)
        Background counts at m places; NaN where a place has no flux of the band.
    place : Float64 (m, 3)
        Unit vectors of the places.
    measured : Bool (m, C)
        Bands measured there.
    least_significance : Float64 (2, j)
        Hardness, see `_hardness`, and what a source of it needs to be in the catalogue: three hard
        photons make a detection of low flux over error, hundreds of soft ones do not.
    light_curves : Float64 (k, 3)
        Brightness, hardness and latitude of k rows, scaled, see `_brightness`.
    year_error : Float64 (k, Y)
        Their relative errors, at the mean flux; NaN where a year was not measured.
    source_share : Float64 (2, j)
        ln significance, and the part of a year's variance that comes from the source's own photons.
    """

    edges_gev: Float64
    systematic: Float64
    exposure: Float64
    background: Float64
    place: Float64
    measured: Bool
    least_significance: Float64
    light_curves: Float64
    year_error: Float64
    source_share: Float64


def learn_measurement(catalogue: CatalogueFile) -> Measurement:
    """Learn from a catalogue how it measures; no class is looked at.

    Raises
    ------
    InputError
        If not one row has a position and the flux of a band.
    """
    rows = np.flatnonzero(catalogue.usable)
    if not len(rows):
        raise InputError(
            str(catalogue.path),
            "has no row with a position and the measured flux of a band",
            "name a catalogue with measured fluxes",
        )
    if len(rows) < 100:
        _LOG.warning("%d rows tell little of how the catalogue measures", len(rows))
    value, error = catalogue.bands.value[rows], catalogue.bands.error[rows]
    exposure = np.array([_exposure(f, s) for f, s in zip(value.T, error.T, strict=True)])
    total = (error * exposure) ** 2
    limit = catalogue.bands.is_limit[rows]
    # An upper limit of few counts is the same for any small background and tells nothing of it.
    telling = np.isfinite(value) & (~limit | (total > 9.0))
    background = np.where(telling, np.maximum(total - value * exposure, 0.0), np.nan)
    # Where the source outshines its background, that is a small difference of large numbers.
    unsure = np.maximum(value, 0.0) * exposure > 4.0 * (background + 2.0)
    background = np.where(unsure, np.nan, background)
    significance = catalogue.bands.significance()[rows]
    lat = catalogue.lat_deg[rows]
    curves, year_error, share = _light_curves(catalogue, rows, lat)
    return Measurement(
        catalogue.edges_gev,
        catalogue.systematic,
        exposure,
        background,
        _unit(catalogue.lon_deg[rows], lat),
        np.isfinite(value),
        _least(_hardness(catalogue.bands)[rows], significance),
        curves,
        year_error,
        share,
    )


def measure(
    rng: np.random.Generator, measurement: Measurement, sources: pd.DataFrame, yearly: Float64
) -> Evidence:
    """Measure sources as the catalogue does; those it would not have are left out.

    Parameters
    ----------
    sources : DataFrame
        Spectral columns of the TRUTH table, lon_deg and lat_deg.
    yearly : Float64 (n, Y)
        Flux of each year over the mean.
    """
    lon, lat = (sources[c].to_numpy(np.float64) for c in ("lon_deg", "lat_deg"))
    true = np.stack([photon_flux(sources, *(1e3 * edge)) for edge in measurement.edges_gev], axis=1)
    true *= 1.0 + measurement.systematic * rng.standard_normal(true.shape)
    background, measured = _surroundings(rng, measurement, _unit(lon, lat))
    signal = np.maximum(true, 0.0) * measurement.exposure
    bands = _measured(rng, signal, background, measurement.exposure)
    bands = _only(bands, measured & np.isfinite(background))
    significance = bands.significance()
    least = np.interp(_hardness(bands), *measurement.least_significance)
    kept = np.flatnonzero(significance >= least)
    bands = Fluxes(bands.value[kept], bands.error[kept], bands.is_limit[kept])
    years = _measure_years(rng, measurement, bands, significance[kept], lat[kept], yearly[kept])
    return to_evidence(
        lon[kept], lat[kept], measurement.edges_gev, measurement.systematic, bands, years
    )


def _exposure(value: Float64, error: Float64) -> float:
    """Return the effective exposure of a band from its most significant fluxes."""
    with np.errstate(invalid="ignore"):
        ratio = value / error
    seen = np.flatnonzero(ratio > 0)
    if not len(seen):
        # Only limits: no count was seen, of which 3 are the 95 % limit and 1.5 the error.
        limits = error[np.isfinite(error)]
        return float(1.5 / np.median(limits)) if len(limits) else 1.0
    number = min(len(seen), max(_FEWEST, int(_BRIGHTEST * len(value))))
    best = seen[np.argsort(-ratio[seen], kind="stable")[:number]]
    return float(np.median(value[best] / error[best] ** 2))


def _light_curves(
    catalogue: CatalogueFile, rows: Int64, lat: Float64
) -> tuple[Float64, Float64, Float64]:
    """Return `light_curves`, `year_error` and `source_share` of a Measurement."""
    number = catalogue.years.value.shape[1]
    none = np.zeros((0, 3)), np.zeros((0, number)), np.zeros((2, 0))
    if not number:
        return none[0], np.zeros((0, 0)), none[2]
    value, error = catalogue.years.value[rows], catalogue.years.error[rows]
    seen = np.isfinite(value)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, value, 0.0).sum(1) / seen.sum(1)
        ratio, relative = value / mean[:, None], (error / mean[:, None]) ** 2
    good = np.isfinite(mean) & (mean > 0)
    if not good.any():
        _LOG.warning("not one light curve was measured: classified without light curves")
        return none[0], np.zeros((0, 0)), none[2]
    chosen = rows[good]
    bands = Fluxes(
        catalogue.bands.value[chosen],
        catalogue.bands.error[chosen],
        catalogue.bands.is_limit[chosen],
    )
    significance = bands.significance()
    ratio, relative = ratio[good], relative[good]
    share = _source_share(ratio, relative, significance)
    own = np.interp(np.log(significance + 1e-9), share[0], share[1])[:, None]
    # What the error would be in a year of mean flux.
    at_mean = relative / np.maximum(1.0 + own * (ratio - 1.0), 0.1)
    return _brightness(bands, significance, lat[good]), np.sqrt(at_mean), share


def _source_share(ratio: Float64, relative: Float64, significance: Float64) -> Float64:
    """Return how much of the variance of a year grows with its flux, by ln significance, (2, j)."""
    order = np.argsort(significance, kind="stable")
    bins = np.array_split(order, max(1, min(_MOST_BINS // 2, len(order) // _PER_BIN)))
    with np.errstate(invalid="ignore", divide="ignore"):
        change = relative / np.nanmean(relative, axis=1, keepdims=True) - 1.0
    # Fluxes near zero are limits, whose errors follow another rule.
    clear = np.isfinite(change) & (ratio > 0.3)
    out = []
    for rows in bins:
        x, y = (ratio[rows] - 1.0)[clear[rows]], change[rows][clear[rows]]
        x, y = x - x.mean() if len(x) else x, y - y.mean() if len(y) else y
        slope = float((x * y).sum() / (x * x).sum()) if (x * x).sum() > 0 else 0.3
        out.append([np.log(np.median(significance[rows]) + 1e-9), np.clip(slope, 0.02, 1.0)])
    return np.array(out).T


def _brightness(bands: Fluxes, significance: Float64, lat_deg: Float64) -> Float64:
    """Return what the errors of years depend on, (n, 3), so scaled that equal steps matter alike."""
    return np.stack(
        [
            4.0 * np.log(significance + 1e-9),
            2.0 * _hardness(bands),
            2.0 * np.sqrt(np.abs(np.sin(np.radians(lat_deg)))),
        ],
        axis=1,
    )


def _hardness(bands: Fluxes) -> Float64:
    """Return the mean number of the band, weighted with flux over error squared, (n,)."""
    seen = bands.measured
    ratio = np.where(seen, bands.value, 0.0) / np.where(seen, bands.error, 1.0)
    weight = np.maximum(ratio, 0.0) ** 2
    return np.asarray(
        (weight * np.arange(weight.shape[1])).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    )


def _least(hardness: Float64, significance: Float64) -> Float64:
    """Return hardness and least significance of its rows, (2, j)."""
    order = np.argsort(hardness, kind="stable")
    bins = np.array_split(order, max(1, min(_MOST_BINS, len(order) // _PER_BIN)))
    least = [np.quantile(significance[rows], _LEAST_SIGNIFICANT) for rows in bins]
    return np.array([[np.median(hardness[rows]) for rows in bins], least])


def _surroundings(
    rng: np.random.Generator, measurement: Measurement, place: Float64
) -> tuple[Float64, Bool]:
    """Return background counts (n, C) of one of the nearest rows, and what it measured."""
    n, channels = len(place), measurement.background.shape[1]
    rank = rng.integers(0, _NEIGHBOURS, n)
    background = np.full((n, channels), np.nan)
    for c in range(channels):
        known = np.flatnonzero(np.isfinite(measurement.background[:, c]))
        if len(known):
            background[:, c] = measurement.background[known, c][
                _nearest(measurement.place[known], place, rank)
            ]
        elif measurement.measured[:, c].any():
            background[:, c] = 0.0  # nothing seen, nor any background
    return background, measurement.measured[_nearest(measurement.place, place, rank)]


def _nearest(points: Float64, at: Float64, rank: Int64) -> Int64:
    """Return for each place (n, k) one of its nearest points: the rank-th, of as many as there are."""
    number = min(_NEIGHBOURS, len(points))
    found = np.asarray(cKDTree(points).query(at, k=list(range(1, number + 1)))[1])
    chosen: Int64 = np.asarray(found[np.arange(len(at)), rank % number], np.int64)
    return chosen


def _measure_years(
    rng: np.random.Generator,
    measurement: Measurement,
    bands: Fluxes,
    significance: Float64,
    lat_deg: Float64,
    yearly: Float64,
) -> Fluxes:
    n, number = yearly.shape
    if not number or not n:
        empty = np.zeros((n, number))
        return Fluxes(empty, empty, empty > 0)
    rank = np.asarray(rng.integers(0, _NEIGHBOURS, n), np.int64)
    like = _nearest(measurement.light_curves, _brightness(bands, significance, lat_deg), rank)
    error = measurement.year_error[like]
    own = np.interp(np.log(significance), *measurement.source_share)[:, None]
    # Counts of a single bin whose variance grows with the flux as the file's does.
    counts = 1.0 / (own * np.where(np.isfinite(error), error, 1.0) ** 2)
    true = np.maximum(yearly * (1.0 + YEARLY_SYSTEMATIC * rng.standard_normal(yearly.shape)), 0.0)
    years = _measured(rng, true * counts, counts * (1.0 - own) / own, counts)
    return _only(years, np.isfinite(error))


def _measured(
    rng: np.random.Generator, signal: Float64, background: Float64, exposure: Float64
) -> Fluxes:
    """Draw counts and return the fluxes and errors that they give, limits where 0 is within 1 sigma."""
    b = np.nan_to_num(background)
    mean = signal + b
    n = np.where(
        mean < _GAUSSIAN_FROM,
        rng.poisson(np.minimum(mean, _GAUSSIAN_FROM)),
        mean + np.sqrt(mean) * rng.standard_normal(mean.shape),
    )
    excess = np.maximum(n - b, 0.0)
    # 2 ln L(best) / L(0) of a single bin.
    safe = np.maximum(b, 1e-9)
    ts = np.where(excess > 0, 2.0 * (n * np.log(np.maximum(n, 1e-9) / safe) - (n - b)), 0.0)
    error = np.sqrt(np.maximum(n, 1.0))
    is_limit = ts < 1.0
    few = is_limit & (mean < _GAUSSIAN_FROM)
    error[few] = 0.5 * (_upper_limit(n[few], b[few]) - excess[few])
    return Fluxes(excess / exposure, error / exposure, is_limit)


def _upper_limit(n: Float64, background: Float64) -> Float64:
    """Return the Bayesian 95 % limit of a signal with a flat prior (Helene 1983, NIM 212, 319)."""
    tail = _LIMIT * gammaincc(n + 1.0, background)
    return np.asarray(gammainccinv(n + 1.0, tail) - background)


def _only(fluxes: Fluxes, measured: Bool) -> Fluxes:
    return Fluxes(
        np.where(measured, fluxes.value, np.nan),
        np.where(measured, fluxes.error, np.nan),
        fluxes.is_limit & measured,
    )


def _unit(lon_deg: Float64, lat_deg: Float64) -> Float64:
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
