"""The verbs of the command line that run a part of the pipeline."""

from __future__ import annotations

from enum import StrEnum

VERBS: dict[str, tuple[str, str]] = {
    "simulate": ("skies", "Simulate the skies of every set."),
    "patches": ("patches", "Cut the training and validation skies into patches."),
    "train-miun": ("miun", "Train MIUN on the patches."),
    "train-classifier": ("class_model", "Train the classifier on what is known of detections."),
    "classify": ("catalog", "Classify the detections and write the catalogue."),
    "evaluate": ("evaluate", "Measure completeness, purity and classes."),
    "report": ("report", "Write the report: the whole pipeline."),
}
"""Command-line verb: the last stage it runs, and its help."""


class PriorKind(StrEnum):
    """Mix of classes that the probabilities of ``classify --catalog`` refer to."""

    NATURAL = "natural"
    LATITUDE = "latitude"
    FLAT = "flat"


DETECT_STAGE = "search"
"""The last stage of ``detect --config``, which also takes files of photons instead."""

MANY_FILES = {
    "detect": ("--counts", "--events", "--exposure"),
    "evaluate": ("--detections", "--truth", "--oracle"),
    "ingest": ("--events", "--catalogs"),
}
"""Options of a verb that take one file or several in a row, as the shell expands a pattern."""


def spread(arguments: list[str]) -> list[str]:
    """Repeat an option of MANY_FILES in front of each of its files: ``--a 1 2`` is ``--a 1 --a 2``."""
    options = MANY_FILES.get(arguments[0], ()) if arguments else ()
    out: list[str] = []
    current, files = "", 0
    for word in arguments:
        if word.startswith("-"):
            name, _, value = word.partition("=")
            current, files = (name if name in options else ""), int(bool(value))
        elif current:
            out += [current] if files else []
            files += 1
        out.append(word)
    return out
