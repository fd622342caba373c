"""Derive the built-in response from the LAT's calibration files.

    python scripts/make_builtin_response.py [FOLDER] [OUTPUT]

FOLDER (GEMINGA_DATA, else ../shared/data) holds irfs/psf_*, irfs/aeff_* (fermi-lat/irfs, BSD-3) and
exposure/fermi_3fhl_exposure_cube_hpx.fits.gz (gammapy-fermi-lat-data, the cube of the 3FHL
catalogue). OUTPUT is the table inside the package. The same inputs give the same bytes.

What is stored: for each class and event type the effective area and PSF averaged over the
incidence angles of survey mode; the 10 GeV exposure against declination; and the part of the
calendar time that is livetime, which makes the mean exposure at 10 GeV that of the 3FHL cube.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits

from geminga.files import atomic
from geminga.response.average import first_psf_node, mean_area, mean_density
from geminga.response.builtin import TABLE, BuiltinTables, encode
from geminga.response.caldb import EVENT_TYPE_FILES, open_fits, read_area, read_king
from geminga.response.exposure import interpolate_energy
from geminga.response.king import scale_rad
from geminga.response.survey import survey_profile

CLASSES = (
    "P8R2_ULTRACLEANVETO_V6",
    "P8R2_SOURCE_V6",
    "P8R3_SOURCE_V3",
    "P8R3_ULTRACLEANVETO_V3",
)
CUBE = "exposure/fermi_3fhl_exposure_cube_hpx.fits.gz"
CUBE_CLASS = "P8R2_SOURCE_V6"
REFERENCE_MEV = 1e4
# S(E) is never below 6.1e-4 rad (PSF3), so that 900 S(E) reaches 30 deg at every energy.
SCALED_ANGLE = np.geomspace(0.002, 900.0, 90)
DECLINATION_BINS = 48


def significant(values: np.ndarray, digits: int = 6) -> np.ndarray:
    """Round to significant digits, so that the last bits of a machine's logarithm do not show."""
    return np.array([float(f"{v:.{digits - 1}e}") for v in np.ravel(values)]).reshape(values.shape)


def declination_pattern(cube: Path) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return sine of declination, relative exposure, mean exposure at 10 GeV and elapsed seconds."""
    with open_fits(cube, "fetch the 3FHL exposure cube") as hdus:
        first = np.asarray(hdus["HPXEXPOSURES"].data.field(0), dtype=np.float64)
        energy = float(hdus["ENERGIES"].data.field(0)[0])
        header: fits.Header = hdus[0].header
        elapsed = float(header["TSTOP"]) - float(header["TSTART"])
    if abs(energy / REFERENCE_MEV - 1) > 1e-6:
        raise SystemExit(f"{cube}: the first map is at {energy} MeV, not {REFERENCE_MEV}")
    nside = healpy.npix2nside(first.size)
    sine = healpy.pix2vec(nside, np.arange(first.size))[2]
    bins = np.minimum(((sine + 1) / 2 * DECLINATION_BINS).astype(int), DECLINATION_BINS - 1)
    count = np.bincount(bins, minlength=DECLINATION_BINS)
    centres = np.bincount(bins, sine, DECLINATION_BINS) / count
    pattern = np.bincount(bins, first, DECLINATION_BINS) / count / first.mean()
    return significant(centres), significant(pattern), float(first.mean()), elapsed


def derive(folder: Path) -> BuiltinTables:
    """Average every class and event type."""
    profile, irfs = survey_profile(), folder / "irfs"
    names, areas, scalings, profiles = [], [], [], []
    for irf in CLASSES:
        for event_type in EVENT_TYPE_FILES:
            king, area = read_king(irfs, irf, event_type), read_area(irfs, irf, event_type)
            first = first_psf_node(king)
            energy, area_cm2 = mean_area(area, profile)
            rows = []
            for number in range(first, len(king.energy_mev)):
                scale = float(scale_rad(king.scaling, king.energy_mev[number]))
                radius = np.degrees(SCALED_ANGLE * scale)
                rows.append(np.log(mean_density(king, area, profile, number, radius) * scale**2))
            names.append(f"{irf}/{event_type}")
            areas.append(significant(area_cm2))
            scalings.append(king.scaling)
            profiles.append(rows)
    sine, pattern, mean_exposure, elapsed = declination_pattern(folder / CUBE)
    at_reference = sum(
        interpolate_energy(areas[names.index(f"{CUBE_CLASS}/{t}")][:, None], energy, REFERENCE_MEV)
        for t in ("FRONT", "BACK")
    )
    livetime = mean_exposure / (float(np.sum(at_reference)) * elapsed)
    return BuiltinTables(
        names=tuple(names),
        area_energy_mev=significant(energy),
        area_cm2=np.array(areas),
        psf_energy_mev=significant(king.energy_mev[first:]),
        scaling=significant(np.array(scalings)),
        scaled_angle=significant(SCALED_ANGLE, 8),
        ln_profile=np.array(profiles),
        sin_declination=sine,
        pattern=pattern,
        livetime_share=float(f"{livetime:.5f}"),
        origin="fermi-lat/irfs psf_* and aeff_* files, averaged over survey-mode incidence angles; "
        "declination pattern and livetime of the 3FHL exposure cube at 10 GeV",
    )


def main() -> None:
    here = Path(__file__).resolve().parents[1]
    default = os.environ.get("GEMINGA_DATA", str(here.parent / "shared" / "data"))
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    output = here / "platform" / "geminga" / "response" / TABLE
    if len(sys.argv) > 2:
        output = Path(sys.argv[2])
    tables = derive(folder)
    with atomic(output) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **encode(tables))  # type: ignore[arg-type]
    print(f"{output}: {len(tables.names)} entries, livetime share {tables.livetime_share}")


if __name__ == "__main__":
    main()
