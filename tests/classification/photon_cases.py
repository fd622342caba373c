"""Skies of isolated sources on flat backgrounds, with the list that a perfect search gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.geometry import lon_lat, tangent_frames, unit_vectors
from geminga.response import Response, band_exposure
from geminga.sky.photons import Photons, photons_from_vectors

INDEX = 2.3
BOX_DEG = 9.0


@dataclass(frozen=True)
class Case:
    photons: Photons
    candidates: pd.DataFrame
    factors: Float64


def places(n: int) -> tuple[Float64, Float64]:
    """Directions at least 20 degrees apart."""
    rows = [(lon, lat) for lat in (-50.0, -25.0, 0.0, 25.0, 50.0) for lon in range(0, 360, 36)]
    return tuple(np.array(rows[:n], np.float64).T)  # type: ignore[return-value]


def sky_case(
    response: Response,
    counts: Float64,
    level: Float64,
    factors: Float64,
    seed: int = 0,
    extent_deg: float = 0.0,
    lon_lat_deg: tuple[Float64, Float64] | None = None,
) -> Case:
    """Draw photons of sources with (n, C) counts on flat levels (C,) per square degree.

    `factors` (n, Y) are fluxes of the years over the mean.
    """
    rng = np.random.default_rng(seed)
    lon, lat = places(len(counts)) if lon_lat_deg is None else lon_lat_deg
    share = response.year_share.at(lon, lat)
    frames = tangent_frames(lon, lat)
    vectors, channel, year = [], [], []
    psf = response.psf
    for n in range(len(counts)):
        for c in range(counts.shape[1]):
            for y in range(share.shape[1]):
                m = rng.poisson(counts[n, c] * share[n, y] * factors[n, y])
                quantile = rng.random(m)
                contained = psf._between(psf.containment[c], INDEX)
                radius = np.radians(np.interp(quantile, contained, psf.radius_deg))
                turn = rng.uniform(0, 2 * np.pi, m)
                shift = np.tan(radius) * np.array([np.cos(turn), np.sin(turn)])
                shift += np.radians(extent_deg) * rng.normal(size=(2, m))
                half = np.radians(BOX_DEG / 2)
                b = rng.poisson(level[c] * BOX_DEG**2 * share[n, y])
                shift = np.concatenate([shift, rng.uniform(-half, half, (2, b))], axis=1)
                vectors.append(frames[n, 0] + shift.T @ frames[n, 1:])
                channel.append(np.full(m + b, c, np.int8))
                year.append(np.full(m + b, y, np.int8))
    photons = photons_from_vectors(
        np.concatenate(vectors), np.concatenate(channel), np.concatenate(year)
    )
    return Case(photons, fitted_list(response, counts, level, lon, lat), factors)


def fitted_list(
    response: Response, counts: Float64, level: Float64, lon: Float64, lat: Float64
) -> pd.DataFrame:
    exposure = band_exposure(response, lon, lat, INDEX).T
    error = np.sqrt(counts + 20 * level * 0.1)
    table: dict[str, Float64] = {
        "lon_deg": lon,
        "lat_deg": lat,
        "position_error_deg": np.full(len(lon), 0.01),
        "ts": 100.0 + np.arange(len(lon)),
        "index": np.full(len(lon), INDEX),
        "goodness": np.zeros(len(lon)),
        "probability": np.full(len(lon), 0.75),
    }
    for c in range(counts.shape[1]):
        table |= {
            f"counts_{c}": counts[:, c],
            f"counts_error_{c}": error[:, c],
            f"flux_{c}": counts[:, c] / exposure[:, c],
            f"flux_error_{c}": error[:, c] / exposure[:, c],
            f"background_{c}": np.full(len(lon), level[c]),
        }
    return pd.DataFrame(table)


def natural_counts(response: Response, total: float, n: int) -> Float64:
    """Return (n, C) counts of power laws of `INDEX`."""
    lon, lat = places(n)
    edges = np.array([[c.emin_gev, c.emax_gev] for c in response.channels])
    flux = edges[:, 0] ** (1 - INDEX) - edges[:, 1] ** (1 - INDEX)
    counts = flux * band_exposure(response, lon, lat, INDEX).T
    return np.asarray(total * counts / counts.sum(axis=1, keepdims=True))


def near(case: Case, row: int, offset_deg: float) -> tuple[Float64, Float64]:
    """Return a direction to the east of a candidate."""
    one = case.candidates.iloc[[row]]
    frame = tangent_frames(one["lon_deg"].to_numpy(), one["lat_deg"].to_numpy())[0]
    return lon_lat((frame[0] + np.tan(np.radians(offset_deg)) * frame[1])[None])


def all_rows(case: Case) -> Int64:
    return np.arange(len(case.candidates))


def directions(case: Case) -> Float64:
    return unit_vectors(
        case.candidates["lon_deg"].to_numpy(), case.candidates["lat_deg"].to_numpy()
    )
