"""The figures of a run in one tree: printed, logged and kept as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from geminga.errors import InputError
from geminga.evaluation.confusion import ConfusionCounts
from geminga.evaluation.counts import LATITUDES, MatchCounts
from geminga.evaluation.metrics import Offsets, completeness_at_purity, localisation_error

PURITIES = (0.8, 0.9)
"""Purities at which searches are compared."""


@dataclass(frozen=True)
class RegionSummary:
    """Completeness and purity of a search in one latitude class; NaN where nothing was counted."""

    sources: int
    detections: int
    completeness: float
    completeness_error: float
    purity: float
    purity_error: float
    completeness_at_purity: dict[str, float]
    score_at_purity: dict[str, float]


@dataclass(frozen=True)
class SearchSummary:
    """Figures of one search.

    Attributes
    ----------
    name : str
        Name of the search.
    regions : dict of RegionSummary
        By LATITUDES.
    median_error_deg, radius68_deg : float
        Position error: 50 and 68 % of the matched detections lie closer.
    bias_east_deg, bias_north_deg, bias_error_deg : float
        Mean offset and its standard error.
    seconds : float
        Time the search took on the test skies; NaN if not measured.
    """

    name: str
    regions: dict[str, RegionSummary]
    median_error_deg: float
    radius68_deg: float
    bias_east_deg: float
    bias_north_deg: float
    bias_error_deg: float
    seconds: float = math.nan


@dataclass(frozen=True)
class RunSummary:
    """Figures of a run.

    Attributes
    ----------
    title : str
        What was evaluated, for example ``demo, 1 test sky``.
    searches : tuple of SearchSummary
        Best known first, as given.
    adjusted_accuracy : float
        Of MIUN's masks; NaN without truth masks.
    class_recall : dict of float
        Share of each class that was recognised, FAKE included.
    balanced_accuracy : float
        Mean of the class recalls.
    extra : dict of float
        Further figures, by name.
    """

    title: str
    searches: tuple[SearchSummary, ...] = ()
    adjusted_accuracy: float = math.nan
    class_recall: dict[str, float] = field(default_factory=dict)
    balanced_accuracy: float = math.nan
    extra: dict[str, float] = field(default_factory=dict)

    def rows(self) -> list[list[str]]:
        """Return the comparison of the searches as text: a header, then one row per search."""
        header = ["search", "completeness", "purity"]
        purities = [
            key
            for key in map("{:g}".format, PURITIES)
            if any(key in s.regions["all"].completeness_at_purity for s in self.searches)
        ]
        header += [f"compl. at purity {p}" for p in purities] + ["median error (deg)"]
        rows = [header]
        for search in self.searches:
            sky = search.regions["all"]
            rows.append(
                [
                    search.name,
                    _with_error(sky.completeness, sky.completeness_error),
                    _with_error(sky.purity, sky.purity_error),
                    *(_number(sky.completeness_at_purity.get(p, math.nan)) for p in purities),
                    _number(search.median_error_deg),
                ]
            )
        return rows

    def table(self) -> str:
        """Return the figures as compact plain text for a terminal."""
        lines = [self.title, *aligned(self.rows())] if self.searches else [self.title]
        for label, latitude in (("low latitude", "low"), ("high latitude", "high")):
            for search in self.searches:
                region = search.regions[latitude]
                lines.append(
                    f"{label}, {search.name}: completeness {_number(region.completeness)} of "
                    f"{region.sources}, purity {_number(region.purity)} of {region.detections}"
                )
        if math.isfinite(self.adjusted_accuracy):
            lines.append(f"adjusted accuracy of the masks: {self.adjusted_accuracy:.3f}")
        if self.class_recall:
            recalls = ", ".join(f"{n} {_number(v)}" for n, v in self.class_recall.items())
            lines.append(
                f"classes recognised: {recalls}; balanced accuracy "
                f"{_number(self.balanced_accuracy)}"
            )
        lines += [f"{name}: {value:.4g}" for name, value in self.extra.items()]
        return "\n".join(lines)

    def metrics(self) -> dict[str, float]:
        """Return every finite figure under a flat name with ``/``, as MLflow takes them."""
        flat: dict[str, float] = {
            "adjusted_accuracy": self.adjusted_accuracy,
            "balanced_accuracy": self.balanced_accuracy,
        }
        flat.update({f"recall/{slug(n)}": v for n, v in self.class_recall.items()})
        flat.update({slug(n): v for n, v in self.extra.items()})
        for search in self.searches:
            start = slug(search.name)
            for item in fields(search):
                value = getattr(search, item.name)
                if isinstance(value, float):
                    flat[f"{start}/{item.name}"] = value
            for latitude, region in search.regions.items():
                flat.update(_region_metrics(f"{start}/{latitude}", region))
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file; numbers that are not finite become text."""
        tree: dict[str, Any] = plain(asdict(self))
        return tree

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], where: str = "summary") -> RunSummary:
        """Rebuild a summary from `to_json`'s values, read from `where`.

        Raises
        ------
        InputError
            If a figure is missing or unknown.
        """
        try:
            values = _restored(dict(tree))
            searches = []
            for search in values.pop("searches"):
                regions = {n: RegionSummary(**r) for n, r in search.pop("regions").items()}
                searches.append(SearchSummary(regions=regions, **search))
            return cls(searches=tuple(searches), **values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(where, f"is not a summary ({error})", "write it anew") from error


def search_summary(
    name: str,
    counts: MatchCounts,
    offsets: Offsets,
    purity_counts: MatchCounts | None = None,
    seconds: float = math.nan,
    purities: Sequence[float] = PURITIES,
    curve: tuple[MatchCounts, MatchCounts | None] | None = None,
) -> SearchSummary:
    """Derive the figures of one search from its merged counts.

    Parameters
    ----------
    name : str
        Name of the search.
    counts : MatchCounts
        Against the truth; gives completeness.
    offsets : Offsets
        Of the matched pairs.
    purity_counts : MatchCounts, optional
        Against a wider list that decides what is false; `counts` if not given.
    seconds : float
        Time the search took.
    purities : sequence of float
        Purities at which completeness is given: none where the yardstick measures it.
    curve : (MatchCounts, MatchCounts or None), optional
        The same two counts of all candidates, where `counts` holds only those above a score cut:
        completeness at given purities comes from them.
    """
    curve_counts, curve_purity = (counts, purity_counts) if curve is None else curve
    wide = counts if purity_counts is None else purity_counts
    rates, wide_rates = counts.rates(), wide.rates()
    regions = {}
    for k, latitude in enumerate(LATITUDES):
        points = {
            f"{p:g}": completeness_at_purity(curve_counts, p, latitude, curve_purity)
            for p in purities
        }
        regions[latitude] = RegionSummary(
            int(rates.completeness.n[k]),
            int(wide_rates.purity.n[k]),
            float(rates.completeness.value[k]),
            float(rates.completeness.error[k]),
            float(wide_rates.purity.value[k]),
            float(wide_rates.purity.error[k]),
            {p: point.completeness for p, point in points.items()},
            {p: point.score for p, point in points.items()},
        )
    error = localisation_error(offsets)
    return SearchSummary(
        name,
        regions,
        error.median_deg,
        error.radius68_deg,
        error.bias_east_deg,
        error.bias_north_deg,
        error.bias_error_deg,
        seconds,
    )


def run_summary(
    title: str,
    searches: Sequence[SearchSummary],
    adjusted_accuracy: float = math.nan,
    confusion: ConfusionCounts | None = None,
    extra: Mapping[str, float] | None = None,
) -> RunSummary:
    """Join the figures of a run."""
    recall: dict[str, float] = {}
    balanced = math.nan
    if confusion is not None:
        recall = dict(zip(confusion.classes, map(float, confusion.recall()), strict=True))
        balanced = confusion.balanced_accuracy()
    return RunSummary(
        title, tuple(searches), adjusted_accuracy, recall, balanced, dict(extra or {})
    )


def _region_metrics(start: str, region: RegionSummary) -> dict[str, float]:
    flat: dict[str, float] = {}
    for item in fields(region):
        value = getattr(region, item.name)
        if isinstance(value, dict):
            flat.update({f"{start}/{item.name}_{key}": v for key, v in value.items()})
        else:
            flat[f"{start}/{item.name}"] = float(value)
    return flat


def slug(name: str) -> str:
    """Return a name with only the characters MLflow accepts."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in name)


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(value) else "-"


def aligned(rows: list[list[str]]) -> list[str]:
    """Return rows of cells as lines, the first column to the left, the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def plain(value: Any) -> Any:
    """Return a tree of plain values for JSON, numbers that are not finite as text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # 'nan', 'inf': JSON has no number for them
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _restored(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_restored(v) for v in value]
    return float(value) if value in ("nan", "inf", "-inf") else value
