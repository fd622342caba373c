"""Derive the built-in response from the LAT's calibration files.

    python scripts/make_builtin_response.py [FOLDER] [OUTPUT]

FOLDER (GEMINGA_DATA, else ../shared/data) holds irfs/psf_*, aeff_*, edisp_* (fermi-lat/irfs, BSD-3)
and exposure/fermi_3fhl_exposure_cube_hpx.fits.gz (gammapy-fermi-lat-data, the cube of the 3FHL
catalogue). OUTPUT is the table inside the package. The same inputs give the same bytes.

What is stored: for each class and event type the effective area and PSF averaged over four ranges
of incidence angle as survey mode sees them (ten years, zenith below 105 deg), and the energy
dispersion averaged over all angles where there is a file of it; the 10 GeV exposure against
declination; and the part of the calendar time that is livetime, which makes the mean exposure at
10 GeV that of the 3FHL cube.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits

from geminga.files import atomic
from geminga.response.average import mean_area, psf_energies, ring_weights
from geminga.response.builtin import TABLE, BuiltinTables, encode
from geminga.response.caldb import EVENT_TYPE_FILES, open_fits, read_area, read_king
from geminga.response.dispersion import average_dispersion, read_dispersion
from geminga.response.exposure import interpolate_energy
from geminga.response.king import scale_rad
from geminga.response.survey import (
    ANGLE_RANGES,
    SECONDS_PER_YEAR,
    angle_range,
    ranges_of,
    rocking_between,
    survey_profile,
)

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


def _at_reference(areas: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Return the areas (G,) at the reference energy from those (G, A) at all energies."""
    return interpolate_energy(areas.T, energy, np.array([REFERENCE_MEV]))[0]


def derive(folder: Path) -> BuiltinTables:
    """Average every class and event type."""
    profile, irfs = survey_profile(), folder / "irfs"
    ranges = ranges_of(profile)
    names, areas, scalings, profiles, dispersions = [], [], [], [], {}
    for irf in CLASSES:
        for event_type, partition in EVENT_TYPE_FILES.items():
            king, area = read_king(irfs, irf, event_type), read_area(irfs, irf, event_type)
            psf_energy, rows = psf_energies(king), []
            for value in psf_energy.tolist():
                scale = float(scale_rad(king.scaling, value))
                radius = np.degrees(SCALED_ANGLE * scale)
                rings = np.array(
                    [king.ring_density(c, value, radius) for c in range(len(king.costheta))]
                )
                seen = [ring_weights(king.costheta, area, part, value) @ rings for part in ranges]
                rows.append(np.log(np.array(seen) * scale**2))
            names.append(f"{irf}/{event_type}")
            energy = mean_area(area, profile)[0]
            areas.append(significant(np.array([mean_area(area, part)[1] for part in ranges])))
            scalings.append(king.scaling)
            profiles.append(np.swapaxes(rows, 0, 1))
            if (irfs / f"edisp_{irf}_{partition}.fits").is_file():
                file = read_dispersion(irfs, irf, event_type)
                dispersions[names[-1]] = average_dispersion(file, area, profile)
    sine, pattern, mean_exposure, elapsed = declination_pattern(folder / CUBE)
    both = [f"{CUBE_CLASS}/{t}" for t in ("FRONT", "BACK")]
    cube_profile = survey_profile(rocking_between(0.0, elapsed / SECONDS_PER_YEAR))
    time = np.bincount(angle_range(cube_profile.centres), cube_profile.share, ANGLE_RANGES)
    at_reference = sum(time @ _at_reference(areas[names.index(n)], energy) for n in both)
    livetime = mean_exposure / (float(np.sum(at_reference)) * elapsed)
    shape = sum(
        read_area(irfs, CUBE_CLASS, t).at(REFERENCE_MEV, profile.centres) for t in ("FRONT", "BACK")
    )
    return BuiltinTables(
        names=tuple(names),
        area_energy_mev=significant(energy),
        area_cm2=np.array(areas),
        psf_energy_mev=significant(psf_energy),
        scaling=significant(np.array(scalings)),
        scaled_angle=significant(SCALED_ANGLE, 8),
        ln_profile=np.array(profiles),
        dispersion_names=tuple(dispersions),
        dispersion_energy_mev=significant(next(iter(dispersions.values())).energy_mev),
        ln_ratio=np.array([table.ln_ratio for table in dispersions.values()]),
        sin_declination=sine,
        pattern=pattern,
        area_shape=significant(np.asarray(shape) / np.max(shape)),
        livetime_share=float(f"{livetime:.5f}"),
        origin="fermi-lat/irfs psf_*, aeff_* and edisp_* files, averaged over survey-mode incidence "
        "angles; declination pattern and livetime of the 3FHL exposure cube at 10 GeV",
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
