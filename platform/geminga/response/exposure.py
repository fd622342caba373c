"""Exposure of every direction of the sky: from a gtexpcube2 cube, or built in."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np

from geminga.arrays import Float32, Float64
from geminga.errors import InputError
from geminga.geometry import lon_lat, unit_vectors
from geminga.response.caldb import open_fits

log = logging.getLogger(__name__)

FRAMES = {"GAL": "G", "G": "G", "EQU": "C", "CEL": "C", "C": "C"}
FRAME_NAMES = {"G": "Galactic", "C": "equatorial"}
REMEDY = "use a HEALPix cube written by gtexpcube2"


@dataclass(frozen=True)
class Exposure:
    """Exposure maps, HEALPix RING in Galactic coordinates.

    Attributes
    ----------
    energy_mev : Float64 (E,)
        Energies, rising.
    maps_cm2_s : Float32 (E, npix)
        Exposure.
    origin : str
        Where the numbers come from.
    """

    energy_mev: Float64
    maps_cm2_s: Float32
    origin: str

    @property
    def nside(self) -> int:
        """HEALPix resolution of the maps."""
        return int(healpy.npix2nside(self.maps_cm2_s.shape[1]))

    def at(self, lon_deg: Float64, lat_deg: Float64) -> Float64:
        """Return the exposure in cm2 s of Galactic directions, bilinear, shape (E, n)."""
        pixels, weights = healpy.get_interp_weights(
            self.nside, np.atleast_1d(lon_deg), np.atleast_1d(lat_deg), lonlat=True
        )
        result = np.zeros((len(self.energy_mev), pixels.shape[1]))
        for corner, weight in zip(pixels, weights, strict=True):
            result += weight * self.maps_cm2_s[:, corner]
        return result

    def mean(self) -> Float64:
        """Return the sky-averaged exposure in cm2 s, shape (E,)."""
        return np.asarray(self.maps_cm2_s.mean(axis=1, dtype=np.float64))


def interpolate_energy(values: Float64, energy_mev_nodes: Float64, target_mev: Float64) -> Float64:
    """Interpolate log-log in energy.

    Parameters
    ----------
    values : Float64 (E, n)
        Not negative; zero stays zero at its node.
    energy_mev_nodes : Float64 (E,)
        Rising energies of the rows.
    target_mev : Float64 (T,)
        Energies wanted, within the nodes.

    Returns
    -------
    Float64 (T, n)

    Raises
    ------
    InputError
        If a target lies outside the nodes.
    """
    nodes, target = np.log(energy_mev_nodes), np.log(np.atleast_1d(target_mev))
    check_energy_range(energy_mev_nodes, float(np.min(target_mev)), float(np.max(target_mev)))
    upper = np.clip(np.searchsorted(nodes, target), 1, len(nodes) - 1)
    weight = np.clip((target - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1]), 0.0, 1.0)
    logs = np.log(np.maximum(values, 1e-300))
    mixed = (1.0 - weight)[:, None] * logs[upper - 1] + weight[:, None] * logs[upper]
    return np.asarray(np.exp(mixed))


def check_energy_range(nodes_mev: Float64, emin_mev: float, emax_mev: float) -> None:
    """Raise InputError unless the energies lie within the nodes, to 0.1 %."""
    low, high = float(nodes_mev[0]), float(nodes_mev[-1])
    if emin_mev < low * 0.999 or emax_mev > high * 1.001:
        raise InputError(
            "bands",
            f"{emin_mev / 1e3:g}-{emax_mev / 1e3:g} GeV is not within the exposure's "
            f"{low / 1e3:g}-{high / 1e3:g} GeV",
            "choose bands within it or another response.exposure_cube",
        )


def galactic_to_equatorial(lon_deg: Float64, lat_deg: Float64) -> tuple[Float64, Float64]:
    """Return right ascension and declination (J2000) in degrees."""
    matrix = np.asarray(healpy.Rotator(coord=["G", "C"]).mat)
    return lon_lat(unit_vectors(lon_deg, lat_deg) @ matrix.T)


def map_centres(nside: int) -> tuple[Float64, Float64]:
    """Return Galactic longitude and latitude of every RING pixel."""
    lon, lat = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)), lonlat=True)
    return np.asarray(lon), np.asarray(lat)


def read_exposure_cube(path: Path, nside: int) -> Exposure:
    """Read a gtexpcube2 HEALPix cube and turn it to Galactic RING.

    gtexpcube2 writes no COORDSYS; of equatorial cubes it says RADECSYS and EQUINOX, of Galactic
    ones nothing (the published 3FHL and 2FHL cubes are one of each). Exposure of a survey follows
    declination, and a cube without COORDSYS that contradicts its header there is refused.

    Parameters
    ----------
    path : Path
        File with the tables HPXEXPOSURES (one column per energy) and ENERGIES.
    nside : int
        Resolution wanted.

    Raises
    ------
    InputError
        If the file is unsound, lacks a table, or its frame, ordering, size or values are wrong.
    """
    with open_fits(path, REMEDY) as hdus:
        names = [hdu.name for hdu in hdus]
        for name in ("HPXEXPOSURES", "ENERGIES"):
            if name not in names:
                raise InputError(str(path), f"has no table {name}", REMEDY)
        table = hdus["HPXEXPOSURES"]
        energy = np.asarray(hdus["ENERGIES"].data.field(0), dtype=np.float64)
        maps = np.array([table.data[c] for c in table.columns.names], dtype=np.float64)
        header = table.header.copy()
    _check_cube(path, maps, energy, header)
    nested = header["ORDERING"].strip().upper() == "NESTED"
    lon, lat = map_centres(nside)
    if _frame(path, maps[0], nested, header) == "C":
        lon, lat = galactic_to_equatorial(lon, lat)
    turned = [healpy.get_interp_val(m, lon, lat, nest=nested, lonlat=True) for m in maps]
    return Exposure(energy, np.asarray(turned, dtype=np.float32), f"gtexpcube2 cube {path.name}")


def _check_cube(path: Path, maps: Float64, energy: Float64, header: Any) -> None:
    ordering = str(header.get("ORDERING", "missing")).strip().upper()
    if ordering not in ("RING", "NESTED"):
        raise InputError(str(path), f"ORDERING is {ordering!r}", "it must be RING or NESTED")
    if maps.shape[0] != len(energy) or len(energy) < 2 or np.any(np.diff(energy) <= 0):
        raise InputError(
            str(path),
            f"{maps.shape[0]} maps for {len(energy)} energies",
            "there must be one map per energy, rising, two at least",
        )
    if not healpy.isnpixok(maps.shape[1]) or (
        header.get("NSIDE", 0) and maps.shape[1] != 12 * int(header["NSIDE"]) ** 2
    ):
        raise InputError(
            str(path),
            f"{maps.shape[1]} pixels do not make a whole sky of NSIDE {header.get('NSIDE')}",
            REMEDY,
        )
    if not np.all(np.isfinite(maps)) or not np.all(np.isfinite(energy)):
        raise InputError(str(path), "holds NaN", "make the cube anew")
    if np.any(maps < 0) or energy[0] <= 0:
        raise InputError(str(path), "holds negative exposures or energies", "make the cube anew")


def _frame(path: Path, first: Float64, nested: bool, header: Any) -> str:
    """Return 'G' or 'C', from the header, checked against the map."""
    named = header.get("COORDSYS")
    if named is not None and str(named).strip().upper() not in FRAMES:
        raise InputError(str(path), f"COORDSYS is {named!r}", "it must be GAL or EQU (CEL)")
    looks = _apparent_frame(first, nested)
    if named is not None:
        frame = FRAMES[str(named).strip().upper()]
        if looks not in (None, frame):
            log.warning(
                "%s: COORDSYS is %s but exposure follows declination only otherwise",
                path.name,
                named,
            )
        return frame
    frame = "C" if "RADECSYS" in header or "EQUINOX" in header else "G"
    if looks not in (None, frame):
        raise InputError(
            str(path),
            f"has no COORDSYS, its header suggests {FRAME_NAMES[frame]} and its map the other",
            f"set COORDSYS (to {'EQU' if looks == 'C' else 'GAL'} if the map is right)",
        )
    log.info("%s has no COORDSYS: taken as %s", path.name, FRAME_NAMES[frame])
    return frame


def _apparent_frame(first: Float64, nested: bool) -> str | None:
    """Return the frame in which exposure follows declination, None if neither stands out."""
    nside = int(healpy.npix2nside(first.size))
    sky = healpy.reorder(first, n2r=True) if nested else first
    lon, lat = map_centres(nside)
    if_equatorial = _scatter(sky, lat)
    if_galactic = _scatter(sky, galactic_to_equatorial(lon, lat)[1])
    if if_equatorial < 0.5 * if_galactic:
        return "C"
    return "G" if if_galactic < 0.5 * if_equatorial else None


def _scatter(sky: Float64, latitude_deg: Float64) -> float:
    """Return the mean variance of a map within bins of latitude."""
    bins = np.clip(((np.sin(np.radians(latitude_deg)) + 1.0) * 20.0).astype(int), 0, 39)
    count = np.maximum(np.bincount(bins, minlength=40), 1)
    mean = np.bincount(bins, sky, 40) / count
    return float(np.mean((sky - mean[bins]) ** 2))
