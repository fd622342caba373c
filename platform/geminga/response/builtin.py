"""The built-in response: averaged tables of a few classes, small enough to ship.

``builtin.npz`` is written by ``scripts/make_builtin_response.py`` from the CALDB files.
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
from geminga.response.exposure import Exposure, galactic_to_equatorial, map_centres
from geminga.response.king import scale_rad

SECONDS_PER_YEAR = 365.25 * 86400.0
# ln(density) is stored in these steps: 0.005 % of the density.
LN_STEP = 1e-4
TABLE = "builtin.npz"


@dataclass(frozen=True)
class BuiltinTables:
    """The arrays of ``builtin.npz`` (T entries: response class / event type).

    Attributes
    ----------
    names : tuple of str (T,)
        ``<class>/<event type>``.
    area_energy_mev, area_cm2 : Float64 (A,), (T, A)
        Averaged effective area.
    psf_energy_mev, scaling : Float64 (E,), (T, 3)
        Energies and scaling law of the profiles.
    scaled_angle, ln_profile : Float64 (X,), (T, E, X)
        ln of the PSF per steradian times S(E)^2 at angles r = x S(E); the first node stands for 0.
    sin_declination, pattern : Float64 (D,), (D,)
        Exposure against the sine of declination, mean over the sky 1.
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
    sin_declination: Float64
    pattern: Float64
    livetime_share: float
    origin: str


def encode(tables: BuiltinTables) -> dict[str, NDArray[np.generic]]:
    """Return the arrays to store: profiles as differences of steps, which compress well."""
    steps = np.rint(tables.ln_profile / LN_STEP).astype(np.int32)
    differences = np.diff(steps, axis=-1, prepend=0)
    return {
        "names": np.array(tables.names),
        "area_energy_mev": tables.area_energy_mev,
        "area_cm2": tables.area_cm2.astype(np.float32),
        "psf_energy_mev": tables.psf_energy_mev,
        "scaling": tables.scaling,
        "scaled_angle": tables.scaled_angle,
        "ln_profile_steps": differences,
        "sin_declination": tables.sin_declination,
        "pattern": tables.pattern.astype(np.float32),
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
        steps = np.cumsum(stored["ln_profile_steps"].astype(np.int64), axis=-1)
        return BuiltinTables(
            names=tuple(str(n) for n in stored["names"]),
            area_energy_mev=stored["area_energy_mev"],
            area_cm2=stored["area_cm2"].astype(np.float64),
            psf_energy_mev=stored["psf_energy_mev"],
            scaling=stored["scaling"],
            scaled_angle=stored["scaled_angle"],
            ln_profile=steps * LN_STEP,
            sin_declination=stored["sin_declination"],
            pattern=stored["pattern"].astype(np.float64),
            livetime_share=float(stored["livetime_share"]),
            origin=str(stored["origin"]),
        )


def builtin_types(irf: str, event_types: Sequence[str]) -> list[TypeResponse]:
    """Return the built-in averaged response of each event type.

    Raises
    ------
    InputError
        If the class or an event type is not built in; the message lists those that are.
    """
    tables = load_tables()
    classes = sorted({name.split("/")[0] for name in tables.names})
    if irf not in classes:
        raise InputError(
            "response.irf",
            f"{irf!r} is not built in",
            f"built in are {', '.join(classes)}; set response.caldb for others",
        )
    result = []
    for event_type in event_types:
        name = f"{irf}/{event_type}"
        if name not in tables.names:
            there = [n.split("/")[1] for n in tables.names if n.startswith(f"{irf}/")]
            raise InputError(
                "response.event_types",
                f"{event_type!r} of {irf} is not built in",
                f"built in are {', '.join(there)}",
            )
        result.append(_decode(tables, tables.names.index(name), event_type))
    return result


def _decode(tables: BuiltinTables, number: int, event_type: str) -> TypeResponse:
    c0, c1, index = (float(v) for v in tables.scaling[number])
    ln_x = np.log(tables.scaled_angle)
    densities = []
    for row, energy in zip(tables.ln_profile[number], tables.psf_energy_mev, strict=True):
        scale = float(scale_rad((c0, c1, index), energy))
        x = np.radians(RADIUS_DEG) / scale
        # Nearer than the first node the profile is flat; the last node lies beyond 30 deg.
        inside = np.log(np.maximum(x, tables.scaled_angle[0]))
        density = np.exp(CubicSpline(ln_x, row)(inside)) / scale**2
        # Steps of the stored numbers must not make the flat centre rise outwards.
        densities.append(np.minimum.accumulate(density))
    return TypeResponse(
        event_type,
        tables.area_energy_mev,
        tables.area_cm2[number],
        tables.psf_energy_mev,
        np.array(densities),
    )


def pattern_exposure(
    types: Sequence[TypeResponse], duration_years: float, nside: int, origin: str
) -> Exposure:
    """Return averaged effective area times livetime times the pattern in declination.

    The pattern is that of 10 GeV; at other energies the share of each declination differs by a
    few per cent, because the effective area falls off with incidence angle a little differently.

    Parameters
    ----------
    types : sequence of TypeResponse
        Event types, added.
    duration_years : float
        Calendar time.
    nside : int
        Resolution of the maps.
    origin : str
        Where the areas come from.
    """
    tables = load_tables()
    energy = types[0].area_energy_mev
    area = np.sum([t.area_at(energy) for t in types], axis=0)
    seconds = duration_years * SECONDS_PER_YEAR * tables.livetime_share
    _, declination = galactic_to_equatorial(*map_centres(nside))
    pattern = np.interp(np.sin(np.radians(declination)), tables.sin_declination, tables.pattern)
    pattern /= pattern.mean()
    maps = (area[:, None] * seconds * pattern[None, :]).astype(np.float32)
    return Exposure(energy, maps, origin)
