"""A user's files, read for one detection: photons, where there are any, and the settings."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np

from geminga.arrays import Int64
from geminga.config import Config, ObservedConfig, config_from_tree
from geminga.distributed.simulate import response_of
from geminga.errors import InputError
from geminga.pipeline.models import Model, PhotonFile, files_of_entries
from geminga.response import Response
from geminga.response.builtin import load_tables
from geminga.response.cube_choice import CubeSummary
from geminga.response.event_types import class_bit
from geminga.response.survey import SECONDS_PER_YEAR
from geminga.sky.coverage import (
    Coverage,
    circles_covered,
    exposure_covered,
    photons_covered,
    pixels_covered,
    whole_sky,
)
from geminga.sky.formats.fits_input import (
    column_name,
    find_hdu,
    open_fits,
    require_columns,
    unit_factor,
)
from geminga.sky.formats.ft1 import read_events
from geminga.sky.formats.healpix import bins_of_channels, counts_of_bins
from geminga.sky.formats.healpix_file import EnergyBin, summarise_map, time_span
from geminga.sky.formats.selection import Selection, read_selection
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts

_LOG = logging.getLogger(__name__)
POSITIONS_DEG = 0.01
"""Pixels in which a photon's place is known no better than this along each axis are warned of."""
MAX_TIME_BINS = 127
"""As many have a number in a photon's byte."""
_CIRCLE = re.compile(r"CIRCLE\(([^,]+),([^,]+),([^,)]+)\)", re.IGNORECASE)


@dataclass(frozen=True)
class Inputs:
    """What a search takes.

    Attributes
    ----------
    photons : Photons, or PixelCounts of maps
    coverage : Coverage
        The part of the sky they are of.
    config : Config
        The model's configuration with the exposure and the response class of the files.
    response : Response
    """

    photons: Photons | PixelCounts
    coverage: Coverage
    config: Config
    response: Response


def summarise_counts(path: Path) -> PhotonFile:
    """Read the headers of a counts map; errors as `summarise_map`."""
    summary = summarise_map(path)
    return PhotonFile(path, summary.bins, span_s=summary.span_s, **_of(summary.selection))


def summarise_events(path: Path) -> PhotonFile:
    """Read the headers of an event list, and its energies where the headers have no cut on them.

    Raises
    ------
    InputError
        If the file is unsound, or has no table EVENTS with energies.
    """
    where = str(path)
    with open_fits(path) as hdus:
        hdu = find_hdu(hdus, "EVENTS", where)
        selection = read_selection(hdu.header, where, say=False)
        (name,) = require_columns(hdu, ["ENERGY"], where)
        energies = selection.energy_mev
        if energies is None:
            factor = unit_factor(hdu.columns[name].unit, "MeV", f"{where} ENERGY")
            values = np.asarray(hdu.data[name], dtype=np.float64) * factor
            if len(values) and not np.isfinite(values).all():
                raise InputError(where, "ENERGY is not finite", "remove those events")
            energies = (0.0, float(values.max(initial=np.inf if not len(values) else 0.0)))
        has_class = column_name(hdu, "EVENT_CLASS") is not None
        has_time = column_name(hdu, "TIME") is not None
        span = time_span(hdu.header)
    return PhotonFile(
        path, (), energies, span_s=span, has_class=has_class, has_time=has_time, **_of(selection)
    )  # fmt: skip


def _of(selection: Selection) -> dict[str, Any]:
    """Return what the keywords of a file say of its events; without a cut it holds all types."""
    types = selection.type_bits
    if types is None and selection.known:
        types = frozenset({0, 1})
    return {
        "types": types,
        "class_bit": max(selection.class_bits) if selection.class_bits else None,
        "region": selection.region,
    }


def run_config(model: Model, files: Sequence[PhotonFile], cubes: Sequence[CubeSummary]) -> Config:
    """Return a model's configuration with the exposure, class and time of a user's files.

    Raises
    ------
    InputError
        If files are of different classes, or of one whose response is not built in.
    """
    tree = model.config.model_dump(mode="json")
    response, irf = tree["response"], model.config.response.irf
    response["exposure_cube"] = [str(cube.path.resolve()) for cube in cubes] or None
    response["yearly_exposure"] = []
    tree["sky"]["years"] = _time_bins(model.config, files)
    told = {cube.irf: cube.path for cube in cubes if cube.irf is not None}
    if len(told) > 1:
        raise InputError(
            "--exposure", f"cubes are of {' and of '.join(sorted(told))}", "give one class"
        )
    found = next(iter(told), None)
    if found is not None and found != irf:
        known = {name.split("/")[0] for name in load_tables().names}
        if response["caldb"] is None and found not in known:
            raise InputError(
                str(told[found]),
                f"is of {found}, whose response is not built in",
                f"use one of {', '.join(sorted(known))}",
            )
        _LOG.warning("the exposure is of %s, the model was made for %s", found, irf)
        response["irf"] = found
    if not cubes or tree["sky"]["years"] > 1:
        # With cubes it tells the shares of the time bins alone.
        response["duration_years"] = _years(files, model.config.response.duration_years)
    if not cubes:
        response["irf"] = _builtin_class(files, irf)
    return config_from_tree(tree, f"model {model.name}")


def _builtin_class(files: Sequence[PhotonFile], irf: str) -> str:
    """Return the built-in class of files that can be cut to no other, the model's otherwise."""
    bits = {file.class_bit for file in files if file.class_bit is not None}
    if len(bits) != 1 or (not files[0].bins and max(bits) <= class_bit(irf)):
        return irf
    known = dict.fromkeys(name.split("/")[0] for name in load_tables().names)
    same = [name for name in known if class_bit(name) in bits and name[:4] == irf[:4]]
    if not same or same[0] == irf:
        return irf
    _LOG.warning("the photons are of class %s, the model was made for %s", same[0], irf)
    return same[0]


def _time_bins(config: Config, files: Sequence[PhotonFile]) -> int:
    """Return how many time bins light curves have, each as long as the model's about.

    One where no light curve can be: maps know no times.
    """
    spans = [file.span_s for file in files if file.has_time and file.span_s is not None]
    if config.sky.years == 1 or not spans or len(spans) < len(files):
        return 1
    seconds = max(s[1] for s in spans) - min(s[0] for s in spans)
    bins = seconds / SECONDS_PER_YEAR * config.sky.years / config.response.duration_years
    return min(max(round(bins), 1), MAX_TIME_BINS)


def _years(files: Sequence[PhotonFile], default: float) -> float:
    """Return the time the files cover, for the built-in exposure and the shares of its parts."""
    spans = [file.span_s for file in files if file.span_s is not None]
    if not spans:
        _LOG.warning("the files do not say their time: taken as %g years", default)
        return default
    years = (max(s[1] for s in spans) - min(s[0] for s in spans)) / SECONDS_PER_YEAR
    _LOG.info("the files cover %.2f years: taken as those of a survey", years)
    return years


def read_inputs(config: Config, model: Model, files: Sequence[PhotonFile]) -> Inputs:
    """Read photons and exposure.

    Parameters
    ----------
    config : Config
        From `run_config`.
    model : Model
    files : sequence of PhotonFile
        All counts maps, or all event lists.

    Raises
    ------
    InputError
        As the readers of counts, events and exposure.
    """
    response = response_of(config.model_dump_json())  # which the search uses again
    bit = class_bit(config.response.irf)
    paths = [file.path for file in files]
    photons: Photons | PixelCounts
    names = tuple(str(path) for path in paths)
    if files[0].bins:
        told = all(file.class_bit is not None for file in files)
        observed = ObservedConfig(counts=names, event_class_bits=(bit,) if told else ())
        reading = config.model_copy(update={"observed": observed})
        grouped = {
            name: [file.path for file in mine]
            for name, mine in files_of_entries(model, files).items()
        }
        bins = bins_of_channels(grouped, reading)
        photons, coverage = counts_of_bins(bins, paths, config), _of_maps(bins)
        _say_pixels(bins, config, response)
        # gtbin makes maps of the whole sky from events of a region, zero outside.
        for region in {file.region: file for file in files}.values():
            coverage = coverage & _of_regions([region])
    else:
        has_class = all(file.has_class for file in files)
        if not has_class:
            _LOG.warning("no column EVENT_CLASS: events are taken to be %s", config.response.irf)
        observed = ObservedConfig(events=names, event_class_bits=(bit,) if has_class else ())
        photons, coverage = read_events(paths, observed, config), _of_regions(files)
    coverage = coverage & exposure_covered(response.exposures)
    seen = photons_covered(photons, coverage)
    if seen.share < coverage.share:
        _LOG.warning(
            "%.2g %% of the sky holds no photon at all where the rest has many: taken as not "
            "observed",
            100 * (coverage.share - seen.share),
        )
    coverage = seen
    return Inputs(photons, coverage, config, response)


def _say_pixels(bins: Sequence[Sequence[EnergyBin]], config: Config, response: Response) -> None:
    """Warn if the pixels of the channel with the narrowest PSF limit positions."""
    index, _ = config.likelihood.fit_index_prior
    psf = response.psf
    radii = [psf.radius_of_containment(c, index, 0.68) for c in range(len(config.channels))]
    finest = int(np.argmin(radii))
    coarsest = min(bins[finest], key=lambda part: part.nside)
    pixel = math.degrees(hp.nside2resol(coarsest.nside))
    rms = pixel / math.sqrt(12.0)
    if rms <= POSITIONS_DEG:
        return
    enough = 1 << math.ceil(math.log2(coarsest.nside * rms / POSITIONS_DEG))
    _LOG.warning(
        "positions are limited by the pixels of %s (nside %d, %.3f deg): the place of a photon is "
        "known to %.3f deg along each axis, that of n photons to %.3f / sqrt(n): use FT1 events, "
        "or nside %d or more, for %g deg",
        coarsest.where,
        coarsest.nside,
        pixel,
        rms,
        rms,
        enough,
        POSITIONS_DEG,
    )


def _of_maps(bins: Sequence[Sequence[EnergyBin]]) -> Coverage:
    """Return the part of the sky that the maps of all channels have."""
    coverage = whole_sky()
    known: list[tuple[int, bool, Int64]] = []
    for part in (part for parts in bins for part in parts):
        if part.covered is None:
            continue
        same = (part.nside, part.galactic)
        if any(k[:2] == same and np.array_equal(k[2], part.covered) for k in known):
            continue
        known.append((*same, part.covered))
        coverage = coverage & pixels_covered(part.nside, part.covered, part.galactic)
    return coverage


def _of_regions(files: Sequence[PhotonFile]) -> Coverage:
    """Return the part of the sky that files were cut to, all together."""
    circles = []
    for file in files:
        match = None if file.region is None else _CIRCLE.match(file.region)
        if match is None:
            return whole_sky()  # a region of another shape shows in the photons
        circles.append((float(match[1]), float(match[2]), float(match[3])))
    return circles_covered(circles)
