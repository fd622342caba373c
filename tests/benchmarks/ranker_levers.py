"""The levers that `bench_ranker.py` measures, each a row of its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geminga.arrays import Float64
from geminga.config import Config
from geminga.errors import InputError
from geminga.localisation.features import feature_names

PURITIES = (0.8, 0.9, 0.95)
LATITUDE = "abs_lat_deg"
FUSED = ("miun_at", "miun_highest", "miun_disk")
LISTED = "miun_listed"
KEPT = "kept: all features of the package"
KEPT_THERE = "kept, trained on the other validation skies"
FIT = ("index", "index_error", "log_s1", "relative_s1_error", "log_position_error", "goodness")


@dataclass(frozen=True)
class Row:
    """A lever: what a ranker is told, how it learns and from which skies.

    `method` is ``dense``, ``boosting``, ``ts`` (no ranker) or ``own`` (that of the run); `skies`
    of `source` (``train``, ``valid``: the other validation skies, ``other``, ``both``) are used,
    0 for all; `longer` multiplies the epochs. The gain is that over the row `base`.
    """

    name: str
    features: tuple[str, ...] = ()
    method: str = "dense"
    source: str = "train"
    skies: int = 0
    longer: int = 1
    wider: int = 1
    deeper: int = 1
    base: str = KEPT

    @property
    def fused(self) -> bool:
        """Whether MIUN's output is among the features."""
        return any(name in FUSED for name in self.features)


def plan(config: Config, fused: bool, own: bool, other: bool) -> list[Row]:
    """Return the rows to measure."""
    kept = feature_names(len(config.channels))

    def of_channels(name: str) -> tuple[str, ...]:
        return tuple(f"{name}_{c}" for c in range(len(config.channels)))

    steps = [
        ("ranker on TS alone", ("sqrt_ts",)),
        ("and index, flux, their errors, position error, goodness", FIT),
        ("and significance in every channel", of_channels("significance")),
        ("and diffuse brightness", of_channels("log_background")),
        ("and counts in every channel", of_channels("sqrt_counts")),
    ]
    rows = [Row("TS alone", method="ts")]
    told: tuple[str, ...] = ()
    for name, added in steps:
        told += added
        rows.append(Row(name, told))
    if not set(told) < set(kept):
        raise InputError("features", "the package has others", "bring the groups up to date")
    # The nearest stronger source, and whatever the package was given since.
    rows += [Row(KEPT, kept), Row("and latitude", (*kept, LATITUDE))]
    rows += [Row("the run's own ranker (its epoch chosen on these skies)", kept, "own")] * own
    rows.append(Row("gradient boosting, kept features", kept, "boosting"))
    every = config.sets.train
    rows += [Row(f"training skies: {n} of {every}", kept, skies=n) for n in (1, 2, 4) if n < every]
    if every > 1:
        rows.append(Row("training skies: 1, as many steps", kept, skies=1, longer=every))
    rows += [Row("twice the width", kept, wider=2), Row("twice the depth", kept, deeper=2)]
    if other:
        rows.append(Row("trained on the skies of the other run", kept, source="other"))
        rows.append(Row("trained on the skies of both runs", kept, source="both"))
    if config.sets.validation > 1:
        rows.append(Row(KEPT_THERE, kept, source="valid", longer=2))
        name = "kept and the score of MIUN's own candidate, trained on the other validation skies"
        rows.append(Row(name, (*kept, LISTED), source="valid", longer=2, base=KEPT_THERE))
    if fused:
        rows += [
            Row("kept and MIUN at the position", (*kept, FUSED[0])),
            Row("and MIUN's highest within 0.3 deg", (*kept, *FUSED[:2])),
            Row("and MIUN in the disk kernel", (*kept, *FUSED)),
            Row("MIUN (all three) and TS", ("sqrt_ts", *FUSED)),
        ]
        if config.sets.validation > 1:
            name = "kept and MIUN (all three), trained on the other validation skies"
            rows.append(Row(name, (*kept, *FUSED), source="valid", longer=2, base=KEPT_THERE))
    return rows


def figures_of(result: dict[str, Any]) -> Float64:
    """Return the figures (trials, skies, purities and calibration error) of a finished row."""
    return np.asarray(result["figures"], np.float64)


def metrics(result: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a row under names for MLflow."""
    values = figures_of(result).mean(axis=0)
    names = [*(f"completeness_at_{p:g}" for p in PURITIES), "calibration_error"]
    each = {
        f"sky_{sky}/{name}": value
        for sky, row in zip(result["skies"], values, strict=True)
        for name, value in zip(names, row, strict=True)
    }
    return {**each, **dict(zip(names, values.mean(axis=0), strict=True)), "s": result["seconds"]}


def markdown(rows: Sequence[Row], results: dict[str, dict[str, Any]], skies: list[int]) -> str:
    """Return the table: completeness at the purities per sky and mean, gain, calibration error."""

    def three(values: Float64) -> str:
        return " / ".join(f"{v:.3f}".lstrip("0") for v in values[: len(PURITIES)])

    heads = ["lever", *(f"sky {sky}" for sky in skies), "mean", "scatter of trainings at .90",
             "gain at .90", "calibration error", "s"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        if row.name not in results:
            continue
        values = figures_of(results[row.name])
        at = values[:, :, 1].mean(axis=1)
        scatter = f"{at.std(ddof=1):.4f}" if len(at) > 1 else ""
        gain = ""
        if row.base in results and row.base != row.name:
            gain = f"{at.mean() - figures_of(results[row.base])[:, :, 1].mean():+.4f}"
        mean = values.mean(axis=0)
        cells = [row.name, *map(three, mean), three(mean.mean(axis=0)), scatter, gain,
                 f"{mean[:, -1].mean():.4f}", f"{results[row.name]['seconds']:.0f}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
