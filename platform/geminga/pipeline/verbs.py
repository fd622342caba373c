"""The verbs of the command line that run a part of the pipeline."""

from __future__ import annotations

VERBS: dict[str, tuple[str, str]] = {
    "simulate": ("skies", "Simulate the skies of every set."),
    "patches": ("patches", "Cut the training and validation skies into patches."),
    "train-miun": ("miun", "Train MIUN on the patches."),
    "train-classifier": ("classifier", "Train the classifier on source images."),
    "classify": ("catalog", "Classify the detections and write the catalogue."),
    "evaluate": ("evaluate", "Measure completeness, purity and confusion."),
    "report": ("report", "Write the report: the whole pipeline."),
}
"""Command-line verb: the last stage it runs, and its help."""

DETECT_STAGE = "search"
"""The last stage of ``detect --config``, which also takes files of photons instead."""
