"""``geminga evaluate`` on files: lists of detections against lists of true sources."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geminga import storage
from geminga.errors import InputError
from geminga.evaluation.figures import save_figure
from geminga.evaluation.lists import read_detections, read_truth
from geminga.evaluation.summary import aligned
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.evaluation.yardstick_figures import yardstick_figures
from geminga.evaluation.yardstick_results import Yardstick
from geminga.evaluation.yardstick_text import rows_by_model, text_table
from geminga.files import atomic, read_json, write_json

_LOG = logging.getLogger(__name__)

FOUND = "detections"
ORACLE = "oracle"
RESULT = "yardstick.json"
TABLE = "yardstick.txt"
METRICS = "metrics.json"
BY_MODEL = "by_interstellar.json"
MODEL_TABLE = "by_interstellar.txt"


def measure_files(
    detections: Sequence[Path],
    truth: Sequence[Path],
    out: Path,
    oracle: Sequence[Path] = (),
    settings: YardstickSettings | None = None,
    faintest_s1: float = 0.0,
) -> str:
    """Measure lists of detections, one file per sky, and write figures, tables and JSON.

    Parameters
    ----------
    detections, truth : sequence of Path
        One file of each per sky, in the same order.
    out : Path
        Folder for ``yardstick.json``, ``yardstick.txt``, ``metrics.json`` and ``figures/``.
    oracle : sequence of Path
        The ceiling's detections, one file per sky, or none.
    settings : YardstickSettings, optional
        The defaults if not given.
    faintest_s1 : float
        Sources with a smaller S1 (ph/cm2/s) are no part of the truth: a detection of one is false.

    Returns
    -------
    str
        The leading tables; those by flux and TS are in the file.

    Raises
    ------
    InputError
        If numbers of files differ, or a file cannot be used.
    """
    searches = {FOUND: list(detections)} | ({ORACLE: list(oracle)} if oracle else {})
    _check_numbers(searches, truth)
    sources = [read_truth(path) for path in truth]
    frames = {name: [read_detections(p) for p in paths] for name, paths in searches.items()}
    for name, paths in searches.items():
        for path, seen, true_path, true in zip(paths, frames[name], truth, sources, strict=True):
            _check_sky(path, seen, true_path, true)
    bright = [
        true[~(true["s1"].to_numpy(np.float64) < faintest_s1)].reset_index(drop=True)
        for true in sources
    ]
    skies = f"{len(truth)} {'sky' if len(truth) == 1 else 'skies'}"
    limit = f", sources from S1 = {faintest_s1:g} up" if faintest_s1 > 0 else ""
    result = measure_searches(
        frames,
        bright,
        settings,
        oracle=ORACLE if oracle else None,
        title=f"detections on {skies}{limit}",
    )
    return write_yardstick(result, out)


def write_yardstick(result: Yardstick, out: Path) -> str:
    """Write a result's JSON, metrics, tables and figures into a folder; return the leading tables."""
    write_json(out / RESULT, result.to_json())
    write_json(out / METRICS, result.metrics())
    with atomic(out / TABLE) as temporary:
        temporary.write_text(text_table(result), encoding="utf-8")
    for name, figure in yardstick_figures(result).items():
        save_figure(figure, out / "figures" / f"{name}.png")
    return text_table(result, full=False)


def write_by_model(results: Mapping[str, Yardstick], out: Path) -> str:
    """Write what skies with different interstellar models say; return it as a table."""
    table = "\n".join(aligned(rows_by_model(results)))
    write_json(out / BY_MODEL, {name: result.to_json() for name, result in results.items()})
    with atomic(out / MODEL_TABLE) as temporary:
        temporary.write_text(table + "\n", encoding="utf-8")
    return table


def read_by_model(folder: Path) -> dict[str, Yardstick]:
    """Return what `write_by_model` wrote into a folder; empty if it wrote nothing."""
    path = folder / BY_MODEL
    if not storage.exists(path):
        return {}
    return {n: Yardstick.from_json(tree, str(path)) for n, tree in read_json(path).items()}


def _check_numbers(searches: Mapping[str, Sequence[Path]], truth: Sequence[Path]) -> None:
    for name, paths in searches.items():
        if len(paths) != len(truth):
            raise InputError(
                f"--{name}",
                f"{len(paths)} files for the {len(truth)} of --truth",
                "give one file per sky, in the same order",
            )


def _check_sky(path: Path, seen: pd.DataFrame, true_path: Path, true: pd.DataFrame) -> None:
    """Raise unless each file is of one sky, and both of the same where both say which."""
    for where, frame in ((path, seen), (true_path, true)):
        number = frame["sky_id"].nunique() if "sky_id" in frame.columns else 1
        if number > 1:
            raise InputError(str(where), f"holds {number} skies", "give one file per sky")
    if "sky_id" in seen.columns and "sky_id" in true.columns and len(seen) and len(true):
        mine, other = int(seen["sky_id"].iloc[0]), int(true["sky_id"].iloc[0])
        if mine != other:
            raise InputError(
                str(path),
                f"is of sky {mine}, but paired with sky {other} ({true_path})",
                "give detections and truth in the same order",
            )
