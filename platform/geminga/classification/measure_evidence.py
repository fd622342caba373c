"""Evidence on candidates from the photons around them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from geminga.arrays import Bool, Float64, Int64
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.classification.extension import RING, extension_significance, fit_norms
from geminga.classification.light_curves import amplitudes, summed_amplitudes
from geminga.classification.neighbourhood import (
    Grid,
    diffuse_images,
    make_field,
    make_grid,
    neighbour_images,
    own_images,
    slopes,
)
from geminga.classification.spectral_fit import fit_spectra
from geminga.classification.stamps import (
    count_images,
    measure_stamps,
    outside,
    r68_deg,
    stamp_grids,
)
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import tangent_frames, unit_vectors
from geminga.localisation.features import NEIGHBOUR_DEG, stronger_neighbour
from geminga.patches.project import UInt32, bin_tangent
from geminga.response import Response, band_exposure
from geminga.sky.coverage import Coverage, exposure_covered
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts

BOX_R68 = 5.0
"""Width of the images that light curves are measured in, in radii that hold 68 % of the PSF."""
BOX_LIMITS_DEG = (1.0, 8.0)
BOX_PIXELS = 25
MODEL_ERROR = 0.2
"""Relative error of the counts that a log parabola expects in a channel."""
MEMORY = 1 << 27
"""Bytes of the counts that are held at a time: how many candidates are measured together."""
LEAST_PROBABILITY = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""
LEAST_EXPOSURE_CM2_S = 1.0
"""A channel with less has none: a square centimetre for a second is nothing."""

_COLUMNS = ("lon_deg", "lat_deg", "position_error_deg", "ts", "index", "goodness")
_OF_CHANNEL = ("counts", "counts_error", "flux", "flux_error", "background")


def measure_evidence(
    photons: Photons | PixelCounts,
    candidates: pd.DataFrame,
    response: Response,
    config: Config,
    chosen: Int64 | Bool,
    at: tuple[Float64, Float64] | None = None,
    coverage: Coverage | None = None,
) -> Evidence:
    """Measure stamps, spectra, light curves and the detection itself of some candidates.

    The counts expected around a candidate are those of the diffuse emission, of all other
    candidates and its own, as the search fitted them; the candidate's norm and the diffuse level
    of each channel are fitted once more in the images.

    Parameters
    ----------
    photons : Photons or PixelCounts
        Of the whole sky, numbered by the channels and years of the configuration. The pixels of
        maps know no years: light curves are empty then, as they are with a single year.
    candidates : DataFrame (N rows)
        The whole fitted list of a sky (`tables.patch_sources`), for neighbours matter; with the
        ranker's ``probability``, or without.
    response : Response
    config : Config
        Its section ``evidence`` and the number of years are used.
    chosen : Int64 (n,) or Bool (N,)
        Rows to be measured.
    at : (Float64 (n,), Float64 (n,)), optional
        Galactic positions, degrees, at which the images of the chosen candidates are centred
        instead; fitted fluxes remain those of the list.
    coverage : Coverage, optional
        Where there are data; where there is exposure, if not given. A candidate outside it has
        neither spectrum, light curve nor stamps; pixels outside it are left out.

    Returns
    -------
    Evidence (n)
        NaN in channels without exposure at the position, and in years without.

    Raises
    ------
    InputError
        If the list lacks a column, a row does not exist, or the photons have a channel or a year
        that the configuration does not know.
    """
    channels = len(config.channels)
    _check(photons, candidates, config)
    rows = _rows(chosen, len(candidates))
    columns = {name: candidates[name].to_numpy(np.float64) for name in _COLUMNS}
    fitted = {
        name: candidates[[f"{name}_{c}" for c in range(channels)]].to_numpy(np.float64)
        for name in _OF_CHANNEL
    }
    if at is None:
        at = columns["lon_deg"][rows], columns["lat_deg"][rows]
    lon, lat = (np.asarray(values, np.float64) for values in at)
    if lon.shape != rows.shape or lat.shape != rows.shape:
        raise InputError("at", f"{len(lon)} positions for {len(rows)} candidates", "one for each")
    coverage = exposure_covered(response.exposures) if coverage is None else coverage
    exposure = band_exposure(response, lon, lat, columns["index"][rows]).T
    seen = (exposure > LEAST_EXPOSURE_CM2_S) & coverage.holds(lon, lat)[:, None]
    flux = np.where(seen, fitted["flux"][rows], np.nan)
    error = np.where(seen, fitted["flux_error"][rows], np.nan)
    edges = np.array([[c.emin_gev, c.emax_gev] for c in config.channels])
    source_counts = _expected_counts(
        flux, error, fitted["counts"][rows], fitted["counts_error"][rows], exposure, edges
    )
    field = make_field(
        unit_vectors(columns["lon_deg"], columns["lat_deg"]),
        fitted["counts"],
        fitted["background"],
        columns["index"],
        response.psf,
    )
    r68 = r68_deg(response.psf, channels)
    low, high = BOX_LIMITS_DEG
    box = make_grid([min(max(BOX_R68 * r, low), high) for r in r68], BOX_PIXELS)
    grids = stamp_grids(r68, config.evidence)
    templates = [own_images(box, field.density, around) for around in (((0.0, 0.0),), RING)]
    years = config.sky.years if isinstance(photons, Photons) and config.sky.years > 1 else 0
    n, side = len(rows), config.evidence.stamp_pixels
    year_ratio, year_error = np.full((n, years), np.nan), np.full((n, years), np.nan)
    extension = np.full(n, np.nan)
    stamps = np.zeros((n, channels * len(grids), 2, side, side), np.float32)
    for part in _chunks(n, channels * BOX_PIXELS**2 * 4 * (2 * years + 10)):
        frames, own = tangent_frames(lon[part], lat[part]), rows[part]
        counts, yearly = _counts(photons, box, frames, years)
        slope = slopes(field, frames)
        level = np.where(seen[part], field.level[own], 0.0)
        diffuse = diffuse_images(box, level, slope)
        others = neighbour_images(box, field, frames, own)
        lower, upper = field.low[own], field.upper[own]
        point, ring = (_mixed(t, lower, upper, source_counts[part]) for t in templates)
        unseen = np.broadcast_to(~seen[part][:, :, None, None], counts.shape)
        if not coverage.whole:
            unseen = unseen | outside(coverage, box, frames)
        for images in (counts, diffuse, others, point, ring):
            images[unseen] = 0.0
        shape = (len(own), channels, BOX_PIXELS**2)
        flat = [a.reshape(shape) for a in (counts, point, ring, diffuse, others)]
        norm, levels = fit_norms(flat[0], flat[1], flat[3], flat[4])
        for images in flat[1:3]:
            images *= norm[:, None, None]
        flat[3] *= levels[:, :, None]
        extension[part] = extension_significance(
            flat[0], flat[1], flat[2], flat[3], flat[4], _r2(box)
        )
        if years:
            share = response.year_share.at(lon[part], lat[part])
            rest = flat[3] + flat[4]
            if config.evidence.year_weights == "summed":
                aperture = _aperture(box, config.images.yearly_box_deg)
                curves = summed_amplitudes(yearly, flat[1], rest, share, aperture)
            else:
                curves = amplitudes(yearly, flat[1], rest, share)
            year_ratio[part], year_error[part] = curves
        fitted_level = np.where(seen[part], field.level[own] * levels, np.nan)
        stamps[part] = measure_stamps(
            photons, grids, field, frames, own, fitted_level, slope, coverage
        )
    return Evidence(
        lon_deg=lon,
        lat_deg=lat,
        edges_gev=edges,
        band_flux=flux,
        band_flux_error=error,
        year_ratio=year_ratio,
        year_ratio_error=year_error,
        detection=_detection(
            candidates, columns, rows, extension, source_counts, fitted["background"][rows]
        ),
        stamps=stamps,
    )


def _check(photons: Photons | PixelCounts, candidates: pd.DataFrame, config: Config) -> None:
    channels = len(config.channels)
    wanted = [*_COLUMNS, *(f"{name}_{c}" for name in _OF_CHANNEL for c in range(channels))]
    missing = [name for name in wanted if name not in candidates]
    if missing:
        raise InputError(
            "candidates",
            f"have no column {', '.join(missing)}",
            f"give a list that the likelihood search fitted in {channels} channels",
        )
    if isinstance(photons, PixelCounts):
        numbers = [(part.channel, "channel", channels) for part in photons.parts]
    else:
        numbers = [
            (int(values.max()) if len(values) else -1, name, limit)
            for values, name, limit in (
                (photons.channel, "channel", channels),
                (photons.year, "year", config.sky.years),
            )
        ]
    for number, name, limit in numbers:
        if number >= limit:
            raise InputError(
                "photons",
                f"have {name} {number}, the configuration has {limit}",
                "read or draw the photons with this configuration",
            )


def _rows(chosen: Int64 | Bool, candidates: int) -> Int64:
    if np.asarray(chosen).dtype == np.bool_:
        if len(chosen) != candidates:
            raise InputError("chosen", f"{len(chosen)} for {candidates} candidates", "one for each")
        return np.asarray(np.flatnonzero(chosen), np.int64)
    rows = np.asarray(chosen, np.int64)
    if len(rows) and not (rows.min() >= 0 and rows.max() < candidates):
        raise InputError(
            "chosen",
            f"rows {rows.min()} to {rows.max()} of {candidates} candidates",
            "name rows of the list",
        )
    return rows


def _chunks(n: int, bytes_each: int) -> Iterator[slice]:
    """Yield ranges of candidates that fit in `MEMORY`."""
    at_once = max(MEMORY // bytes_each, 1)
    for start in range(0, n, at_once):
        yield slice(start, min(start + at_once, n))


def _expected_counts(
    flux: Float64,
    error: Float64,
    counts: Float64,
    counts_error: Float64,
    exposure: Float64,
    edges: Float64,
) -> Float64:
    """Return the candidates' counts (n, C): those fitted, drawn to a log parabola through all.

    Counts of single channels of a faint source are mostly noise, and so would be the weights of
    its photons.
    """
    fits = fit_spectra(flux, error, edges)
    model = np.nan_to_num(fits.model_flux) * exposure
    seen = np.isfinite(flux) & np.isfinite(counts) & (counts_error > 0)
    weight = np.where(seen, 1.0, 0.0) / np.where(seen, counts_error, 1.0) ** 2
    spread = np.maximum(MODEL_ERROR * model, 1e-12) ** -2
    total = weight * np.where(seen, counts, 0.0) + spread * model
    return np.asarray(total / (weight + spread))


def _counts(
    photons: Photons | PixelCounts, box: Grid, frames: Float64, years: int
) -> tuple[Float64, UInt32]:
    """Return counts (m, C, p, p), and (m, C, Y, p * p) by year."""
    channels, p = len(box.size_deg), box.pixels
    if not years or isinstance(photons, PixelCounts):
        return count_images(photons, box, frames), np.zeros(
            (len(frames), channels, 0, p * p), np.uint32
        )
    images = bin_tangent(photons, frames, box.size_deg, [p] * channels, per_year=True, years=years)
    counts = np.stack([image.sum(axis=1) for image in images], axis=1).astype(np.float64)
    yearly = np.stack(images, axis=1).reshape(len(frames), channels, years, p * p)
    return counts, yearly


def _mixed(templates: Float64, low: Int64, upper: Float64, counts: Float64) -> Float64:
    """Return images (m, C, p, p) of candidates from those of the PSF's indices (C, K, p, p)."""
    high = np.minimum(low + 1, templates.shape[1] - 1)
    weight = upper[:, None, None]
    images = np.empty((*counts.shape, *templates.shape[2:]))
    for c in range(counts.shape[1]):
        images[:, c] = (1.0 - weight) * templates[c, low] + weight * templates[c, high]
        images[:, c] *= counts[:, c, None, None]
    return images


def _r2(grid: Grid) -> Float64:
    """Return squared distances from the middle in units of the half width, (C, p * p)."""
    axis = grid.axis / (0.5 * grid.pixels * grid.step)[:, None]
    return (axis[:, :, None] ** 2 + axis[:, None, :] ** 2).reshape(len(axis), -1)


def _aperture(grid: Grid, width_deg: float) -> Bool:
    """Return the pixels within a square of this width, at least the middle one, (C, p * p)."""
    near = np.abs(grid.axis) <= np.maximum(math.radians(width_deg), grid.step[:, None]) / 2.0
    return (near[:, :, None] & near[:, None, :]).reshape(len(near), -1)


def _detection(
    candidates: pd.DataFrame,
    columns: dict[str, Float64],
    rows: Int64,
    extension: Float64,
    counts: Float64,
    background: Float64,
) -> Float64:
    distance, neighbour = stronger_neighbour(
        columns["lon_deg"], columns["lat_deg"], columns["ts"], NEIGHBOUR_DEG
    )
    logit = np.full(len(rows), np.nan)
    if "probability" in candidates:
        p = candidates["probability"].to_numpy(np.float64)[rows]
        p = np.clip(p, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
        logit = np.log(p / (1.0 - p))
    # Relative to the source: the channel in which its photons are least mixed with others.
    relative = np.where(counts > 0, background / np.maximum(counts, 1e-12), np.inf)
    clearest = np.argmin(np.nan_to_num(relative, nan=np.inf), axis=1)
    clear = background[np.arange(len(rows)), clearest]
    values = {
        "sqrt_ts": np.sqrt(np.maximum(columns["ts"][rows], 0.0)),
        "logit_real": logit,
        "log_position_error": np.log10(np.maximum(columns["position_error_deg"][rows], 1e-6)),
        "goodness": columns["goodness"][rows],
        "extension": extension,
        "neighbour_deg": distance[rows],
        "log_neighbour_ts": np.log10(1.0 + neighbour[rows]),
        "log_background": np.log10(np.maximum(clear, 0.0) + 1e-3),
    }
    return np.stack([values[name] for name in DETECTION_NAMES], axis=1)
