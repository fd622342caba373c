"""Photons of a few sources in part of the sky, written as a user would bring them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from astropy.io import fits

from geminga.geometry import lon_lat, unit_vectors
from geminga.sky.formats.fits_input import equatorial_from_galactic

CENTRE = (60.0, 30.0)
RADIUS = 9.0
SOURCES = ((60.0, 30.0), (64.0, 33.0), (57.0, 35.0), (62.0, 26.0), (55.0, 27.5))
EDGES_KEV = (1e6, 3e6, 30e6)
COUNTS = ((150, 60), (100, 40))
"""Photons of a bright and of the other sources in each band."""
SPREAD_DEG = (0.35, 0.08)

CONFIG = """
name: small
bands:
  - {emin_gev: 1.0, emax_gev: 3.0, nside: 256, pixels: 32}
  - {emin_gev: 3.0, emax_gev: 30.0, nside: 512, pixels: 64}
response: {irf: P8R2_ULTRACLEANVETO_V6, event_types: [FRONT], exposure_nside: 16}
patches: {grid_nside: 8}
localisation: {significance_threshold: 5.0}
images: {box_deg: [2.0, 1.0]}
"""

DSS = (
    ("BIT_MASK(EVENT_CLASS,1024,P8R2)", "DIMENSIONLESS", "1:1"),
    ("POS(RA,DEC)", "deg", "CIRCLE(0,0,180)"),
    ("TIME", "s", "TABLE"),
    ("BIT_MASK(EVENT_TYPE,1,P8R2)", "DIMENSIONLESS", "1:1"),
    ("ENERGY", "MeV", "1000:30000"),
    ("ZENITH_ANGLE", "deg", "0:105"),
)


def model_folder(folder: Path, name: str = "small", change: tuple[str, str] = ("", "")) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "config.yaml").write_text(CONFIG.replace(*change))
    return folder / name


def photons(background: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Return directions (n, 3), Galactic, and bands (n,)."""
    rng = np.random.default_rng(4)
    centre = unit_vectors(*map(np.array, CENTRE))
    xyz, band = [], []
    angle = np.arccos(1 - rng.uniform(0, 1 - np.cos(np.radians(RADIUS)), background))
    turn = rng.uniform(0, 2 * np.pi, background)
    east = np.cross([0, 0, 1], centre)
    east /= np.linalg.norm(east)
    north = np.cross(centre, east)
    side = np.cos(turn)[:, None] * east + np.sin(turn)[:, None] * north
    xyz.append(np.cos(angle)[:, None] * centre + np.sin(angle)[:, None] * side)
    band.append((rng.random(background) < 0.25).astype(int))
    for number, place in enumerate(SOURCES):
        source = unit_vectors(*map(np.array, place))
        for b, n in enumerate(COUNTS[min(number, 1)]):
            xyz.append(source + rng.normal(size=(n, 3)) * np.radians(SPREAD_DEG[b]))
            band.append(np.full(n, b))
    vectors = np.concatenate(xyz)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.concatenate(band)


def add_dss(header: Any, dss: Sequence[tuple[str, str, str]]) -> None:
    for number, (kind, unit, value) in enumerate(dss, start=1):
        header[f"DSTYP{number}"], header[f"DSUNI{number}"] = kind, unit
        header[f"DSVAL{number}"] = value


def write_events(
    path: Path, frame: str = "galactic", dss: Sequence[tuple[str, str, str]] = DSS
) -> Path:
    xyz, band = photons()
    if frame == "galactic":
        names, (lon, lat) = ("L", "B"), lon_lat(xyz)
    else:
        names, (lon, lat) = ("RA", "DEC"), lon_lat(equatorial_from_galactic(xyz))
    types = np.zeros((len(band), 32), dtype=bool)
    types[:, 31] = True
    columns = [
        fits.Column("ENERGY", "E", unit="MeV", array=np.where(band, 5000.0, 1500.0)),
        fits.Column(names[0], "D", unit="deg", array=lon),
        fits.Column(names[1], "D", unit="deg", array=lat),
        fits.Column("EVENT_TYPE", "32X", array=types),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="EVENTS")
    add_dss(table.header, dss)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def binned(nside: int, pixels: np.ndarray, galactic: bool = True) -> np.ndarray:
    """Return the counts (2, n) of RING pixels, which are in rising order."""
    xyz, band = photons()
    xyz = xyz if galactic else equatorial_from_galactic(xyz)
    place = np.searchsorted(pixels, hp.vec2pix(nside, *xyz.T))
    return np.array([np.bincount(place[band == b], minlength=len(pixels)) for b in (0, 1)])


def whole(nside: int) -> np.ndarray:
    """Return the counts (2, npix) of the whole sky, RING: zero outside the disc."""
    return binned(nside, np.arange(12 * nside**2))


def region(nside: int, galactic: bool = True) -> np.ndarray:
    """Return the RING pixels of the observed disc."""
    centre = unit_vectors(*map(np.array, CENTRE))
    centre = centre if galactic else equatorial_from_galactic(centre)
    return hp.query_disc(nside, centre, np.radians(RADIUS + 0.5))


def write_map(
    path: Path,
    counts: np.ndarray,
    pixels: np.ndarray | None = None,
    edges_kev: Sequence[float] = EDGES_KEV,
    dss: Sequence[tuple[str, str, str]] = DSS,
    frame: str = "GAL",
    nested: bool = False,
    nside: int | None = None,
) -> Path:
    """Write a gtbin map; `counts` (bands, npix) are those of `pixels` if given."""
    nside = nside or hp.npix2nside(counts.shape[1])
    listed = [] if pixels is None else [fits.Column("PIX", "K", array=pixels)]
    columns = [fits.Column(f"CHANNEL{i}", "D", array=c) for i, c in enumerate(counts, start=1)]
    skymap = fits.BinTableHDU.from_columns([*listed, *columns], name="SKYMAP")
    skymap.header.update(
        PIXTYPE="HEALPIX",
        ORDERING="NESTED" if nested else "RING",
        COORDSYS=frame,
        NSIDE=nside,
        INDXSCHM="IMPLICIT" if pixels is None else "EXPLICIT",
    )
    add_dss(skymap.header, dss)
    edges = np.array(edges_kev)
    ebounds = fits.BinTableHDU.from_columns(
        [
            fits.Column("E_MIN", "D", array=edges[:-1], unit="keV"),
            fits.Column("E_MAX", "D", array=edges[1:], unit="keV"),
        ],
        name="EBOUNDS",
    )
    fits.HDUList([fits.PrimaryHDU(), skymap, ebounds]).writeto(path)
    return path


def write_partial(
    path: Path, nside: int = 512, galactic: bool = True, nested: bool = False
) -> Path:
    """Write the counts of the observed disc alone, with explicit pixels."""
    pixels = region(nside, galactic)
    counts = binned(nside, pixels, galactic)
    numbers = hp.ring2nest(nside, pixels) if nested else pixels
    frame = "GAL" if galactic else "EQU"
    return write_map(path, counts, numbers, frame=frame, nested=nested, nside=nside)


def write_exposure(
    path: Path,
    maps: np.ndarray | None = None,
    energy_mev: Sequence[float] = (800.0, 1000.0, 3000.0, 30000.0, 50000.0),
    dss: Sequence[tuple[str, str, str]] = (
        ("IRF_VERSION", "DIMENSIONLESS", "P8R2_ULTRACLEANVETO_V6"),
    ),
) -> Path:
    maps = np.full((len(energy_mev), 12 * 16**2), 3e11) if maps is None else maps
    columns = [fits.Column(f"ENERGY{i}", "D", array=m) for i, m in enumerate(maps, start=1)]
    table = fits.BinTableHDU.from_columns(columns, name="HPXEXPOSURES")
    table.header.update(PIXTYPE="HEALPIX", ORDERING="RING", COORDSYS="GAL", NSIDE=16)
    nodes = fits.Column("Energy", "D", array=np.array(energy_mev), unit="MeV")
    primary = fits.PrimaryHDU()
    add_dss(primary.header, dss)
    fits.HDUList([primary, table, fits.BinTableHDU.from_columns([nodes], name="ENERGIES")]).writeto(
        path
    )
    return path
