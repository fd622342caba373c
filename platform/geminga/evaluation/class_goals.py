"""What classifications are asked to reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.class_ceilings import NOISY


@dataclass(frozen=True)
class Judged:
    """A figure, the same of each ceiling, and the ratio to it.

    The error of a ratio comes from the same resamples of both. Figures that a ceiling does not
    have are left out.
    """

    value: float
    error: float
    ceilings: dict[str, Estimate]
    ratios: dict[str, Estimate]


@dataclass(frozen=True)
class Goal:
    """A row of the leading table.

    Attributes
    ----------
    figure : str
        Key of `ClassFigures.figures`.
    label : str
        Words for it.
    earlier : str
        What was reached before, in words.
    goal : float
        To be reached; NaN for none.
    smaller : bool
        Whether smaller is better.
    ratio : float
        Part of `ratio_to` to be reached too; NaN for none.
    ratio_to : str
        Name of a ceiling.
    """

    figure: str
    label: str
    earlier: str
    goal: float
    smaller: bool = False
    ratio: float = math.nan
    ratio_to: str = ""

    def reached(self, judged: Judged) -> bool:
        """Return whether a figure meets the goal, and the part of the ceiling if one is set."""
        met = judged.value <= self.goal if self.smaller else judged.value >= self.goal
        if math.isfinite(self.ratio):
            met &= self.ratio_to in judged.ratios and (
                judged.ratios[self.ratio_to].value >= self.ratio
            )
        return bool(met)


LAT_GOALS = (
    Goal(
        "balanced_accuracy/BLL against FSRQ, S1 > 5e-10",
        "BLL against FSRQ, balanced accuracy, S1 > 5e-10", "chance", 0.85,
    ),
    Goal(
        "balanced_accuracy/BLL against FSRQ",
        "BLL against FSRQ, balanced accuracy, all detected", "chance", 0.75,
    ),
    Goal(
        "balanced_accuracy/PSR against PWN+SNR, S1 > 1e-9",
        "PSR against PWN+SNR, balanced accuracy, S1 > 1e-9", "chance", 0.80,
    ),
    Goal(
        "balanced_accuracy/AGN against galactic",
        "AGN against galactic, balanced accuracy, all detected", ".71 (three classes)", 0.95,
    ),
)  # fmt: skip
"""Goals for comparisons of LAT classes; each applies where its comparison is made."""

COMMON_GOALS = (
    Goal("fake_recall", "FAKE recognised at 95 % of true sources kept", "320 of 427", 0.80),
    Goal(
        "macro_f1", "macro F1 over all classes, balanced mix", "under .5", 0.75, False, 0.9, NOISY
    ),
    Goal("macro_f1_true", "macro F1 over true classes, balanced mix", "-", math.nan),
    Goal("ece", "expected calibration error", "-", 0.03, True),
)
"""Goals for any classes."""
