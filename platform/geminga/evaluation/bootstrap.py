"""Bootstrap errors: whole skies, or patches of sky, drawn with replacement.

Detections of one sky share its photons and its model of the diffuse emission, and are no
independent trials: what is drawn is the sky, with all that is on it (Efron & Tibshirani 1993,
block bootstrap). Every search on the same skies is given the same draws, so that the error of a
ratio of two searches leaves out what is common to both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import healpy
import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.seeds import Stage, generator

Statistic = Callable[[Float64], Mapping[str, Float64]]
"""Figures by name from the weight of every unit; the same names and shapes for any weights."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its bootstrap error, NaN where there is none."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn with replacement.

    Attributes
    ----------
    weights : Float64 (draws, units)
        How often each unit is in each draw.
    region_nside : int
        HEALPix nside (RING, Galactic) of the units; 0 if whole skies are drawn.
    skies : int
        Number of skies.
    inflation : float
        Factor on the scatter of the draws, sqrt(u / (u - 1)) for u units: the scatter of u
        resampled values is that much too small.
    """

    weights: Float64
    region_nside: int
    skies: int
    inflation: float

    @property
    def description(self) -> str:
        """What the errors are, in words."""
        draws, units = self.weights.shape
        if draws == 0:
            return "no errors: no resamples were asked for"
        if not self.region_nside:
            return f"bootstrap over {units} skies, {draws} resamples"
        width = math.degrees(math.sqrt(4 * math.pi / (12 * self.region_nside**2)))
        skies = "a single sky" if self.skies == 1 else f"only {self.skies} skies"
        return (
            f"bootstrap over {units} regions of {width:.1f} deg ({skies} to resample), "
            f"{draws} resamples"
        )

    def of(self, frame: pd.DataFrame) -> Int64:
        """Return the unit of each row (``sky``, ``lon_deg``, ``lat_deg``), shape (n,)."""
        sky = frame["sky"].to_numpy(dtype=np.int64)
        if not self.region_nside:
            return sky
        lon, lat = (frame[n].to_numpy(dtype=np.float64) for n in ("lon_deg", "lat_deg"))
        pixel = healpy.ang2pix(self.region_nside, lon, lat, lonlat=True)
        return np.asarray(sky * 12 * self.region_nside**2 + pixel, dtype=np.int64)


def make_units(
    skies: int, resamples: int, seed: int, region_nside: int = 8, fewest_skies: int = 5
) -> Units:
    """Draw the resamples.

    Parameters
    ----------
    skies : int
        Number of skies.
    resamples : int
        Number of draws; 0 for no errors.
    seed : int
        Root seed.
    region_nside : int
        Regions drawn when skies are too few: HEALPix pixels, 8 for those of the patch grid.
    fewest_skies : int
        Below this number regions of the skies are drawn in place of whole skies; at least 2.
    """
    by_region = skies < max(fewest_skies, 2)
    number = skies * 12 * region_nside**2 if by_region else skies
    rng = generator(seed, Stage.BOOTSTRAP, number)
    weights = rng.multinomial(number, np.full(number, 1.0 / number), size=resamples)
    return Units(
        weights.astype(np.float64).reshape(resamples, number),
        region_nside if by_region else 0,
        skies,
        math.sqrt(number / (number - 1.0)),
    )


@dataclass(frozen=True, eq=False)
class Bootstrapped:
    """Figures with their draws.

    Attributes
    ----------
    value : mapping of Float64 (...)
        From the list itself.
    draws : mapping of Float64 (draws, ...)
        From each resample.
    inflation : float
        As in `Units`.
    """

    value: Mapping[str, Float64]
    draws: Mapping[str, Float64]
    inflation: float

    def error(self, name: str) -> Float64:
        """Return the error of a figure; NaN where fewer than half of the draws have a value."""
        return scatter(self.draws[name], self.inflation)

    def estimate(self, name: str) -> Estimate:
        """Return a figure of one number with its error."""
        return Estimate(float(self.value[name]), float(self.error(name)))

    def ratio(self, other: Bootstrapped, name: str) -> tuple[Float64, Float64]:
        """Return the ratio of a figure to another search's, and its error from the same draws."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = _finite(self.value[name] / other.value[name])
            draws = _finite(self.draws[name] / other.draws[name])
        return value, scatter(draws, self.inflation)


def bootstrap(statistic: Statistic, units: Units) -> Bootstrapped:
    """Evaluate a statistic on the list itself and on every resample."""
    value = {k: np.asarray(v, np.float64) for k, v in statistic(_ones(units)).items()}
    rows = [statistic(weights) for weights in units.weights]
    draws = {
        k: np.array([row[k] for row in rows], dtype=np.float64).reshape(len(rows), *v.shape)
        for k, v in value.items()
    }
    return Bootstrapped(value, draws, units.inflation)


def scatter(draws: Float64, inflation: float = 1.0) -> Float64:
    """Return the standard deviation over the first axis, leaving out what is not finite.

    NaN where fewer than two, or fewer than half, of the draws are finite.
    """
    finite = np.isfinite(draws)
    number = finite.sum(axis=0)
    enough = (number >= 2) & (2 * number >= len(draws))
    n = np.where(enough, number, 1)
    mean = np.where(finite, draws, 0.0).sum(axis=0) / n
    squares = np.where(finite, draws - mean, 0.0) ** 2
    return np.where(enough, inflation * np.sqrt(squares.sum(axis=0) / n), np.nan)


def _ones(units: Units) -> Float64:
    return np.ones(units.weights.shape[1])


def _finite(values: Float64) -> Float64:
    return np.where(np.isfinite(values), values, np.nan)
