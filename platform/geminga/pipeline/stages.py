"""The pipeline: every stage in order, with what it reads and the settings it depends on."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from geminga.config import Config
from geminga.distributed.session import close_ray
from geminga.files import file_digest
from geminga.pipeline import (
    assess,
    class_model,
    classify,
    evidence,
    logged,
    ranking,
    register,
    report,
    search,
    simulate,
    train,
)
from geminga.pipeline.runner import Context, Stage, run_stages

_SKY_SETTINGS = ("bands", "classes", "response", "sky")
_SEARCH_SETTINGS = ("localisation", "likelihood", "evaluation.wavelet")

STAGES: tuple[Stage, ...] = (
    Stage(
        "response",
        simulate.run_response,
        settings=(*_SKY_SETTINGS, "likelihood.reference"),
        input_files=simulate.sky_input_files,
    ),
    Stage(
        "skies",
        logged.run_skies,
        reads=("response",),
        settings=(*_SKY_SETTINGS, "sets"),
        input_files=simulate.population_files,
        tell=logged.log_skies,
    ),
    Stage("patches", simulate.run_patches, reads=("response", "skies"), settings=("patches",)),
    Stage("miun", train.run_miun, reads=("patches",), settings=("miun", "miun_training")),
    Stage(
        "observe",
        simulate.run_observe,
        reads=("response", "skies"),
        settings=("patches", "observed"),
        input_files=simulate.observed_files,
    ),
    Stage(
        "observe_training",
        simulate.run_observe_training,
        reads=("response", "skies"),
        settings=("patches",),
    ),
    Stage(
        "search_training",
        search.run_search_training,
        reads=("response", "skies", "observe_training", "miun"),
        settings=(*_SEARCH_SETTINGS, "evaluation.match_radius_deg"),
    ),
    Stage(
        "ranker",
        ranking.run_ranker,
        reads=("skies", "search_training"),
        settings=("ranker", "ranker_training"),
    ),
    Stage(
        "search",
        search.run_search,
        reads=("response", "skies", "observe", "miun", "ranker"),
        settings=(*_SEARCH_SETTINGS, "evaluation.kmeans"),
    ),
    Stage(
        "images",
        classify.run_images,
        reads=("response", "skies", "search_training", "ranker"),
        settings=("images", "evaluation.match_radius_deg"),
    ),
    Stage(
        "classifier",
        train.run_classifier,
        reads=("images",),
        settings=("classifier", "classifier_training"),
    ),
    Stage(
        evidence.EVIDENCE_TRAINING,
        evidence.run_evidence_training,
        reads=("response", "skies", "search_training", "ranker"),
        settings=("evidence", "evaluation.match_radius_deg"),
        wanted=evidence.is_measured,
    ),
    Stage(
        evidence.EVIDENCE,
        evidence.run_evidence,
        reads=("response", "skies", "observe", "search_training", "ranker", "search"),
        settings=("evidence", "evaluation.match_radius_deg"),
        wanted=evidence.is_measured,
    ),
    Stage(
        class_model.CLASS_MODEL,
        class_model.run_class_model,
        reads=(evidence.EVIDENCE_TRAINING, "search_training", "ranker"),
        settings=("evidence_net", "evidence_net_training"),
        wanted=evidence.is_measured,
    ),
    Stage(
        "catalog",
        classify.run_catalog,
        reads=(
            "observe",
            "search",
            "search_training",
            "ranker",
            "classifier",
            evidence.EVIDENCE,
            class_model.CLASS_MODEL,
        ),
        settings=("images",),
    ),
    Stage(
        "evaluate",
        assess.run_evaluate,
        reads=(
            "response",
            "skies",
            "observe",
            "search",
            "search_training",
            "ranker",
            "miun",
            "classifier",
            evidence.EVIDENCE_TRAINING,
            evidence.EVIDENCE,
            class_model.CLASS_MODEL,
            "catalog",
        ),
        settings=("evaluation", "observed"),
        input_files=assess.reference_files,
    ),
    Stage("report", report.run_report, reads=("response", "evaluate"), settings=("name",)),
    Stage(
        register.REGISTER,
        register.run_register,
        reads=("skies", "miun", "ranker", class_model.CLASS_MODEL, "evaluate", "report"),
        settings=("name", "run.tracking_uri", "run.experiment"),
        wanted=register.is_wanted,
    ),
)


@lru_cache(maxsize=256)
def _digest(path: Path) -> str:
    return file_digest(path)


def run_pipeline(config: Config, until: str | None = None) -> Context:
    """Run the stages of a configuration, up to `until` if given; finished ones are skipped.

    Without evidence (``localisation.detector: miun``) the classifier is the network of images.

    Raises
    ------
    InputError
        If an input or the output folder cannot be used.
    """
    register.check(config)
    if until == class_model.CLASS_MODEL and not evidence.is_measured(config):
        until = "classifier"
    try:
        return run_stages(STAGES, config, _digest, until)
    finally:
        close_ray()
