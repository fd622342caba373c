"""A store that is away: work goes on, what it would be told is kept, and sent when it is back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import pytest

from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.files import read_json
from geminga.pipeline.tracked import sync_tracking, tracked_run
from geminga.tracking import Tracker, store
from geminga.tracking.datasets import dataset
from geminga.tracking.operations import LogMetrics, StartRun

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
    ],
)
def test_addresses_that_are_none_are_refused(
    config2: Config, tmp_path: Path, uri: str, match: str
) -> None:
    with (
        pytest.raises(InputError, match=match),
        Tracker.open(configured(config2, tmp_path, uri), tmp_path / "away"),
    ):
        pass
