"""The tiny pipeline against the server of mlflow/: log-in, PostgreSQL, S3, registry, an outage."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import mlflow
import pytest

from geminga.config import Config, config_from_tree
from geminga.files import read_json
from geminga.pipeline.tracked import sync_tracking
from geminga.tracking import Tracker

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
TINY = ROOT / "jobs" / "configs" / "tiny.yaml"


@dataclass
class Server:
    """A server of mlflow/local_server.sh."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    uri: str = ""

    def start(self) -> None:
        """Start it, on the port it had before if there was one."""
        port = [self.uri.rpartition(":")[2]] if self.uri else []
        said = self.folder.with_suffix(".out")
        command = [str(ROOT / "mlflow" / "local_server.sh"), str(self.folder), *port]
        with said.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + 240
        while "log in:" not in said.read_text():
            assert self.process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.3)
        found = re.search(r"http://127.0.0.1:[0-9]+", said.read_text())
        assert found is not None
        self.uri = found[0]

    def stop(self) -> None:
        """Stop it as Ctrl-C does, and all that it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    @property
    def secrets(self) -> dict[str, str]:
        """What it drew at its first start."""
        lines = (self.folder / "secrets.env").read_text().split()
        return dict(line.split("=", 1) for line in lines)

    @property
    def log_in(self) -> dict[str, str]:
        """The variables that a client needs."""
        return {k: v for k, v in self.secrets.items() if k.startswith("MLFLOW_TRACKING_")}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The server; outside pytest's folders, which PostgreSQL's own user cannot reach."""
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    top = Path(tempfile.mkdtemp(prefix="mlf-"))
    top.chmod(0o711)
    server = Server(top / "s")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(top)


@pytest.fixture(autouse=True)
def _logged_in(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.log_in.items():
        monkeypatch.setenv(name, value)


def geminga(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geminga", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=600, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_nobody_gets_in_without_a_password(server: Server, tmp_path: Path) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1")
    assert (server.folder / "secrets.env").stat().st_mode & 0o077 == 0
    arguments = (
        "simulate", "--config", str(TINY), "--set", f"run.output={tmp_path}",
        "--set", f"run.tracking_uri={server.uri}",
    )  # fmt: skip
    done = geminga(*arguments, MLFLOW_TRACKING_PASSWORD="not the password")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"error: run.tracking_uri: the log-in to {server.uri} was refused" in done.stderr
    done = geminga(*arguments, MLFLOW_TRACKING_USERNAME="")
    assert (done.returncode, "is missing" in done.stderr) == (2, True)


# MLflow warns of its own classes when its models are first used.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")
def test_the_tiny_pipeline_and_its_models(server: Server, tmp_path: Path) -> None:
    settings = (
        "--config", str(TINY), "--set", f"run.output={tmp_path}",
        "--set", f"run.tracking_uri={server.uri}", "--set", "run.register_models=true",
    )  # fmt: skip
    done = geminga("run", *settings)
    assert done.returncode == 0, done.stderr
    run_id = read_json(tmp_path / "tiny" / "tracking.json")["run_id"]
    client = mlflow.MlflowClient(server.uri, server.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == run.data.tags["seed"]
    assert run.data.tags["git.revision"]
    assert any(key.startswith("system/cpu") for key in run.data.metrics)
    assert "likelihood_and_ranker/all/completeness_by_s1_at_0.9_error" in run.data.metrics
    contexts = {tag.value for d in run.inputs.dataset_inputs for tag in d.tags}
    assert contexts == {"training", "validation", "test"}

    kept = boto3.client(
        "s3", endpoint_url=_s3(server), aws_access_key_id=server.secrets["S3_ACCESS_KEY"],
        aws_secret_access_key=server.secrets["S3_SECRET_KEY"], region_name="us-east-1",
    ).list_objects_v2(Bucket="mlflow", Prefix="artifacts/")  # fmt: skip
    assert any(item["Key"].endswith(f"{run_id}/artifacts/report.html") for item in kept["Contents"])

    for name in ("miun", "ranker", "classifier", "detector"):
        version = client.get_model_version_by_alias(name, "candidate")
        assert version.run_id == run_id
    mlflow.set_tracking_uri(server.uri)
    classifier = mlflow.pyfunc.load_model("models:/classifier@candidate")
    probabilities = classifier.predict(classifier.input_example)
    assert probabilities.shape[0] == 2
    assert abs(probabilities.sum(axis=1) - 1).max() < 1e-9

    done = geminga("promote", *settings)
    assert done.returncode == 0, done.stderr
    assert "detector: champion: there is no champion" in done.stdout
    champion = client.get_model_version_by_alias("detector", "champion")
    assert champion.run_id == run_id


def test_a_server_that_dies_in_the_run_loses_nothing(
    server: Server, config2: Config, tmp_path: Path
) -> None:
    tree = config2.model_dump(mode="json") | {"name": "outage"}
    tree["run"] |= {"output": str(tmp_path), "tracking_uri": server.uri}
    config = config_from_tree(tree, "test")
    figure = tmp_path / "figure.txt"
    figure.write_text("a figure")
    with Tracker.open(config, tmp_path / "outage") as tracker:
        with tracker.stage("miun"):
            tracker.curve([{"epoch": 1.0, "loss": 3.0}])
            server.stop()
            tracker.curve([{"epoch": 2.0, "loss": 2.0}])
            tracker.artifact(figure)
        with tracker.stage("search"):
            tracker.metrics({"candidates": 4.0})
        run_id = tracker.parent_id
    server.start()
    assert re.fullmatch(r"[1-9][0-9]* records sent to .*", sync_tracking(config))
    assert run_id is not None
    client = mlflow.MlflowClient(server.uri, server.uri)
    parent = client.get_run(run_id)
    assert parent.info.status == "FINISHED"
    text = f"tags.mlflow.parentRunId = '{run_id}'"
    found = client.search_runs([parent.info.experiment_id], text)
    runs = {run.data.tags["stage"]: run for run in found}
    assert {run.info.status for run in found} == {"FINISHED"}
    history = client.get_metric_history(runs["miun"].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]
    assert [a.path for a in client.list_artifacts(runs["miun"].info.run_id)] == ["figure.txt"]
    assert runs["search"].data.metrics == {"candidates": 4.0}


def _s3(server: Server) -> str:
    """Return the address of the server's object store, as it told MLflow."""
    return (server.folder / "s3.address").read_text().strip()
