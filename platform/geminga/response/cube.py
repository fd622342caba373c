"""Reading the exposure cubes of gtexpcube2."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.response.caldb import open_fits
from geminga.response.event_types import EVENT_TYPE_BITS, PARTITIONS, is_everything, type_bits
from geminga.response.exposure import Exposure, galactic_to_equatorial, map_centres

log = logging.getLogger(__name__)

FRAMES = {"GAL": "G", "G": "G", "EQU": "C", "CEL": "C", "C": "C"}
FRAME_NAMES = {"G": "Galactic", "C": "equatorial"}
REMEDY = "use a HEALPix cube written by gtexpcube2"
# Units of exposure, written without spaces, stars and carets, in cm2 s; gtexpcube2 names none.
UNITS = {
    "": 1.0,
    "cm2s": 1.0,
    "scm2": 1.0,
    "m2s": 1e4,
    "sm2": 1e4,
    "km2s": 1e10,
    "cm2yr": 3.15576e7,
}
# Mean area (cm2) that exposure over elapsed time may amount to; the LAT's is about 1000 to 2500.
LEAST_AREA_CM2 = 10.0
MOST_AREA_CM2 = 1.2e4


@dataclass(frozen=True)
class CubeSelection:
    """What a cube should be of: response class, event types, zenith cut (deg)."""

    irf: str
    event_types: tuple[str, ...]
    max_zenith_deg: float


def read_exposure_cube(path: Path, nside: int, wanted: CubeSelection | None = None) -> Exposure:
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
    wanted : CubeSelection, optional
        Compared with the selection keywords of the header, where there are any: another class or
        other event types are refused, another zenith cut is reported.

    Raises
    ------
    InputError
        If the file is unsound, lacks a table, is of another selection, or its frame, ordering,
        unit, size or values are wrong.
    """
    with open_fits(path, REMEDY) as hdus:
        names = [hdu.name for hdu in hdus]
        for name in ("HPXEXPOSURES", "ENERGIES"):
            if name not in names:
                raise InputError(str(path), f"has no table {name}", REMEDY)
        table = hdus["HPXEXPOSURES"]
        energy = np.asarray(hdus["ENERGIES"].data.field(0), dtype=np.float64)
        header = table.header.copy()
        maps = _whole_sky(path, table)
        primary = hdus[0].header.copy()
    _check_cube(path, maps, energy, header)
    maps *= _unit(path, header)
    if wanted is not None and not np.any(maps > 0):
        raise InputError(str(path), "is zero everywhere", "give the exposure of the photons")
    _check_scale(path, maps, {**primary, **header})
    if wanted is not None:
        _check_selection(path, {**primary, **header}, wanted)
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


def _whole_sky(path: Path, table: Any) -> Float64:
    """Return the maps (E, npix); pixels that a cube of part of the sky leaves out are 0."""
    names = table.columns.names
    listed = [name for name in names if name.strip().upper() in ("PIX", "PIXEL")]
    columns = [name for name in names if name not in listed]
    values = np.array([table.data[name] for name in columns], dtype=np.float64)
    if not listed:
        return values
    pixels = np.asarray(table.data[listed[0]], dtype=np.int64)
    npix = 12 * int(table.header.get("NSIDE", 0)) ** 2
    if len(pixels) and not (pixels.min() >= 0 and pixels.max() < npix):
        raise InputError(
            str(path), f"pixel numbers do not fit NSIDE {table.header.get('NSIDE')}", REMEDY
        )
    maps = np.zeros((len(columns), npix))
    maps[:, pixels] = values
    return maps


def _unit(path: Path, header: Any) -> float:
    """Return what the columns are to be multiplied with to be in cm2 s."""
    named = {str(header.get(f"TUNIT{i + 1}", "")) for i in range(int(header["TFIELDS"]))}
    plain = {re.sub(r"[\s.*^]", "", name).lower() for name in named}
    if len(plain) > 1 or not plain <= set(UNITS):
        raise InputError(
            str(path),
            f"the unit of exposure is {' and '.join(repr(n) for n in sorted(named))}",
            "it must be cm2 s (or m2 s, km2 s, cm2 yr)",
        )
    unit = plain.pop()
    if not unit:
        log.info("%s names no unit: taken as cm2 s, as gtexpcube2 writes it", path.name)
    elif UNITS[unit] != 1.0:
        log.info("%s is in %s: turned to cm2 s", path.name, named.pop())
    return UNITS[unit]


def _check_scale(path: Path, maps: Float64, header: dict[str, Any]) -> None:
    """Compare the exposure with the elapsed time of the header: a wrong unit shows there."""
    if "TSTART" not in header or "TSTOP" not in header:
        return
    elapsed = float(header["TSTOP"]) - float(header["TSTART"])
    if elapsed <= 0.0:
        return
    area = float(maps.mean(axis=1).max()) / elapsed
    if not LEAST_AREA_CM2 < area < MOST_AREA_CM2:
        raise InputError(
            str(path),
            f"its mean exposure over TSTOP - TSTART is {area:.3g} cm2",
            "the LAT's is some 2000 cm2: check the unit of the maps (TUNIT) and the times",
        )


def selections(header: dict[str, Any]) -> dict[str, str]:
    """Return the selection keywords DSTYPn and DSVALn of a header."""
    return {
        str(header[key]).strip().upper(): str(header.get(f"DSVAL{key[5:]}", "")).strip()
        for key in header
        if key.startswith("DSTYP")
    }


def _check_selection(path: Path, header: dict[str, Any], wanted: CubeSelection) -> None:
    chosen = selections(header)
    irf = chosen.get("IRF_VERSION", str(header.get("IRFS", header.get("IRF", "")))).strip()
    if irf and irf.split(" ")[0] != wanted.irf:
        raise InputError(
            str(path),
            f"is of {irf}, not of response.irf {wanted.irf}",
            "use the cube of that class",
        )
    for name, value in chosen.items():
        mask = re.match(r"BIT_MASK\(EVENT_TYPE,(\d+)", name)
        if mask and value.startswith("1"):
            _check_types(path, int(mask.group(1)), wanted.event_types)
        if name == "ZENITH_ANGLE" and ":" in value:
            cut = float(value.split(":")[1])
            if abs(cut - wanted.max_zenith_deg) > 0.01:
                log.warning(
                    "%s holds its own zenith cut of %g deg; max_zenith_deg %g of the bands does "
                    "not change it",
                    path.name,
                    cut,
                    wanted.max_zenith_deg,
                )
            else:
                log.info("%s has the bands' zenith cut of %g deg", path.name, cut)


def _check_types(path: Path, mask: int, event_types: tuple[str, ...]) -> None:
    here = sum(1 << bit for bit in type_bits(event_types))
    everything = any(mask == sum(1 << bit for bit in bits) for bits in PARTITIONS)
    if mask == here or (everything and is_everything(event_types)):
        return
    names = [name for name, bit in EVENT_TYPE_BITS.items() if mask & (1 << bit)]
    raise InputError(
        str(path),
        f"is of {'+'.join(names) or f'event types {mask}'}, not of {'+'.join(event_types)}",
        "use the cube of the event types in response.event_types",
    )


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
