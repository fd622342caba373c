"""The yardstick of classes on a run: its classifiers and their ceilings on its test skies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geminga.arrays import Float64
from geminga.classes import with_fake
from geminga.classification.boosting import fit_boosting
from geminga.classification.class_model import ClassModel
from geminga.classification.inputs import class_quantities
from geminga.distributed.simulate import sky_folder
from geminga.errors import InputError
from geminga.evaluation.class_ceilings import measure_ceilings
from geminga.evaluation.class_figures import class_figures
from geminga.evaluation.class_metrics import Classified
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.class_text import class_text, leading_table
from geminga.evaluation.class_truth import FoundSources
from geminga.evaluation.class_yardstick import ClassSettings, measure_classes
from geminga.evaluation.compare_draws import Draws, class_draws
from geminga.evaluation.figures import save_figure
from geminga.evaluation.yardstick import flux_edges
from geminga.files import atomic, read_json, read_parquet, write_json
from geminga.pipeline.class_model import above_cut, held_out, load_class_model
from geminga.pipeline.classify import IMAGES, probability_file
from geminga.pipeline.evidence import Labelled, read_evidence
from geminga.pipeline.runner import Context
from geminga.pipeline.search import candidate_file, primary_search, selected
from geminga.pipeline.simulate import sky_ids, test_sky_ids
from geminga.seeds import Split
from geminga.sky.sky_files import COUNTS_FILE, SOURCES_FILE

EVIDENCE_NET = "network on evidence"
BOOSTING = "boosting"
THESIS_CNN = "network of images"
CLASS_RESULT = "classes.json"
CLASS_TABLE = "classes.md"


@dataclass(frozen=True, eq=False)
class RunClassifiers:
    """What a run's classifiers say of the detections of its test skies, the one that ships first."""

    classifiers: dict[str, Classified]
    ceilings: dict[str, Classified]
    settings: ClassSettings
    title: str

    def measure(self) -> ClassResult:
        """Return all figures."""
        return measure_classes(self.classifiers, self.ceilings, self.settings, self.title)

    def draws(self) -> Draws:
        """Return the resamples of the first classifier's leading figures."""
        return class_draws(next(iter(self.classifiers.values())), self.settings)


def measure_run_classes(context: Context) -> ClassResult:
    """Measure the classifiers of a run on the detections of its simulated test skies.

    Raises
    ------
    InputError
        If a class has no detection on the training skies.
    """
    return run_classifiers(context).measure()


def run_classifiers(context: Context) -> RunClassifiers:
    """Classify the detections of the simulated test skies with every classifier of a run.

    Raises
    ------
    InputError
        If a class has no detection on the training skies.
    """
    config = context.config
    names = with_fake(config.classes)
    skies = test_sky_ids(config)
    model = load_class_model(context)
    everything = read_evidence(context, skies)
    shown = everything.counted & _in_catalogue(context, everything)
    test = everything.take(shown)
    train = read_evidence(context, sky_ids(config, Split.TRAIN))
    train = train.take(train.counted)
    truth = {s: read_parquet(_file(context, s, SOURCES_FILE)) for s in dict.fromkeys(test.sky)}
    s1 = np.full(len(test), np.nan)
    for sky, table in truth.items():
        mine = (test.sky == sky) & (test.source >= 0)
        s1[mine] = table["s1"].to_numpy()[test.source[mine]]

    def judged(natural: Float64, flat: Float64, of: ClassModel | None = None) -> Classified:
        return Classified(
            names,
            test.sky,
            test.label,
            natural,
            flat,
            s1,
            test.evidence.lat_deg,
            test.evidence.lon_deg,
            None if of is None else of.unlike(test.evidence),
            None if of is None else of.ambiguous(natural),
        )

    classifiers = {
        EVIDENCE_NET: judged(
            model.probabilities(test.evidence), model.probabilities(test.evidence, "flat"), model
        ),
        BOOSTING: judged(*_boosted(context, train, test)),
        THESIS_CNN: judged(*_by_images(context, skies, shown, everything)),
    }
    natural = train.take(~train.repeated & above_cut(context, train))
    ceilings = measure_ceilings(
        found_sources(context, natural), found_sources(context, test), names, config.seed
    )
    count = len(skies)
    return RunClassifiers(
        classifiers,
        ceilings,
        ClassSettings(
            s1_edges=flux_edges(1e-11, 1e-7, config.evaluation.flux_bins_per_decade),
            seed=config.seed,
        ),
        f"{config.name}: detections of {count} simulated test {'sky' if count == 1 else 'skies'}",
    )


def write_classes(result: ClassResult, folder: Path, figures: Path) -> str:
    """Write a result's JSON, tables and figures; return the leading table."""
    write_json(folder / CLASS_RESULT, result.to_json())
    with atomic(folder / CLASS_TABLE) as temporary:
        temporary.write_text(class_text(result) + "\n", encoding="utf-8")
    for name, figure in class_figures(result).items():
        save_figure(figure, figures / f"{name}.png")
    return leading_table(result)


def found_sources(context: Context, candidates: Labelled) -> list[FoundSources]:
    """Return the true sources among candidates, sky by sky, with what was measured of them."""
    found = []
    for sky in dict.fromkeys(candidates.sky.tolist()):
        mine = candidates.take((candidates.sky == sky) & (candidates.source >= 0))
        truth = read_parquet(_file(context, sky, SOURCES_FILE))
        with np.load(_file(context, sky, COUNTS_FILE), allow_pickle=False) as stored:
            yearly = np.asarray(stored["yearly"], np.float64)
        rows = truth.iloc[mine.source].reset_index(drop=True)
        years = yearly[mine.source]
        if mine.evidence.year_ratio.shape[1] == 0:
            years = years[:, :0]
        found.append(FoundSources(sky, rows, years, mine.evidence))
    return found


def _file(context: Context, sky: int, name: str) -> Path:
    return sky_folder(context.folder("skies"), int(sky)) / name


def _in_catalogue(context: Context, candidates: Labelled) -> np.ndarray:
    """Return which candidates of test skies are in the catalogue: a list's first rows."""
    primary = primary_search(context.config)
    result = np.zeros(len(candidates), np.bool_)
    for sky in dict.fromkeys(candidates.sky.tolist()):
        listed = read_parquet(candidate_file(context.folder("search"), primary, sky))
        kept = len(selected(context, primary, listed))
        result |= (candidates.sky == sky) & (candidates.row < kept)
    return result


def _boosted(context: Context, train: Labelled, test: Labelled) -> tuple[Float64, Float64]:
    """Return probabilities of boosted trees, natural and flat prior."""
    config = context.config
    _, calibrating = held_out(context)
    held = read_evidence(context, calibrating)
    held = held.take(held.counted & above_cut(context, held))
    own = ~train.repeated & above_cut(context, train)
    quantities = class_quantities(train.evidence)[1]
    trees = fit_boosting(quantities, train.label, config.seed, len(with_fake(config.classes)))
    trees = trees.calibrated(
        class_quantities(held.evidence)[1],
        held.label,
        quantities[own],
        train.label[own],
        train.evidence.lat_deg[own],
    )
    asked = class_quantities(test.evidence)[1]
    return trees.probabilities(asked, "natural"), trees.probabilities(asked, "flat")


def _by_images(
    context: Context, skies: Sequence[int], shown: np.ndarray, everything: Labelled
) -> tuple[Float64, Float64]:
    """Return what the network of images says, natural and flat prior."""
    meta = read_json(context.folder("classifier") / "model" / "model.json")
    prior = np.array(meta["extra"]["prior"], np.float64)
    parts = []
    for sky in skies:
        rows = read_json(probability_file(context.folder("catalog"), sky, IMAGES))["rows"]
        mine = shown & (everything.sky == sky)
        if len(rows) < everything.row[mine].max(initial=-1) + 1:
            raise InputError(
                str(context.folder("catalog")), "is of other candidates", "run the stage anew"
            )
        parts.append(np.asarray(rows, np.float64).reshape(-1, len(prior))[everything.row[mine]])
    natural = np.concatenate(parts)
    flat = natural / prior
    return natural, np.asarray(flat / flat.sum(axis=1, keepdims=True))
