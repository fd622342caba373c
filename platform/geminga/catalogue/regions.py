"""DS9 regions of a catalogue."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from geminga.catalogue.ellipses import celestial_north_deg, turned
from geminga.files import atomic
from geminga.tables import CATALOG


def write_regions(path: Path, frame: pd.DataFrame, default_radius_deg: float = 0.1) -> None:
    """Write DS9 regions of a catalogue in Galactic coordinates, with name and class.

    Ellipses of 95 % where the catalogue has them, else circles of 68 %.

    Parameters
    ----------
    path : Path
        File to write.
    frame : DataFrame
        A catalogue.
    default_radius_deg : float
        Radius in degrees of a source whose position error is not known.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    lines = [
        "# Region file format: DS9 version 4.1",
        'global color=green width=1 font="helvetica 9 normal roman"',
        "galactic",
    ]
    known = CATALOG.check(frame, "catalogue")
    for shape, name, kind in zip(
        _shapes(frame, default_radius_deg), known["Source_Name"], known["CLASS"], strict=True
    ):
        text = re.sub(r"[{}\n]", "", f"{name} {kind}".strip())
        lines.append(f"{shape} # text={{{text}}}")
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _shapes(frame: pd.DataFrame, default_radius_deg: float) -> list[str]:
    lon, lat = frame["GLON"].to_numpy(np.float64), frame["GLAT"].to_numpy(np.float64)
    radius = frame["Conf_68_Radius"].to_numpy(np.float64)
    radius = np.where(np.isfinite(radius) & (radius > 0), radius, default_radius_deg)
    shapes = [f"circle({x:.5f},{y:.5f},{r:.5f}d)" for x, y, r in zip(lon, lat, radius, strict=True)]
    names = [f"Conf_95_{part}" for part in ("SemiMajor", "SemiMinor", "PosAng")]
    if not all(name in frame for name in names):
        return shapes
    major, minor, angle = (frame[name].to_numpy(np.float64) for name in names)
    # DS9 turns the first radius, along the longitude, against the clock: the minor axis first
    # makes its angle that of the major one from the frame's own north, here the Galactic one.
    galactic = turned(angle + celestial_north_deg(lon, lat))
    for row in np.flatnonzero(np.isfinite(major) & np.isfinite(minor) & np.isfinite(angle)):
        shapes[row] = (
            f"ellipse({lon[row]:.5f},{lat[row]:.5f},{minor[row]:.5f}d,{major[row]:.5f}d,"
            f"{galactic[row]:.3f})"
        )
    return shapes
