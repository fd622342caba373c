"""The real sky against the one expected from a catalogue and the diffuse models, nothing fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np

from geminga.arrays import Float64
from geminga.bands import Channel
from geminga.config import Config, data_path
from geminga.errors import InputError
from geminga.evaluation import sky_comparison_figures as figures
from geminga.evaluation.sky_comparison import (
    CELL_COUNTS,
    REGIONS,
    Goodness,
    Profile,
    goodness,
    profile,
    region_masks,
    residual_sigma,
    smoothed_sigma,
)
from geminga.files import atomic
from geminga.response import build_response
from geminga.sky.catalogue_sky import catalogue_sky
from geminga.sky.counts_maps import CountsMaps, observed_maps, predicted_maps
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.formats.fits_input import equatorial_from_galactic

_LOG = logging.getLogger(__name__)
SMOOTHING_DEG = 2.0
_SIGMA_SHOWN = 5.0
_RESIDUAL_NSIDE = 32
_LATITUDE_STEP_DEG, _LONGITUDE_STEP_DEG = 5.0, 10.0


@dataclass(frozen=True, eq=False)
class SkyComparison:
    """Counted and expected photons of one configuration.

    Attributes
    ----------
    channels : tuple of Channel (C,)
    observed : CountsMaps
    expected : dict of str to Float64 (C, npix)
        Of every component, in the pixels of `observed`.
    origin : dict of str to str
        Where photons, sources, diffuse emission and response come from.
    """

    channels: tuple[Channel, ...]
    observed: CountsMaps
    expected: dict[str, Float64]
    origin: dict[str, str]

    @property
    def model(self) -> Float64:
        """Expected counts of all components, (C, npix)."""
        return np.asarray(sum(self.expected.values()))

    @property
    def ratio(self) -> float:
        """Expected over counted photons, whole sky and all channels."""
        return float(self.model.sum() / self.observed.counts.sum())


def compare_sky(config: Config) -> SkyComparison:
    """Compute what a configuration expects of the real sky, and read what was counted.

    The sources are those of ``observed.truth_catalog``; ``observed`` names the photons. Nothing
    of the prediction depends on them.

    Parameters
    ----------
    config : Config
        Its maps have the least nside of its bands.

    Raises
    ------
    InputError
        If the configuration has no photons or no catalogue, or a file cannot be used.
    """
    observed = config.observed
    if observed is None:
        raise InputError("observed", "is not configured", "name events or counts to compare with")
    if observed.truth_catalog is None:
        raise InputError(
            "observed.truth_catalog", "is not set", "name the catalogue whose sources are expected"
        )
    catalogue = data_path(config, observed.reference_catalogs[observed.truth_catalog])
    counted = observed_maps(config, observed, min(band.nside for band in config.bands))
    if not counted.counts.any():
        raise InputError("observed", "holds no photon in the bands", "choose other bands or files")
    response = build_response(config)
    sky = catalogue_sky(config, response, diffuse_counts(config, response), catalogue)
    _LOG.info("%d sources and the diffuse emission of %d channels are put into the maps",
              len(sky.sources.table), len(sky.channels))  # fmt: skip
    expected = predicted_maps(sky, counted.nside, counted.galactic)
    return SkyComparison(
        config.channels,
        counted,
        {name: maps for name, maps in expected.items() if maps.any()},
        {
            "photons": counted.origin,
            "sources": catalogue.name,
            **sky.diffuse.origin,
            **response.origin,
        },
    )


def write_comparison(comparison: SkyComparison, folder: Path) -> str:
    """Write the table ``comparison.md`` and the figures of a comparison; return the table."""
    counts, model = comparison.observed.counts.sum(axis=0), comparison.model.sum(axis=0)
    summed = {name: maps.sum(axis=0) for name, maps in comparison.expected.items()}
    rotation = None if comparison.observed.galactic else equatorial_from_galactic(np.eye(3)).T
    lon, lat = comparison.observed.directions()
    coarse = min(_RESIDUAL_NSIDE, comparison.observed.nside)
    plane = np.abs(lat) < 10.0
    turned = (lon + 180.0) % 360.0 - 180.0
    height = np.arange(-90.0, 90.1, _LATITUDE_STEP_DEG)
    along = np.arange(-180.0, 180.1, _LONGITUDE_STEP_DEG)
    lines = {
        "all longitudes": profile(lat, height, counts, summed),
        "|b| < 10°": _part(turned, along, counts, summed, plane),
        "|b| > 10°": _part(turned, along, counts, summed, ~plane),
    }
    axes = ("Galactic latitude (deg)", *["Galactic longitude (deg)"] * 2)
    drawings = {
        "maps": figures.sky_pair(
            {"counted": counts, "expected": model},
            rotation,
            f"photons in pixels of {_side(comparison.observed.nside)}",
        ),
        "residuals": figures.sky_pair(
            {
                f"pixels of {_side(coarse)}": residual_sigma(
                    *(healpy.ud_grade(v, coarse, power=-2) for v in (counts, model))
                ),
                f"smoothed with {SMOOTHING_DEG:g}°": smoothed_sigma(counts, model, SMOOTHING_DEG),
            },
            rotation,
            "(counted - expected) in standard deviations",
            _SIGMA_SHOWN,
        ),
        "profiles": figures.profiles(lines, axes),
    }
    for number, entry in enumerate(dict.fromkeys(c.event_types for c in comparison.channels)):
        rows = [i for i, c in enumerate(comparison.channels) if c.event_types == entry]
        drawings["bands" if number == 0 else f"bands_{'_'.join(entry)}"] = figures.band_totals(
            np.array([[comparison.channels[i].emin_gev, comparison.channels[i].emax_gev]
                      for i in rows]),
            comparison.observed.counts[rows].sum(axis=1),
            {name: maps[rows].sum(axis=1) for name, maps in comparison.expected.items()},
        )  # fmt: skip
    for name, drawing in drawings.items():
        figures.save_small(drawing, folder / f"{name}.png")
    text = comparison_text(comparison)
    with atomic(folder / "comparison.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _side(nside: int) -> str:
    return f"{np.degrees(healpy.nside2resol(nside)):.1f}°"


def _part(
    coordinate: Float64,
    edges: Float64,
    counts: Float64,
    expected: Mapping[str, Float64],
    pixels: np.ndarray,
) -> Profile:
    return profile(
        coordinate[pixels], edges, counts[pixels], {k: v[pixels] for k, v in expected.items()}
    )


def comparison_text(comparison: SkyComparison) -> str:
    """Return the tables of a comparison as Markdown: by channel, and by part of the sky."""
    names = list(comparison.expected)
    head = ["channel", "counted", "expected", *names, "expected / counted", "error"]
    head += ["deviance", "sigma", f"chi2 (>= {CELL_COUNTS:g})", "cells"]
    rows = []
    for number, channel in enumerate(comparison.channels):
        picked = {name: maps[number] for name, maps in comparison.expected.items()}
        rows.append(_row(channel.label, comparison.observed.counts[number], picked))
    summed = {name: maps.sum(axis=0) for name, maps in comparison.expected.items()}
    counts = comparison.observed.counts.sum(axis=0)
    rows.append(_row("all", counts, summed))
    masks = region_masks(*comparison.observed.directions())
    model = np.asarray(sum(summed.values()))
    regions = []
    for name, where in REGIONS:
        seen, wanted = counts[masks[name]].sum(), model[masks[name]].sum()
        ratio, error = _ratio(seen, wanted)
        regions.append([name, where, f"{seen:.0f}", f"{wanted:.0f}", ratio, error])
    origin = "\n".join(f"- {key}: {value}" for key, value in comparison.origin.items())
    region_head = ["part of the sky", "borders", "counted", "expected", "expected / counted"]
    return f"{_table(head, rows)}\n{_table([*region_head, 'error'], regions)}\n{origin}\n"


def _row(label: str, counts: Float64, expected: Mapping[str, Float64]) -> list[str]:
    model = np.asarray(sum(expected.values()))
    fit: Goodness = goodness(counts, model)
    return [
        label,
        f"{counts.sum():.0f}",
        f"{model.sum():.0f}",
        *(f"{maps.sum():.0f}" for maps in expected.values()),
        *_ratio(counts.sum(), model.sum()),
        f"{fit.deviance:.3f}",
        f"{fit.deviance_sigma:+.1f}",
        f"{fit.pearson:.2f}",
        str(fit.cells),
    ]


def _ratio(counted: float, expected: float) -> tuple[str, str]:
    """Return expected over counted, and its Poisson error."""
    if counted <= 0:
        return "-", "-"
    return f"{expected / counted:.3f}", f"{expected / counted**1.5:.3f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
