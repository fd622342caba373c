"""The share of the exposure that each time bin has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import healpy
import numpy as np

from geminga.arrays import Float32, Float64
from geminga.config import Config, data_path
from geminga.errors import InputError
from geminga.response.builtin import load_tables
from geminga.response.cube import read_exposure_cube
from geminga.response.exposure import (
    Exposure,
    check_energy_range,
    galactic_to_equatorial,
    interpolate_energy,
    map_centres,
)
from geminga.response.orbit import model_exposure, sin_declination
from geminga.response.survey import MISSION_START, rocking_between

log = logging.getLogger(__name__)

SHARE_NSIDE = 16


@dataclass(frozen=True)
class YearShare:
    """Share of the whole exposure in each time bin, HEALPix RING in Galactic coordinates.

    Attributes
    ----------
    maps : Float32 (Y, npix)
        Shares; the sum over time bins is 1 in every pixel.
    origin : str
        Where the numbers come from.
    """

    maps: Float32
    origin: str

    def at(self, lon_deg: Float64, lat_deg: Float64) -> Float64:
        """Return the shares of Galactic directions, bilinear, shape (n, Y)."""
        nside = int(healpy.npix2nside(self.maps.shape[1]))
        pixels, weights = healpy.get_interp_weights(
            nside, np.atleast_1d(lon_deg), np.atleast_1d(lat_deg), lonlat=True
        )
        shares = np.einsum("ycn,cn->ny", self.maps[:, pixels].astype(np.float64), weights)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def equal_shares(years: int) -> YearShare:
    """Return shares that are the same for every time bin and direction."""
    return YearShare(np.full((years, 12), 1.0 / years, dtype=np.float32), "equal shares")


def survey_shares(years: int, duration_years: float, max_zenith_deg: Sequence[float]) -> YearShare:
    """Return the shares of equal time bins that follow from the rocking history.

    Parameters
    ----------
    years : int
        Number of time bins.
    duration_years : float
        Whole observing time, from the start of the mission.
    max_zenith_deg : sequence of float
        Zenith cut of each band; the mean over bands is taken.
    """
    edges = np.linspace(0.0, duration_years, years + 1)
    shape = load_tables().area_shape
    seen = np.array(
        [
            np.mean(
                [
                    model_exposure(rocking_between(float(a), float(b)), cut, shape)
                    for cut in max_zenith_deg
                ],
                axis=0,
            )
            for a, b in pairwise(edges)
        ]
    )
    sine = np.sin(np.radians(galactic_to_equatorial(*map_centres(SHARE_NSIDE))[1]))
    maps = np.array([np.interp(sine, sin_declination(), row) for row in seen])
    origin = (
        f"orbit model with the rocking history from {MISSION_START.date()}, "
        f"{years} bins of {duration_years / years:g} yr"
    )
    return YearShare((maps / maps.sum(axis=0)).astype(np.float32), origin)


def year_shares(config: Config, exposures: Sequence[Exposure]) -> YearShare:
    """Return the shares a configuration asks for.

    Parameters
    ----------
    config : Config
        ``response.yearly_exposure`` names a cube of each time bin, or the rocking history is used.
    exposures : sequence of Exposure
        Exposure of each channel.

    Raises
    ------
    InputError
        If there are not as many cubes as time bins, or a cube is unsound.
    """
    paths, years = config.response.yearly_exposure, config.sky.years
    if not paths:
        if years == 1:
            return equal_shares(1)
        cuts = [band.max_zenith_deg for band in config.bands]
        return survey_shares(years, config.response.duration_years, cuts)
    if len(paths) != years:
        raise InputError(
            "response.yearly_exposure",
            f"{len(paths)} cubes for sky.years {years}",
            "name one cube for each time bin, in order",
        )
    cubes = [read_exposure_cube(data_path(config, path), SHARE_NSIDE) for path in paths]
    emin, emax = config.bands[0].emin_gev * 1e3, config.bands[-1].emax_gev * 1e3
    # The share hardly depends on energy: one in the middle of the bands, by counts, serves.
    middle = np.array([emin * (emax / emin) ** 0.25])
    rows = []
    for cube in cubes:
        check_energy_range(cube.energy_mev, emin, emax)
        rows.append(
            interpolate_energy(cube.maps_cm2_s.astype(np.float64), cube.energy_mev, middle)[0]
        )
    maps = np.array(rows)
    # A square centimetre for a second is nothing; zeros come through the logarithm as 1e-300.
    if np.any(maps.sum(axis=0) < 1.0):
        raise InputError(
            "response.yearly_exposure",
            "the cubes together leave part of the sky without exposure",
            "name the cube of every time bin",
        )
    _compare_total(maps, exposures[0], float(middle[0]))
    return YearShare(
        (maps / maps.sum(axis=0)).astype(np.float32), f"gtexpcube2 cubes {', '.join(paths)}"
    )


def _compare_total(maps: Float64, whole: Exposure, energy_mev: float) -> None:
    """Report yearly cubes whose sum is far from the whole exposure: only their shares are used."""
    mean = interpolate_energy(whole.mean()[:, None], whole.energy_mev, np.array([energy_mev]))
    ratio = float(maps.sum(axis=0).mean() / mean[0, 0])
    if not 0.8 < ratio < 1.25:
        log.warning(
            "response.yearly_exposure: the cubes add up to %.2f of the whole exposure; "
            "only their shares are used",
            ratio,
        )
