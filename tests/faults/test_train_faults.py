"""Trainings that lose a worker, the driver or a node in the middle of an epoch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from job_run import PATIENCE_S, until
from two_nodes import two_nodes

from geminga.config import Config
from geminga.patches.quantise import quantised
from geminga.patches.store import write_records

pytestmark = pytest.mark.cluster

RUN = Path(__file__).with_name("train_run.py")


def patches(path: Path, count: int, seed: int) -> Path:
    """Write made-up patches of two bands, in row groups of 8."""
    rng = np.random.default_rng(seed)
    groups = []
    for first in range(0, count, 8):
        target = (rng.random((8, 64, 64)) < 0.05).astype(np.uint8)
        groups.append(
            {
                "sky_id": np.full(8, seed),
                "patch_id": np.arange(first, first + 8),
                "frame": np.zeros((8, 3, 3)),
                "image_0": quantised(rng.gamma(2.0, 0.5, (8, 32, 32)).astype(np.float32)),
                "image_1": quantised((0.2 + 3.0 * target).astype(np.float32)),
                "target": target,
            }
        )
    write_records(path, groups)
    return path


@dataclass(frozen=True)
class Training:
    """A training in a process group of its own."""

    folder: Path
    environment: Mapping[str, str]

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, or start it again."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(RUN), str(self.folder)], env=dict(self.environment),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """What it has said so far."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def reached(self, epoch: int, step: int) -> Callable[[], bool]:
        """Return whether it has written a checkpoint within an epoch, counted from 1."""
        return lambda: f"epoch {epoch}: checkpoint after step {step}" in self.log

    def finish(self, process: subprocess.Popen[bytes]) -> list[dict[str, float]]:
        """Wait for its good end; return the numbers of its epochs, without times."""
        assert process.wait(PATIENCE_S) == 0, self.log[-3000:]
        history = json.loads((self.folder / "history.json").read_text())
        return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def training(folder: Path, config: Config, files: Path, **settings: object) -> Training:
    folder.mkdir(exist_ok=True)
    tree = config.model_dump(mode="json")
    tree["miun_training"] |= {
        "epochs": 3, "batch_size": 3, "threads": 1, "checkpoint_minutes": 1e-9, **settings,
    }  # fmt: skip
    task = {
        "config": tree,
        "train": [str(files / f"{n}.parquet") for n in range(2)],
        "valid": [str(files / "2.parquet")],
    }
    (folder / "task.json").write_text(json.dumps(task))
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return Training(
        folder,
        {**environment, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", "RAY_DEDUP_LOGS": "0"},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patches")
    for number, count in enumerate((16, 8, 8)):
        patches(folder / f"{number}.parquet", count, number)
    return folder


@pytest.fixture(scope="module")
def calm(
    config2: Config, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, float]], bytes]:
    """The numbers and the network of a training that nothing happened to."""
    one = training(tmp_path_factory.mktemp("calm"), config2, files, checkpoint_minutes=0)
    history = one.finish(one.start())
    assert len(history) == 3
    return history, (one.folder / "model.safetensors").read_bytes()


def members(session: int) -> dict[int, bytes]:
    """Return the processes of a session, and how they were called."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(path.name)] = (path / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def train_workers(session: int) -> list[int]:
    """Return the processes that train among those of a session."""
    return [pid for pid, name in members(session).items() if b"RayTrainWorker" in name]


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a driver and its Ray without warning."""

    def gone() -> bool:
        for pid in members(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not members(process.pid)

    process.kill()
    process.wait()
    until(gone, "all its processes are gone")


def test_a_killed_worker_and_a_killed_driver_leave_the_network_as_it_would_be(
    config2: Config,
    files: Path,
    calm: tuple[list[dict[str, float]], bytes],
    tmp_path: Path,
) -> None:
    """Both in one training: the worker in its first epoch, the driver in its second."""
    broken = training(tmp_path, config2, files)
    process = broken.start()
    try:
        until(broken.reached(1, 2), "the first epoch is under way")
        (worker,) = train_workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda: "miun goes on after epoch" in broken.log, "another worker goes on")
        until(broken.reached(2, 2), "the second epoch is under way")
    finally:
        kill_session(process)
    before = len(broken.log)
    assert not (tmp_path / "history.json").exists()
    assert broken.finish(broken.start()) == calm[0]
    assert "miun goes on after epoch 1, step" in broken.log[before:]
    assert "epoch 1/3" not in broken.log[before:], "the first epoch was trained again"
    assert (tmp_path / "model.safetensors").read_bytes() == calm[1]


def test_training_goes_on_with_the_nodes_that_are_left(
    config2: Config,
    files: Path,
    calm: tuple[list[dict[str, float]], bytes],
    tmp_path: Path,
) -> None:
    elastic = training(tmp_path / "run", config2, files, workers=2, min_workers=1)
    with two_nodes(tmp_path / "cluster.log") as nodes:
        joined = Training(elastic.folder, {**elastic.environment, **nodes.environment})
        process = joined.start()
        try:
            until(joined.reached(1, 2), "the first epoch is under way")
            nodes.change()
            history = joined.finish(process)
        finally:
            kill_session(process)
    assert "with 1 workers" in joined.log
    for row, other in zip(history, calm[0], strict=True):
        for name in ("train_loss", "valid_loss"):
            assert row[name] == pytest.approx(other[name], rel=2e-2), name
