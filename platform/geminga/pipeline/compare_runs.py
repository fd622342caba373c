"""``geminga compare``: finished runs side by side, from their folders or from MLflow."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from geminga.errors import InputError
from geminga.evaluation.compare_page import write_page
from geminga.evaluation.compare_record import RunRecord, compare_test_sets
from geminga.evaluation.compare_rows import compare_rows
from geminga.evaluation.compare_text import comparison_text
from geminga.files import atomic, read_json
from geminga.pipeline.run_record import RECORD, gather_record
from geminga.pipeline.runner import STAGE_FILE
from geminga.tracking.reading import read_run_json

_LOG = logging.getLogger(__name__)

PAGE = "compare.html"
TABLE = "compare.txt"

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_LAST_STAGE = "report"
_SHOWN = 4


def compare_runs(runs: Sequence[str], out: Path, tracking_uri: str | None = None) -> str:
    """Compare finished runs; write a page and a table.

    Parameters
    ----------
    runs : sequence of str
        Two or more: each the folder of a run, or the identifier of its MLflow run.
    out : Path
        Folder for ``compare.html`` and ``compare.txt``.
    tracking_uri : str, optional
        MLflow store that identifiers are of; MLFLOW_TRACKING_URI if not given.

    Returns
    -------
    str
        The table.

    Raises
    ------
    InputError
        If fewer than two runs are named, one is named twice, one is neither a folder of a run nor
        an identifier, or is not finished; if the store does not answer.
    """
    if len(runs) < 2:
        problem = "no run is named" if not runs else f"{runs[0]} alone"
        raise InputError("compare", problem, "name two runs or more: folders or MLflow run ids")
    records = [read_run(run, tracking_uri) for run in runs]
    for number, record in enumerate(records):
        if record.origin in [other.origin for other in records[:number]]:
            raise InputError(runs[number], "is named twice", "name different runs")
    labels = labels_of(runs, records)
    sets = compare_test_sets(records)
    rows = compare_rows(records, sets)
    text = comparison_text(records, labels, rows, sets)
    write_page(out / PAGE, records, labels, rows, sets)
    with atomic(out / TABLE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def read_run(run: str, tracking_uri: str | None = None) -> RunRecord:
    """Read the record of a run from its folder, or from MLflow by its identifier.

    Raises
    ------
    InputError
        If there is no such run, or it is not finished.
    """
    folder = Path(run)
    if folder.is_dir():
        return _from_folder(folder)
    if _RUN_ID.fullmatch(run):
        tree = read_run_json(run, RECORD, tracking_uri)
        return RunRecord.from_json(tree, f"MLflow run {run}")
    problem = "is a file" if folder.exists() else "is neither a folder nor an MLflow run id"
    raise InputError(run, problem, "name the folder of a run (out/demo) or the 32 digits of its id")


def labels_of(runs: Sequence[str], records: Sequence[RunRecord]) -> list[str]:
    """Return a name for each run: its own, with where it was read from if names repeat."""
    names = [record.name for record in records]
    # A run's folder has its name; the folder around it tells runs of one name apart.
    places = [
        run[:8] if _RUN_ID.fullmatch(run) else Path(run).resolve().parent.name for run in runs
    ]
    if len({*zip(names, places, strict=True)}) < len(runs):
        places = [run.rstrip("/") for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({place})"
        for name, place in zip(names, places, strict=True)
    ]


def _from_folder(folder: Path) -> RunRecord:
    if not (folder / "config.json").is_file():
        inside = sorted(str(path.parent) for path in folder.glob("*/config.json"))
        remedy = "name the folder of one run"
        if inside:
            more = ", ..." if len(inside) > _SHOWN else ""
            remedy = f"name one of those in it: {', '.join(inside[:_SHOWN])}{more}"
        raise InputError(str(folder), "is not the folder of a run (no config.json)", remedy)
    begun = sorted(path.name.split(".")[1] for path in folder.glob(".*.partial"))
    if begun or not (folder / _LAST_STAGE / STAGE_FILE).is_file():
        stage = f": stage {begun[0]} was begun" if begun else ": it has no report"
        raise InputError(str(folder), f"is not finished{stage}", "finish it with geminga run")
    path = folder / _LAST_STAGE / RECORD
    origin = str(folder.resolve())
    if path.is_file():
        return RunRecord.from_json(read_json(path), origin)
    _LOG.info("%s: reported by an older version; its record is gathered anew", folder)
    return gather_record(folder.resolve(), read_json(folder / "config.json"))
