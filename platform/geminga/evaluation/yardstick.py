"""The yardstick: any list of detections against any truth, several searches side by side.

Detections and sources are matched one to one within 0.3 deg, brightest source first, and matched
anew at every score cut (`geminga.evaluation.ranked`). The *cut at a purity* is the loosest score
at which the list at or above it is that pure; what is found at it is the completeness at that
purity, which is the largest at any cut so pure. Each part of the sky (latitude) has its own cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.errors import InputError
from geminga.evaluation.bootstrap import Bootstrapped, Estimate, Units, bootstrap, make_units
from geminga.evaluation.calibration import score_calibration
from geminga.evaluation.positions import matched_pairs, position_bins, position_calibration
from geminga.evaluation.ranked import Matching, RankedList, ranked_list
from geminga.evaluation.working_points import LATITUDES, Latitude, Part
from geminga.evaluation.yardstick_results import (
    Bins,
    Compared,
    Curve,
    PartFigures,
    SearchFigures,
    WorkingFigures,
    Yardstick,
)


def flux_edges(low: float, high: float, per_decade: int) -> tuple[float, ...]:
    """Return edges even in the logarithm from `low` to `high`."""
    steps = round(np.log10(high / low) * per_decade)
    return tuple(float(v) for v in low * 10.0 ** (np.arange(steps + 1) / per_decade))


@dataclass(frozen=True)
class YardstickSettings:
    """How searches are measured.

    Attributes
    ----------
    match_radius_deg, matching
        As in `geminga.evaluation.ranked.ranked_match`.
    purities : tuple of float
        Purities at which completeness is given.
    levels : tuple of float
        Completeness whose flux is sought.
    s1_edges, s10_edges, ts_edges : tuple of float
        Bins; the end bins take what lies beyond.
    position_purity : float
        Purity (whole sky) of the list whose positions are measured.
    position_s1 : tuple of float
        Edges of the ranges of flux for positions, ph/cm2/s.
    bright_s1 : float
        Sources from this flux on are bright: one more range.
    latitudes : tuple of Latitude
        Parts of the sky; the first is the whole.
    resamples, seed, region_nside, fewest_skies
        Of the bootstrap (`geminga.evaluation.bootstrap.make_units`).
    """

    match_radius_deg: float = 0.3
    matching: Matching = "one-to-one"
    purities: tuple[float, ...] = (0.8, 0.9, 0.95)
    levels: tuple[float, ...] = (0.5, 0.9)
    s1_edges: tuple[float, ...] = flux_edges(1e-11, 1e-6, 4)
    s10_edges: tuple[float, ...] = flux_edges(1e-13, 1e-7, 4)
    ts_edges: tuple[float, ...] = (0, 4, 9, 16, 25, 36, 49, 64, 100, 200, 400, 1000, 1e4, 1e6)
    position_purity: float = 0.9
    position_s1: tuple[float, ...] = (0.0, 1e-10, 2e-10, 5e-10, 1e-9, 3e-9, float("inf"))
    bright_s1: float = 5e-10
    latitudes: tuple[Latitude, ...] = LATITUDES
    resamples: int = 200
    seed: int = 0
    region_nside: int = 8
    fewest_skies: int = 5

    def edges(self) -> dict[str, Float64]:
        """Return the bin edges by column."""
        return {
            "s1": np.array(self.s1_edges, dtype=np.float64),
            "s10": np.array(self.s10_edges, dtype=np.float64),
            "ts": np.array(self.ts_edges, dtype=np.float64),
        }

    def position_ranges(self) -> list[tuple[float, float]]:
        """Return the ranges of flux for positions: all, bright, then between the edges."""
        edges = self.position_s1
        everything = (0.0, float("inf"))
        return [everything, (self.bright_s1, float("inf")), *pairwise(edges)]


def measure_searches(
    searches: Mapping[str, Sequence[pd.DataFrame]],
    truth: Sequence[pd.DataFrame],
    settings: YardstickSettings | None = None,
    oracle: str | None = None,
    extended: Sequence[pd.DataFrame] | None = None,
    title: str = "",
) -> Yardstick:
    """Measure lists of detections against the truth.

    Parameters
    ----------
    searches : mapping
        Name of each search to its detections, one table per sky: ``lon_deg``, ``lat_deg``,
        ``score``; optionally ``probability``, ``position_error_deg`` or an error ellipse
        (`geminga.evaluation.positions.COVARIANCE`), and own ``s1``, ``s10``, ``ts``. Not cut in
        score, or as little as possible: completeness at a purity is sought in the list.
    truth : sequence of DataFrame
        One table per sky: ``lon_deg``, ``lat_deg``, ``s1``; optionally ``s10`` and the expected
        ``ts``, NaN where unknown.
    settings : YardstickSettings, optional
        The defaults if not given.
    oracle : str, optional
        Which of the searches is the ceiling.
    extended : sequence of DataFrame, optional
        Table EXTENDED of each sky: detections there are left out unless they add a point source.
    title : str
        Heading.

    Raises
    ------
    InputError
        If a table lacks a column or does not fit the others, or the oracle is not among the
        searches.
    """
    settings = settings or YardstickSettings()
    if oracle is not None and oracle not in searches:
        raise InputError("oracle", f"{oracle!r}", f"name one of {', '.join(searches)}")
    units = search_units(len(truth), settings)
    measured = {
        name: _measure(frames, truth, settings, units, extended)
        for name, frames in searches.items()
    }
    reference = None if oracle is None else measured[oracle][1]
    figures = {}
    for name, (ranked, parts) in measured.items():
        figures[name] = _search_figures(
            name, ranked, parts, reference, searches[name], truth, settings, units
        )
    return Yardstick(
        title,
        settings.matching,
        units.description,
        settings.match_radius_deg,
        len(truth),
        oracle,
        figures,
    )


def search_units(skies: int, settings: YardstickSettings) -> Units:
    """Return what is drawn with replacement on this number of skies."""
    return make_units(
        skies, settings.resamples, settings.seed, settings.region_nside, settings.fewest_skies
    )


_Parts = dict[str, tuple[Part, Bootstrapped]]


def _measure(
    frames: Sequence[pd.DataFrame],
    truth: Sequence[pd.DataFrame],
    settings: YardstickSettings,
    units: Units,
    extended: Sequence[pd.DataFrame] | None,
) -> tuple[RankedList, _Parts]:
    ranked = ranked_list(frames, truth, settings.match_radius_deg, settings.matching, extended)
    parts = {}
    for latitude in settings.latitudes:
        part = Part(ranked, units, latitude, settings.purities, settings.levels, settings.edges())
        parts[latitude.name] = (part, bootstrap(part.figures, units))
    return ranked, parts


def _search_figures(
    name: str,
    ranked: RankedList,
    parts: _Parts,
    reference: _Parts | None,
    frames: Sequence[pd.DataFrame],
    truth: Sequence[pd.DataFrame],
    settings: YardstickSettings,
    units: Units,
) -> SearchFigures:
    whole = parts[settings.latitudes[0].name][0]
    cut = whole.cut(np.ones(units.weights.shape[1]), settings.position_purity)
    pairs = matched_pairs(frames, truth, cut, settings.match_radius_deg, settings.matching)
    return SearchFigures(
        name,
        {
            key: _part_figures(part, result, None if reference is None else reference[key][1])
            for key, (part, result) in parts.items()
        },
        ranked.left_out,
        cut,
        position_bins(pairs, units, settings.position_ranges()),
        position_calibration(pairs, units),
        score_calibration(ranked.detections, units),
    )


def _part_figures(part: Part, result: Bootstrapped, oracle: Bootstrapped | None) -> PartFigures:
    value = result.value
    return PartFigures(
        part.sources,
        part.detections,
        {
            f"{purity:g}": _working_figures(part, result, oracle, f"{purity:g}")
            for purity in part.purities
        },
        Curve(
            _floats(part.curve_cuts),
            _floats(value["curve/purity"]),
            _floats(result.error("curve/purity")),
            _floats(value["curve/completeness"]),
            _floats(result.error("curve/completeness")),
        ),
        _bins(part.score_edges, value["score/detections"], result, None, "score/purity"),
    )


def _working_figures(
    part: Part, result: Bootstrapped, oracle: Bootstrapped | None, key: str
) -> WorkingFigures:
    value = result.value
    (completeness,) = _compared(result, oracle, f"{key}/completeness")
    crossings = _compared(result, oracle, f"{key}/crossings")
    return WorkingFigures(
        float(value[f"{key}/cut"]),
        int(value[f"{key}/detections"]),
        result.estimate(f"{key}/purity"),
        int(value[f"{key}/duplicates"]),
        result.estimate(f"{key}/duplicate_share"),
        completeness,
        {
            name: _bins(edges, part.source_counts[name], result, oracle, f"{key}/completeness/{name}")
            for name, edges in part.edges.items()
        },
        {
            name: _bins(
                part.edges[name], value[f"{key}/detections/{name}"], result, None,
                f"{key}/purity/{name}",
            )
            for name in part.detection_columns
        },
        {f"{level:g}": figure for level, figure in zip(part.levels, crossings, strict=True)},
    )  # fmt: skip


def _compared(result: Bootstrapped, oracle: Bootstrapped | None, name: str) -> tuple[Compared, ...]:
    value, error = np.atleast_1d(result.value[name]), np.atleast_1d(result.error(name))
    if oracle is None:
        return tuple(Compared(float(v), float(e)) for v, e in zip(value, error, strict=True))
    other, other_error = np.atleast_1d(oracle.value[name]), np.atleast_1d(oracle.error(name))
    ratio, ratio_error = (np.atleast_1d(a) for a in result.ratio(oracle, name))
    rows = zip(value, error, other, other_error, ratio, ratio_error, strict=True)
    return tuple(
        Compared(float(v), float(e), Estimate(float(o), float(oe)), Estimate(float(r), float(re)))
        for v, e, o, oe, r, re in rows
    )


def _bins(
    edges: Float64,
    number: Float64 | Int64,
    result: Bootstrapped,
    oracle: Bootstrapped | None,
    name: str,
) -> Bins:
    held = np.flatnonzero(number)
    figures = _compared(result, oracle, name)
    return Bins(
        _floats(edges[:-1][held]),
        _floats(edges[1:][held]),
        tuple(int(v) for v in np.asarray(number)[held]),
        tuple(figures[k] for k in held),
    )


def _floats(values: Float64) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
