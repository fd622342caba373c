"""Bootstrap resamples of the leading figures, kept so that runs can be compared in pairs.

Two runs judged on the same skies are drawn the same skies again (`bootstrap.make_units` of the same
seed), resample by resample. The scatter of the difference of two figures, resample by resample,
then leaves out what is common to both: the luck of the skies. It needs the resamples themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.evaluation.bootstrap import Bootstrapped, Estimate, Units, bootstrap, scatter
from geminga.evaluation.calibration import probability_column, score_bootstrap
from geminga.evaluation.class_metrics import Classified
from geminga.evaluation.class_parts import CalibrationFigures, PartFigures
from geminga.evaluation.class_yardstick import ClassSettings, class_units, comparisons_asked
from geminga.evaluation.positions import matched_pairs, position_bootstrap
from geminga.evaluation.ranked import ranked_list
from geminga.evaluation.summary import plain
from geminga.evaluation.working_points import Part
from geminga.evaluation.yardstick import YardstickSettings, search_units

_DIGITS = 7
_POSITIONS = ("median_deg", "radius68_deg", "inside_68", "inside_95")


@dataclass(frozen=True)
class Draws:
    """Resamples of figures.

    Attributes
    ----------
    seed, skies, region_nside : int
        What was drawn: the same of two runs on the same skies is the same draws. As in
        `geminga.evaluation.bootstrap.make_units`.
    inflation : float
        Factor on their scatter.
    figures : dict of tuple of float
        By name, one value a resample; NaN where it has none.
    """

    seed: int
    skies: int
    region_nside: int
    inflation: float
    figures: dict[str, tuple[float, ...]]

    def pairs_with(self, other: Draws) -> bool:
        """Return whether the resamples of both are of the same units in the same order."""
        mine, its = ((d.seed, d.skies, d.region_nside) for d in (self, other))
        return mine == its

    def difference(self, other: Draws, name: str) -> float:
        """Return the error of this figure minus the other's, from the same resamples; else NaN."""
        mine, its = (np.array(d.figures.get(name, ()), np.float64) for d in (self, other))
        if not len(mine) or len(mine) != len(its) or not self.pairs_with(other):
            return math.nan
        return float(scatter(mine - its, self.inflation))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file; numbers that are not finite become text."""
        tree: dict[str, Any] = plain(asdict(self))
        return tree

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], where: str = "draws") -> Draws:
        """Rebuild resamples from `to_json`'s values, read from `where`.

        Raises
        ------
        InputError
            If a part is missing or of another kind.
        """
        try:
            return TypeAdapter(cls).validate_python(dict(tree))
        except (ValidationError, TypeError, ValueError) as error:
            problem = f"holds no resamples ({' '.join(str(error).split())[:120]})"
            raise InputError(where, problem, "evaluate the run anew") from error


def search_draws(
    frames: Sequence[pd.DataFrame],
    truth: Sequence[pd.DataFrame],
    settings: YardstickSettings,
    oracle: Sequence[pd.DataFrame] | None = None,
    extended: Sequence[pd.DataFrame] | None = None,
) -> Draws:
    """Resample the leading figures of one search.

    Parameters
    ----------
    frames, truth, settings, extended
        As for `geminga.evaluation.yardstick.measure_searches`, of one search.
    oracle : sequence of DataFrame, optional
        Detections of the ceiling, for the ratios to it.

    Returns
    -------
    Draws
        ``completeness/<part>/<purity>`` with the same under ``ratio/``, ``position/<figure>``,
        ``calibration_error`` and ``brier`` where the score is a probability.
    """
    units = search_units(len(truth), settings)

    def parts(lists: Sequence[pd.DataFrame]) -> tuple[dict[str, Bootstrapped], pd.DataFrame, float]:
        ranked = ranked_list(lists, truth, settings.match_radius_deg, settings.matching, extended)
        found, cut = {}, math.inf
        for latitude in settings.latitudes:
            part = Part(ranked, units, latitude, settings.purities, (), {})
            found[latitude.name] = bootstrap(part.figures, units)
            if latitude is settings.latitudes[0]:
                cut = part.cut(np.ones(units.weights.shape[1]), settings.position_purity)
        return found, ranked.detections, cut

    own, detections, cut = parts(frames)
    ceiling = None if oracle is None else parts(oracle)[0]
    kept: dict[str, Float64] = {}
    for name, result in own.items():
        for purity in settings.purities:
            key = f"{purity:g}/completeness"
            kept[f"completeness/{name}/{purity:g}"] = result.draws[key]
            if ceiling is not None:
                top = ceiling[name].draws[key]
                ratio = np.full(len(top), np.nan)
                np.divide(result.draws[key], top, out=ratio, where=top > 0)
                kept[f"ratio/{name}/{purity:g}"] = ratio
    pairs = matched_pairs(frames, truth, cut, settings.match_radius_deg, settings.matching)
    positions = position_bootstrap(pairs, units)
    kept |= {f"position/{name}": positions.draws[name] for name in _POSITIONS}
    column = probability_column(detections)
    if column is not None:
        score = score_bootstrap(detections, column, units)
        kept |= {"calibration_error": score.draws["expected"], "brier": score.draws["brier"]}
    return _draws(kept, units, settings.seed)


def class_draws(classified: Classified, settings: ClassSettings) -> Draws:
    """Resample the figures of one classifier on all its candidates, under their names.

    Parameters
    ----------
    classified : Classified
        As for `geminga.evaluation.class_yardstick.measure_classes`.
    settings : ClassSettings
        The same as there.
    """
    skies = np.unique(classified.sky)
    units = class_units(classified, len(skies), settings)
    unit, number = classified.units(units, skies), units.weights.shape[1]
    asked = comparisons_asked(classified, settings)
    whole = bootstrap(PartFigures(classified, unit, number, asked, areas=False).figures, units)
    claims = bootstrap(CalibrationFigures(classified, unit, number, settings.bins).figures, units)
    kept = {
        name: result.draws[name]
        for result in (whole, claims)
        for name, value in result.value.items()
        if value.ndim == 0
    }
    return _draws(kept, units, settings.seed)


def difference(
    mine: Estimate, its: Estimate, name: str, draws: Draws | None, others: Draws | None
) -> tuple[Estimate, bool]:
    """Return a figure minus another run's with its error, and whether that error is paired.

    Without resamples of both the errors are added in quadrature: too large for runs on the same
    skies, never too small as long as what is common to both has the same sign in both.
    """
    value = mine.value - its.value
    paired = (
        draws.difference(others, name) if draws is not None and others is not None else math.nan
    )
    if math.isfinite(paired):
        return Estimate(value, paired), True
    return Estimate(value, math.hypot(mine.error, its.error)), False


def _draws(kept: Mapping[str, Float64], units: Units, seed: int) -> Draws:
    figures = {
        name: tuple(float(f"{v:.{_DIGITS}g}") for v in values) for name, values in kept.items()
    }
    return Draws(seed, units.skies, units.region_nside, units.inflation, figures)
