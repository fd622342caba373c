"""MLflow: one parent run per pipeline, a child run per stage.

The store is a local SQLite database in the output folder unless the configuration names a server.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from geminga.config import Config
from geminga.errors import InputError
from geminga.files import read_json, write_json

logger = logging.getLogger(__name__)

MAX_PARAM_LENGTH = 500
METRICS_AT_ONCE = 1000
"""The most that MLflow takes in one request."""


def tracking_uri(config: Config) -> str:
    """Return the address of the MLflow store of a run."""
    if config.run.tracking_uri is not None:
        return config.run.tracking_uri
    return f"sqlite:///{Path(config.run.output).resolve() / 'mlflow.db'}"


class Tracker:
    """What the stages tell MLflow; `open` starts or continues the parent run."""

    def __init__(self, parent_id: str, experiment_id: str, uri: str) -> None:
        self.parent_id = parent_id
        self.experiment_id = experiment_id
        self.uri = uri

    @classmethod
    @contextmanager
    def open(cls, config: Config, root: Path) -> Iterator[Tracker]:
        """Start the parent run of a pipeline, or go on with the one this folder began.

        Parameters
        ----------
        config : Config
            Settings; they become the run's parameters.
        root : Path
            Folder of the run, where the identifier of the MLflow run is kept.

        Raises
        ------
        InputError
            If the store cannot be used, or the experiment was deleted in it.
        """
        uri = tracking_uri(config)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(uri)
        experiment_id = _experiment(config)
        note = root / "tracking.json"
        previous = read_json(note) if note.is_file() else {}
        same = previous.get("config_hash") == config.hash() and previous.get("uri") == uri
        run_id = previous["run_id"] if same else None
        if run_id is not None and not mlflow.MlflowClient().search_runs(
            [experiment_id], f"attributes.run_id = '{run_id}'"
        ):
            run_id = None
        with mlflow.start_run(
            run_id=run_id, experiment_id=experiment_id, run_name=config.name
        ) as run:
            if run_id is None:
                mlflow.log_params(_flat(config.model_dump(mode="json")))
                mlflow.set_tag("config_hash", config.hash())
                mlflow.log_dict(config.model_dump(mode="json"), "config.json")
                write_json(
                    note,
                    {"run_id": run.info.run_id, "config_hash": config.hash(), "uri": uri},
                )
            yield cls(run.info.run_id, experiment_id, uri)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Make what is logged inside the block a child run of this name."""
        # MLflow would put a nested run into its default experiment, whose artefacts are kept in
        # the folder the program was started in.
        with mlflow.start_run(run_name=name, nested=True, experiment_id=self.experiment_id):
            mlflow.set_tag("stage", name)
            yield

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers to the current run; NaN and infinity are left out."""
        finite = {_safe(k): float(v) for k, v in values.items() if math.isfinite(v)}
        names = list(finite)
        for first in range(0, len(names), METRICS_AT_ONCE):
            part = names[first : first + METRICS_AT_ONCE]
            mlflow.log_metrics({name: finite[name] for name in part}, step=step)

    def parent_metrics(self, values: Mapping[str, float]) -> None:
        """Log the figures runs are compared by to the parent run."""
        client = mlflow.MlflowClient()
        for key, value in values.items():
            if math.isfinite(value):
                client.log_metric(self.parent_id, _safe(key), float(value))

    def curve(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log one row of metrics per epoch."""
        for row in history:
            self.metrics({k: v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or a folder with the current run."""
        if path.is_dir():
            mlflow.log_artifacts(str(path), folder or path.name)
        else:
            mlflow.log_artifact(str(path), folder)

    def parent_artifact(self, path: Path) -> None:
        """Keep a file with the parent run."""
        mlflow.MlflowClient().log_artifact(self.parent_id, str(path))

    def tree(self, tree: Mapping[str, Any], name: str) -> None:
        """Keep a JSON tree with the current run."""
        mlflow.log_dict(dict(tree), name)


def _experiment(config: Config) -> str:
    """Return the identifier of the experiment of a run, made if it is not there yet."""
    name, local = config.run.experiment, config.run.tracking_uri is None
    try:
        experiment = mlflow.get_experiment_by_name(name)
        if experiment is None:
            folder = Path(config.run.output).resolve() / "mlartifacts"
            return str(mlflow.create_experiment(name, folder.as_uri() if local else None))
    except MlflowException as error:
        line = str(error).splitlines()[0]
        raise InputError(
            "run.tracking_uri",
            f"the MLflow store {tracking_uri(config)} cannot be used ({line})",
            "name a server that answers, or none for a store in the output folder",
        ) from error
    if experiment.lifecycle_stage != "active":
        raise InputError(
            "run.experiment",
            f"{name!r} was deleted in the MLflow store",
            f"name another, or run: mlflow experiments restore -x {experiment.experiment_id}",
        )
    return str(experiment.experiment_id)


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
