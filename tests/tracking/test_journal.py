"""A store that is away: work goes on, what it would be told is kept, and sent when it is back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.files import read_json, write_json
from geminga.pipeline.taking import take_run
from geminga.pipeline.tracked import sync_tracking, tracked_run
from geminga.tracking import Tracker, store
from geminga.tracking.datasets import dataset
from geminga.tracking.models import folder_model
from geminga.tracking.operations import LogMetrics, LogModel, Register, StartRun

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)


def configured(config: Config, output: Path, uri: str | None = None) -> Config:
    tree = config.model_dump(mode="json") | {"name": "away"}
    tree["run"] |= {"output": str(output), "tracking_uri": uri}
    return config_from_tree(tree, "test")


def nobody() -> str:
    """Return the address of a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@contextmanager
def gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every store refuse connections inside the block."""

    def refused(self: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(store.Session, "client", property(refused))
        yield


def work(tracker: Tracker, folder: Path) -> None:
    file = folder / "figure.txt"
    file.write_text("a figure")
    with tracker.stage("miun"):
        tracker.curve([{"epoch": 1.0, "loss": 3.0}, {"epoch": 2.0, "loss": 2.0}])
        tracker.artifact(file)
        tracker.tree({"a": 1}, "stage.json")
        tracker.datasets([dataset("skies", "abc", "training", {"seed": 1}, {"skies": 1})])
    # What was kept is a copy: the stage's own folder is renamed or removed.
    file.unlink()
    tracker.parent_metrics({"completeness": 0.7})


def check(uri: str, parent_id: str) -> None:
    client = mlflow.MlflowClient(uri, uri)
    parent = client.get_run(parent_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["completeness"] == 0.7
    assert parent.data.params["seed"]
    text = f"tags.mlflow.parentRunId = '{parent_id}'"
    (child,) = client.search_runs([parent.info.experiment_id], text)
    assert child.info.status == "FINISHED"
    history = client.get_metric_history(child.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]
    assert {a.path for a in client.list_artifacts(child.info.run_id)} == {
        "figure.txt",
        "stage.json",
    }
    assert [d.dataset.name for d in child.inputs.dataset_inputs] == ["skies"]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_store_that_dies_in_the_run_loses_nothing(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    config = configured(config2, tmp_path)
    root = tmp_path / "away"
    with Tracker.open(config, root) as tracker:
        parent_id = tracker.parent_id
        with gone(monkeypatch):
            work(tracker, tmp_path)
            assert len(warned(caplog)) == 1
            assert "Connection refused" in warned(caplog)[0]
            assert len(list(root.glob("tracking/*/*.json"))) > 5
    # It was back at the end.
    assert len(warned(caplog)) == 1
    assert not list(root.glob("tracking/*/0*.json"))
    assert not list(root.glob("tracking/*/files/*"))
    assert parent_id is not None
    check(store.tracking_uri(config), parent_id)


def test_what_waits_is_sent_by_the_next_run(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    config = configured(config2, tmp_path)
    with ExitStack() as stack:
        # Left in the other order: the store is away until the run has ended.
        away = ExitStack()
        stack.enter_context(away)
        tracker = stack.enter_context(Tracker.open(config, tmp_path / "away"))
        parent_id = tracker.parent_id
        away.enter_context(gone(monkeypatch))
        work(tracker, tmp_path)
    assert "wait in" in warned(caplog)[-1]
    assert "geminga sync-tracking" in warned(caplog)[-1]
    assert "sent to" in sync_tracking(config)
    assert sync_tracking(config).startswith("0 records")
    assert parent_id is not None
    check(store.tracking_uri(config), parent_id)
    assert tracked_run(config) == (parent_id, store.tracking_uri(config))


def test_records_sent_twice_change_nothing(config2: Config, tmp_path: Path) -> None:
    """The answer to a request may be lost: what was kept is then sent again."""
    config = configured(config2, tmp_path)
    with Tracker.open(config, tmp_path / "away") as tracker:
        journal = tracker._journal
        record = LogMetrics(run=tracker._handle, points=[("a", 1.0, 1234, 1)])
        known = journal.session.ids.pop(tracker._handle)
        start = StartRun(handle=tracker._handle, name="away", start_ms=1, again=True)
        journal.send(start)
        assert tracker.parent_id == known
        journal.send(record)
        journal.send(record)
    history = mlflow.MlflowClient().get_metric_history(known, "a")
    assert [(p.step, p.value) for p in history] == [(1, 1.0)]


def test_a_server_that_is_down_at_the_start_is_no_error(
    config2: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(config2, tmp_path, nobody())
    for _ in range(2):
        with Tracker.open(config, tmp_path / "away") as tracker:
            work(tracker, tmp_path)
            assert tracker.parent_id is None
    messages = warned(caplog)
    assert ["does not answer" in text for text in messages] == [True, False, True, False]
    assert read_json(tmp_path / "away" / "tracking.json")["run_id"] is None
    with pytest.raises(InputError, match=r"was kept while http.* was away; run 'geminga sync"):
        tracked_run(config)
    with pytest.raises(InputError, match=r"does not answer: \d\d records wait"):
        sync_tracking(config)


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("htp://host:5000", r"run.tracking_uri: the MLflow store htp://host:5000 cannot be used"),
        ("http://", "names no host"),
        ("http://host:many", "is no address"),
        ("http://me:secret@host:5000", r"holds a password \(http://me:\*\*\*@host\)"),
        ("htp://me:secret@host:5000", r"holds a password \(htp://me:\*\*\*@host\)"),
        ("http://me:my/secret@host", "the address is no address of a store"),
        ("postgresql://me@host/db?password=secret", r"holds a password .*server in front"),
    ],
)
def test_addresses_that_are_none_are_refused(
    config2: Config, tmp_path: Path, uri: str, match: str
) -> None:
    config = configured(config2, tmp_path, uri)
    with pytest.raises(InputError, match=match) as caught, Tracker.open(config, tmp_path / "away"):
        pass
    assert "secret" not in str(caught.value)
    with (
        pytest.raises(InputError, match=match),
        take_run(tmp_path / "away", config, {}, "stage.json"),
    ):
        pass
    assert not (tmp_path / "away").exists(), "the settings are not written with a password in them"


@pytest.mark.parametrize(
    ("status", "error"),
    [(413, store.StoreRefusedError), (429, store.StoreAwayError), (502, store.StoreAwayError)],
)
def test_an_artifact_that_is_refused_is_no_outage(status: int, error: type[Exception]) -> None:
    """Kept for another time it would hold up all that comes after it."""
    response = requests.Response()
    response.status_code = status
    with pytest.raises(error), store.asking("http://host"):
        raise requests.HTTPError("no", response=response)


def forbidden(*_: object, **__: object) -> None:
    raise MlflowException("Permission denied", PERMISSION_DENIED)


def test_an_experiment_that_takes_no_runs_of_ours_is_said_before_the_work(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(config2, tmp_path)
    monkeypatch.setattr(mlflow.MlflowClient, "create_run", forbidden)
    with (
        pytest.raises(InputError, match=r"does not allow this \(Permission denied\)"),
        Tracker.open(config, tmp_path / "away"),
    ):
        pytest.fail("the work began")


def test_models_sent_twice_change_nothing_and_refused_ones_hold_nothing_up(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    config, tags = configured(config2, tmp_path), {"digest": "abc"}
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights").write_text("1")
    with Tracker.open(config, tmp_path / "away") as tracker:
        session = tracker._journal.session
        with folder_model(tmp_path / "files", {}) as (folder, _):
            for _ in range(2):
                tracker.model("detector", folder, tags)
                tracker.register("detector", "candidate", tags)
            known = dict(session.ids)
            # As after a lost answer: the identifiers are found again in the store.
            for handle in [h for h in session.ids if "/model/" in h]:
                del session.ids[handle]
            model = tracker._model("detector", tags)
            records = [
                LogModel(
                    handle=model, run=tracker._handle, name="detector", path=str(folder), again=True
                ),
                Register(
                    handle=f"{model}/version", run=tracker._handle, model=model, name="detector",
                    alias="candidate", again=True,
                ),
            ]  # fmt: skip
            for record in records:
                tracker._journal.send(record)
            assert session.ids == known
            assert warned(caplog) == []
            with monkeypatch.context() as patch:
                patch.setattr(mlflow.MlflowClient, "create_model_version", forbidden)
                other = {"digest": "other"}
                tracker.model("detector", folder, other)
                tracker.register("detector", "candidate", other)
            assert tracker.version("detector", other) is None
            assert not tracker.away
    assert ["refused a record (register)" in line for line in warned(caplog)] == [True]
    found = mlflow.MlflowClient().search_model_versions("name = 'detector'")
    assert [str(version.version) for version in found] == ["1"]


def test_what_a_tuning_kept_is_sent_too_and_notes_stay_those_of_their_runs(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(config2, tmp_path)
    root = tmp_path / "away" / "tuning" / "rate"
    with ExitStack() as stack:
        away = stack.enter_context(ExitStack())
        tracker = stack.enter_context(Tracker.open(config, root))
        away.enter_context(gone(monkeypatch))
        tracker.parent_metrics({"best_objective": 0.7})
    note = read_json(root / "tracking.json")
    later = config.model_copy(update={"seed": config.seed + 1})
    assert not sync_tracking(later).startswith("0 ")
    assert read_json(root / "tracking.json") == note
    # One that began while the store was away knows its identifier from now on.
    write_json(root / "tracking.json", {**note, "run_id": None})
    assert sync_tracking(config).startswith("0 ")
    assert read_json(root / "tracking.json") == note
    run = mlflow.get_run(note["run_id"])
    assert (run.info.status, run.data.metrics["best_objective"]) == ("FINISHED", 0.7)


def test_a_store_that_goes_away_while_a_run_is_found_again_is_no_error(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(config2, tmp_path)
    with Tracker.open(config, tmp_path / "away") as tracker:
        first = tracker.parent_id

    def refused(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_runs", refused)
        with Tracker.open(config, tmp_path / "away") as tracker:
            assert tracker.parent_id == first
            assert not tracker.is_new


def test_two_runs_may_make_their_experiment_at_once(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(config2, tmp_path)
    with Tracker.open(config, tmp_path / "away") as tracker:
        known = tracker._journal.session.experiment_id
    session = store.session_of(config)
    asked = mlflow.MlflowClient.get_experiment_by_name
    answers = iter([lambda *_: None, asked])
    monkeypatch.setattr(
        mlflow.MlflowClient, "get_experiment_by_name", lambda *given: next(answers)(*given)
    )
    assert session.experiment_id == known


def test_a_trial_that_the_store_has_lost_begins_again_with_its_values(
    config2: Config, tmp_path: Path
) -> None:
    config = configured(config2, tmp_path)
    with Tracker.open(config, tmp_path / "away") as tracker:
        lost = tracker.child("trial_0001", {"width": 4})
        tracker._journal.session.ids[lost._handle] = "0" * 32
        again = tracker.child("trial_0001", {"width": 4})
        again.end(failed=False)
        assert again.run_id is not None
        assert mlflow.get_run(again.run_id).data.params == {"width": "4"}
