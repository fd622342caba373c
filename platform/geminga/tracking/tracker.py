"""What the stages tell MLflow: one parent run per pipeline, a child run per stage.

Nothing here waits for a store that is away, and nothing is lost by it: see
`geminga.tracking.journal`.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geminga.config import Config
from geminga.errors import InputError
from geminga.tracking.journal import Journal
from geminga.tracking.opening import handle_of, reach, write_note
from geminga.tracking.operations import (
    HANDLE,
    PARENT,
    EndRun,
    LogArtifacts,
    LogDatasets,
    LogMetrics,
    LogModel,
    LogParams,
    Register,
    StartRun,
)
from geminga.tracking.revision import code_tags
from geminga.tracking.store import (
    StoreAwayError,
    StoreRefusedError,
    asking,
)
from geminga.tracking.system import system_metrics

logger = logging.getLogger(__name__)

MAX_PARAM_LENGTH = 500
STEP = "epoch"
"""Metric of a child run that counts its steps."""


class Tracker:
    """What the stages tell MLflow; `open` starts or continues the parent run.

    Parameters
    ----------
    journal : Journal
        Sends records, or keeps them.
    handle : str
        Our own name for the parent run.
    is_new : bool
        Whether the run begins here: what stages finished before said was said of another.
    """

    def __init__(self, journal: Journal, handle: str, is_new: bool) -> None:
        self._journal = journal
        self._handle = handle
        self._current = [handle]
        self.is_new = is_new

    @property
    def uri(self) -> str:
        """Address of the store."""
        return self._journal.session.uri

    @property
    def parent_id(self) -> str | None:
        """Identifier of the parent run; None as long as the store has not heard of it."""
        return self._journal.session.ids.get(self._handle)

    @classmethod
    @contextmanager
    def open(cls, config: Config, root: Path) -> Iterator[Tracker]:
        """Start the parent run of a pipeline, or go on with the one this folder began.

        What an earlier run kept for a store that was away is sent first.

        Parameters
        ----------
        config : Config
            Settings; they become the run's parameters.
        root : Path
            Folder of the run, where the identifier of the MLflow run is kept.

        Raises
        ------
        InputError
            If the store cannot be used, refuses the log-in or runs of this experiment, or the
            experiment was deleted in it.
        """
        journal = reach(config, root)
        handle = handle_of(config, root, journal)
        begun = handle in journal.session.ids or journal.holds(handle)
        tracker = cls(journal, handle, is_new=not begun)
        start = StartRun(handle=tracker._handle, name=config.name, start_ms=_now(), again=begun)
        journal.send(start, first=True)
        if not begun:
            tree = config.model_dump(mode="json")
            params = LogParams(
                run=tracker._handle,
                params=_flat(tree),
                tags={"config_hash": config.hash(), "seed": str(config.seed), **code_tags()},
            )
            journal.send(params)
            tracker._tree(tree, "config.json", tracker._handle)
        else:
            tracker._end_left()
        write_note(config, root, journal, tracker._handle)
        status = "FAILED"
        try:
            with system_metrics(tracker._system):
                yield tracker
            status = "FINISHED"
        finally:
            tracker._end(tracker._handle, status)
            tracker._close(config, root)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Make what is logged inside the block a child run of this name."""
        self._retry()
        handle = f"{self._handle}/{name}-{uuid.uuid4().hex[:8]}"
        self._start(handle, name, {"stage": name})
        self._current.append(handle)
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        finally:
            self._current.pop()
            self._end(handle, status)

    def child(self, name: str, params: Mapping[str, Any]) -> Child:
        """Return a child run that goes on beside others; the one of that name, if there is one.

        What the current run is stays as it was.
        """
        handle = f"{self._handle}/{name}"
        known = self._journal.session.ids.get(handle)
        last = 0
        if known is not None:
            last = self._last_step(handle, known)
            known = self._journal.session.ids.get(handle)
        self._start(handle, name, {})
        if known is None:
            flat = {_safe(key): str(value)[:MAX_PARAM_LENGTH] for key, value in params.items()}
            self._journal.send(LogParams(run=handle, params=flat))
        return Child(self, handle, last)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers to the current run; NaN and infinity are left out."""
        self._metrics(self._current[-1], values, step or 0)

    def parent_metrics(self, values: Mapping[str, float]) -> None:
        """Log the figures runs are compared by to the parent run."""
        self._metrics(self._handle, values, 0)

    def curve(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log one row of metrics per epoch."""
        now, run = _now(), self._current[-1]
        points = [
            (_safe(key), float(value), now, int(row["epoch"]))
            for row in history
            for key, value in row.items()
            if key != "epoch" and math.isfinite(value)
        ]
        if points:
            self._journal.send(LogMetrics(run=run, points=points))

    def bins(self, values: Mapping[str, Mapping[int, float]]) -> None:
        """Log to the parent run metrics that have a value in each of several bins, as steps."""
        now = _now()
        points = [
            (_safe(key), float(value), now, step)
            for key, row in values.items()
            for step, value in row.items()
            if math.isfinite(value)
        ]
        if points:
            self._journal.send(LogMetrics(run=self._handle, points=points))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or a folder with the current run."""
        self._artifact(self._current[-1], path, folder)

    def parent_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or a folder with the parent run."""
        self._artifact(self._handle, path, folder)

    def tree(self, tree: Mapping[str, Any], name: str) -> None:
        """Keep a JSON tree with the current run."""
        self._tree(tree, name, self._current[-1])

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the parent run."""
        self._journal.send(LogParams(run=self._handle, tags=dict(tags)))

    def datasets(self, datasets: Sequence[Mapping[str, str]]) -> None:
        """Say what the run is fed: rows of name, digest, source, profile and context.

        They become inputs of the parent run, which the models of the run lead to, and of the
        current one.
        """
        rows = [dict(row) for row in datasets]
        for run in dict.fromkeys((self._handle, self._current[-1])) if rows else ():
            self._journal.send(LogDatasets(run=run, datasets=rows))

    def model(self, name: str, folder: Path, tags: Mapping[str, str]) -> None:
        """Keep a folder with an MLmodel file as a model of the parent run."""
        record = LogModel(
            handle=self._model(name, tags), run=self._handle, name=name, path=str(folder),
            tags=dict(tags),
        )  # fmt: skip
        self._journal.send(record)

    def has_model(self, name: str, tags: Mapping[str, str]) -> bool:
        """Return whether the store has this model of this run already."""
        return self._model(name, tags) in self._journal.session.ids

    def register(self, name: str, alias: str, tags: Mapping[str, str]) -> None:
        """Make a model of this run the newest version of a registered one, under an alias."""
        model = self._model(name, tags)
        self._journal.send(
            Register(
                handle=f"{model}/version", run=self._handle, model=model, name=name, alias=alias,
                tags=dict(tags),
            )
        )  # fmt: skip

    @property
    def away(self) -> bool:
        """Whether what is said now is kept, and sent later."""
        return self._journal.away

    def version(self, name: str, tags: Mapping[str, str]) -> str | None:
        """Return the version that `register` made; None if the store is away or refused it."""
        return self._journal.session.ids.get(f"{self._model(name, tags)}/version")

    def _model(self, name: str, tags: Mapping[str, str]) -> str:
        return f"{self._handle}/model/{name}/{tags['digest']}"

    def _start(self, handle: str, name: str, tags: dict[str, str]) -> None:
        again = handle in self._journal.session.ids
        record = StartRun(
            handle=handle, name=name, start_ms=_now(), parent=self._handle, tags=tags, again=again
        )
        self._journal.send(record)

    def _end(self, handle: str, status: str) -> None:
        self._journal.send(EndRun(run=handle, status=status, end_ms=_now()))

    def _metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        now = _now()
        points = [(_safe(k), float(v), now, step) for k, v in values.items() if math.isfinite(v)]
        if points:
            self._journal.send(LogMetrics(run=run, points=points))

    def _system(self, points: list[tuple[str, float, int, int]]) -> None:
        self._journal.send(LogMetrics(run=self._handle, points=points))

    def _artifact(self, run: str, path: Path, folder: str | None) -> None:
        if path.is_dir():
            folder = folder or path.name
        self._journal.send(LogArtifacts(run=run, path=str(path.resolve()), folder=folder))

    def _tree(self, tree: Mapping[str, Any], name: str, run: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(json.dumps(dict(tree), indent=1), encoding="utf-8")
            self._journal.send(LogArtifacts(run=run, path=str(path)))

    def _end_left(self) -> None:
        """End what a killed driver left as running; what goes on of it says so itself."""
        journal, parent = self._journal, self.parent_id
        if journal.away or parent is None:
            return
        text = f"tags.`{PARENT}` = '{parent}' and attributes.status = 'RUNNING'"
        try:
            with asking(journal.session.uri):
                session = journal.session
                found = session.client.search_runs([session.experiment_id], text)
        except StoreAwayError as error:
            journal.leave(str(error))
            return
        except StoreRefusedError as error:
            logger.warning("MLflow does not say which stages a kill left as running: %s", error)
            return
        for handle in (run.data.tags.get(HANDLE) for run in found):
            if handle in journal.session.ids:
                self._end(handle, "KILLED")

    def _last_step(self, handle: str, run_id: str) -> int:
        session = self._journal.session
        if self._journal.away:
            return 0
        try:
            with asking(session.uri):
                return int(session.client.get_run(run_id).data.metrics.get(STEP, 0))
        except StoreAwayError as error:
            self._journal.leave(str(error))
        except InputError as error:
            self._journal.leave(f"{error.where}: {error.problem}")
        except StoreRefusedError:
            self._journal.forget(handle)
        return 0

    def _retry(self) -> None:
        if self._journal.away:
            self._journal.flush()

    def _close(self, config: Config, root: Path) -> None:
        self._retry()
        write_note(config, root, self._journal, self._handle)
        self._journal.say_what_waits()


class Child:
    """A run below the parent that others go on beside: a trial of a tuning.

    Parameters
    ----------
    tracker : Tracker
    handle : str
        Our own name for it.
    last : int
        Last step it has metrics of; what comes again after an interruption is left out.
    """

    def __init__(self, tracker: Tracker, handle: str, last: int) -> None:
        self._tracker, self._handle, self.last = tracker, handle, last

    @property
    def run_id(self) -> str | None:
        """Identifier of the run; None as long as the store has not heard of it."""
        return self._tracker._journal.session.ids.get(self._handle)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of a step, counted from 1; NaN and infinity are left out."""
        if step > self.last:
            self.last = step
            self._tracker._metrics(self._handle, {**values, STEP: step}, step)

    def end(self, failed: bool) -> None:
        """Say that nothing more comes."""
        self._tracker._end(self._handle, "FAILED" if failed else "FINISHED")


def _now() -> int:
    return time.time_ns() // 1_000_000


def _safe(key: str) -> str:
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in key)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{name}."))
        else:
            flat[_safe(name)] = str(value)[:MAX_PARAM_LENGTH]
    return flat
