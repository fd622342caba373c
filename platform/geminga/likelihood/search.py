"""Likelihood search of one patch: peaks of the TS map become sources, fitted with all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.config import Config
from geminga.geometry import from_plane, lon_lat, pixel_to_plane, to_plane
from geminga.likelihood.background import estimate_background
from geminga.likelihood.background_prior import BackgroundPrior, background_prior
from geminga.likelihood.diffuse_templates import Templates
from geminga.likelihood.fit import best_fit
from geminga.likelihood.kernels import PointKernels, make_kernels, map_phases
from geminga.likelihood.known import KnownSources
from geminga.likelihood.local_problem import PatchData, Sources, patch_data, place_sources
from geminga.likelihood.measure import PatchFit, measure, outline
from geminga.likelihood.peaks import local_maxima
from geminga.likelihood.pruning import given_up, without_twins
from geminga.likelihood.sky_list import GAP_DEG, SLACK_DEG, depth_deg
from geminga.likelihood.source_model import SourceModel, Spectra, make_source_model, make_spectra
from geminga.likelihood.ts_map import UNSEEN_COUNTS, TsMaps, ts_maps
from geminga.response import Response
from geminga.sections import LikelihoodConfig

OUTSIDE_DEG = 4.0
"""Known sources this far outside a patch still shine into it."""
HELD_DEG = 1.0
"""Known sources that another patch holds this much deeper are not fitted again."""
CERTAIN = 3.0
"""Peaks of the TS map this far above the threshold need no exact TS."""
NEW_DEG = 0.1
"""What is left this close to a source is its own: no second one is begun there."""


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

    def spectra(self, frames: Float64) -> Spectra:
        """Return the counts per flux in the middle of each patch of `frames` (P, 3, 3)."""
        lon, lat = lon_lat(frames[:, 0])
        return make_spectra(self.response, lon, lat, self.settings.fit_index_limits)


@dataclass(frozen=True, eq=False)
class Place:
    """Where the patch of a search lies.

    Attributes
    ----------
    frame : Float64 (3, 3)
    spectra : Spectra
        In its middle, one direction.
    others : Float64 (k, 3, 3)
        Frames of the patches around: sources that one of them holds deeper are theirs to report.
    """

    frame: Float64
    spectra: Spectra
    others: Float64

    def lead_deg(self, x_deg: Float64, y_deg: Float64, size_deg: float) -> Float64:
        """Return how much deeper the other patches hold places of this one, degrees (m,)."""
        own = size_deg / 2.0 - np.maximum(np.abs(x_deg), np.abs(y_deg))
        if not len(self.others):
            return np.full(len(x_deg), -np.inf)
        vectors = from_plane(self.frame, x_deg, y_deg)
        return np.asarray(depth_deg(vectors, self.others, size_deg).max(axis=0) - own)


def places_of(search: PatchSearch, frames: Float64, every: Float64) -> list[Place]:
    """Return where patches of `frames` (P, 3, 3) lie among `every` (N, 3, 3) patch of a sky."""
    spectra = search.spectra(frames)
    reach = np.cos(np.radians(np.sqrt(2.0) * search.size_deg))
    places = []
    for p, frame in enumerate(frames):
        cosine = every[:, 0] @ frame[0]
        # The patch itself is no other.
        near = (cosine > reach) & (np.abs(every - frame).max(axis=(1, 2)) > 1e-9)
        places.append(Place(frame, spectra.part(slice(p, p + 1)), every[near]))
    return places


@dataclass(frozen=True, eq=False)
class PatchResult:
    """Outcome of a search of one patch.

    Attributes
    ----------
    fit : PatchFit
        Of the sources that are kept and that are this patch's to report.
    diffuse : tuple of Float32 (n_c, n_c)
        Background without any source.
    background : tuple of Float32 (n_c, n_c)
        Everything but the sources that were fitted; `UNSEEN_COUNTS` where nothing was observed.
    maps : TsMaps
        One patch, of the last round: of what the sources known by then leave.
    """

    fit: PatchFit
    diffuse: tuple[Float32, ...]
    background: tuple[Float32, ...]
    maps: TsMaps


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
    place: Place,
    known: KnownSources,
    thresholds: Sequence[float],
    *,
    templates: Templates | None = None,
    background: Sequence[Float32] | None = None,
    outside: Sequence[Bool] | None = None,
    in_full: bool = True,
) -> PatchResult:
    """Find and fit the sources of a patch, in rounds.

    Each round estimates the background with the sources known by then, seeks peaks in the map of
    the TS that is left, and fits all sources together. Those whose fit falls below
    ``search_least_ts`` are given up.

    Parameters
    ----------
    search : PatchSearch
    counts : sequence of arrays (n_c, n_c), one per channel
        Photons.
    place : Place
    known : KnownSources
        Sources found before, here and beyond the patch's edges.
    thresholds : sequence of float
        Least TS of new sources in the map of each round, one round at least.
    templates : Templates, optional
        Reference model of the diffuse emission in this patch (one patch), from which the
        background is estimated.
    background : sequence of Float32 (n_c, n_c), optional
        Used instead if given: the oracle knows it.
    outside : sequence of bool arrays (n_c, n_c), optional
        True where nothing was observed.
    in_full : bool
        Measure TS with neighbours refitted, errors, counts of the channels. Otherwise the TS is
        that of the source alone and all else is not a number: enough to search again.
    """
    if background is None and templates is None:
        raise ValueError("a search needs templates or a background")
    if not len(thresholds):
        raise ValueError("a search needs a threshold for every round, one round at least")
    patch = _Patch(search, counts, place, known, templates, background, outside)
    complete = len(known.flux) > 0
    for number, threshold in enumerate(thresholds):
        last = number == len(thresholds) - 1
        # Sources that are not known yet would be taken for background: excesses are left out, at
        # first in full, once the bright ones are known in one round, and not where the list is
        # complete.
        patch.estimate(0 if complete else None if number == 0 else 1)
        fit, maps = patch.round(threshold, complete, last, last and in_full)
    return PatchResult(fit, patch.diffuse, patch.beneath, maps)


_Parameters = tuple[Float64, Float64, Float64, Float64]
"""Plane coordinates, flux and index of sources, each (m,)."""


class _Patch:
    """A patch and the sources found in it so far."""

    def __init__(
        self,
        search: PatchSearch,
        counts: Sequence[np.ndarray],
        place: Place,
        known: KnownSources,
        templates: Templates | None,
        background: Sequence[Float32] | None,
        outside: Sequence[Bool] | None,
    ) -> None:
        self.search, self.place, self.outside = search, place, outside
        self.photons = [np.ascontiguousarray(image) for image in counts]
        self.counts = [self._filled(c, image) for c, image in enumerate(self.photons)]
        self.templates, self.given = templates, background
        half = search.size_deg / 2.0
        reach = np.cos(np.radians(np.sqrt(2.0) * half + OUTSIDE_DEG))
        near = np.flatnonzero(known.vectors @ place.frame[0] > reach)
        x, y = to_plane(place.frame, known.vectors[near])
        flux, index = known.flux[near], known.index[near]
        depth = half - np.maximum(np.abs(x), np.abs(y))
        inside = depth > -GAP_DEG
        lead = place.lead_deg(x[inside], y[inside], search.size_deg)
        # In a gap between patches, the nearest fits what is there; else those that hold it well.
        gap = np.maximum(lead, 0.0) + depth[inside] <= 0.0
        inside[inside] = np.where(gap, lead <= SLACK_DEG, (depth[inside] > 0.0) & (lead < HELD_DEG))
        self.x, self.y, self.flux, self.index = x[inside], y[inside], flux[inside], index[inside]
        self.own = self._images(self.x, self.y, self.flux, self.index)
        out = ~inside
        self.beyond = self._images(x[out], y[out], flux[out], index[out])

    def estimate(self, mask_rounds: int | None) -> None:
        """Estimate the background beneath the sources known by now."""
        if self.given is None:
            if self.templates is None:
                raise ValueError("a search needs templates or a background")
            estimate = estimate_background(
                [image[None] for image in self.photons],
                self.templates,
                self.search.prior,
                sources_model=[(a + b)[None] for a, b in zip(self.own, self.beyond, strict=True)],
                mask=None if self.outside is None else [image[None] for image in self.outside],
                rounds=mask_rounds,
            )
            self.diffuse = tuple(image[0] for image in estimate)
        else:
            self.diffuse = tuple(np.asarray(image, np.float32) for image in self.given)
        both = enumerate(zip(self.diffuse, self.beyond, strict=True))
        self.beneath = tuple(self._filled(c, a + b) for c, (a, b) in both)

    def round(
        self, threshold: float, complete: bool, last: bool, in_full: bool
    ) -> tuple[PatchFit, TsMaps]:
        """Seek and fit; return what is said of the sources kept, and the map of what was left."""
        search, settings = self.search, self.search.settings
        # Brighter sources are found with one spectrum too.
        chosen = slice(None) if in_full else _middle(len(settings.indices))
        indices = np.array(settings.indices)[chosen]
        top_ts = min(settings.map_top_ts, CERTAIN * threshold)
        maps = ts_maps(
            [image[None] for image in self.counts],
            [(a + b)[None] for a, b in zip(self.beneath, self.own, strict=True)],
            search.kernels[chosen],
            self.place.spectra.at_each(indices),
            settings.model_copy(update={"map_top_ts": top_ts}),
        )
        x, y, at = self._peaks(maps, threshold, complete)
        data = patch_data(self.counts, self.beneath, search.model, self.place.spectra)
        start = (
            np.concatenate([self.x, x]),
            np.concatenate([self.y, y]),
            np.concatenate([self.flux, maps.flux[0][at]]),
            np.concatenate([self.index, indices[maps.template[0][at]]]),
        )
        sources, fit = self._fitted(data, start, in_full)
        if in_full:
            gone, again = given_up(fit.x_deg, fit.y_deg, fit.flux, fit.ts, settings.search_least_ts)
            if again:
                stay = np.setdiff1d(np.arange(len(sources.flux)), self._told(sources)[gone])
                sources, fit = self._fitted(data, _parameters(sources, stay), in_full)
        kept = (fit.ts >= settings.search_least_ts) & (fit.flux > 0.0)
        if not last:
            self._remember(data, sources, kept)
        return fit.part(np.flatnonzero(kept)), maps

    def _fitted(
        self, data: PatchData, start: _Parameters, in_full: bool
    ) -> tuple[Sources, PatchFit]:
        """Fit sources together, twins as one; return all, and what is said of those told of."""
        settings = self.search.settings
        sources, converged = best_fit(data, *_single(start), settings, in_full)
        fitted = _parameters(sources)
        single = _single(fitted)
        if len(single[0]) < len(fitted[0]):
            sources, converged = best_fit(data, *single, settings, in_full)
        if not in_full:
            return sources, outline(data, sources, converged)
        return sources, measure(data, sources, converged, settings, self._told(sources))

    def _told(self, sources: Sources) -> Int64:
        """Return the sources that are this patch's to report: no other one holds them deeper."""
        lead = self.place.lead_deg(sources.x_deg, sources.y_deg, self.search.size_deg)
        return np.flatnonzero(lead <= SLACK_DEG)

    def _peaks(
        self, maps: TsMaps, threshold: float, complete: bool
    ) -> tuple[Float64, Float64, tuple[Int64, Int64]]:
        """Return plane coordinates (m,), (m,) and pixels of new sources."""
        size, pixels = self.search.size_deg, maps.ts.shape[1]
        radius = self.search.settings.search_separation_deg / size * pixels
        _, row, column, _ = local_maxima(maps.ts.astype(np.float64), threshold, radius)
        x, y = pixel_to_plane(column, pixels, size), pixel_to_plane(row, pixels, size)
        apart = np.hypot(x[:, None] - self.x, y[:, None] - self.y)
        new = apart.min(axis=1, initial=np.inf) > NEW_DEG
        if complete:
            # What another patch holds far deeper, it has searched for.
            new &= self.place.lead_deg(x, y, size) < HELD_DEG
        at = np.rint(row[new]).astype(np.int64), np.rint(column[new]).astype(np.int64)
        return x[new], y[new], at

    def _remember(self, data: PatchData, sources: Sources, kept: Bool) -> None:
        """Start the next round from these sources."""
        self.x, self.y = sources.x_deg[kept], sources.y_deg[kept]
        self.flux, self.index = sources.flux[kept], sources.index[kept]
        image = sources.images(data.layout, sources.counts * kept[:, None])
        self.own = _split(image, data.layout)

    def _images(self, x: Float64, y: Float64, flux: Float64, index: Float64) -> tuple[Float32, ...]:
        """Return the expected counts of sources at given places, (n_c, n_c) per channel."""
        model = self.search.model
        empty = np.zeros(int(model.start[-1]))
        layout = np.array([model.pixels, model.start[:-1]])
        if not len(x):
            return _split(empty, layout)
        data = PatchData(empty, empty, model, self.place.spectra, layout)
        return _split(place_sources(data, x, y, flux, index).images(layout), layout)

    def _filled(self, channel: int, image: np.ndarray) -> Float32:
        """Return an image with `UNSEEN_COUNTS` where nothing was observed."""
        if self.outside is None:
            return np.asarray(image, np.float32)
        filled = np.where(self.outside[channel], np.float32(UNSEEN_COUNTS), image)
        return np.asarray(filled, np.float32)


def _parameters(sources: Sources, rows: Int64 | slice = slice(None)) -> _Parameters:
    return (
        sources.x_deg[rows],
        sources.y_deg[rows],
        sources.flux[rows],
        sources.index[rows],
    )


def _single(parameters: _Parameters) -> _Parameters:
    """Return sources without twins of others."""
    x, y, flux, index = parameters
    rows, total = without_twins(x, y, flux)
    return x[rows], y[rows], total[rows], index[rows]


def _split(image: Float64, layout: Int64) -> tuple[Float32, ...]:
    """Return the images (n_c, n_c) of the channels of a flat image."""
    return tuple(
        image[start : start + n * n].reshape(n, n).astype(np.float32) for n, start in layout.T
    )


def _middle(count: int) -> slice:
    return slice((count - 1) // 2, (count - 1) // 2 + 1)
