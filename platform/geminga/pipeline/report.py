"""The stage that writes the report and says where everything is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geminga import storage
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.class_text import leading_rows as leading_class_rows
from geminga.evaluation.class_text import leading_table as leading_class_table
from geminga.evaluation.compare_rows import headline
from geminga.evaluation.report import Section, write_report
from geminga.evaluation.summary import RunSummary
from geminga.evaluation.yardstick_results import Yardstick
from geminga.evaluation.yardstick_text import leading_rows, leading_table, rows_by_model
from geminga.files import atomic, read_json, write_json
from geminga.pipeline.assess import FIGURES, SUMMARY
from geminga.pipeline.class_assess import CLASS_RESULT
from geminga.pipeline.classify import catalog_file
from geminga.pipeline.run_record import RECORD, gather_record
from geminga.pipeline.runner import STAGE_FILE, Context
from geminga.pipeline.simulate import test_sky_ids
from geminga.pipeline.yardstick import RESULT, read_by_model

REPORT_STAGE = "report"
REPORT = "report.html"

CAPTIONS = {
    "sky": "All-sky map in Galactic coordinates: true and found sources.",
    "references": "Detections on the real sky and the catalogues that confirm them.",
    "completeness_s1": "Completeness at purity 0.9 against photon flux above 1 GeV; the oracle "
    "knows the true background.",
    "completeness_s10": "The same against photon flux above 10 GeV.",
    "completeness_ts": "The same against the test statistic expected with the true background.",
    "completeness": "Completeness against the flux in the reference catalogue.",
    "purity_s1": "Purity of the lists of purity 0.9 against the flux that was fitted.",
    "purity_ts": "The same against the fitted test statistic.",
    "purity_completeness": "Purity and completeness as the score cut rises.",
    "score": "Purity and completeness at or above each score, and purity in bins of it.",
    "reliability": "Share of real detections against the probability claimed for them.",
    "positions": "Distance of detections from their sources against flux (median; the band "
    "is that of the first search), and mean offset.",
    "gallery_false": "The most confident false detections: counts and significance around them.",
    "gallery_missed": "The brightest missed sources: counts and significance around them.",
    "examples": "Example patches: counts in each band, target, output of the network; circles are "
    "true sources, crosses detections.",
    "confusion": "Confusion of the catalogue's classes, on the natural and on the balanced mix.",
    "confusion_network_on_evidence": "The network on evidence: confusion on both mixes.",
    "confusion_flux_network_on_evidence": "The same by true flux.",
    "class_accuracy_flux": "Pairs of classes told apart against flux, beside what a classifier "
    "reaches that is told the truth, and one that is told its expected measurement.",
    "class_reliability": "Share of detections that are of a class against the probability claimed.",
    "fake_recognised": "False detections recognised against true sources kept.",
    "confusion_boosting": "Boosted trees on the fitted quantities: confusion on both mixes.",
    "confusion_flux_boosting": "The same by true flux.",
    "confusion_network_of_images": "The published network of images: confusion on both mixes.",
    "confusion_flux_network_of_images": "The same by true flux.",
    "training_miun": "Training of MIUN.",
    "training_ranker": "Training of the ranker.",
    "training_class_model": "Training of the network on evidence (the first of several).",
    "training_classifier": "Training of the network of images.",
}
"""Figures of the report in order, with their captions."""

SECTIONS = (
    ("The sky", ("sky", "references")),
    (
        "Completeness and purity",
        ("completeness_s1", "completeness_ts", "completeness_s10", "completeness",
         "purity_completeness", "purity_s1", "purity_ts", "score", "reliability"),
    ),
    ("Positions", ("positions",)),
    ("The worst cases", ("gallery_false", "gallery_missed")),
    ("Example patches", ("examples",)),
    (
        "Classes",
        ("confusion_network_on_evidence", "confusion_flux_network_on_evidence",
         "class_accuracy_flux", "class_reliability", "fake_recognised", "confusion_boosting",
         "confusion_flux_boosting", "confusion_network_of_images",
         "confusion_flux_network_of_images", "confusion"),
    ),
    (
        "Training",
        ("training_miun", "training_ranker", "training_class_model", "training_classifier"),
    ),
)  # fmt: skip


def run_report(context: Context, folder: Path) -> Mapping[str, Any]:
    """Write the report as one HTML file, and the summary that the command line prints."""
    config = context.config
    evaluated = context.folder("evaluate")
    summary = RunSummary.from_json(read_json(evaluated / SUMMARY))
    sections = []
    measured = _yardstick(evaluated)
    if measured is not None:
        text = f"Each part of the sky at its own cut. Errors: {measured.errors}."
        sections.append(Section("All searches", text, leading_rows(measured)))
    by_model = read_by_model(evaluated)
    if by_model:
        text = "Test skies by their interstellar model; the whole sky at one cut."
        sections.append(Section("Interstellar models", text, rows_by_model(by_model)))
    classes = _classes(evaluated)
    if classes is not None:
        text = f"{classes.title}. Errors: {classes.errors}."
        sections.append(Section("Told apart", text, leading_class_rows(classes)))
    sections.append(Section("Figures", "Errors are binomial.", summary.rows()))
    if summary.extra:
        extra = [[name, f"{value:.3f}"] for name, value in summary.extra.items()]
        sections.append(Section("Against the catalogues", table=[["figure", "value"], *extra]))
    drawn = set(storage.names(evaluated / FIGURES))
    for title, names in SECTIONS:
        shown = [
            (CAPTIONS[name], evaluated / FIGURES / f"{name}.png")
            for name in names
            if f"{name}.png" in drawn
        ]
        if shown:
            sections.append(Section(title, figures=shown))
    origin = read_json(context.folder("response") / "origin.json")
    sections.append(
        Section(
            "Where the physics comes from", table=[["part", "origin"], *map(list, origin.items())]
        )
    )
    sections.append(Section("Every figure", table=_details(summary)))
    write_report(folder / REPORT, f"geminga: {config.name}", sections, _provenance(context))
    context.tracker.artifact(folder / REPORT)
    context.tracker.parent_artifact(folder / REPORT)
    record = gather_record(context.root, config.model_dump(mode="json"))
    write_json(folder / RECORD, record.to_json())
    context.tracker.parent_artifact(folder / RECORD)
    context.tracker.parent_metrics(headline(record))
    with atomic(folder / "summary.txt") as temporary:
        temporary.write_text(_printed(context, summary, measured, classes), encoding="utf-8")
    return {}


def _yardstick(evaluated: Path) -> Yardstick | None:
    """Return what the searches of simulated skies measured; None of a real sky."""
    path = evaluated / RESULT
    return Yardstick.from_json(read_json(path), str(path)) if storage.exists(path) else None


def _classes(evaluated: Path) -> ClassResult | None:
    """Return what the classifiers of simulated skies reached; None of a run without them."""
    path = evaluated / CLASS_RESULT
    return ClassResult.from_json(read_json(path), str(path)) if storage.exists(path) else None


def _details(summary: RunSummary) -> list[list[str]]:
    rows = [[name, f"{value:.4g}"] for name, value in sorted(summary.metrics().items())]
    return [["figure", "value"], *rows]


def _provenance(context: Context) -> dict[str, Any]:
    # Not the work folders of interrupted stages, and not the report this one replaces.
    stages = [
        context.folder(name) / STAGE_FILE
        for name in storage.names(context.root)
        if not name.startswith(".") and name != REPORT_STAGE
    ]
    return {
        "config_hash": context.config.hash(),
        "stages": {path.parent.name: read_json(path) for path in stages if storage.exists(path)},
        "config": context.config.model_dump(mode="json"),
    }


def _printed(
    context: Context,
    summary: RunSummary,
    measured: Yardstick | None,
    classes: ClassResult | None,
) -> str:
    confusion = context.folder("evaluate") / "confusion.json"
    lines = [] if measured is None else ["", leading_table(measured)]
    lines += [] if classes is None else ["", leading_class_table(classes)]
    lines += ["", summary.table()]
    if storage.exists(confusion):
        lines += ["", *_confusion_lines(read_json(confusion))]
    lines.append("")
    for sky in test_sky_ids(context.config):
        lines.append(f"catalogue:  {storage.place(catalog_file(context.folder('catalog'), sky))}")
    lines.append(f"report:     {storage.place(context.folder(REPORT_STAGE) / REPORT)}")
    store = context.tracker.uri
    look = store if store.startswith("http") else f"mlflow ui --backend-store-uri {store}"
    lines.append(f"MLflow:     {look}")
    return "\n".join(lines) + "\n"


def _confusion_lines(tree: Mapping[str, Any]) -> list[str]:
    classes = tree["classes"]
    corner = "true \\ found"
    first = max(len(name) for name in [corner, *classes]) + 2
    longest = max(len(str(cell)) for row in [classes, *tree["counts"]] for cell in row)
    width = longest + 2
    head = corner.ljust(first) + "".join(name.rjust(width) for name in classes)
    rows = [
        name.ljust(first) + "".join(str(count).rjust(width) for count in counts)
        for name, counts in zip(classes, tree["counts"], strict=True)
    ]
    return [head, *rows]
