"""What is known of each candidate before it is classified: the one contract of this room.

Whatever measured it (the likelihood search on photons, or somebody else's catalogue) fills the
same arrays; what was not measured is not a number, and a branch of the network that finds nothing
but that is left out.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from geminga import storage
from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.errors import InputError
from geminga.files import REMAKE, atomic

DETECTION_NAMES = (
    "sqrt_ts",
    "logit_real",
    "log_position_error",
    "goodness",
    "extension",
    "neighbour_deg",
    "log_neighbour_ts",
    "log_background",
)
"""Columns of `Evidence.detection`: what the search says of the detection itself. ``logit_real`` is
the ranker's; ``extension`` the significance of an excess wider than the PSF; ``log_background`` the
diffuse counts per square degree in the channel where they are fewest relative to the source."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Measurements of n candidates in C channels and Y years; NaN where there is none.

    Attributes
    ----------
    lon_deg, lat_deg : Float64 (n,)
        Galactic position.
    edges_gev : Float64 (C, 2)
        Energies between which each channel's flux is given.
    band_flux, band_flux_error : Float64 (n, C)
        Photon flux in each channel, ph/cm2/s, and its error (where the flux is 0, the flux at which
        lnL has fallen by 1/2).
    year_ratio, year_ratio_error : Float64 (n, Y)
        Flux of each year over the mean flux, and its error. Y is 0 if years are not known.
    detection : Float64 (n, len(DETECTION_NAMES))
        What the search says; see `DETECTION_NAMES`.
    stamps : Float32 (n, C * S, 2, p, p)
        Counts, and expected counts of all but the candidate (background and neighbours), on S
        scales: channel by channel, narrow scale first. C * S is 0 without images.
    """

    lon_deg: Float64
    lat_deg: Float64
    edges_gev: Float64
    band_flux: Float64
    band_flux_error: Float64
    year_ratio: Float64
    year_ratio_error: Float64
    detection: Float64
    stamps: Float32

    def __post_init__(self) -> None:
        n, channels = self.band_flux.shape
        shapes = {
            "lon_deg": (n,),
            "lat_deg": (n,),
            "edges_gev": (channels, 2),
            "band_flux_error": (n, channels),
            "year_ratio_error": self.year_ratio.shape,
            "detection": (n, len(DETECTION_NAMES)),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"evidence: {name} {getattr(self, name).shape}, not {shape}")
        if len(self.stamps) != n or self.stamps.ndim != 5 or len(self.year_ratio) != n:
            raise ValueError(f"evidence: stamps {self.stamps.shape} for {n} candidates")

    def __len__(self) -> int:
        return len(self.lon_deg)

    def take(self, rows: Int64 | Bool) -> Evidence:
        """Return the evidence of some candidates."""
        chosen = {
            f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "edges_gev"
        }
        return replace(self, **chosen)

    @classmethod
    def join(cls, parts: Sequence[Evidence]) -> Evidence:
        """Return the candidates of several skies as one.

        Raises
        ------
        InputError
            If there is none, or they have different channels, years or stamps.
        """
        if not parts:
            raise InputError("evidence", "none given", "simulate at least one sky")
        shapes = {(p.edges_gev.tobytes(), p.year_ratio.shape[1], p.stamps.shape[1:]) for p in parts}
        if len(shapes) > 1:
            raise InputError(
                "evidence",
                "of different channels, years or stamps",
                "make it with one configuration",
            )
        joined = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name != "edges_gev"
        }
        return cls(edges_gev=parts[0].edges_gev, **joined)

    def save(self, path: Path, **more: np.ndarray) -> None:
        """Write a file; `more` are arrays kept with it, for example labels."""
        with atomic(path) as temporary, temporary.open("wb") as stream:
            arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
            np.savez(stream, **arrays | more)

    @classmethod
    def load(cls, path: Path) -> tuple[Evidence, dict[str, np.ndarray]]:
        """Read what `save` wrote: the evidence, and the arrays kept with it.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        names = [f.name for f in fields(cls)]
        try:
            # Opened here, for numpy does not close a damaged archive.
            with (
                storage.here(path).open("rb") as stream,
                np.load(stream, allow_pickle=False) as stored,
            ):
                more = {name: stored[name] for name in stored.files if name not in names}
                return cls(**{name: stored[name] for name in names}), more
        except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                str(path), f"holds no evidence ({error})", f"make the evidence anew: {REMAKE}"
            ) from error


def without(n: int, channels: int = 0, years: int = 0) -> dict[str, np.ndarray]:
    """Return the parts of `Evidence` that a source without photons does not have, all NaN or empty.

    Parameters
    ----------
    n : int
        Candidates.
    channels, years : int
        Give the arrays of fluxes and years too, of these widths, if not 0.
    """
    parts: dict[str, np.ndarray] = {
        "detection": np.full((n, len(DETECTION_NAMES)), np.nan),
        "stamps": np.zeros((n, 0, 2, 1, 1), np.float32),
    }
    if channels:
        parts |= {name: np.full((n, channels), np.nan) for name in ("band_flux", "band_flux_error")}
    if years:
        parts |= {name: np.full((n, years), np.nan) for name in ("year_ratio", "year_ratio_error")}
    return parts
