"""What is sent to MLflow, as records that can be sent now, or kept and sent later.

Runs and models go by names of our own (*handles*) until the store has given them identifiers. A
record sent twice (its answer was lost) changes nothing: runs, models and versions carry their
handle and are looked for first; metrics carry their time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from geminga.tracking.store import Session

METRICS_AT_ONCE = 1000
"""The most metrics that MLflow takes in one request."""
_PARAMS_AT_ONCE = 100
HANDLE = "geminga.handle"
"""Tag with our own name for a run, model or version."""
PARENT = "mlflow.parentRunId"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    again: bool = False
    """Whether it may have been sent before."""


class StartRun(_Record):
    """A run begins, or one that was begun goes on."""

    do: Literal["start"] = "start"
    handle: str
    name: str
    start_ms: int
    parent: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)

    def send(self, session: Session) -> None:
        """Send it."""
        client, known = session.client, session.ids.get(self.handle)
        if known is None and self.again:
            known = _find_run(session, self.handle)
        if known is not None:
            session.ids[self.handle] = known
            client.update_run(known, status="RUNNING")
            return
        tags = {**self.tags, HANDLE: self.handle}
        if self.parent is not None:
            tags[PARENT] = session.ids[self.parent]
        run = client.create_run(session.experiment_id, self.start_ms, tags, self.name)
        session.ids[self.handle] = run.info.run_id


class EndRun(_Record):
    """A run ends."""

    do: Literal["end"] = "end"
    run: str
    status: str
    end_ms: int

    def send(self, session: Session) -> None:
        """Send it."""
        session.client.set_terminated(session.ids[self.run], self.status, self.end_ms)


class LogParams(_Record):
    """Parameters and tags of a run."""

    do: Literal["params"] = "params"
    run: str
    params: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)

    def send(self, session: Session) -> None:
        """Send it."""
        client, run = session.client, session.ids[self.run]
        params = [Param(key, value) for key, value in self.params.items()]
        for first in range(0, len(params), _PARAMS_AT_ONCE):
            client.log_batch(run, params=params[first : first + _PARAMS_AT_ONCE])
        if self.tags:
            client.log_batch(run, tags=[RunTag(key, value) for key, value in self.tags.items()])


class LogMetrics(_Record):
    """Metrics of a run: name, value, time in milliseconds, step."""

    do: Literal["metrics"] = "metrics"
    run: str
    points: list[tuple[str, float, int, int]]

    def send(self, session: Session) -> None:
        """Send it."""
        client, run = session.client, session.ids[self.run]
        for first in range(0, len(self.points), METRICS_AT_ONCE):
            part = self.points[first : first + METRICS_AT_ONCE]
            client.log_batch(run, metrics=[Metric(*point) for point in part])


class LogArtifacts(_Record):
    """A file, or a folder with all in it."""

    do: Literal["artifacts"] = "artifacts"
    run: str
    path: str
    folder: str | None = None

    def send(self, session: Session) -> None:
        """Send it."""
        client, run = session.client, session.ids[self.run]
        if Path(self.path).is_dir():
            client.log_artifacts(run, self.path, self.folder)
        else:
            client.log_artifact(run, self.path, self.folder)


class LogDatasets(_Record):
    """What a run was fed: rows of name, digest, source, profile, context."""

    do: Literal["datasets"] = "datasets"
    run: str
    datasets: list[dict[str, str]]

    def send(self, session: Session) -> None:
        """Send it."""
        session.client.log_inputs(
            session.ids[self.run],
            [
                DatasetInput(
                    Dataset(d["name"], d["digest"], "code", d["source"], None, d["profile"]),
                    [InputTag("mlflow.data.context", d["context"])],
                )
                for d in self.datasets
            ],
        )


class LogModel(_Record):
    """A folder with an MLmodel file becomes a model of a run."""

    do: Literal["model"] = "model"
    handle: str
    run: str
    name: str
    path: str
    tags: dict[str, str] = Field(default_factory=dict)

    def send(self, session: Session) -> None:
        """Send it."""
        client, run = session.client, session.ids[self.run]
        known = session.ids.get(self.handle)
        if known is None and self.again:
            found = client.search_logged_models(
                [session.experiment_id], f"tags.`{HANDLE}` = '{self.handle}'"
            )
            known = found[0].model_id if found else None
        if known is None:
            tags = {**self.tags, HANDLE: self.handle}
            known = client.create_logged_model(
                session.experiment_id, self.name, run, tags, model_type="geminga"
            ).model_id
        session.ids[self.handle] = known
        client.log_model_artifacts(known, self.path)
        client.finalize_logged_model(known, "READY")
        outputs = client.get_run(run).outputs
        # A second time is an error there.
        if outputs is None or known not in {one.model_id for one in outputs.model_outputs}:
            client.log_outputs(run, [LoggedModelOutput(known, 0)])


class Register(_Record):
    """A model becomes a new version of a registered one, and takes its alias."""

    do: Literal["register"] = "register"
    handle: str
    run: str
    model: str
    name: str
    alias: str
    tags: dict[str, str] = Field(default_factory=dict)

    def send(self, session: Session) -> None:
        """Send it."""
        client = session.client
        try:
            client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = session.ids.get(self.handle)
        if version is None and self.again:
            found = client.search_model_versions(
                f"name = '{self.name}' and tag.`{HANDLE}` = '{self.handle}'"
            )
            version = str(found[0].version) if found else None
        if version is None:
            model = session.ids[self.model]
            made = client.create_model_version(
                self.name,
                f"models:/{model}",
                session.ids[self.run],
                {**self.tags, HANDLE: self.handle},
                model_id=model,
            )
            version = str(made.version)
        session.ids[self.handle] = version
        client.set_registered_model_alias(self.name, self.alias, version)


Record = (
    StartRun | EndRun | LogParams | LogMetrics | LogArtifacts | LogDatasets | LogModel | Register
)
RECORDS: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="do")])


def _find_run(session: Session, handle: str) -> str | None:
    found = session.client.search_runs(
        [session.experiment_id], f"tags.`{HANDLE}` = '{handle}'", max_results=1
    )
    return str(found[0].info.run_id) if found else None
