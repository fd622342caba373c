"""Energy bands: edges, HEALPix resolution and patch pixels.

The band table of a configuration is the one place that says which energies are used and how
finely they are pixelised; networks, patches, images and file headers follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from geminga.arrays import Float64, Int8


def is_power_of_two(n: int) -> bool:
    """Return whether n is 1, 2, 4, 8, ..."""
    return n > 0 and n & (n - 1) == 0


class Band(BaseModel):
    """One energy band.

    Attributes
    ----------
    emin_gev, emax_gev : float
        Edges in GeV.
    nside : int
        HEALPix resolution of whole-sky maps in this band.
    pixels : int
        Pixels per side of a patch image in this band.
    max_zenith_deg : float
        Photons from beyond this zenith angle are cut: the Earth's limb is bright, the more so the
        wider the PSF.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    emin_gev: Annotated[float, Field(gt=0)]
    emax_gev: Annotated[float, Field(gt=0)]
    nside: int
    pixels: int
    max_zenith_deg: Annotated[float, Field(gt=0, le=180)] = 105.0

    @model_validator(mode="after")
    def _check(self) -> Band:
        if self.emax_gev <= self.emin_gev:
            raise ValueError(
                f"band {self.emin_gev}-{self.emax_gev} GeV runs backwards; "
                "emax_gev must be above emin_gev"
            )
        for key, value in (("nside", self.nside), ("pixels", self.pixels)):
            if not is_power_of_two(value):
                raise ValueError(f"{key} {value} is not a power of two; use for example 128")
        return self

    @property
    def label(self) -> str:
        """Text for tables and figures, for example ``0.3-0.5 GeV``."""
        return f"{self.emin_gev:g}-{self.emax_gev:g} GeV"


class Channel(Band):
    """One band of one selection of event types: what one image of a patch, one map, is of.

    A configuration's channels are its bands repeated for every entry of
    ``response.event_types``: all bands of the first entry, then all of the second.

    Attributes
    ----------
    event_types : tuple of str
        Event types added together.
    band : int
        Number of the band.
    labelled : bool
        The label names the event types: there are others beside them.
    """

    event_types: tuple[str, ...]
    band: int
    labelled: bool = False

    @property
    def label(self) -> str:
        """Text for tables and figures, for example ``0.3-0.5 GeV PSF3``."""
        return f"{super().label} {'+'.join(self.event_types)}" if self.labelled else super().label


def make_channels(bands: Sequence[Band], event_types: Sequence[str]) -> tuple[Channel, ...]:
    """Return the channels of a band table and entries like ``FRONT`` or ``PSF2+PSF3``."""
    return tuple(
        Channel(
            **band.model_dump(),
            event_types=tuple(entry.split("+")),
            band=number,
            labelled=len(event_types) > 1,
        )
        for entry in event_types
        for number, band in enumerate(bands)
    )


def check_bands(bands: Sequence[Band]) -> None:
    """Raise ValueError unless the bands rise in energy and do not overlap."""
    if not bands:
        raise ValueError("no band given; list at least one")
    for low, high in pairwise(bands):
        if high.emin_gev < low.emax_gev:
            raise ValueError(
                f"bands {low.label} and {high.label} overlap or run backwards; "
                "each band must start at or above the end of the one before"
            )


def edges_mev(bands: Sequence[Band]) -> Float64:
    """Return the band edges in MeV, shape (bands, 2)."""
    return np.array([[b.emin_gev, b.emax_gev] for b in bands], dtype=np.float64) * 1e3


def band_of_energy(bands: Sequence[Band], energy_mev: Float64) -> Int8:
    """Return the band number of each photon energy, -1 outside every band; shape (n,)."""
    result = np.full(np.shape(energy_mev), -1, dtype=np.int8)
    for number, (low, high) in enumerate(edges_mev(bands)):
        result[(energy_mev >= low) & (energy_mev < high)] = number
    return result


def pixel_sizes(bands: Sequence[Band]) -> tuple[int, ...]:
    """Return pixels per side of each band's patch image."""
    return tuple(b.pixels for b in bands)
