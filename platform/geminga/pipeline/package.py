"""A model for ``geminga detect`` from a finished run: settings, weights and a card about them."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from geminga import storage
from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.files import atomic, file_digest, read_json, write_json
from geminga.networks.checkpoint import META, WEIGHTS
from geminga.pipeline.class_model import CLASS_MODEL
from geminga.pipeline.detect_classes import CLASSES_FOLDER, classifier_of
from geminga.pipeline.detect_likelihood import RANKER_FOLDER, ranker_of
from geminga.pipeline.model_card import model_card
from geminga.pipeline.models import CONFIG_FILE, SHIPPED, Model, load_model
from geminga.pipeline.ranked import SCORE_CUT
from geminga.pipeline.runner import is_finished, run_folder, stage_keys
from geminga.pipeline.search import CUTS_FILE, RANKED
from geminga.pipeline.stages import STAGES
from geminga.response import build_response

CARD_FILE = "MODEL.md"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BUILTIN: dict[str, Any] = {
    "data": None,
    "response.caldb": None,
    "response.exposure_cube": None,
    "response.yearly_exposure": [],
    "sky.population": "4fgl_dr2",
    "sky.interstellar": ["builtin"],
    "sky.test_interstellar": [],
    "sky.fine_structure": None,
    "sky.isotropic": "builtin",
    "sky.extended": None,
}
"""Settings that may name files, and what a packaged model has there instead."""


@dataclass(frozen=True)
class Packaged:
    """A packaged model.

    Attributes
    ----------
    folder : Path
    megabytes : float
        Of all its files.
    """

    folder: Path
    megabytes: float


def package_model(config: Config, name: str, to: Path | None = None) -> Packaged:
    """Make a model of the ranker and the classifier of a finished run.

    Parameters
    ----------
    config : Config
        Of the run.
    name : str
        Of the model.
    to : Path, optional
        Folder in which the model's is made; the packaged models' if not given. An older model of
        the name is replaced.

    Returns
    -------
    Packaged

    Raises
    ------
    InputError
        If the run has no ranker or classifier of this configuration, a setting cannot be packaged,
        or the folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise InputError("--name", f"{name!r} is no plain name", "use letters, digits, _ and -")
    packaged = packaged_config(config, name)
    root = run_folder(config)
    trained = _trained(config, root, "ranker")
    classes = _trained(config, root, CLASS_MODEL)
    cut = float(read_json(root / "ranker" / CUTS_FILE)[RANKED])
    target = (SHIPPED if to is None else to) / name
    with atomic(target) as folder:
        folder.mkdir()
        text = yaml.safe_dump(
            _written(packaged), sort_keys=False, default_flow_style=None, width=100
        )
        first = f"# Made by 'geminga package-model' from the run {config.name}; see {CARD_FILE}.\n"
        (folder / CONFIG_FILE).write_text(first + text, encoding="utf-8")
        weights = folder / RANKER_FOLDER
        weights.mkdir()
        shutil.copyfile(storage.here(trained / WEIGHTS), weights / WEIGHTS)
        meta = read_json(trained / META)
        meta["extra"] = {**meta["extra"], SCORE_CUT: cut}
        write_json(weights / META, meta)
        judge = folder / CLASSES_FOLDER
        judge.mkdir()
        for name_of_file in (WEIGHTS, META):
            # Contents alone: weights are written for their owner only.
            shutil.copyfile(storage.here(classes / name_of_file), judge / name_of_file)
        card = model_card(config, root, name, cut, replaced(config))
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        _check(load_model(str(folder)), packaged)
    files = [path for path in target.rglob("*") if path.is_file()]
    return Packaged(target, sum(path.stat().st_size for path in files) / 1e6)


def packaged_config(config: Config, name: str) -> Config:
    """Return the settings of a run with nothing in them that names a file.

    Raises
    ------
    InputError
        If the search itself needs a file.
    """
    if config.localisation.detector != "likelihood":
        raise InputError(
            "localisation.detector",
            f"{config.localisation.detector} is not what 'geminga detect' runs",
            "package a run of the likelihood search",
        )
    if config.likelihood.reference != "builtin":
        raise InputError(
            "likelihood.reference",
            f"{config.likelihood.reference!r} is a file that users do not have",
            "train with the built-in one",
        )
    tree = config.model_dump(mode="json")
    for key in replaced(config):
        section, _, last = key.rpartition(".")
        (tree[section] if section else tree)[last] = _BUILTIN[key]
    tree |= {"name": name, "observed": None}
    tree.pop("run")
    return config_from_tree(tree, f"model {name}")


def replaced(config: Config) -> list[str]:
    """Return the settings of a run that name files; a packaged model has what is built in."""
    tree = config.model_dump(mode="json")
    keys = []
    for key, builtin in _BUILTIN.items():
        value: Any = tree
        for part in key.split("."):
            value = value[part]
        shipped = key == "sky.population" and not str(value).endswith(".json")
        if value != builtin and not shipped:
            keys.append(key)
    return keys


def _written(config: Config) -> dict[str, Any]:
    """Return the settings that go to the file: all but those of a run on some machine."""
    tree = config.model_dump(mode="json")
    return {key: value for key, value in tree.items() if key not in ("run", "data", "observed")}


def _trained(config: Config, root: Path, stage: str) -> Path:
    """Return the folder of the weights of a finished run."""
    key = stage_keys(STAGES, config, file_digest)[stage]
    if not is_finished(root / stage, key):
        raise InputError(
            str(root),
            f"holds no {stage.replace('_', ' ')} trained with this configuration",
            "run 'geminga run' with it first",
        )
    return root / stage / "model"


def _check(model: Model, wanted: Config) -> None:
    """Raise unless a model is read as it was meant and has a response without any file."""
    if model.config.hash() != wanted.hash():
        raise ValueError(f"{model.folder} is not read as it was written")
    build_response(model.config)
    ranker_of(model.folder, model.config)
    classifier_of(model.folder, model.config)
