"""The tracker against a local SQLite store: what is started, continued and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.files import read_json, write_json
from geminga.tracking import MAX_PARAM_LENGTH, Tracker, tracking_uri
from geminga.tracking.revision import code_tags
from geminga.tracking.system import system_metrics

# MLflow 3.17 maps its tables with a loader that SQLAlchemy 2.1 has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output folder for all tests here: making a store takes seconds."""
    return tmp_path_factory.mktemp("tracking")


def configured(config: Config, output: Path, name: str, **sections: dict[str, Any]) -> Config:
    tree = config.model_dump(mode="json") | {"name": name}
    tree["run"]["output"] = str(output)
    for section, values in sections.items():
        tree[section] |= values
    return config_from_tree(tree, "test")


def opened(config: Config) -> str:
    """Open and close the tracker of a run; return the identifier of its parent run."""
    root = Path(config.run.output) / config.name
    with Tracker.open(config, root) as tracker:
        return tracker.parent_id


def mlflow_params(run_id: str) -> dict[str, str]:
    return dict(mlflow.get_run(run_id).data.params)


def figures(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics of a run without those of its machine."""
    return {key: value for key, value in metrics.items() if not key.startswith("system/")}


def children(run_id: str) -> list[Any]:
    experiment = mlflow.get_run(run_id).info.experiment_id
    text = f"tags.mlflow.parentRunId = '{run_id}'"
    return list(mlflow.MlflowClient().search_runs([experiment], text))


def test_the_store_is_in_the_output_unless_a_server_is_named(
    config2: Config, tmp_path: Path
) -> None:
    local = configured(config2, tmp_path, "a")
    assert tracking_uri(local) == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    remote = configured(config2, tmp_path, "a", run={"tracking_uri": "http://host:5000"})
    assert tracking_uri(remote) == "http://host:5000"


def test_a_parent_run_with_a_child_per_stage(config2: Config, output: Path) -> None:
    config = configured(config2, output, "family")
    root = output / "family"
    (root / "figures").mkdir(parents=True)
    (root / "figures" / "a.txt").write_text("a")
    (root / "report.html").write_text("<html>")
    with Tracker.open(config, root) as tracker:
        assert tracker.uri == tracking_uri(config)
        with tracker.stage("skies"):
            tracker.metrics({"sources": 4.0, "purity |b| > 10": 0.5})
            tracker.artifact(root / "figures")
            tracker.tree({"seed": 1}, "stage.json")
        with tracker.stage("miun"):
            tracker.curve([{"epoch": 1.0, "loss": 3.0}, {"epoch": 2.0, "loss": 2.0}])
            tracker.parent_metrics({"completeness": 0.7})
            tracker.parent_artifact(root / "report.html")
        parent_id = tracker.parent_id

    client = mlflow.MlflowClient()
    parent = client.get_run(parent_id)
    assert parent.info.run_name == "family"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["config_hash"] == config.hash()
    assert figures(parent.data.metrics) == {"completeness": 0.7}
    assert [a.path for a in client.list_artifacts(parent_id)] == ["config.json", "report.html"]
    kept = mlflow.artifacts.load_dict(f"{parent.info.artifact_uri}/config.json")
    assert config_from_tree(kept, "kept") == config

    runs = {run.data.tags["stage"]: run for run in children(parent_id)}
    assert set(runs) == {"skies", "miun"}
    for name, run in runs.items():
        assert run.info.run_name == name
        assert run.info.experiment_id == parent.info.experiment_id
        assert run.data.params == {}
    assert runs["skies"].data.metrics == {"sources": 4.0, "purity _b_ _ 10": 0.5}
    paths = {a.path for a in client.list_artifacts(runs["skies"].info.run_id)}
    assert paths == {"figures", "stage.json"}
    history = client.get_metric_history(runs["miun"].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]
    assert "epoch" not in runs["miun"].data.metrics
    for run in (parent, *runs.values()):
        assert run.info.artifact_uri.startswith((output.resolve() / "mlartifacts").as_uri())


def test_a_run_names_its_code_its_seed_and_the_load_of_its_machine(
    config2: Config, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psutil")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")
    run = mlflow.get_run(opened(configured(config2, output, "code")))
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 100
    tags = run.data.tags
    assert tags["seed"] == str(config2.seed)
    assert len(tags["git.revision"]) == 40
    assert tags["git.dirty"] in ("true", "false")


def test_metrics_of_the_machine_that_cannot_be_kept_end_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("psutil")

    def full(points: object) -> None:
        raise InputError("tracking", "cannot be written (No space left on device)", "make room")

    mlflow.set_tracking_uri("http://127.0.0.1:1")  # of which nothing is asked
    # An error of a thread is an error of the test.
    with system_metrics(full):
        pass
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("no more system metrics: tracking: cannot be written (No space")


def test_outside_a_checkout_the_revision_is_given_or_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("geminga.tracking.revision.geminga.__file__", str(tmp_path / "a.py"))
    monkeypatch.delenv("GEMINGA_REVISION", raising=False)
    tags = code_tags()
    assert tags["git.revision"] == "unknown"
    assert tags["git.dirty"] == "unknown: not a git checkout"
    monkeypatch.setenv("GEMINGA_REVISION", "abc")
    assert code_tags()["mlflow.source.git.commit"] == "abc"
    assert code_tags()["git.dirty"] == "unknown: GEMINGA_REVISION says the revision"
    monkeypatch.setenv("GEMINGA_REVISION", "abc-dirty")
    assert code_tags()["git.revision"] == "abc"
    assert code_tags()["git.dirty"] == "true"


def test_settings_become_flat_parameters_of_limited_length(config2: Config, output: Path) -> None:
    path = "p" * (MAX_PARAM_LENGTH + 100)
    config = configured(config2, output, "params", sky={"isotropic": path})
    params = mlflow_params(opened(config))
    assert params["seed"] == str(config.seed)
    assert params["sky.years"] == "4"
    assert params["miun_training.learning_rate"] == "0.001"
    assert params["data"] == "None"
    assert params["sky.isotropic"] == path[:MAX_PARAM_LENGTH]
    assert max(map(len, params.values())) == MAX_PARAM_LENGTH
    assert "sky" not in params


def test_numbers_that_are_not_finite_are_left_out(config2: Config, output: Path) -> None:
    config = configured(config2, output, "numbers")
    values = {"good": 1.0, "nan": float("nan"), "inf": float("inf"), "minus": -float("inf")}
    with Tracker.open(config, output / "numbers") as tracker:
        with tracker.stage("evaluate"):
            tracker.metrics(values)
            tracker.metrics({"nan": float("nan")})
        tracker.parent_metrics(values)
    (child,) = children(tracker.parent_id)
    assert child.data.metrics == {"good": 1.0}
    assert figures(mlflow.get_run(tracker.parent_id).data.metrics) == {"good": 1.0}


def test_the_same_settings_go_on_with_their_run(config2: Config, output: Path) -> None:
    config = configured(config2, output, "again")
    first = opened(config)
    note = read_json(output / "again" / "tracking.json")
    uri = tracking_uri(config)
    assert note.pop("handle").startswith("again-")
    assert note == {"run_id": first, "config_hash": config.hash(), "uri": uri}
    # Where it runs is not part of the hash.
    assert opened(configured(config2, output, "again", run={"workers": 3})) == first
    other = opened(configured(config2, output, "again", sky={"density_factor": 2.0}))
    assert other != first
    assert mlflow_params(other)["sky.density_factor"] == "2.0"
    assert opened(configured(config2, output, "again", sky={"density_factor": 2.0})) == other


def test_a_failed_run_is_marked_and_goes_on(config2: Config, output: Path) -> None:
    config = configured(config2, output, "failing")
    root = output / "failing"

    def fail() -> None:
        with Tracker.open(config, root) as tracker, tracker.stage("skies"):
            raise InputError("skies", "fails", "mend it")

    with pytest.raises(InputError, match="mend it"):
        fail()
    parent_id = read_json(root / "tracking.json")["run_id"]
    statuses = {run.info.status for run in [mlflow.get_run(parent_id), *children(parent_id)]}
    assert statuses == {"FAILED"}
    assert opened(config) == parent_id
    assert mlflow.get_run(parent_id).info.status == "FINISHED"


def test_a_stage_that_a_kill_left_running_is_ended(config2: Config, output: Path) -> None:
    config = configured(config2, output, "killed")
    with Tracker.open(config, output / "killed") as tracker:
        tracker._start(f"{tracker._handle}/skies-0", "skies", {"stage": "skies"})
    assert tracker.parent_id is not None
    (left,) = children(tracker.parent_id)
    assert left.info.status == "RUNNING"
    assert opened(config) == tracker.parent_id
    assert mlflow.get_run(left.info.run_id).info.status == "KILLED"
    assert mlflow.get_run(tracker.parent_id).info.status == "FINISHED"


def test_a_run_that_is_gone_is_begun_anew(config2: Config, output: Path) -> None:
    config = configured(config2, output, "gone")
    first = opened(config)
    mlflow.delete_run(first)
    second = opened(config)
    assert second != first
    note = output / "gone" / "tracking.json"
    # The note of a folder of before runs had names of our own, of a run that is not there.
    tree = read_json(note) | {"run_id": "0" * 32}
    del tree["handle"]
    write_json(note, tree)
    assert opened(config) not in (first, second)
    # A note of another store does not belong to this one.
    write_json(note, read_json(note) | {"uri": "sqlite:///elsewhere.db", "run_id": first})
    assert opened(config) != first


def test_a_deleted_experiment_is_named(config2: Config, output: Path) -> None:
    config = configured(config2, output, "deleted", run={"experiment": "short-lived"})
    mlflow.delete_experiment(mlflow.get_run(opened(config)).info.experiment_id)
    with pytest.raises(InputError, match=r"run.experiment: 'short-lived' was deleted .* restore"):
        opened(config)


def test_a_store_that_cannot_be_used_is_named(config2: Config, tmp_path: Path) -> None:
    config = configured(config2, tmp_path, "bad", run={"tracking_uri": "nonsense://host"})
    with pytest.raises(InputError, match=r"run.tracking_uri: the MLflow store nonsense://host"):
        opened(config)
