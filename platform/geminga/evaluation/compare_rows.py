"""Figures of runs in rows: what a table of several runs shows, and what MLflow keeps of one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.compare_draws import Draws, difference
from geminga.evaluation.compare_record import RunRecord, TestSets
from geminga.evaluation.summary import slug
from geminga.evaluation.yardstick_results import PART_SLUGS, PartFigures, SearchFigures

MORE, LESS, NEITHER = 1, -1, 0

PURITY = "0.9"
"""Key of the purity at which parts of the sky and searches are listed."""


@dataclass(frozen=True)
class Figure:
    """One figure of one run.

    Attributes
    ----------
    group, label : str
        Heading, and words for it.
    metric : str
        Its name in MLflow.
    estimate : Estimate
        With its bootstrap error, NaN for a figure without.
    better : int
        MORE, LESS, or NEITHER where no value is best in itself.
    form : str
        Format of the number.
    draw : str
        Name of its resamples; empty without.
    of_classes : bool
        Whether its resamples are those of the classes.
    """

    group: str
    label: str
    metric: str
    estimate: Estimate
    better: int
    form: str = "{:.3f}"
    draw: str = ""
    of_classes: bool = False


@dataclass(frozen=True)
class Row:
    """A figure of several runs.

    Attributes
    ----------
    group, label, form, better
        As in `Figure`.
    cells : tuple of Figure or None
        By run; None where a run has no such figure.
    reasons : tuple of str
        By run; why there is none, else empty.
    differences : tuple of Estimate or None
        From the first run, in the order of the others; None where there is none to give.
    paired : bool
        Whether the errors of all differences come from the same resamples.
    best : int or None
        The run whose figure is better than every other run's by more than the error of the
        difference; None if there is none.
    """

    group: str
    label: str
    form: str
    better: int
    cells: tuple[Figure | None, ...]
    reasons: tuple[str, ...]
    differences: tuple[Estimate | None, ...]
    paired: bool
    best: int | None


def figures_of(record: RunRecord) -> Iterator[Figure]:
    """Yield the figures of a run that runs are compared by."""
    yield from _detection(record)
    yield from _classes(record)
    yield from _costs(record)


def headline(record: RunRecord) -> dict[str, float]:
    """Return the figures that runs are compared by, finite ones, as metrics for MLflow.

    For example ``completeness_at_purity_0.90`` with ``completeness_at_purity_0.90_error``.
    """
    flat: dict[str, float] = {}
    for figure in figures_of(record):
        flat[figure.metric] = figure.estimate.value
        flat[f"{figure.metric}_error"] = figure.estimate.error
    return {name: value for name, value in flat.items() if math.isfinite(value)}


def compare_rows(records: Sequence[RunRecord], sets: TestSets) -> list[Row]:
    """Return a row for every figure that at least one run has, in the order of the first runs.

    Parameters
    ----------
    records : sequence of RunRecord
        Two or more.
    sets : TestSets
        Whether they share their test skies; if not, no differences and no best.
    """
    by_run = [{f.metric: f for f in figures_of(record)} for record in records]
    order: dict[str, Figure] = {}
    for figures in by_run:
        for name, figure in figures.items():
            order.setdefault(name, figure)
    groups = list(dict.fromkeys(figure.group for figure in order.values()))
    rows = []
    for group in groups:
        for name, example in order.items():
            if example.group == group:
                cells = tuple(figures.get(name) for figures in by_run)
                rows.append(_row(example, cells, records, sets))
    return rows


def _detection(record: RunRecord) -> Iterator[Figure]:
    search = record.search
    if search is not None and record.yardstick is not None:
        for number, (part, figures) in enumerate(search.parts.items()):
            yield from _completeness(part, figures, whole=number == 0)
        yield from _positions(search)
        for name, other in list(record.yardstick.searches.items())[1:]:
            point = next(iter(other.parts.values())).at_purity.get(PURITY)
            if point is not None:
                yield Figure(
                    f"Other searches, completeness at purity {_two(PURITY)}", name,
                    f"searches/{_tidy(name)}",
                    Estimate(point.completeness.value, point.completeness.error), MORE,
                )  # fmt: skip
    for one in record.summary.searches[:1]:
        region = one.regions["all"]
        for name in ("completeness", "purity"):
            value = Estimate(getattr(region, name), getattr(region, f"{name}_error"))
            yield Figure(
                "The catalogue at its score cut (binomial errors)", name, f"catalogue/{name}",
                value, NEITHER,
            )  # fmt: skip


def _completeness(part: str, figures: PartFigures, whole: bool) -> Iterator[Figure]:
    """Yield completeness at each purity, of a part of the sky at one, with the ratio to the oracle."""
    group = "Completeness, whole sky" if whole else f"Completeness at purity {_two(PURITY)}, parts"
    start = "" if whole else f"latitude/{PART_SLUGS.get(part, _tidy(part))}/"
    for key, point in figures.at_purity.items():
        if not whole and key != PURITY:
            continue
        label = f"at purity {_two(key)}" if whole else part
        end = f"_at_purity_{_two(key)}" if whole else ""
        own = Estimate(point.completeness.value, point.completeness.error)
        yield Figure(
            group, label, f"{start}completeness{end}", own, MORE,
            draw=f"completeness/{part}/{key}",
        )  # fmt: skip
        if point.completeness.ratio is not None:
            yield Figure(
                group, f"{label}, of the oracle's", f"{start}ratio_to_oracle{end}",
                point.completeness.ratio, MORE, draw=f"ratio/{part}/{key}",
            )  # fmt: skip


def _positions(search: SearchFigures) -> Iterator[Figure]:
    """Yield position errors, and the calibration of positions and scores."""
    for name, words in (
        ("median_deg", "median error (deg)"),
        ("radius68_deg", "68 % lie within (deg)"),
    ):
        yield Figure(
            "Positions", words, f"position/{name}", getattr(search.positions[0], name), LESS,
            "{:.4f}", f"position/{name}",
        )  # fmt: skip
    yield Figure(
        "Positions", "sources measured", "position/sources",
        Estimate(float(search.positions[0].n), math.nan), NEITHER, "{:.0f}",
    )  # fmt: skip
    for name in ("inside_68", "inside_95"):
        yield Figure(
            "Positions", f"share inside the claimed {name[-2:]} %", f"position/{name}",
            getattr(search.position_calibration, name), NEITHER, draw=f"position/{name}",
        )  # fmt: skip
    score = search.score_calibration
    if score is not None:
        yield Figure(
            "Calibration", "expected calibration error", "calibration/ece",
            score.expected_error, LESS, "{:.4f}", "calibration_error",
        )  # fmt: skip
        yield Figure(
            "Calibration", "Brier score", "calibration/brier", score.brier, LESS, "{:.4f}", "brier"
        )


_CLASS_ROWS = (
    ("macro_f1", "macro F1, FAKE included", MORE),
    ("macro_f1_true", "macro F1 among true sources", MORE),
    ("fake_recall", "FAKE recognised, 95 % of true sources kept", MORE),
    ("ece", "expected calibration error", LESS),
)


def _classes(record: RunRecord) -> Iterator[Figure]:
    classifier, result = record.classifier, record.classes
    if classifier is None or result is None:
        return
    rows = [
        (f"balanced_accuracy/{name}", f"balanced accuracy, {name}", MORE)
        for name in result.comparisons
    ]
    for key, label, better in (*_CLASS_ROWS, *rows):
        judged = classifier.figures.get(key)
        if judged is not None:
            # MLflow's table of several runs cuts names beyond some forty letters.
            kind, _, pair = key.partition("/")
            metric = f"pairs/{_tidy(pair.replace(' against ', ' '))}" if pair else f"classes/{kind}"
            yield Figure(
                "Classes", label, metric, Estimate(judged.value, judged.error), better,
                draw=key, of_classes=True,
            )  # fmt: skip


def _costs(record: RunRecord) -> Iterator[Figure]:
    for network, history in record.histories.items():
        for name, words in (("train_loss", "training loss"), ("valid_loss", "validation loss")):
            losses = [row[name] for row in history if math.isfinite(row.get(name, math.nan))]
            if losses:
                # Validation: of the weights that are kept, the best epoch's.
                value = min(losses) if name == "valid_loss" else losses[-1]
                which = "lowest" if name == "valid_loss" else "last"
                yield Figure(
                    "Training", f"{network}: {which} {words}", f"loss/{network}_{name}",
                    Estimate(value, math.nan), NEITHER, "{:.4f}",
                )  # fmt: skip
        yield Figure(
            "Training", f"{network}: epochs", f"epochs/{network}",
            Estimate(float(len(history)), math.nan), NEITHER, "{:.0f}",
        )  # fmt: skip
    for stage, seconds in {"total": sum(record.seconds.values()), **record.seconds}.items():
        yield Figure(
            "Wall time (s)", stage, f"seconds/{stage}", Estimate(seconds, math.nan), NEITHER,
            "{:.0f}",
        )  # fmt: skip


def _row(
    example: Figure, cells: tuple[Figure | None, ...], records: Sequence[RunRecord], sets: TestSets
) -> Row:
    reasons = tuple(
        _reason(example, record) if cell is None else _nothing(cell)
        for cell, record in zip(cells, records, strict=True)
    )
    number = range(len(cells))
    # No difference has a meaning on other skies, or an error without errors of the figures.
    measured = any(cell is not None and math.isfinite(cell.estimate.error) for cell in cells)
    given = sets.same_truth and measured and bool(example.better or example.draw)
    if example.of_classes and not example.draw.startswith("balanced_accuracy/"):
        # The mean over other classes is another figure; a pair that both have is the same one.
        given &= len({tuple(record.config.get("classes", ())) for record in records}) == 1
    pairs = [[_difference(records, cells, a, b) if given else None for b in number] for a in number]
    firsts = [pairs[k][0] for k in number[1:]]
    return Row(
        example.group,
        example.label,
        example.form,
        example.better,
        cells,
        reasons,
        tuple(None if pair is None else pair[0] for pair in firsts),
        all(pair is None or pair[1] for pair in firsts),
        _best(example.better, cells, pairs),
    )


_Difference = tuple[Estimate, bool] | None


def _difference(
    records: Sequence[RunRecord], cells: Sequence[Figure | None], a: int, b: int
) -> _Difference:
    """Return figure a minus figure b and whether its error is paired; None if one is lacking."""
    mine, its = cells[a], cells[b]
    if a == b or mine is None or its is None:
        return None
    values = mine.estimate.value, its.estimate.value
    if not all(map(math.isfinite, values)):
        return None
    draws = [_draws(records[k], mine) for k in (a, b)] if mine.draw else [None, None]
    return difference(mine.estimate, its.estimate, mine.draw, *draws)


def _draws(record: RunRecord, figure: Figure) -> Draws | None:
    return record.class_draws if figure.of_classes else record.search_draws


def _best(
    better: int, cells: Sequence[Figure | None], pairs: Sequence[Sequence[_Difference]]
) -> int | None:
    """Return the run that is better than every other one beyond the error of the difference."""
    if not better:
        return None
    for run, row in enumerate(pairs):
        against = [pair[0] for other, pair in enumerate(row) if other != run and pair is not None]
        # Where no resample changes a figure it stands for a single source or two.
        cell = cells[run]
        known = cell is not None and cell.estimate.error > 0
        if known and against and all(d.value * better > d.error for d in against):
            return run
    return None


def _nothing(cell: Figure) -> str:
    """Return why a figure that was measured has no value; empty if it has one."""
    return "" if math.isfinite(cell.estimate.value) else "nothing was found to measure it on"


def _reason(example: Figure, record: RunRecord) -> str:
    if example.of_classes:
        if record.classifier is None:
            return record.no_classifier
        return "its classes do not have this comparison"
    if example.metric.startswith(("seconds/", "loss/", "epochs/")):
        return "the run has no such part"
    if record.search is None and not example.metric.startswith("catalogue/"):
        return record.no_search
    return "was not measured in this run"


def _two(purity: str) -> str:
    """Return a purity with two digits, as names sort."""
    return f"{float(purity):.2f}"


def _tidy(name: str) -> str:
    """Return a name as MLflow takes it, without runs of underscores."""
    return re.sub("_+", "_", slug(name)).strip("_")
