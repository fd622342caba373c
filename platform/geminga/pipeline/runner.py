"""Running stages: resume, provenance, tracking, in one place.

A finished stage leaves ``stage.json`` in its folder with a key made of the settings it uses, the
keys of the stages it reads, the digests of its input files and the program's version. A stage whose
key is unchanged is skipped; one whose key changed is run again, and with it all that depends on it.
An unfinished stage works in a folder that carries its key, so that a later run goes on from there.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import platform as python_platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geminga
from geminga import storage
from geminga.config import Config, digest
from geminga.errors import InputError
from geminga.files import read_json, remove_temporaries, write_json
from geminga.pipeline.taking import take_run
from geminga.sections.learning import SHARING
from geminga.tracking import Tracker
from geminga.tracking.datasets import file_datasets

logger = logging.getLogger(__name__)

STAGE_FILE = "stage.json"
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in what ``ray job submit`` starts."""


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes
    ----------
    name : str
        Name of the stage and of its folder.
    run : callable
        ``run(context, folder) -> summary``: reads what earlier stages wrote, writes into `folder`
        (which may hold finished pieces of an interrupted run), returns figures for the log.
    reads : tuple of str
        Earlier stages whose output it uses.
    settings : tuple of str
        Keys of the configuration its result depends on, sections (``sky``) or single ones
        (``evaluation.kmeans``).
    input_files : callable, optional
        The files from outside that it reads.
    wanted : callable, optional
        Whether a configuration has this stage at all.
    tell : callable, optional
        Says in MLflow what its finished `folder` holds, where a run that is new there skips it.
    """

    name: str
    run: Callable[[Context, Path], Mapping[str, Any]]
    reads: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    input_files: Callable[[Config], Sequence[Path]] = lambda _: ()
    wanted: Callable[[Config], bool] = lambda _: True
    tell: Callable[[Context, Path], None] = lambda _, __: None


@dataclass(frozen=True)
class Context:
    """What a stage is given besides its own folder."""

    config: Config
    root: Path
    tracker: Tracker

    def folder(self, stage: str) -> Path:
        """Return the folder of a finished stage."""
        return self.root / stage


def run_folder(config: Config) -> Path:
    """Return the folder of a run; below the mirror of an object store use `geminga.storage`."""
    return config.run.folder() / config.name


def stage_keys(
    stages: Sequence[Stage], config: Config, digests: Callable[[Path], str]
) -> dict[str, str]:
    """Return the key of every stage the configuration has, in order."""
    tree = config.model_dump(mode="json")
    keys: dict[str, str] = {}
    for stage in stages:
        if stage.wanted(config):
            keys[stage.name] = digest(
                {
                    "stage": stage.name,
                    "version": geminga.__version__,
                    "seed": config.seed,
                    "settings": {key: _setting(tree, key) for key in stage.settings},
                    "reads": [keys[name] for name in stage.reads if name in keys],
                    "files": [digests(path) for path in stage.input_files(config)],
                }
            )
    return keys


def _setting(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    if key.endswith("_training"):
        # A training that is interrupted goes on with what there is of workers.
        return {name: v for name, v in value.items() if name not in SHARING}
    return value


def run_stages(
    stages: Sequence[Stage],
    config: Config,
    digests: Callable[[Path], str],
    until: str | None = None,
) -> Context:
    """Run every stage up to `until` that is not finished already.

    Parameters
    ----------
    stages : sequence of Stage
        In order.
    config : Config
        Settings of the run.
    digests : callable
        Digest of an input file.
    until : str, optional
        Last stage to run; all of them if not given.

    Raises
    ------
    InputError
        If the output folder cannot be written, or a stage refuses its input.
    """
    keys = stage_keys(stages, config, digests)
    names = list(keys)
    if until is not None:
        if until not in names:
            raise InputError("stage", f"{until!r} is no stage of this run", f"use one of {names}")
        names = _needed(stages, until, names)
    root = _open_folder(config)
    by_name = {stage.name: stage for stage in stages}
    with take_run(root, config, keys, STAGE_FILE), Tracker.open(config, root) as tracker:
        context = Context(config, root, tracker)
        for number, name in enumerate(names, start=1):
            if is_finished(root / name, keys[name]):
                logger.info("[%d/%d] %s: finished before, skipped", number, len(names), name)
                if tracker.is_new:
                    # Other settings, or another store: what it is made of is its input all the same.
                    tracker.datasets(file_datasets(by_name[name].input_files(config), digests))
                    by_name[name].tell(context, root / name)
                continue
            logger.info("[%d/%d] %s ...", number, len(names), name)
            start = time.monotonic()
            with tracker.stage(name):
                tracker.datasets(file_datasets(by_name[name].input_files(config), digests))
                summary = _run_one(by_name[name], context, keys[name])
            seconds = time.monotonic() - start
            logger.info("[%d/%d] %s: done in %.1f s", number, len(names), name, seconds)
            for key, value in summary.items():
                logger.info("    %s: %s", key, value)
    return context


def is_finished(folder: Path, key: str) -> bool:
    """Return whether a stage's folder holds the result that belongs to a key."""
    path = folder / STAGE_FILE
    return storage.exists(path) and read_json(path).get("key") == key


def _open_folder(config: Config) -> Path:
    """Return the folder of a run that is about to start; say what becomes of its results."""
    root = run_folder(config)
    storage.check(root)
    if storage.is_mirrored(root):
        logger.info("kept in %s, with copies on each node in %s", storage.place(root), root)
        if config.run.tracking_uri is None:
            logger.warning(
                "MLflow's store stays on this machine, in %s: name a server with run.tracking_uri",
                root.parent,
            )
    elif _JOB in os.environ and config.run.storage is None and not root.is_absolute():
        logger.warning(
            "run.output %s is a folder inside the job's copy of the program, which goes with the "
            "job: set run.storage to file:///FOLDER or s3://BUCKET/PREFIX",
            config.run.output,
        )
    return root


def _needed(stages: Sequence[Stage], until: str, names: list[str]) -> list[str]:
    by_name = {stage.name: stage for stage in stages}
    needed: set[str] = set()
    todo = [until]
    while todo:
        name = todo.pop()
        if name in names and name not in needed:
            needed.add(name)
            todo.extend(by_name[name].reads)
    return [name for name in names if name in needed]


def _run_one(stage: Stage, context: Context, key: str) -> Mapping[str, Any]:
    final = context.folder(stage.name)
    start = time.monotonic()
    with _work_folder(final, key) as work:
        summary = dict(stage.run(context, work))
        note = {
            "stage": stage.name,
            "key": key,
            "config_hash": context.config.hash(),
            "seed": context.config.seed,
            "version": geminga.__version__,
            "python": python_platform.python_version(),
            "machine": f"{python_platform.machine()} {python_platform.system()}",
            "seconds": round(time.monotonic() - start, 1),
            "inputs": [str(path.name) for path in stage.input_files(context.config)],
            "summary": summary,
        }
        write_json(work / STAGE_FILE, note)
        context.tracker.tree(note, STAGE_FILE)
    return summary


@contextmanager
def _work_folder(final: Path, key: str) -> Iterator[Path]:
    """Give the folder a stage works in; it takes its final name when the stage ends well."""
    work = final.with_name(f".{final.name}.{key}.partial")
    try:
        for name in fnmatch.filter(storage.names(final.parent), f".{final.name}.*.partial"):
            if name != work.name:
                storage.remove(final.parent / name)
        work.mkdir(parents=True, exist_ok=True)
        remove_temporaries(work)
    except OSError as error:
        raise InputError(
            str(final),
            f"cannot be written ({error.strerror})",
            "choose a writable folder with --set run.output=FOLDER or run.storage",
        ) from error
    yield work
    # A worker that was killed while the stage went on leaves its unfinished file.
    remove_temporaries(work)
    storage.finish(work, final, STAGE_FILE)
