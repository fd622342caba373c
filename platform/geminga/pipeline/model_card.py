"""The card of a packaged model: what it was trained on, how well it does, what it cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geminga
from geminga import storage
from geminga.config import Config
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.class_text import leading_rows as leading_class_rows
from geminga.evaluation.summary import RunSummary
from geminga.evaluation.yardstick_results import Yardstick
from geminga.evaluation.yardstick_text import leading_rows, rows_by_model
from geminga.files import read_json
from geminga.pipeline.assess import SUMMARY
from geminga.pipeline.class_assess import CLASS_RESULT
from geminga.pipeline.class_model import CLASS_MODEL
from geminga.pipeline.runner import STAGE_FILE
from geminga.pipeline.search import CLASSIFIED, LIKELIHOOD, ORACLE, RANKED, SEARCH_NAMES
from geminga.pipeline.yardstick import RESULT, read_by_model
from geminga.sky.emission.interstellar import model_words

Rows = Sequence[Sequence[str]]
SHOWN = (RANKED, CLASSIFIED, LIKELIHOOD, ORACLE)
"""Searches whose figures a card shows: the model's own, the same judged again by the classifier, its
scores before ranking, the ceiling."""


def model_card(
    config: Config, root: Path, name: str, cut: float, replaced: Sequence[str] = ()
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    config : Config
        Of the run that trained the model.
    root : Path
        Folder of the run; figures are read from its evaluation if that is finished.
    name : str
        Of the model.
    cut : float
        Least probability of a source in the catalogue.
    replaced : sequence of str
        Settings of the run that name files which the model does not have.
    """
    response, floor = config.response, config.localisation.purity_floor
    bands = ", ".join(f"{b.emin_gev:g}-{b.emax_gev:g}" for b in config.bands)
    stage = read_json(root / "ranker" / STAGE_FILE)
    classifier = read_json(root / CLASS_MODEL / STAGE_FILE)["summary"]
    purity = "keeps all" if floor is None else f"chosen for purity {floor:g} on validation skies"
    facts = [
        ("photons", f"{response.irf}, {', '.join(response.event_types)}; {bands} GeV"),
        ("exposure of the training skies", _exposure(config)),
        ("skies", f"{config.sets.train} to train, {config.sets.validation} to validate and choose "
         f"the cut, {config.sets.test} to test; seed {config.seed}"),
        ("sources", _sources(config)),
        ("interstellar models of the training skies", _names(config.sky.interstellar)),
        ("of the test skies", _names(config.sky.test_interstellar or config.sky.interstellar[:1])),
        ("isotropic emission", _names(_values(config.sky.isotropic))),
        ("extended sources in the skies", _names([config.sky.extended or "none"])),
        ("reference model of the search", config.likelihood.reference),
        ("network", f"ranker, {stage['summary'].get('parameters', '?')} weights, "
         f"{stage['summary'].get('epochs', '?')} epochs"),
        ("classifier", f"{config.evidence_net.members} networks on evidence, "
         f"{classifier.get('parameters', '?')} weights, trained on "
         f"{classifier.get('candidates to train on', '?')} candidates"),
        ("score cut", f"probability {cut:.3f}: {purity}"),
        ("run", f"{config.name}, configuration {config.hash()}, geminga {stage['version']}"),
    ]  # fmt: skip
    parts = [
        f"# Model {name}",
        "Finds point sources in Fermi-LAT photons with `geminga detect`: a Poisson likelihood "
        "search fits sources in overlapping patches, and a small network trained on simulated skies "
        "gives each the probability that it is real; a classifier says what it is.",
        "## What it was made with",
        table([("", ""), *facts]),
        "## How well it does",
        *_figures(root),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(config, replaced)),
        "## Licence",
        "Code and weights: Apache License 2.0. The built-in tables were derived from public data of "
        "the Fermi Science Support Center and the Fermi-LAT Collaboration; name them where results "
        f"are published. Made with geminga {geminga.__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def table(rows: Rows) -> str:
    """Return rows of cells as a Markdown table, the first row as its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _figures(root: Path) -> list[str]:
    """Return what the run's own test skies say."""
    evaluated = root / "evaluate"
    parts = []
    if storage.exists(evaluated / RESULT):
        measured = Yardstick.from_json(read_json(evaluated / RESULT), str(evaluated / RESULT))
        parts += [
            "On the test skies of its run, each part of the sky at its own cut "
            f"({measured.errors}):",
            _chosen(leading_rows(measured), SHOWN),
        ]
    by_model = read_by_model(evaluated)
    if by_model:
        parts += [
            "The same skies by their interstellar model, the whole sky at one cut:",
            _chosen(rows_by_model(by_model), SHOWN, column=1),
        ]
    if storage.exists(evaluated / SUMMARY):
        path = evaluated / SUMMARY
        summary = RunSummary.from_json(read_json(path), str(path))
        parts += ["At the score cut of the model:", _chosen(summary.rows(), SHOWN[:1])]
    path = evaluated / CLASS_RESULT
    if storage.exists(path):
        classes = ClassResult.from_json(read_json(path), str(path))
        parts += [
            f"{classes.title} (errors: {classes.errors}):",
            table(leading_class_rows(classes)),
        ]
    return parts or ["The run was not evaluated: no figures."]


def _chosen(rows: Rows, searches: Sequence[str], column: int = 0) -> str:
    """Return a table of the rows of some searches, which a column names."""
    names = {SEARCH_NAMES[search] for search in searches}
    return table([rows[0], *(row for row in rows[1:] if row[column] in names)])


def _limits(config: Config, replaced: Sequence[str]) -> list[str]:
    span = f"{config.response.duration_years:g} years of survey"
    lines = [
        f"Probabilities are calibrated on simulated skies of {span} and mean what they say for "
        "photons of about such an exposure; positions, TS and fluxes of the fits hold for any.",
        "Sources wider than the point-spread function are found in pieces or not at all.",
        f"Sources within {config.likelihood.search_separation_deg:g} deg of a brighter one may be "
        "taken for one with it.",
        "Spectra are fitted as power laws: within some 2 deg of the few brightest sources whose "
        "spectra bend (Vela, Geminga) faint ones are lost, and others found that are not there.",
        "Patches reach to the border of the data; sources cut by it have wrong fluxes.",
        "Classes are those of the simulated population, fitted to 4FGL-DR2; a source of another kind "
        "is given the nearest of them, and UNLIKE tells it only if it is very odd.",
    ]
    if replaced:
        lines.append(
            f"The run read files for {', '.join(replaced)}; the model has what is built in instead."
        )
    return lines


def _exposure(config: Config) -> str:
    cube = config.response.exposure_cube
    if cube is None:
        return f"built-in survey of {config.response.duration_years:g} years"
    return _names(_values(cube))


def _sources(config: Config) -> str:
    sky = config.sky
    text = f"population {_names([sky.population])}, {sky.density_factor:g} times its density"
    if sky.depth is not None:
        text += f", down to {sky.depth:g} ph/cm2/s"
    if sky.least_ts is not None:
        text += f", of expected TS {sky.least_ts:g} or more"
    return text


def _values(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(v) for v in value.values()]
    return [value] if isinstance(value, str) else [str(v) for v in value]


def _names(values: Sequence[str]) -> str:
    """Return files without their folders; one that is given several times is named once."""
    return ", ".join(dict.fromkeys(model_words(value) for value in values))
