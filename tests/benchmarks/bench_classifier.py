"""What each kind of evidence is worth to the classifier, on the validation skies of a run.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_classifier.py --config jobs/configs/front.yaml
--set run.output=FOLDER --out FOLDER2 [--evidence FOLDER3] [--train 4] [--epochs 12] [--only WORD]``.
The run must have its ranker; `--evidence` names files measured beside it, else those of its stage
are read. Test skies are never read.

Every row trains one network (or boosted trees) on the candidates of the first training skies. The
last validation sky but one chooses the epoch, the last one calibrates, the others judge: detections
above the run's cut, by `geminga.evaluation`. Differences have paired errors: regions of the judging
skies drawn with replacement, the same for all rows; they do not hold the scatter of trainings,
which rows with several trials give in their JSON. Position is always told.

Summed years need photons: ``--summed`` measures them (half a minute of a core per sky) with the
run's settings otherwise, and puts them in place of the weighted ones of the same candidates. How
spectra are drawn is a matter of `bench_class_draws.py`.

A finished row is a JSON file and its probabilities; a second start goes on. MLflow's store is
``mlflow.db`` in the folder, one run per row.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from class_levers import (
    BASE,
    BOOSTED,
    Row,
    as_tree,
    judge,
    markdown,
    mean_of,
    metrics,
    plan,
    shaped,
    units_of,
)
from class_material import Bench, Part, Parts, classified, parts_of, say

from geminga.arrays import Float64
from geminga.classes import with_fake
from geminga.classification.boosting import fit_boosting
from geminga.classification.calibration import Calibration, fit_calibration
from geminga.classification.class_model import mean_logits
from geminga.classification.class_training import ClassSamples, train_member
from geminga.classification.evidence import Evidence
from geminga.classification.inputs import class_quantities
from geminga.config import load_config
from geminga.errors import InputError
from geminga.evaluation.bootstrap import Bootstrapped
from geminga.evaluation.class_ceilings import NOISE_FREE, NOISY, measure_ceilings
from geminga.evaluation.class_truth import FoundSources
from geminga.evaluation.summary import slug
from geminga.files import atomic, read_json, write_json
from geminga.pipeline.class_assess import found_sources
from geminga.pipeline.evidence import EVIDENCE_TRAINING
from geminga.pipeline.runner import Context, run_folder
from geminga.pipeline.simulate import sky_ids
from geminga.seeds import Split
from geminga.tracking import Tracker


def told(row: Row, part: Part) -> Evidence:
    """Return the evidence of a part as a row has it."""
    return shaped(row, part.labelled.evidence, part.summed)


def by_network(
    bench: Bench, row: Row, parts: Parts, trial: int
) -> tuple[Float64, Float64, dict[str, Any]]:
    """Return probabilities of the judged candidates, natural and flat prior."""
    net = bench.config.evidence_net.model_copy(update={"branches": row.branches, "members": 1})
    config = bench.config.model_copy(update={"evidence_net": net})
    names = with_fake(config.classes)
    train = parts.train if row.copies else parts.train.take(~parts.train.labelled.repeated)

    def samples(part: Part) -> ClassSamples:
        return ClassSamples.of(told(row, part), part.labelled.label, config, names)

    shown, held = samples(train), samples(parts.calibrate)
    reports: list[float] = []
    member = train_member(
        shown, samples(parts.choose), config, names, trial,
        lambda report: reports.append(report.valid_loss),
    )  # fmt: skip
    own = train.detected
    calibration = fit_calibration(
        mean_logits([member], held.inputs),
        held.labels,
        mean_logits([member], shown.inputs.take(own)),
        shown.labels[own],
        train.labelled.evidence.lat_deg[own],
    )
    logits = mean_logits([member], samples(parts.test).inputs)
    said = {
        "epochs": len(reports),
        "valid_loss": min(reports),
        "temperature": calibration.temperature,
    }
    return *_both(calibration, logits), said


def _both(calibration: Calibration, logits: Float64) -> tuple[Float64, Float64]:
    return calibration.probabilities(logits, "natural"), calibration.probabilities(logits, "flat")


def by_boosting(bench: Bench, row: Row, parts: Parts) -> tuple[Float64, Float64, dict[str, Any]]:
    """Return what boosted trees say of the judged candidates, natural and flat prior."""
    x, held, asked = (
        class_quantities(told(row, part))[1] for part in (parts.train, parts.calibrate, parts.test)
    )
    label, own = parts.train.labelled.label, parts.train.detected
    trees = fit_boosting(x, label, bench.config.seed, len(with_fake(bench.config.classes)))
    trees = trees.calibrated(
        held, parts.calibrate.labelled.label, x[own], label[own],
        parts.train.labelled.evidence.lat_deg[own],
    )  # fmt: skip
    return trees.probabilities(asked, "natural"), trees.probabilities(asked, "flat"), {}


def by_ceiling(bench: Bench, row: Row, parts: Parts) -> tuple[Float64, Float64, dict[str, Any]]:
    """Return what a ceiling says of the true sources among the judged candidates."""

    def found(part: Part) -> list[FoundSources]:
        listed = found_sources(bench.context, part.take(part.detected).labelled)
        if row.years != "none":
            return listed
        return [
            replace(one, yearly=one.yearly[:, :0], evidence=shaped(row, one.evidence, None))
            for one in listed
        ]

    names = with_fake(bench.config.classes)
    ceilings = measure_ceilings(found(parts.train), found(parts.test), names, bench.config.seed)
    best = ceilings[NOISY if row.method == "noisy" else NOISE_FREE]
    return best.probabilities, best.probabilities_flat, {}


def trained(bench: Bench, row: Row, parts: Parts) -> dict[str, Any]:
    """Return the probabilities of a row, [trial], and what it took."""
    start, natural, flat, notes = time.process_time(), [], [], []
    for trial in range(row.trials):
        if row.method == "network":
            result = by_network(bench, row, parts, trial)
        elif row.method == "boosting":
            result = by_boosting(bench, row, parts)
        elif row.method == "mean":
            stored = [load(bench, name) for name in (BASE, BOOSTED)]
            result = (
                np.mean([s["natural"][0] for s in stored], axis=0),
                np.mean([s["flat"][0] for s in stored], axis=0),
                {},
            )
        else:
            result = by_ceiling(bench, row, parts)
        natural.append(result[0])
        flat.append(result[1])
        notes.append(result[2])
    seconds = round(time.process_time() - start, 1)
    return {"natural": natural, "flat": flat, "notes": notes, "seconds": seconds}


def files_of(bench: Bench, name: str) -> tuple[Path, Path]:
    """Return the files of a finished row."""
    stem = bench.out / "results" / slug(name)
    return stem.with_suffix(".json"), stem.with_suffix(".npz")


def load(bench: Bench, name: str) -> dict[str, Float64]:
    """Return the probabilities of a finished row."""
    path = files_of(bench, name)[1]
    if not path.is_file():
        raise InputError(str(path), "is missing", f"measure the row {name!r} first")
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key].astype(np.float64) for key in ("natural", "flat")}


def run(bench: Bench, options: argparse.Namespace) -> None:
    """Measure the rows that are not finished, and print the table."""
    parts = parts_of(bench)
    say(
        f"{len(parts.train.detected)} candidates to train on ({int(parts.train.detected.sum())} "
        f"detections), {len(parts.test.detected)} to judge by"
    )
    units = units_of(len(bench.validation()[2]), options.resamples, bench.config.seed)
    figures: dict[str, Bootstrapped] = {}
    seconds: dict[str, float] = {}
    (bench.out / "results").mkdir(parents=True, exist_ok=True)
    rows = plan()
    all_summed = all(
        part.summed is not None for part in (parts.train, parts.choose, parts.calibrate, parts.test)
    )
    for row in rows:
        if row.years == "summed" and not all_summed:
            say(f"{row.name}: no summed years, left out")
            continue
        key, (path, store) = bench.key(row), files_of(bench, row.name)
        kept = read_json(path) if path.is_file() and store.is_file() else {}
        fresh = kept.get("key") != key
        if fresh:
            if not any(word in row.name for word in options.only or [""]):
                continue
            result = trained(bench, row, parts)
            with atomic(store) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    natural=np.asarray(result["natural"], np.float32),
                    flat=np.asarray(result["flat"], np.float32),
                )
            kept = as_tree(row, key, result["seconds"], result["notes"])
        stored, seconds[row.name] = load(bench, row.name), float(kept["seconds"])
        trials = [
            judge(classified(bench, parts, natural, flat), units)
            for natural, flat in zip(stored["natural"], stored["flat"], strict=True)
        ]
        figures[row.name] = mean_of(trials)
        if fresh:
            for note, trial in zip(kept["trainings"], trials, strict=True):
                note["figures"] = {k: float(v) for k, v in trial.value.items()}
            with bench.context.tracker.stage(row.name):
                bench.context.tracker.metrics(metrics(figures[row.name], seconds[row.name]))
                bench.context.tracker.tree(kept, "row.json")
            write_json(path, kept)
            say(f"{row.name}: {seconds[row.name]:.0f} s")
            table = markdown(rows, figures, seconds)
            with atomic(bench.out / "table.md") as temporary:
                temporary.write_text(f"{table}\n", encoding="utf-8")
    say(markdown(rows, figures, seconds))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="section.key=value")
    parser.add_argument("--evidence", type=Path, help="files of evidence, if not the run's")
    parser.add_argument("--out", type=Path, required=True, help="results and mlflow.db")
    parser.add_argument("--train", type=int, default=4, help="training skies")
    parser.add_argument("--limit", type=int, default=0, help="candidates to train on at most")
    parser.add_argument("--epochs", type=int, help="of every training at most")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--summed", action="store_true", help="measure summed years, then stop")
    parser.add_argument("--only", action="append", help="rows whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        config = load_config(options.config, options.set)
        root = run_folder(config)
        if options.epochs:
            training = config.evidence_net_training.model_copy(update={"epochs": options.epochs})
            config = config.model_copy(update={"evidence_net_training": training})
        place = {
            "output": str(options.out),
            "tracking_uri": None,
            "experiment": "geminga-class-levers",
        }
        tracked = config.model_copy(update={"run": config.run.model_copy(update=place)})
        options.out.mkdir(parents=True, exist_ok=True)
        with Tracker.open(tracked, options.out) as tracker:
            evidence = options.evidence or root / EVIDENCE_TRAINING
            train = sky_ids(config, Split.TRAIN)[: options.train]
            bench = Bench(
                Context(config, root, tracker), evidence, options.out, train, options.limit
            )
            if options.summed:
                bench.measure_summed()
            else:
                run(bench, options)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
