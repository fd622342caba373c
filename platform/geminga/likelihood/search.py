"""Likelihood search of one patch: peaks of the TS map become sources, fitted with all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from geminga.arrays import Bool, Float32, Float64
from geminga.config import Config
from geminga.geometry import (
    from_plane,
    lon_lat,
    pixel_to_plane,
    tangent_frames,
    to_plane,
    unit_vectors,
)
from geminga.likelihood.background import estimate_background
from geminga.likelihood.background_prior import BackgroundPrior, background_prior
from geminga.likelihood.diffuse_templates import Templates
from geminga.likelihood.fit import fit_patch
from geminga.likelihood.kernels import (
    PointKernels,
    counts_per_flux,
    make_kernels,
    map_phases,
)
from geminga.likelihood.local_problem import patch_data, place_sources
from geminga.likelihood.measure import PatchFit
from geminga.likelihood.peaks import local_maxima
from geminga.likelihood.source_model import SourceModel, Spectra, make_source_model, make_spectra
from geminga.likelihood.ts_map import TsMaps, ts_maps
from geminga.response import Response
from geminga.sections import LikelihoodConfig
from geminga.tables import patch_sources

KNOWN = ("lon_deg", "lat_deg", "s1", "index")
"""Columns of sources that a search starts from."""
OUTSIDE_DEG = 4.0
"""Known sources this far outside a patch still shine into it."""
UNSEEN_COUNTS = 1e6
"""Counts, and background, of pixels that were not observed: equal and so large that no source
there changes the likelihood."""


@dataclass(frozen=True, eq=False)
class PatchSearch:
    """What the search of any patch of a configuration needs; see `make_search`.

    Attributes
    ----------
    response : Response
    size_deg : float
        Width of a patch.
    settings : LikelihoodConfig
    kernels : tuple of PointKernels (T,)
        One per spectral template.
    model : SourceModel
    prior : BackgroundPrior
    """

    response: Response
    size_deg: float
    settings: LikelihoodConfig
    kernels: tuple[PointKernels, ...]
    model: SourceModel
    prior: BackgroundPrior


@dataclass(frozen=True, eq=False)
class PatchResult:
    """Outcome of a search of one patch.

    Attributes
    ----------
    table : DataFrame
        `patch_sources`, the known sources first.
    fit : PatchFit
        Of the same rows.
    background : tuple of Float32 (n_c, n_c)
        Everything but the sources inside the patch.
    maps : TsMaps
        One patch: of what the known sources leave.
    kept : Bool (m,)
        Rows that are not given up.
    """

    table: pd.DataFrame
    fit: PatchFit
    background: tuple[Float32, ...]
    maps: TsMaps
    kept: Bool


def make_search(config: Config, response: Response) -> PatchSearch:
    """Tabulate templates and priors of a configuration, once for all its patches."""
    settings, size = config.likelihood, config.patches.size_deg
    phases = map_phases(response.channels)
    kernels = tuple(
        make_kernels(
            response.psf,
            response.channels,
            size,
            index,
            settings.containment,
            settings.max_radius_deg,
            phases,
        )
        for index in settings.indices
    )
    return PatchSearch(
        response,
        size,
        settings,
        kernels,
        make_source_model(response.psf, response.channels, size, settings.fit_index_limits),
        background_prior(response, size, settings),
    )


def search_patch(
    search: PatchSearch,
    counts: Sequence[np.ndarray],
    frame: Float64,
    known: pd.DataFrame,
    threshold: float,
    *,
    sky_id: int = 0,
    patch_id: int = 0,
    templates: Templates | None = None,
    background: Sequence[Float32] | None = None,
    mask_rounds: int | None = None,
    outside: Sequence[Bool] | None = None,
) -> PatchResult:
    """Find and fit the sources of a patch.

    Parameters
    ----------
    search : PatchSearch
    counts : sequence of arrays (n_c, n_c), one per channel
        Photons.
    frame : Float64 (3, 3)
        Of the patch.
    known : DataFrame
        Sources found before, here and beyond the patch's edges: lon_deg, lat_deg, s1, index.
    threshold : float
        Least TS of a new source in the map.
    sky_id, patch_id : int
        For the table.
    templates : Templates, optional
        Reference model of the diffuse emission in this patch (one patch), from which the
        background is estimated.
    background : sequence of Float32 (n_c, n_c), optional
        Used instead if given: the oracle knows it.
    mask_rounds : int, optional
        See `estimate_background`: fewer, the more complete the list of known sources is.
    outside : sequence of bool arrays (n_c, n_c), optional
        True where nothing was observed.

    Returns
    -------
    PatchResult
        New sources may turn out below the threshold once neighbours are fitted.
    """
    settings = search.settings
    half = search.size_deg / 2.0
    near = _near(known, frame, np.sqrt(2.0) * half + OUTSIDE_DEG)
    x, y = to_plane(frame, unit_vectors(near["lon_deg"].to_numpy(), near["lat_deg"].to_numpy()))
    flux, index = near["s1"].to_numpy(), near["index"].to_numpy()
    inside = (np.abs(x) < half) & (np.abs(y) < half)
    centre = lon_lat(frame[0])
    spectra = make_spectra(search.response, *centre, settings.fit_index_limits)
    own = _images(search, spectra, x[inside], y[inside], flux[inside], index[inside])
    beyond = _images(search, spectra, x[~inside], y[~inside], flux[~inside], index[~inside])
    if background is None:
        if templates is None:
            raise ValueError("a search needs templates or a background")
        sources = [(a + b)[None] for a, b in zip(own, beyond, strict=True)]
        background = [
            image[0]
            for image in estimate_background(
                [image[None] for image in counts],
                templates,
                search.prior,
                sources_model=sources,
                mask=None if outside is None else [image[None] for image in outside],
                rounds=mask_rounds,
            )
        ]
    beneath = tuple(np.asarray(a + b, np.float32) for a, b in zip(background, beyond, strict=True))
    if outside is not None:
        counts = [_filled(image, out) for image, out in zip(counts, outside, strict=True)]
        beneath = tuple(_filled(image, out) for image, out in zip(beneath, outside, strict=True))
    lon, lat = (np.atleast_1d(value) for value in centre)
    channels = search.response.channels
    per_flux = counts_per_flux(search.response, channels, lon, lat, settings.indices)
    maps = ts_maps(
        [np.asarray(image, np.float32)[None] for image in counts],
        [(a + b)[None].astype(np.float32) for a, b in zip(beneath, own, strict=True)],
        search.kernels,
        per_flux,
        settings,
    )
    pixels = maps.ts.shape[1]
    _, row, column, _ = local_maxima(
        maps.ts.astype(np.float64),
        threshold,
        settings.search_separation_deg / search.size_deg * pixels,
    )
    at = np.rint(row).astype(np.int64), np.rint(column).astype(np.int64)
    fit = fit_patch(
        counts,
        beneath,
        np.concatenate([x[inside], pixel_to_plane(column, pixels, search.size_deg)]),
        np.concatenate([y[inside], pixel_to_plane(row, pixels, search.size_deg)]),
        np.concatenate([flux[inside], maps.flux[0][at]]),
        np.concatenate([index[inside], np.array(settings.indices)[maps.template[0][at]]]),
        search.model,
        spectra,
        settings,
    )
    return PatchResult(
        _table(search, fit, background, frame, sky_id, patch_id),
        fit,
        beneath,
        maps,
        np.ones(len(fit), np.bool_),
    )


def search_rounds(
    search: PatchSearch,
    counts: Sequence[np.ndarray],
    frame: Float64,
    known: pd.DataFrame,
    thresholds: Sequence[float],
    *,
    sky_id: int = 0,
    patch_id: int = 0,
    templates: Templates | None = None,
    background: Sequence[Float32] | None = None,
    outside: Sequence[Bool] | None = None,
) -> PatchResult:
    """Search a patch several times, each time with what was found before as known sources.

    Parameters as in `search_patch`; `thresholds` are those of the rounds, one at least. Sources
    whose fit falls below ``search_least_ts`` are given up.
    """
    half = search.size_deg / 2.0
    place = unit_vectors(known["lon_deg"].to_numpy(), known["lat_deg"].to_numpy())
    x, y = to_plane(frame, place)
    with np.errstate(invalid="ignore"):
        beyond = known.loc[~((np.abs(x) < half) & (np.abs(y) < half)), list(KNOWN)]
    now = known
    # Sources that are not known yet would be taken for background: excesses are left out, at
    # first in full, once the bright ones are known in one round, and not where the list is complete.
    mask_rounds: int | None = 0 if len(known) else None
    for threshold in thresholds:
        result = search_patch(
            search,
            counts,
            frame,
            now,
            threshold,
            sky_id=sky_id,
            patch_id=patch_id,
            templates=templates,
            background=background,
            mask_rounds=mask_rounds,
            outside=outside,
        )
        mask_rounds = 0 if len(known) else 1
        table = result.table
        kept = (table["ts"] >= search.settings.search_least_ts) & (table["s1"] > 0.0)
        now = pd.concat([beyond, table.loc[kept, list(KNOWN)]], ignore_index=True)
    return replace(result, kept=kept.to_numpy())


def _filled(image: np.ndarray, outside: Bool) -> Float32:
    """Return an image with `UNSEEN_COUNTS` where nothing was observed."""
    return np.where(outside, np.float32(UNSEEN_COUNTS), image).astype(np.float32)


def _near(known: pd.DataFrame, frame: Float64, radius_deg: float) -> pd.DataFrame:
    vectors = unit_vectors(known["lon_deg"].to_numpy(), known["lat_deg"].to_numpy())
    kept: pd.DataFrame = known.loc[vectors @ frame[0] > np.cos(np.radians(radius_deg))]
    return kept


def _images(
    search: PatchSearch, spectra: Spectra, x: Float64, y: Float64, flux: Float64, index: Float64
) -> tuple[Float32, ...]:
    """Return the expected counts of sources at given places, (n_c, n_c) per channel."""
    pixels = search.model.pixels
    empty = [np.zeros((n, n)) for n in pixels]
    data = patch_data(empty, empty, search.model, spectra)
    image = place_sources(data, x, y, flux, index).images(data.layout)
    return tuple(
        image[start : start + n * n].reshape(n, n).astype(np.float32) for n, start in data.layout.T
    )


def _table(
    search: PatchSearch,
    fit: PatchFit,
    background: Sequence[Float32],
    frame: Float64,
    sky_id: int,
    patch_id: int,
) -> pd.DataFrame:
    vectors = from_plane(frame, fit.x_deg, fit.y_deg)
    lon, lat = lon_lat(vectors)
    covariance = _on_the_sphere(fit.position_covariance, frame, fit.x_deg, fit.y_deg)
    half_deg = search.size_deg / 2.0
    each: dict[str, np.ndarray] = {}
    for c, image in enumerate(background):
        n = len(image)
        row, column = (
            np.clip((v / search.size_deg + 0.5) * n, 0, n - 1).astype(np.int64)
            for v in (fit.y_deg, fit.x_deg)
        )
        each |= {
            f"counts_{c}": fit.counts[:, c],
            f"counts_error_{c}": fit.counts_error[:, c],
            f"flux_{c}": fit.band_flux[:, c],
            f"flux_error_{c}": fit.band_flux_error[:, c],
            f"background_{c}": image[row, column].astype(np.float64) * (n / search.size_deg) ** 2,
        }
    return patch_sources(len(background)).frame(
        {
            "sky_id": np.full(len(lon), sky_id),
            "patch_id": np.full(len(lon), patch_id),
            "x_deg": fit.x_deg,
            "y_deg": fit.y_deg,
            "lon_deg": lon,
            "lat_deg": lat,
            "edge_deg": half_deg - np.maximum(np.abs(fit.x_deg), np.abs(fit.y_deg)),
            "ts": fit.ts,
            "s1": fit.flux,
            "s1_error": fit.flux_error,
            "index": fit.index,
            "index_error": fit.index_error,
            "cov_east_deg2": covariance[:, 0, 0],
            "cov_cross_deg2": covariance[:, 0, 1],
            "cov_north_deg2": covariance[:, 1, 1],
            "goodness": fit.goodness,
            "converged": fit.converged,
            **each,
        }
    )


def _on_the_sphere(covariance: Float64, frame: Float64, x_deg: Float64, y_deg: Float64) -> Float64:
    """Return covariances (m, 2, 2) of plane coordinates as those towards Galactic east and north."""
    x, y = np.radians(x_deg), np.radians(y_deg)
    length = np.sqrt(1.0 + x * x + y * y)
    vectors = from_plane(frame, x_deg, y_deg)
    axes = tangent_frames(*lon_lat(vectors))[:, 1:]  # (m, 2, 3): east and north at each source
    jacobian = np.empty((len(x), 2, 2))
    for column, (along, value) in enumerate(((frame[1], x), (frame[2], y))):
        # d(v / |v|) with v = centre + x east + y north.
        slope = along / length[:, None] - vectors * (value / length**2)[:, None]
        jacobian[:, :, column] = np.einsum("mij,mj->mi", axes, slope)
    return np.asarray(jacobian @ covariance @ np.swapaxes(jacobian, 1, 2))
