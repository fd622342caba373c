"""The built-in response: averaged tables of a few classes, small enough to ship.

``builtin.npz`` is written by ``scripts/make_builtin_response.py`` from the CALDB files. Areas and
PSFs are averaged over four ranges of incidence angle, so that they serve for every zenith cut and
rocking history: those change how long each range is seen, and hardly what a range looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.response.average import RADIUS_DEG, TypeResponse
from geminga.response.dispersion import DispersionTable
from geminga.response.exposure import Exposure, galactic_to_equatorial, map_centres
from geminga.response.king import scale_rad
from geminga.response.orbit import orbit_livetime, sin_declination
from geminga.response.survey import (
    ANGLE_RANGES,
    MAX_ZENITH_DEG,
    SECONDS_PER_YEAR,
    ObservingProfile,
    angle_range,
    rocking_between,
    survey_profile,
)

# ln(density) is stored in these steps, 0.1 % of the density, ln(measured / true) in its own.
LN_STEP = 1e-3
RATIO_STEP = 1e-4
TABLE = "builtin.npz"


@dataclass(frozen=True)
class BuiltinTables:
    """The arrays of ``builtin.npz`` (T entries: response class / event type; G angle ranges).

    Attributes
    ----------
    names : tuple of str (T,)
        ``<class>/<event type>``.
    area_energy_mev, area_cm2 : Float64 (A,), (T, G, A)
        Effective area averaged over each range of incidence angle.
    psf_energy_mev, scaling : Float64 (E,), (T, 3)
        Energies and scaling law of the profiles.
    scaled_angle, ln_profile : Float64 (X,), (T, G, E, X)
        ln of the PSF per steradian times S(E)^2 at angles r = x S(E); the first node stands for 0.
    dispersion_names : tuple of str (D,)
        Entries with energy dispersion.
    dispersion_energy_mev, ln_ratio : Float64 (F,), (D, F, Q)
        Quantiles of ln(measured / true energy), averaged over all incidence angles.
    sin_declination, pattern : Float64 (S,), (S,)
        Exposure against the sine of declination, mean over the sky 1.
    area_shape : Float64 (C,)
        Area at 10 GeV by bin of cos theta, relative to the largest: what the orbit model turns
        observing time into exposure with.
    livetime_share : float
        Part of the calendar time that is livetime.
    origin : str
        Files the numbers were derived from.
    """

    names: tuple[str, ...]
    area_energy_mev: Float64
    area_cm2: Float64
    psf_energy_mev: Float64
    scaling: Float64
    scaled_angle: Float64
    ln_profile: Float64
    dispersion_names: tuple[str, ...]
    dispersion_energy_mev: Float64
    ln_ratio: Float64
    sin_declination: Float64
    pattern: Float64
    area_shape: Float64
    livetime_share: float
    origin: str


def _differences(values: Float64, step: float, twice: bool) -> NDArray[np.int32]:
    """Return differences of steps along the last axis, which compress well."""
    steps = np.rint(values / step).astype(np.int32)
    for _ in range(2 if twice else 1):
        steps = np.diff(steps, axis=-1, prepend=0)
    return steps


def _summed(steps: NDArray[np.int32], step: float, twice: bool) -> Float64:
    total = steps.astype(np.int64)
    for _ in range(2 if twice else 1):
        total = np.cumsum(total, axis=-1)
    return np.asarray(total * step, dtype=np.float64)


def encode(tables: BuiltinTables) -> dict[str, NDArray[np.generic]]:
    """Return the arrays to store."""
    return {
        "names": np.array(tables.names),
        "area_energy_mev": tables.area_energy_mev,
        "area_cm2": tables.area_cm2.astype(np.float32),
        "psf_energy_mev": tables.psf_energy_mev,
        "scaling": tables.scaling,
        "scaled_angle": tables.scaled_angle,
        "ln_profile_steps": _differences(tables.ln_profile, LN_STEP, True),
        "dispersion_names": np.array(tables.dispersion_names),
        "dispersion_energy_mev": tables.dispersion_energy_mev,
        "ln_ratio_steps": _differences(tables.ln_ratio, RATIO_STEP, False),
        "sin_declination": tables.sin_declination,
        "pattern": tables.pattern.astype(np.float32),
        "area_shape": tables.area_shape.astype(np.float32),
        "livetime_share": np.array(tables.livetime_share),
        "origin": np.array(tables.origin),
    }


@lru_cache(maxsize=1)
def load_tables() -> BuiltinTables:
    """Read the shipped tables."""
    with (
        as_file(files("geminga.response").joinpath(TABLE)) as path,
        np.load(path, allow_pickle=False) as stored,
    ):
        return BuiltinTables(
            names=tuple(str(n) for n in stored["names"]),
            area_energy_mev=stored["area_energy_mev"],
            area_cm2=stored["area_cm2"].astype(np.float64),
            psf_energy_mev=stored["psf_energy_mev"],
            scaling=stored["scaling"],
            scaled_angle=stored["scaled_angle"],
            ln_profile=_summed(stored["ln_profile_steps"], LN_STEP, True),
            dispersion_names=tuple(str(n) for n in stored["dispersion_names"]),
            dispersion_energy_mev=stored["dispersion_energy_mev"],
            ln_ratio=_summed(stored["ln_ratio_steps"], RATIO_STEP, False),
            sin_declination=stored["sin_declination"],
            pattern=stored["pattern"].astype(np.float64),
            area_shape=stored["area_shape"].astype(np.float64),
            livetime_share=float(stored["livetime_share"]),
            origin=str(stored["origin"]),
        )


def builtin_types(
    irf: str, event_types: Sequence[str], profile: ObservingProfile
) -> list[TypeResponse]:
    """Return the built-in response of each event type, averaged over incidence angles.

    Parameters
    ----------
    irf : str
        Response class.
    event_types : sequence of str
        Event types.
    profile : ObservingProfile
        Time at each incidence angle.

    Raises
    ------
    InputError
        If the class or an event type is not built in; the message lists those that are.
    """
    tables = load_tables()
    time = np.asarray(
        np.bincount(angle_range(profile.centres), profile.share, ANGLE_RANGES), np.float64
    )
    return [
        _decode(tables, _entry(tables.names, irf, name, "response.irf"), name, time)
        for name in event_types
    ]


def builtin_dispersion(irf: str, event_types: Sequence[str]) -> tuple[DispersionTable, ...]:
    """Return the built-in energy dispersion of each event type.

    Raises
    ------
    InputError
        If there is none of the class or event type; the message lists those that are.
    """
    tables = load_tables()
    where = "response.energy_dispersion"
    numbers = [_entry(tables.dispersion_names, irf, name, where) for name in event_types]
    return tuple(
        DispersionTable(name, tables.dispersion_energy_mev, tables.ln_ratio[number])
        for name, number in zip(event_types, numbers, strict=True)
    )


def _entry(names: tuple[str, ...], irf: str, event_type: str, where: str) -> int:
    classes = sorted({name.split("/")[0] for name in names})
    if irf not in classes:
        remedy = f"built in are {', '.join(classes)}; set response.caldb for others"
        if where == "response.energy_dispersion":
            remedy += ", or name one in response.dispersion_irf"
        raise InputError(where, f"{irf!r} is not built in", remedy)
    name = f"{irf}/{event_type}"
    if name not in names:
        there = [n.split("/")[1] for n in names if n.startswith(f"{irf}/")]
        raise InputError(
            "response.event_types",
            f"{event_type!r} of {irf} is not built in",
            f"built in are {', '.join(there)}",
        )
    return names.index(name)


def _decode(tables: BuiltinTables, number: int, event_type: str, time: Float64) -> TypeResponse:
    c0, c1, index = (float(v) for v in tables.scaling[number])
    ln_x = np.log(tables.scaled_angle)
    ln_area_energy = np.log(tables.area_energy_mev)
    seen = time[:, None] * tables.area_cm2[number]
    densities = []
    for row, energy in enumerate(tables.psf_energy_mev):
        scale = float(scale_rad((c0, c1, index), energy))
        x = np.radians(RADIUS_DEG) / scale
        # Nearer than the first node the profile is flat; the last node lies beyond 30 deg.
        inside = np.log(np.maximum(x, tables.scaled_angle[0]))
        ranges = np.exp(CubicSpline(ln_x, tables.ln_profile[number, :, row], axis=1)(inside))
        weight = np.array([np.interp(np.log(energy), ln_area_energy, part) for part in seen])
        density = (weight / weight.sum()) @ ranges / scale**2
        # Steps of the stored numbers must not make the flat centre rise outwards.
        densities.append(np.minimum.accumulate(density))
    # A share of nothing would have no logarithm.
    area = np.maximum(seen.sum(axis=0), 1e-6)
    return TypeResponse(
        event_type,
        tables.area_energy_mev,
        area,
        tables.psf_energy_mev,
        np.array(densities),
        tables.area_cm2[number],
    )


def pattern_exposure(
    types: Sequence[TypeResponse],
    duration_years: float,
    nside: int,
    origin: str,
    max_zenith_deg: float = MAX_ZENITH_DEG,
) -> Exposure:
    """Return averaged effective area times livetime times the pattern in declination.

    The pattern is that of the 3FHL cube (P8R2_SOURCE, 10 GeV, 105 deg) times the orbit model's
    ratio of what is asked for to that: another zenith cut, and areas that fall off with incidence
    angle differently at other energies and for other event types.

    Parameters
    ----------
    types : sequence of TypeResponse
        Event types, added; their areas hold the sky-averaged effect of the zenith cut.
    duration_years : float
        Calendar time.
    nside : int
        Resolution of the maps.
    origin : str
        Where the areas come from.
    max_zenith_deg : float
        Zenith cut.
    """
    tables = load_tables()
    energy = types[0].area_energy_mev
    area = np.sum([t.area_at(energy) for t in types], axis=0)
    seconds = duration_years * SECONDS_PER_YEAR * tables.livetime_share
    sine = np.sin(np.radians(galactic_to_equatorial(*map_centres(nside))[1]))
    official = np.interp(sine, tables.sin_declination, tables.pattern)
    rocking = rocking_between(0.0, duration_years)
    here = _range_time(orbit_livetime(rocking, max_zenith_deg)) @ np.sum(
        [t.range_area_cm2 for t in types], axis=0
    )
    share = survey_profile(rocking).share
    reference = _range_time(share * tables.area_shape) / _range_time(share)
    there = _range_time(orbit_livetime(rocking, MAX_ZENITH_DEG)) @ reference
    ratio = np.maximum(here, 1e-30) / there[:, None]
    maps = np.empty((len(energy), sine.size), np.float32)
    for number, mean in enumerate(area):
        pattern = official * np.interp(sine, sin_declination(), ratio[:, number])
        maps[number] = mean * seconds * pattern / pattern.mean()
    return Exposure(energy, maps, origin)


def _range_time(values: Float64) -> Float64:
    """Sum over the bins of cos theta (last axis) inside each range of incidence angle."""
    width = values.shape[-1] // ANGLE_RANGES
    return np.asarray(values.reshape(*values.shape[:-1], ANGLE_RANGES, width).sum(axis=-1))
