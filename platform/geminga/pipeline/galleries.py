"""Galleries of a run: its most confident false detections and its brightest missed sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from geminga.arrays import Float64
from geminga.bands import Band
from geminga.config import Config
from geminga.distributed.search import photon_file
from geminga.evaluation.gallery import CutOut, brightest_missed, confident_false, gallery
from geminga.evaluation.ranked import RankedList, ranked_list
from geminga.geometry import tangent_frames, to_plane, unit_vectors
from geminga.localisation.significance import significance_maps
from geminga.patches.project import bin_tangent
from geminga.pipeline.measured import RunLists
from geminga.pipeline.runner import Context
from geminga.pipeline.search import SEARCH_NAMES, primary_search, score_cuts
from geminga.pipeline.simulate import test_sky_ids
from geminga.sky.photons import Photons

FALSE_FIGURE, MISSED_FIGURE = "gallery_false", "gallery_missed"
SHOWN = 0.375
"""Width of an image over that of a patch: 3.75 deg of the usual ten."""

MARKED_TS = 9.0
"""Expected TS from which true sources are marked: the others cannot be seen."""

BRIGHTEST_SIGMA = 6.0
"""Significance from which all looks the same."""

_PLACES_A_ROW = 2


def run_galleries(context: Context, lists: RunLists, number: int = 10) -> dict[str, Figure]:
    """Draw both galleries of the primary search, by name of the figure.

    Each place is shown in a channel of low and one of high energy, and in the significance map of
    the threshold search, which takes the smooth background away.
    """
    config = context.config
    search = primary_search(config)
    cut = score_cuts(context).get(search, -np.inf)
    ranked = ranked_list(
        lists.found[search],
        lists.truth,
        config.evaluation.match_radius_deg,
        extended=lists.extended,
    )
    name = SEARCH_NAMES[search]
    marks = "circles: true sources" + (
        f" of TS > {MARKED_TS:g}" if ranked.sources["ts"].notna().any() else ""
    )
    crosses = "crosses: detections above the score cut"
    return {
        FALSE_FIGURE: gallery(
            _cutouts(context, ranked, confident_false(ranked, number), cut),
            f"{name}: most confident false detections ({marks}; {crosses})",
            3 * _PLACES_A_ROW,
        ),
        MISSED_FIGURE: gallery(
            _cutouts(context, ranked, brightest_missed(ranked, cut, number), cut),
            f"{name}: brightest missed sources ({marks}; {crosses})",
            3 * _PLACES_A_ROW,
        ),
    }


def _cutouts(
    context: Context, ranked: RankedList, places: pd.DataFrame, cut: float
) -> list[CutOut]:
    """Return the images of each place, in the order of the places."""
    skies = test_sky_ids(context.config)
    images: dict[int, list[CutOut]] = {}
    for sky in sorted(set(places["sky"])):
        photons = Photons.load(photon_file(context.folder("observe"), skies[sky]))
        sources = ranked.sources[ranked.sources["sky"] == sky]
        detections = ranked.detections[ranked.detections["sky"] == sky]
        rows = np.flatnonzero(places["sky"] == sky)
        here = places.iloc[rows]
        frames = tangent_frames(here["lon_deg"].to_numpy(), here["lat_deg"].to_numpy())
        for k, pictures in enumerate(place_images(photons, frames, context.config)):
            place = here.iloc[k]
            # A place of the gallery is marked itself, whatever its brightness or score.
            own_ts, own_score = place.get("ts", np.nan), place.get("score", np.inf)
            least = np.fmin(MARKED_TS, own_ts if "found_score" in place else np.inf)
            seen = sources[~(sources["ts"].to_numpy() < least)]
            listed = detections[detections["score"].to_numpy() >= min(cut, own_score)]
            images[int(rows[k])] = [
                CutOut(
                    image,
                    width,
                    place["caption"] if number == 0 else "",
                    _near(frames[k], seen, width),
                    _near(frames[k], listed, width),
                    label,
                )
                for number, (label, image, width) in enumerate(pictures)
            ]
    return [cutout for row in range(len(places)) for cutout in images[row]]


def place_images(
    photons: Photons, frames: Float64, config: Config
) -> list[list[tuple[str, Float64, float]]]:
    """Return images around places on the sky, pixels as in a patch.

    Parameters
    ----------
    photons : Photons
        Of one sky.
    frames : Float64 (n, 3, 3)
        Tangent-plane frames at the places.
    config : Config

    Returns
    -------
    list of list of (str, Float64 (m, m), float)
        For each place: counts of a channel of low energy and of one of high energy (the same
        where there is one channel), and the significance in sigma. Each with what it is and its
        width in degrees; the place is at the centre.
    """
    channels, size = config.channels, config.patches.size_deg
    counts = bin_tangent(photons, frames, [size] * len(channels), [c.pixels for c in channels])
    chosen = _of_energy(channels, config.localisation.significance_min_gev)
    significance = significance_maps(
        [counts[c].astype(np.float64) for c in chosen],
        [channels[c] for c in chosen],
        size,
        config.localisation,
    )
    # Two thirds up: above it photons are few.
    high = round(2 * (len(channels) - 1) / 3)
    shown = [(f"{channels[c].label}: counts", counts[c].astype(np.float64)) for c in (0, high)]
    # A bright neighbour would hide the place.
    shown.append(
        (f"significance to {BRIGHTEST_SIGMA:g} sigma", np.minimum(significance, BRIGHTEST_SIGMA))
    )
    return [
        [(label, *_middle(stack[k], size)) for label, stack in shown] for k in range(len(frames))
    ]


def _of_energy(channels: Sequence[Band], least_gev: float) -> list[int]:
    """Return the channels from an energy up; all if there is none, as the threshold search does."""
    chosen = [c for c, channel in enumerate(channels) if channel.emin_gev >= least_gev]
    return chosen or list(range(len(channels)))


def _middle(image: Float64, size_deg: float) -> tuple[Float64, float]:
    """Return the middle of an image (n, n) and its width; the centre stays the centre."""
    pixels = len(image)
    edge = round((1.0 - SHOWN) / 2.0 * pixels)
    part = image[edge : pixels - edge, edge : pixels - edge]
    return part, size_deg * len(part) / pixels


def _near(frame: Float64, table: pd.DataFrame, width_deg: float) -> Float64:
    """Return plane coordinates (m, 2) of what lies inside an image."""
    directions = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    xy = np.stack(to_plane(frame, directions), axis=-1)
    return np.asarray(xy[(np.abs(xy) < width_deg / 2.0).all(axis=1)])
