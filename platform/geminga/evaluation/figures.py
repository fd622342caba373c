"""Every figure of the report; each takes plain arrays and tables and returns a Figure."""

from __future__ import annotations

from geminga.evaluation.network_figures import confusion_matrices, training_curves
from geminga.evaluation.rate_figures import completeness_curves, purity_completeness
from geminga.evaluation.sky_figures import (
    PatchExample,
    counts_map,
    patch_examples,
    reference_map,
    sky_map,
)
from geminga.evaluation.style import save_figure

__all__ = [
    "PatchExample",
    "completeness_curves",
    "confusion_matrices",
    "counts_map",
    "patch_examples",
    "purity_completeness",
    "reference_map",
    "save_figure",
    "sky_map",
    "training_curves",
]
