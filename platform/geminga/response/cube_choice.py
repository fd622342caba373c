"""Which of several exposure cubes is a channel's: by event types, energies and zenith cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geminga.bands import Channel
from geminga.errors import InputError
from geminga.response.caldb import open_fits
from geminga.response.cube import REMEDY, selections
from geminga.response.event_types import EVENT_TYPE_BITS, PARTITIONS, type_bits

_ENERGY_TOLERANCE = 1e-3
"""Edges of bands and energies of cubes agree within this part."""


@dataclass(frozen=True)
class CubeSummary:
    """What the headers of an exposure cube say.

    Attributes
    ----------
    path : Path
    energy_mev : tuple of two floats
        First and last energy.
    irf : str or None
        Response class.
    types : frozenset of int, or None
        EVENT_TYPE bits.
    max_zenith_deg : float or None
        Zenith cut.
    """

    path: Path
    energy_mev: tuple[float, float]
    irf: str | None = None
    types: frozenset[int] | None = None
    max_zenith_deg: float | None = None

    def is_of(self, event_types: Sequence[str]) -> bool:
        """Return whether the cube may be of these event types: it is, or does not tell."""
        return self.types is None or same_types(self.types, frozenset(type_bits(event_types)))

    def holds(self, channel: Channel) -> bool:
        """Return whether the cube's energies hold those of a channel."""
        low, high = self.energy_mev
        return (
            channel.emin_gev * 1e3 >= low * (1 - _ENERGY_TOLERANCE)
            and channel.emax_gev * 1e3 <= high * (1 + _ENERGY_TOLERANCE)
        )  # fmt: skip

    @property
    def text(self) -> str:
        """Name, energies and event types for messages."""
        low, high = (energy / 1e3 for energy in self.energy_mev)
        types = "" if self.types is None else f", {types_text(self.types)}"
        return f"{self.path.name} ({low:g}-{high:g} GeV{types})"


def same_types(one: frozenset[int], other: frozenset[int]) -> bool:
    """Return whether two sets of EVENT_TYPE bits select the same events."""
    whole = [any(bits.issuperset(p) for p in PARTITIONS) for bits in (one, other)]
    return one == other or all(whole)


def types_text(bits: frozenset[int]) -> str:
    """Return EVENT_TYPE bits as text, for example ``FRONT+BACK``."""
    names = {bit: name for name, bit in EVENT_TYPE_BITS.items()}
    return "+".join(names.get(bit, f"bit {bit}") for bit in sorted(bits)) or "no event types"


def summarise_cube(path: Path) -> CubeSummary:
    """Read what the headers of a gtexpcube2 cube say; its maps are not checked.

    Raises
    ------
    InputError
        If the file is unsound or lacks the tables of a cube.
    """
    with open_fits(path, REMEDY) as hdus:
        names = [hdu.name for hdu in hdus]
        for name in ("HPXEXPOSURES", "ENERGIES"):
            if name not in names:
                raise InputError(str(path), f"has no table {name} (only {names})", REMEDY)
        energy = np.asarray(hdus["ENERGIES"].data.field(0), dtype=np.float64)
        header = {**hdus[0].header, **hdus["HPXEXPOSURES"].header}
    if not len(energy) or not np.all(np.isfinite(energy)) or energy[0] <= 0:
        raise InputError(str(path), "table ENERGIES holds no energies", REMEDY)
    chosen = selections(header)
    irf = chosen.get("IRF_VERSION", str(header.get("IRFS", header.get("IRF", "")))).split(" ")[0]
    types, zenith = None, None
    for kind, value in chosen.items():
        mask = re.match(r"BIT_MASK\(EVENT_TYPE,\s*(\d+)", kind)
        if mask and value.startswith("1"):
            types = frozenset(b for b in range(32) if int(mask[1]) >> b & 1)
        if kind == "ZENITH_ANGLE" and ":" in value:
            zenith = float(value.split(":")[1])
    span = (float(energy[0]), float(energy[-1]))
    return CubeSummary(path, span, irf or None, types, zenith)


def choose_cube(cubes: Sequence[CubeSummary], channel: Channel) -> CubeSummary:
    """Return the cube of a channel: of its event types, its energies and the nearest zenith cut.

    Raises
    ------
    InputError
        If no cube fits, or two fit equally well.
    """
    where, there = "response.exposure_cube", ", ".join(cube.text for cube in cubes)
    types = "+".join(channel.event_types)
    mine = [cube for cube in cubes if cube.is_of(channel.event_types)]
    if not mine:
        raise InputError(where, f"no cube is of {types}: {there}", "give the cube of these events")
    holding = [cube for cube in mine if cube.holds(channel)]
    if not holding:
        raise InputError(
            where,
            f"no cube of {types} holds the energies of band {channel.emin_gev:g}-"
            f"{channel.emax_gev:g} GeV: {there}",
            "make one that does (gtexpcube2 with bincalc=EDGE reaches the bands' edges)",
        )
    far = [
        abs((np.inf if cube.max_zenith_deg is None else cube.max_zenith_deg)
            - channel.max_zenith_deg)
        for cube in holding
    ]  # fmt: skip
    nearest = [cube for cube, off in zip(holding, far, strict=True) if off == min(far)]
    if len(nearest) > 1:
        raise InputError(
            where,
            f"{' and '.join(cube.text for cube in nearest)} both fit band {channel.label}",
            "give one of them",
        )
    return nearest[0]
