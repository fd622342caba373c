"""From evidence to what the network on it takes: bounded numbers, one block per branch.

A value that was not measured is 0 and marked as missing; each block of k values is followed by its
k marks, so that a fit which failed is not taken for a fit that gave the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.classification.light_curves import excess_variance, variability_index
from geminga.classification.spectral_fit import fit_spectra
from geminga.sections import EvidenceNetConfig
from geminga.sky.spectra import ERG_PER_MEV

BRANCHES = ("image", "spectrum", "years")
"""Columns of `Inputs.present`."""

SPECTRUM_TOKEN = ("significance", "log_sed", "log_sed_error")
SPECTRAL_NAMES = (
    "index",
    "index_error",
    "curvature",
    "curvature_error",
    "sqrt_ts_curve",
    "pl_index",
    "log_energy_flux",
    "log_energy_flux_error",
)
YEAR_TOKEN = ("ratio", "log_ratio_error", "pull")
VARIABILITY_NAMES = (
    "log_variability_per_dof",
    "excess_variance",
    "mean_log_year_error",
    "years_measured",
)
POSITION_NAMES = ("sin_b", "abs_b", "plane", "thick_plane", "cos_l_cos_b", "sin_l_cos_b")

_LOG_RANGE = (-4.0, 2.0)
"""Bounds of log10 of a SED point over the energy flux: fluxes can be 0."""
_RATIO_RANGE = (-3.0, 15.0)
_LEAST_PULLS = 2
"""Measured years from which a light curve says anything."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the network takes of n candidates, all finite; every ``2 k`` is k values and k marks.

    Attributes
    ----------
    spectrum : Float32 (n, C, 6)
        Per channel: arcsinh of flux over error, log10 of the SED point and of its error over the
        fitted energy flux.
    spectral : Float32 (n, 2 len(SPECTRAL_NAMES))
        Fitted quantities of the spectrum.
    years : Float32 (n, Y, 6)
        Per year: flux over the mean, log10 of its error, arcsinh of its pull from the mean.
    variability : Float32 (n, 2 len(VARIABILITY_NAMES))
        Quantities of the light curve.
    image : Float32 (n, 2 S C, p, p)
        Of each stamp, arcsinh of (n - b) / sqrt(b + 1), then log(1 + b) of each.
    detection : Float32 (n, 2 len(DETECTION_NAMES))
        What the search says; part of the image branch.
    position : Float32 (n, len(POSITION_NAMES))
        Functions of the Galactic position.
    present : Bool (n, 3)
        Which branches find anything; see `BRANCHES`.
    """

    spectrum: Float32
    spectral: Float32
    years: Float32
    variability: Float32
    image: Float32
    detection: Float32
    position: Float32
    present: Bool

    def __len__(self) -> int:
        return len(self.position)

    def take(self, rows: Int64 | Bool) -> Inputs:
        """Return the inputs of some candidates."""
        return Inputs(*(array[rows] for array in self.arrays()))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the arrays in the order in which the network takes them."""
        return tuple(getattr(self, field.name) for field in fields(self))


def network_inputs(evidence: Evidence, settings: EvidenceNetConfig) -> Inputs:
    """Return what the network takes of n candidates.

    Parameters
    ----------
    evidence : Evidence
        Measurements; not a number where there is none.
    settings : EvidenceNetConfig
        Its ``branches`` are those that are used; the others are left empty.
    """
    n = len(evidence)
    spectrum, spectral = _spectra(evidence)
    years, variability = _light_curves(evidence)
    image, detection = _planes(evidence.stamps), evidence.detection
    present = np.stack(
        [
            np.isfinite(detection).any(axis=1) | (image.shape[1] > 0),
            np.isfinite(spectrum[:, :, 0]).any(axis=1),
            np.isfinite(years[:, :, 0]).sum(axis=1) >= _LEAST_PULLS,
        ],
        axis=1,
    )
    for column, branch in enumerate(BRANCHES):
        if branch not in settings.branches:
            present[:, column] = False
    if "image" not in settings.branches:
        image = np.zeros((n, 0, 1, 1), np.float32)
    return Inputs(
        spectrum=_marked(spectrum),
        spectral=_marked(spectral),
        years=_marked(years),
        variability=_marked(variability),
        image=image,
        detection=_marked(detection),
        position=_position(evidence.lon_deg, evidence.lat_deg).astype(np.float32),
        present=present,
    )


def class_quantities(evidence: Evidence) -> tuple[tuple[str, ...], Float32]:
    """Return names and values (n, k) of all that was fitted and detected, and of the position.

    Channels and quantities as the network has them, without stamps and single years; what was not
    measured stays not a number.
    """
    spectrum, spectral = _spectra(evidence)
    _, variability = _light_curves(evidence)
    channels = range(spectrum.shape[1])
    names = (
        *(f"{token}_{channel}" for channel in channels for token in SPECTRUM_TOKEN),
        *SPECTRAL_NAMES,
        *VARIABILITY_NAMES,
        *DETECTION_NAMES,
        *POSITION_NAMES,
    )
    values = [
        spectrum.reshape(len(evidence), spectrum.shape[1] * spectrum.shape[2]),
        spectral,
        variability,
        evidence.detection,
        _position(evidence.lon_deg, evidence.lat_deg),
    ]
    return names, np.concatenate(values, axis=1).astype(np.float32)


def _spectra(evidence: Evidence) -> tuple[Float64, Float64]:
    """Return the channels (n, C, 3) and the fitted quantities (n, 8), NaN where not measured."""
    flux, error = evidence.band_flux, evidence.band_flux_error
    measured = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    flux, error = np.where(measured, flux, np.nan), np.where(measured, error, np.nan)
    fits = fit_spectra(flux, error, evidence.edges_gev)
    low, high = evidence.edges_gev.T
    with np.errstate(divide="ignore", invalid="ignore"):
        # E^2 dN/dE in the middle of the channel, of a spectrum that is flat in it.
        per_energy = 1e3 * ERG_PER_MEV * (low * high / (high - low)) / fits.energy_flux[:, None]
        tokens = np.stack(
            [
                np.arcsinh(flux / error),
                _bounded_log(flux * per_energy),
                _bounded_log(error * per_energy),
            ],
            axis=2,
        )
        quantities = np.stack(
            [
                fits.index,
                fits.index_error,
                fits.curvature,
                fits.curvature_error,
                np.sqrt(np.maximum(fits.ts_curve, 0.0)),
                fits.pl_index,
                np.log10(fits.energy_flux),
                _bounded_log(fits.energy_flux_error / fits.energy_flux),
            ],
            axis=1,
        )
    quantities[~measured.any(axis=1)] = np.nan
    return tokens, np.where(np.isfinite(quantities), quantities, np.nan)


def _light_curves(evidence: Evidence) -> tuple[Float64, Float64]:
    """Return the years (n, Y, 3) and quantities of the light curve (n, 4), NaN if not measured."""
    ratio, error = evidence.year_ratio, evidence.year_ratio_error
    measured = np.isfinite(ratio) & np.isfinite(error) & (error > 0)
    ratio, error = np.where(measured, ratio, np.nan), np.where(measured, error, np.nan)
    count = measured.sum(axis=1)
    quantities = np.full((len(evidence), len(VARIABILITY_NAMES)), np.nan)
    known = count >= _LEAST_PULLS
    if known.any():
        index = variability_index(ratio[known], error[known])
        freedom = count[known] - 1
        quantities[known, 0] = _bounded_log(index / freedom)
        quantities[known, 1] = np.clip(excess_variance(ratio[known], error[known]), -3.0, 10.0)
        quantities[known, 2] = np.nanmean(np.log10(error[known]), axis=1)
        quantities[known, 3] = count[known]
    tokens = np.stack(
        [
            np.clip(ratio, *_RATIO_RANGE),
            _bounded_log(error),
            np.arcsinh((ratio - 1.0) / error),
        ],
        axis=2,
    )
    return tokens, np.where(np.isfinite(quantities), quantities, np.nan)


def _planes(stamps: Float32) -> Float32:
    """Return excess planes, then background planes (n, 2 S C, p, p) of stamps (n, S C, 2, p, p)."""
    counts, background = stamps[:, :, 0], np.maximum(stamps[:, :, 1], 0.0)
    excess = np.arcsinh((counts - background) / np.sqrt(background + 1.0))
    planes = np.concatenate([excess, np.log1p(background)], axis=1, dtype=np.float32)
    return np.nan_to_num(planes, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _position(lon_deg: Float64, lat_deg: Float64) -> Float64:
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    away = np.abs(lat_deg)
    columns = [
        np.sin(lat),
        away / 90.0,
        np.exp(-away / 2.0),
        np.exp(-away / 10.0),
        np.cos(lon) * np.cos(lat),
        np.sin(lon) * np.cos(lat),
    ]
    return np.stack(columns, axis=1)


def _bounded_log(values: Float64) -> Float64:
    """Return log10, the lower bound where the value is 0 or less, NaN where it is NaN."""
    low, high = _LOG_RANGE
    return np.asarray(np.clip(np.log10(np.maximum(values, 10.0**low)), low, high))


def _marked(values: Float64) -> Float32:
    """Return values (..., k), 0 where not finite, and marks of those: (..., 2 k)."""
    finite = np.isfinite(values)
    return np.concatenate([np.where(finite, values, 0.0), ~finite], axis=-1).astype(np.float32)
