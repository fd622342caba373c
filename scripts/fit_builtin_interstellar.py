"""Fit the built-in interstellar model and write platform/geminga/sky/emission/diffuse_builtin.json.

Usage: python scripts/fit_builtin_interstellar.py [folder of LAT files]

The interstellar model is fitted to gll_iem_v07 averaged over blocks of 1.5 x 1.375 deg: a
log-linear model per energy (gamma deviance, that is equal relative errors and no bias of the
mean), whose coefficients are then reduced to three spatial modes with spectra. The isotropic
tables are copied: energies and intensities as published.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from geminga.arrays import Float64
from geminga.files import write_json
from geminga.sky.emission.diffuse_models import BUILTIN_FILE, interstellar_terms

CUBE = "gll_iem_v07_blockmean_1p5deg.fits"
ISOTROPIC = ("P8R2_ULTRACLEANVETO_V6_FRONT", "P8R2_SOURCE_V6")
MODES = 3
ITERATIONS = 30
TARGET = Path(__file__).parents[1] / "platform" / "geminga" / "sky" / "emission" / BUILTIN_FILE
LAT_EDGES = np.array([-90, -60, -30, -15, -7, -2.5, 2.5, 7, 15, 30, 60, 90.0])
LON_BINS = 6


def read_cube(path: Path) -> tuple[Float64, Float64, Float64, Float64]:
    """Return energies, intensities (E, n), longitudes and latitudes (n,) in radians."""
    with fits.open(path) as hdus:
        energy = np.asarray(hdus["ENERGIES"].data.field(0), np.float64)
        cube = np.asarray(hdus[0].data, np.float64)
    # The header's latitude is off by half a pixel; row 65 lies on the equator.
    lat = (np.arange(cube.shape[1]) - 65) * 1.375
    lon = (119.5 - np.arange(cube.shape[2])) * 1.5
    grid = np.meshgrid(np.radians(lon), np.radians(lat))
    return energy, cube.reshape(len(energy), -1), grid[0].ravel(), grid[1].ravel()


def fit_planes(terms: Float64, weight: Float64, intensity: Float64) -> Float64:
    """Return coefficients (E, terms) of a gamma regression with logarithmic link."""
    weighted = terms * weight[:, None]
    ridge = 1e-6 * len(terms) * np.eye(terms.shape[1])
    solve = np.linalg.inv(terms.T @ weighted + ridge) @ weighted.T
    working = np.log(intensity)
    for _ in range(ITERATIONS):
        coefficients = working @ solve.T
        model = coefficients @ terms.T
        working = model + np.clip(intensity / np.exp(model) - 1.0, -1.0, 3.0)
    return coefficients


def reduce_modes(coefficients: Float64, terms: Float64, weight: Float64) -> tuple[Float64, Float64]:
    """Return spectra (E, R) and mode coefficients (R, terms): the mean and the main variations."""
    mean = coefficients.mean(axis=0)
    gram = np.linalg.cholesky((terms.T * weight) @ terms + 1e-6 * np.eye(terms.shape[1]))
    u, s, vt = np.linalg.svd((coefficients - mean) @ gram, full_matrices=False)
    modes = np.linalg.solve(gram.T, vt[: MODES - 1].T).T
    spectra = np.column_stack([np.ones(len(u)), u[:, : MODES - 1] * s[: MODES - 1]])
    scale = np.abs(spectra).max(axis=0)
    return spectra / scale, np.vstack([mean, modes]) * scale[:, None]


def report(energy: Float64, intensity: Float64, model: Float64, lon: Float64, lat: Float64) -> None:
    """Print the ratio of model and cube in broad bins."""
    column = (np.degrees(lon) % 360 // (360 / LON_BINS)).astype(int)
    row = np.digitize(np.degrees(lat), LAT_EDGES[1:-1])
    bins = row * LON_BINS + column
    area = np.cos(lat)
    for e in range(0, len(energy), 3):
        ratio = np.bincount(bins, model[e] * area) / np.bincount(bins, intensity[e] * area)
        whole = (model[e] * area).sum() / (intensity[e] * area).sum()
        print(
            f"{energy[e] / 1e3:8.3f} GeV  sky {whole:.3f}  bins {ratio.min():.2f} to "
            f"{ratio.max():.2f}, mean |ln| {np.abs(np.log(ratio)).mean():.3f}"
        )


def digits(values: Float64, number: int) -> list[object]:
    return [
        digits(v, number) if isinstance(v, np.ndarray) else float(f"{v:.{number}g}") for v in values
    ]


def main() -> None:
    default = os.environ.get("GEMINGA_DATA", "../shared/data")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else default) / "diffuse"
    energy, intensity, lon, lat = read_cube(folder / CUBE)
    terms = np.stack(interstellar_terms(lon, lat), axis=1)
    weight = np.cos(lat) + 0.05
    spectra, modes = reduce_modes(fit_planes(terms, weight, intensity), terms, weight)
    spectra, modes = np.array(digits(spectra, 6)), np.array(digits(modes, 6))
    report(energy, intensity, np.exp(spectra @ modes @ terms.T), lon, lat)
    isotropic = {}
    for name in ISOTROPIC:
        file = f"iso_{name}_v06.txt"
        table = np.loadtxt(folder / file)
        isotropic[name] = {
            "origin": f"{file} (Fermi Science Support Center)",
            "energy_mev": table[:, 0].tolist(),
            "intensity": table[:, 1].tolist(),
        }
    tree = {
        "interstellar": {
            "origin": "fit to gll_iem_v07 (Fermi Science Support Center) in blocks of 1.5 deg",
            "energy_mev": digits(energy, 8),
            "spectra": digits(spectra, 6),
            "coefficients": digits(modes, 6),
        },
        "isotropic": isotropic,
    }
    write_json(TARGET, tree)


if __name__ == "__main__":
    main()
