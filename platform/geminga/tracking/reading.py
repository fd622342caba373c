"""Reading what a finished run left in an MLflow store."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from geminga.errors import InputError
from geminga.files import read_json
from geminga.tracking.store import StoreAwayError, StoreRefusedError, asking, checked_uri, quiet

OPTION = "--tracking-uri"
_SQLITE = "sqlite:///"


def read_run_json(run_id: str, name: str, uri: str | None = None) -> Any:
    """Read a JSON file kept with a finished parent run.

    Parameters
    ----------
    run_id : str
        Identifier of the run.
    name : str
        The file, directly below the run's artifacts.
    uri : str, optional
        Address of the store; MLFLOW_TRACKING_URI if not given.

    Raises
    ------
    InputError
        If no store is named, or it does not answer or lets nobody in; if it has no such run, or
        the run is a stage's, is not finished, or kept no such file.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    where = f"MLflow run {run_id}"
    if not uri:
        raise InputError(
            where, "is of no named store", f"give {OPTION}, or set MLFLOW_TRACKING_URI"
        )
    uri = checked_uri(uri, OPTION)
    file = Path(uri.removeprefix(_SQLITE))
    if uri.startswith(_SQLITE) and not file.is_file():
        # Opening it would make an empty one.
        raise InputError(OPTION, f"{file} is not there", "name the store of the run")
    quiet()
    client = mlflow.MlflowClient(uri, uri)
    try:
        with asking(uri, OPTION):
            found = client.get_run(run_id)
    except StoreAwayError as error:
        raise _away(uri, error) from error
    except StoreRefusedError as error:
        raise InputError(
            where, f"is not in {uri}", f"name the store of the run with {OPTION}"
        ) from error
    _check_finished(found, where)
    try:
        with asking(uri, OPTION), tempfile.TemporaryDirectory() as folder:
            if name in {item.path for item in client.list_artifacts(run_id)}:
                return read_json(Path(client.download_artifacts(run_id, name, folder)))
    except (StoreAwayError, StoreRefusedError) as error:
        raise _away(uri, error) from error
    raise InputError(
        where,
        f"kept no {name}: it has no report, or an older version's",
        "finish it with geminga run, or name its folder",
    )


def _away(uri: str, error: Exception) -> InputError:
    problem = f"the MLflow store {uri} cannot be read ({error})"
    return InputError(OPTION, problem, "name a server that answers")


def _check_finished(run: Run, where: str) -> None:
    parent = run.data.tags.get("mlflow.parentRunId")
    if parent is not None:
        name = run.data.tags.get("mlflow.runName", "a part")
        raise InputError(where, f"is the part {name} of a run", f"name the whole run: {parent}")
    if run.info.lifecycle_stage != "active":
        remedy = f"run: mlflow runs restore --run-id {run.info.run_id}"
        raise InputError(where, "was deleted", remedy)
    if run.info.status != "FINISHED":
        remedy = "finish it with geminga run"
        raise InputError(where, f"is not finished ({run.info.status})", remedy)
