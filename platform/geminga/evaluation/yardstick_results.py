"""What the yardstick measures, as a tree of plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from geminga.errors import InputError
from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.calibration import ScoreCalibration
from geminga.evaluation.positions import PositionBin, PositionCalibration
from geminga.evaluation.summary import plain, slug


@dataclass(frozen=True)
class Compared:
    """A figure of a search, the same of the oracle, and the ratio of the two.

    The error of the ratio comes from the same resamples of both. A ratio of fluxes above 1 says
    that the oracle reaches the level at a fainter flux.
    """

    value: float
    error: float
    oracle: Estimate | None = None
    ratio: Estimate | None = None


@dataclass(frozen=True)
class Bins:
    """A share in bins; only bins that hold something.

    Attributes
    ----------
    low, high : tuple of float
        Edges.
    n : tuple of int
        Sources, or detections, in each.
    figures : tuple of Compared
        Completeness, or purity.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    figures: tuple[Compared, ...]


@dataclass(frozen=True)
class Curve:
    """Purity and completeness of the list at or above each cut, cuts falling."""

    cut: tuple[float, ...]
    purity: tuple[float, ...]
    purity_error: tuple[float, ...]
    completeness: tuple[float, ...]
    completeness_error: tuple[float, ...]


@dataclass(frozen=True)
class WorkingFigures:
    """A search in one part of the sky at the cut of one purity.

    Attributes
    ----------
    cut : float
        Loosest score; inf if no cut is that pure.
    detections : int
        At or above the cut.
    purity, duplicate_share : Estimate
        Of them; the purity reached and the share of second detections of found sources.
    duplicates : int
        Number of second detections.
    completeness : Compared
        0 if no cut reaches the purity, NaN without sources.
    by : dict of Bins
        Completeness by ``s1``, ``s10``, ``ts`` of the true sources.
    purity_by : dict of Bins
        Purity by the detections' own ``s1``, ``s10``, ``ts``, where they have them.
    crossings : dict of Compared
        S1 in ph/cm2/s at which completeness reaches a level and stays (`flux_crossings`).
    """

    cut: float
    detections: int
    purity: Estimate
    duplicates: int
    duplicate_share: Estimate
    completeness: Compared
    by: dict[str, Bins]
    purity_by: dict[str, Bins]
    crossings: dict[str, Compared]


@dataclass(frozen=True)
class PartFigures:
    """A search in one part of the sky.

    Attributes
    ----------
    sources, detections : int
        In the part, at any score.
    at_purity : dict of WorkingFigures
        By purity, for example ``0.9``.
    curve : Curve
        Over the score.
    purity_by_score : Bins
        Purity of the detections in bins of score.
    """

    sources: int
    detections: int
    at_purity: dict[str, WorkingFigures]
    curve: Curve
    purity_by_score: Bins


@dataclass(frozen=True)
class SearchFigures:
    """All figures of one search.

    Attributes
    ----------
    name : str
        Name of the search.
    parts : dict of PartFigures
        By latitude.
    left_out : int
        Detections on extended sources, counted nowhere.
    position_cut : float
        Score cut of the list whose positions are measured.
    positions : tuple of PositionBin
        All sources, bright ones, then by flux.
    position_calibration : PositionCalibration
        Claimed against true errors of the same list.
    score_calibration : ScoreCalibration or None
        Of the whole list; None if its score is no probability.
    """

    name: str
    parts: dict[str, PartFigures]
    left_out: int
    position_cut: float
    positions: tuple[PositionBin, ...]
    position_calibration: PositionCalibration
    score_calibration: ScoreCalibration | None


@dataclass(frozen=True)
class Yardstick:
    """Searches side by side.

    Attributes
    ----------
    title, matching, errors : str
        What was measured, how it was matched, what the errors are.
    match_radius_deg : float
        Of the matching.
    skies : int
        Number of skies.
    oracle : str or None
        The search that the others are compared with.
    searches : dict of SearchFigures
        By name, as given.
    """

    title: str
    matching: str
    errors: str
    match_radius_deg: float
    skies: int
    oracle: str | None
    searches: dict[str, SearchFigures]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file; numbers that are not finite become text.

        ``order`` names searches and parts in their order, which a file sorted by name loses.
        """
        tree: dict[str, Any] = plain(asdict(self))
        parts = [list(search.parts) for search in self.searches.values()]
        tree["order"] = {"searches": list(self.searches), "parts": parts[0] if parts else []}
        return tree

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], where: str = "yardstick") -> Yardstick:
        """Rebuild a result from `to_json`'s values, read from `where`.

        Raises
        ------
        InputError
            If a figure is missing or of another kind.
        """
        try:
            result = TypeAdapter(cls).validate_python(
                {k: v for k, v in tree.items() if k != "order"}
            )
            searches, parts = tree["order"]["searches"], tree["order"]["parts"]
            ordered = {
                name: replace(one, parts={part: one.parts[part] for part in parts})
                for name, one in ((name, result.searches[name]) for name in searches)
            }
        except (ValidationError, KeyError, TypeError) as error:
            problem = f"is no yardstick's result ({' '.join(str(error).split())[:120]})"
            raise InputError(where, problem, "write it anew") from error
        return replace(result, searches=ordered)

    def metrics(self) -> dict[str, float]:
        """Return the leading figures, finite ones alone, under flat names as MLflow takes them.

        For example ``ours/all/completeness_at_0.9``, the same with ``_error``, ``_ratio`` (to the
        oracle) and ``_ratio_error``; ``ours/b20_90/s1_at_completeness_0.9_purity_0.95``.
        """
        flat: dict[str, float] = {}
        for name, search in self.searches.items():
            for part, figures in search.parts.items():
                for purity, point in figures.at_purity.items():
                    start = f"{slug(name)}/{PART_SLUGS.get(part, slug(part))}"
                    flat.update(_metrics(f"{start}/completeness_at_{purity}", point.completeness))
                    flat[f"{start}/score_cut_at_{purity}"] = point.cut
                    flat[f"{start}/duplicates_at_{purity}"] = point.duplicate_share.value
                    for level, flux in point.crossings.items():
                        key = f"{start}/s1_at_completeness_{level}_purity_{purity}"
                        flat.update(_metrics(key, flux))
            flat.update(_other_metrics(slug(name), search))
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}


PART_SLUGS = {
    "all": "all",
    "|b| > 20": "b20_90",
    "|b| 10-20": "b10_20",
    "|b| < 10": "b00_10",
    "|b| < 20": "b00_20",
}
"""Parts of the sky as MLflow can name them."""


def _metrics(name: str, figure: Compared) -> dict[str, float]:
    flat = {name: figure.value, f"{name}_error": figure.error}
    if figure.ratio is not None:
        flat |= {f"{name}_ratio": figure.ratio.value, f"{name}_ratio_error": figure.ratio.error}
    return flat


def _other_metrics(start: str, search: SearchFigures) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, one in zip(("all", "bright"), search.positions[:2], strict=True):
        for item in fields(one):
            value = getattr(one, item.name)
            if isinstance(value, Estimate):
                flat[f"{start}/position_{name}/{item.name}"] = value.value
                flat[f"{start}/position_{name}/{item.name}_error"] = value.error
    claim = search.position_calibration
    flat[f"{start}/inside_68"] = claim.inside_68.value
    flat[f"{start}/inside_95"] = claim.inside_95.value
    flat[f"{start}/pull_rms"] = claim.pull_rms.value
    if search.score_calibration is not None:
        flat[f"{start}/calibration_error"] = search.score_calibration.expected_error.value
        flat[f"{start}/brier"] = search.score_calibration.brier.value
    return flat
