"""Intensity of the diffuse emission: interstellar map cubes, the built-in models, isotropic tables.

Intensities are in photons cm-2 s-1 sr-1 MeV-1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import healpy
import numpy as np

from geminga.arrays import Float32, Float64
from geminga.errors import InputError
from geminga.files import read_json

_LOG = logging.getLogger(__name__)
BUILTIN_FILE = "diffuse_builtin.json"

# Shape of the built-in interstellar model; scripts/fit_builtin_interstellar.py fits its
# coefficients. Each pair is (width in sin b, highest order in longitude).
EVEN_TERMS = ((0.03, 6), (0.1, 8), (0.3, 8))
ODD_TERMS = ((0.1, 4), (0.5, 4))
CONSTANT_ORDER = 6


class Interstellar(Protocol):
    """Interstellar intensity in planes of rising energy."""

    @property
    def energy_mev(self) -> Float64:
        """Energies of the planes, MeV, shape (E,)."""
        ...

    @property
    def origin(self) -> str:
        """Where the model comes from."""
        ...

    def plane(self, number: int, nside: int) -> Float64:
        """Return one plane's intensity at the HEALPix pixels (RING, Galactic) of `nside`."""
        ...


def interstellar_terms(lon_rad: Float64, lat_rad: Float64) -> list[Float64]:
    """Return the terms whose weighted sum is ln(intensity) in the built-in model.

    The latitude profiles are -ln(sin^2 b + w^2) / 2, which is the ln(1/sin|b|) of a plane
    layer seen from inside, flattened within w of the plane (thin disk, thick disk, halo), and
    sin b / (sin^2 b + w^2)^(1/2) for what differs between north and south. Each is modulated
    by cos(k l) and sin(k l), damped towards the poles, where longitude has no meaning; the sum
    of the low orders is the bulge of the inner Galaxy.

    Parameters
    ----------
    lon_rad, lat_rad : Float64 (n,)
        Galactic directions.

    Returns
    -------
    list of Float64 (n,)
    """
    sine, cosine = np.sin(lat_rad), np.cos(lat_rad)
    profiles = [(np.ones_like(sine), CONSTANT_ORDER)]
    profiles += [(-0.5 * np.log(sine**2 + w * w), order) for w, order in EVEN_TERMS]
    profiles += [(sine / np.sqrt(sine**2 + w * w), order) for w, order in ODD_TERMS]
    highest = max(order for _, order in profiles)
    waves = [[np.ones_like(sine)]]
    for k in range(1, highest + 1):
        damping = cosine ** min(k, 2)
        waves.append([damping * np.cos(k * lon_rad), damping * np.sin(k * lon_rad)])
    return [
        profile * wave for profile, order in profiles for k in range(order + 1) for wave in waves[k]
    ]


@dataclass(frozen=True)
class BuiltinInterstellar:
    """The analytic interstellar model.

    ln I(E, l, b) = sum_r a_r(E) sum_i c_ri f_i(l, b), with f of `interstellar_terms`.

    Attributes
    ----------
    energy_mev : Float64 (E,)
    spectra : Float64 (E, R)
        a_r at the energies.
    coefficients : Float64 (R, terms)
        c_ri.
    origin : str
    """

    energy_mev: Float64
    spectra: Float64
    coefficients: Float64
    origin: str
    _kept: dict[int, Float64] = field(default_factory=dict, init=False, repr=False, compare=False)

    def plane(self, number: int, nside: int) -> Float64:
        """Return one plane's intensity at the HEALPix pixels of `nside`, shape (npix,)."""
        return np.asarray(np.exp(self.spectra[number] @ self._modes(nside)))

    def _modes(self, nside: int) -> Float64:
        # The spatial modes serve every energy; those of the last resolution are kept.
        if nside not in self._kept:
            theta, phi = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)))
            modes = np.zeros((len(self.coefficients), len(theta)))
            for i, term in enumerate(interstellar_terms(phi, np.pi / 2.0 - theta)):
                modes += self.coefficients[:, i, None] * term
            self._kept.clear()
            self._kept[nside] = modes
        return self._kept[nside]


@dataclass(frozen=True, eq=False)
class Isotropic:
    """Isotropic intensity at rising energies, both (E,)."""

    energy_mev: Float64
    intensity: Float64
    origin: str

    def at(self, energy_mev: Float64) -> Float64:
        """Return intensities at energies (n,), log-log, a power law beyond the last entry."""
        return np.exp(
            extrapolating_interpolation(
                np.log(energy_mev),
                np.log(self.energy_mev),
                np.log(np.maximum(self.intensity, np.finfo(np.float64).tiny)),
            )
        )


def extrapolating_interpolation(x: Float64, nodes: Float64, values: Float64) -> Float64:
    """Interpolate linearly at `x` (n,); beyond the nodes the end pieces go on straight."""
    low = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    weight = (x - nodes[low]) / (nodes[low + 1] - nodes[low])
    return np.asarray(values[low] + weight * (values[low + 1] - values[low]))


@cache
def _builtin() -> Mapping[str, Any]:
    with resources.as_file(resources.files(__package__) / BUILTIN_FILE) as path:
        tree: dict[str, Any] = read_json(path)
        return tree


def builtin_interstellar() -> BuiltinInterstellar:
    """Return the analytic interstellar model that the package ships."""
    tree = _builtin()["interstellar"]
    return BuiltinInterstellar(
        np.array(tree["energy_mev"]),
        np.array(tree["spectra"]),
        np.array(tree["coefficients"]),
        f"built-in model, {tree['origin']}",
    )


def builtin_isotropic(irf: str) -> Isotropic:
    """Return the shipped isotropic table nearest to a response class.

    Classes called ULTRACLEAN have fewer misclassified cosmic rays than the others, which take
    the table of the SOURCE class.
    """
    tables = _builtin()["isotropic"]
    name = next(n for n in tables if ("ULTRACLEAN" in n) == ("ULTRACLEAN" in irf.upper()))
    _LOG.info("isotropic emission: built-in table of %s", name)
    table = tables[name]
    return Isotropic(
        np.array(table["energy_mev"]), np.array(table["intensity"]), f"built-in {table['origin']}"
    )


def read_isotropic(path: Path) -> Isotropic:
    """Read an isotropic text file: energy (MeV), intensity and, if there is one, its error.

    Raises
    ------
    InputError
        If the file is missing or not such a table, if energies do not rise, or if an intensity
        is negative or not finite.
    """
    where = str(path)
    remedy = "needs lines of energy (MeV), intensity (ph/cm2/s/sr/MeV) and error"
    rows = []
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            words = line.partition("#")[0].split()
            if words:
                rows.append([float(words[0]), float(words[1])])
    except OSError as error:
        raise InputError(where, f"cannot be read ({error.strerror})", remedy) from error
    except (ValueError, IndexError) as error:
        raise InputError(where, f"is not an isotropic table ({error})", remedy) from error
    if len(rows) < 2:
        raise InputError(where, f"has {len(rows)} lines of numbers", remedy)
    table = np.array(rows)
    check_energies(table[:, 0], where)
    check_intensity(table[:, 1], where)
    return Isotropic(table[:, 0], table[:, 1], where)


def check_energies(energy_mev: Float64, where: str) -> None:
    """Raise InputError unless there are two or more finite, positive, rising energies."""
    good = len(energy_mev) > 1 and np.isfinite(energy_mev).all() and energy_mev[0] > 0
    if not good or (np.diff(energy_mev) <= 0).any():
        raise InputError(
            where, f"energies {energy_mev[:4]} ... do not rise", "give energies in MeV in order"
        )


def check_intensity(intensity: Float64 | Float32, where: str) -> None:
    """Raise InputError if an intensity is negative or not a number."""
    if not np.isfinite(intensity).all():
        raise InputError(where, "holds intensities that are not finite", "give finite intensities")
    if (intensity < 0).any():
        raise InputError(
            where, f"holds a negative intensity {intensity.min():g}", "give intensities above 0"
        )


def check_range(energy_mev: Float64, first_mev: float, last_mev: float, where: str) -> None:
    """Check that a model reaches over the bands; a last piece may be extrapolated.

    Parameters
    ----------
    energy_mev : Float64 (E,)
        Energies of the model.
    first_mev, last_mev : float
        Starts of the first and of the last band.

    Raises
    ------
    InputError
        If the model begins above the first band or ends before the last begins.
    """
    if energy_mev[0] > first_mev * (1 + 1e-6) or energy_mev[-1] <= last_mev:
        raise InputError(
            where,
            f"covers {energy_mev[0] / 1e3:g}-{energy_mev[-1] / 1e3:g} GeV and stops short of bands "
            f"that start at {first_mev / 1e3:g} to {last_mev / 1e3:g} GeV",
            "name a model that covers the bands, or choose other bands",
        )
