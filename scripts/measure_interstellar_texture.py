"""Measure the fine structure of the interstellar emission: the constants of sky/emission/texture.py.

Usage: python scripts/measure_interstellar_texture.py [folder of LAT files]

Slope, amplitude and dependence on energy come from the full-resolution cut-out of gll_iem_v07
around the Galactic centre; how the amplitude changes with latitude from the template p6v11,
against simulated fields that take the same path. What is measured is ln I, less its mean along
10 deg of longitude at every latitude, so that the plane's profile is not taken for structure.
"""

from __future__ import annotations

import gzip
import os
import sys
from itertools import pairwise
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from scipy.ndimage import uniform_filter1d
from scipy.optimize import least_squares

from geminga.arrays import Float64
from geminga.sky.emission import texture

CUT_OUT = "diffuse/gll_iem_v07_gc.fits.gz"
TEMPLATE = "diffuse/template_dif_nside128.npy.gz"
EXPOSURE = "exposure/exposure_2to20GeV_UCV_PSF3_573w_nside128.npy.gz"
PIXEL_DEG = 0.125
SLOPES = np.arange(2.3, 3.51, 0.1)
BEAMS_DEG = (0.0, 0.1, 0.2, 0.3)
LOWEST = 20
"""Simulated fields reach to larger angles than the texture: windows let some of them through."""
EDGES = np.geomspace(60.0, 1000.0, 9)
COARSE_EDGES = np.geomspace(60.0, 300.0, 4)
LATITUDES = np.array([0, 0.5, 1.5, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 85.0])
STRIP_DEG = 0.25
SIMULATIONS = 24


def residual(log_intensity: Float64) -> Float64:
    """Return ln I (rows: latitude) less the mean of each row and a quadratic surface."""
    values = log_intensity - log_intensity.mean(axis=1, keepdims=True)
    x = np.linspace(-1.0, 1.0, len(values))
    u, v = (a.ravel() for a in np.meshgrid(x, x))
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
    fit = np.linalg.lstsq(terms, values.ravel(), rcond=None)[0]
    return np.asarray(values - (terms @ fit).reshape(values.shape))


def multipoles(size: int, pixel_deg: float) -> Float64:
    k = 2.0 * np.pi * np.fft.fftfreq(size, np.radians(pixel_deg))
    return np.asarray(np.hypot(*np.meshgrid(k, k)))


def power(values: Float64, pixel_deg: float, edges: Float64) -> Float64:
    """Return the mean C_l (flat sky, Hann window) between the edges."""
    size = len(values)
    hann = np.hanning(size + 2)[1:-1]
    window = np.outer(hann, hann) / np.sqrt(np.mean(np.outer(hann, hann) ** 2))
    waves = np.fft.fft2((values - (values * window).mean() / window.mean()) * window)
    spectrum = np.abs(waves) ** 2 * (np.radians(pixel_deg) / size) ** 2
    ell = multipoles(size, pixel_deg)
    return np.array([spectrum[(ell >= a) & (ell < b)].mean() for a, b in pairwise(edges)])


def simulated_power(slope: float, beam_deg: float, rng: np.random.Generator) -> Float64:
    """Return spectra (n, bins) of windows of fields with C_l = (l / 100)^-slope under a beam."""
    size, found = 320, []
    ell = np.maximum(multipoles(size, PIXEL_DEG), 1.0)
    beam = np.radians(beam_deg / 2.3548)
    c_l = np.where(ell >= LOWEST, (ell / 100.0) ** -slope, 0.0) * np.exp(-((ell * beam) ** 2))
    for _ in range(25):
        noise = np.fft.fft2(rng.normal(size=(size, size)))
        field = np.fft.ifft2(noise * np.sqrt(c_l)).real / np.radians(PIXEL_DEG)
        for i, j in ((0, 0), (0, 160), (160, 0), (160, 160)):
            window = field[i : i + 80, j : j + 80]
            found.append(power(residual(window), PIXEL_DEG, EDGES))
    return np.array(found)


def fit_slope(spectrum: Float64) -> tuple[float, float]:
    """Print chi-square of slopes and beams; return the best slope and C_100."""
    rng = np.random.default_rng(1)
    best = (np.inf, 0.0, 0.0, 0.0)
    print(f"chi-square of {len(spectrum)} bins, for beams (FWHM) of {BEAMS_DEG} deg:")
    for slope in SLOPES:
        row = []
        for beam in BEAMS_DEG:
            drawn = simulated_power(slope, beam, rng)
            scatter = np.log(drawn).std(axis=0)
            ratio = np.log(spectrum / drawn.mean(axis=0))
            level = np.average(ratio, weights=scatter**-2)
            row.append(float((((ratio - level) / scatter) ** 2).sum()))
            best = min(best, (row[-1], slope, beam, float(np.exp(level))))
        print(f"  slope {slope:.1f}: " + "  ".join(f"{value:6.1f}" for value in row))
    print(f"best: slope {best[1]:.1f}, beam {best[2]} deg, C_100 = {best[3]:.2e}")
    return best[1], best[3]


def standard_deviation(c_100: float, slope: float) -> float:
    """Return the standard deviation between the texture's largest and finest scale."""
    ell = np.arange(texture.ELL_LOW, texture.ELL_HIGH + 1)
    return float(np.sqrt(np.sum((2 * ell + 1) / (4 * np.pi) * c_100 * (ell / 100.0) ** -slope)))


def strips(values: Float64) -> tuple[Float64, Float64]:
    """Return |b| of rows and a HEALPix map there, less its running mean of 10 deg along them."""
    lat = np.arange(-85.0, 85.01, STRIP_DEG)
    lon = np.arange(0.0, 360.0, STRIP_DEG)
    grid = np.meshgrid(lon, lat)
    rows = healpy.get_interp_val(values, grid[0].ravel(), grid[1].ravel(), lonlat=True)
    rows = rows.reshape(len(lat), len(lon))
    for row, b in zip(rows, lat, strict=True):
        width = round(10.0 / np.cos(np.radians(b)) / STRIP_DEG)
        row -= uniform_filter1d(row, width, mode="wrap")
    return np.abs(lat), rows


def by_latitude(values: Float64) -> Float64:
    """Return the variance of `strips` between the latitudes of `LATITUDES`."""
    lat, rows = strips(values)
    return np.array([np.mean(rows[(lat >= a) & (lat < b)] ** 2) for a, b in pairwise(LATITUDES)])


def simulated_latitudes(slope: float, beam_deg: float, simulations: int = SIMULATIONS) -> Float64:
    """Return `by_latitude` of fields with C_100 = 1 under the template's beam."""
    lmax = 383
    ell = np.maximum(np.arange(lmax + 1), 1)
    c_l = np.where(ell >= LOWEST, (ell / 100.0) ** -slope, 0.0)
    window = np.sqrt(c_l) * healpy.gauss_beam(np.radians(beam_deg), lmax=lmax)
    npix = healpy.nside2npix(128)
    rng, found = np.random.default_rng(1), []
    for _ in range(simulations):
        # White noise of variance 1 a pixel has C_l = 4 pi / npix.
        alm = healpy.map2alm(rng.normal(size=npix) / np.sqrt(4 * np.pi / npix), lmax=lmax, iter=1)
        found.append(by_latitude(healpy.alm2map(healpy.almxfl(alm, window), 128, lmax=lmax)))
    return np.asarray(np.mean(found, axis=0))


def template_beam(template: Float64, fine: Float64) -> float:
    """Return the template's resolution (FWHM) from its spectrum at the centre and the cut-out's."""
    offset = (np.arange(40) - 19.5) * 2 * PIXEL_DEG
    grid = np.meshgrid(-offset, offset)
    coarse = healpy.get_interp_val(template, grid[0].ravel(), grid[1].ravel(), lonlat=True)
    mine = power(residual(coarse.reshape(40, 40)), 0.25, COARSE_EDGES)
    blocks = fine.reshape(40, 2, 40, 2).mean(axis=(1, 3))
    theirs = power(residual(np.log(blocks)), 0.25, COARSE_EDGES)
    middle = np.sqrt(COARSE_EDGES[1:] * COARSE_EDGES[:-1])
    ratio = mine / theirs
    print("template / cut-out at the centre, l = 60 to 300:", ratio.round(3))
    sigma2 = -np.sum(np.log(ratio) * middle**2) / np.sum(middle**4)
    return float(np.degrees(np.sqrt(sigma2)) * 2.3548)


def load(path: Path) -> Float64:
    with gzip.open(path) as stream:
        return np.asarray(np.load(stream), dtype=np.float64)


def main() -> None:
    default = os.environ.get("GEMINGA_DATA", "../shared/data")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    with fits.open(folder / CUT_OUT) as hdus:
        cube = np.asarray(hdus[0].data, dtype=np.float64)
        energy = np.asarray(hdus[1].data["ENERGY_TRUE"], dtype=np.float64)
    lat = np.abs(np.arange(80) - 40) * PIXEL_DEG
    print("cut-out: rms of ln I less the row's mean, for |b| < .5, .5-1.5, 1.5-3, 3-5 deg;")
    print("block: rms of ln (I / mean of its 1.5 deg block), rows' means taken away")
    for plane in range(2, len(energy), 4):
        rows = np.log(cube[plane])
        rows = rows - rows.mean(axis=1, keepdims=True)
        edges = (0.0, 0.5, 1.5, 3.0, 5.1)
        rms = [rows[(lat >= a) & (lat < b)].std() for a, b in pairwise(edges)]
        inner = cube[plane][4:76, 4:76]
        block = np.log(inner / np.kron(inner.reshape(6, 12, 6, 12).mean((1, 3)), np.ones((12, 12))))
        block -= block.mean(axis=1, keepdims=True)
        spectrum = power(residual(np.log(cube[plane])), PIXEL_DEG, EDGES)
        print(
            f"{energy[plane] / 1e3:9.2f} GeV  " + " ".join(f"{v:.3f}" for v in rms),
            f" block {block.std():.3f}  C_l (1e-6)",
            " ".join(f"{1e6 * v:.3g}" for v in spectrum),
        )
    middle = [k for k in range(len(energy)) if 0.5e3 < energy[k] < 50e3]
    mean = np.mean([power(residual(np.log(cube[k])), PIXEL_DEG, EDGES) for k in middle], axis=0)
    slope, c_100 = fit_slope(mean)
    print(f"cut-out: standard deviation .15-3 deg {standard_deviation(c_100, slope):.3f}")

    template = np.log(load(folder / TEMPLATE) / load(folder / EXPOSURE))
    beam = template_beam(template, cube[int(np.argmin(np.abs(energy - 2500.0)))])
    print(f"template: resolution {beam:.2f} deg (FWHM)")
    c_b = by_latitude(template) / simulated_latitudes(texture.SLOPE, beam)
    sigma = np.array([standard_deviation(value, texture.SLOPE) for value in c_b])
    centre = 0.5 * (LATITUDES[1:] + LATITUDES[:-1])

    def misfit(p: Float64) -> Float64:
        return np.asarray(np.log((p[0] + p[1] * np.exp(-((centre / p[2]) ** 2))) / sigma**2))

    high, plane_part, width = least_squares(misfit, [0.008, 0.01, 4.0]).x
    print("standard deviation .15-3 deg by |b| (template, and in the code):")
    code = texture.standard_deviation(centre)
    for a, b, s, c in zip(LATITUDES, LATITUDES[1:], sigma, code, strict=False):
        print(f"  {a:4.1f}-{b:4.1f} deg: {s:.3f}  {c:.3f}")
    print(f"variance {high:.4f} + {plane_part:.4f} exp(-(b / {width:.1f} deg)^2)")


if __name__ == "__main__":
    main()
