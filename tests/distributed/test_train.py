"""Ray Train: two workers learn what one learns, and a bad request is refused plainly."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.train import UserCallback

from geminga.config import Config
from geminga.distributed.ingredients import ingredients
from geminga.distributed.session import ray_session
from geminga.distributed.stream import streamed
from geminga.distributed.train import FINISHED, train_network
from geminga.errors import InputError
from geminga.networks.losses import METRICS
from geminga.patches.grid import grid_for_sky
from geminga.patches.records import make_records
from geminga.patches.store import write_records
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky
from geminga.training.loop import fit
from geminga.training.patches import PatchReader
from geminga.training.state import TrainState

pytestmark = pytest.mark.usefixtures("ray_on_two_cores")


@pytest.fixture(scope="module")
def patches(config2: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return files of training and validation patches."""
    folder = tmp_path_factory.mktemp("patches")
    response = build_response(config2)
    diffuse = diffuse_counts(config2, response)
    population = load_population(config2.sky.population)
    files = []
    for split in (Split.TRAIN, Split.VALID):
        number = sky_id(split, 0)
        sky = simulate_sky(config2, response, population, diffuse, number)
        grid = grid_for_sky(config2, number)
        path = folder / f"{number}.parquet"
        ids = np.arange(len(grid.frames))
        write_records(path, [make_records(sky, grid, config2, part) for part in (ids[:8], ids[8:])])
        files.append(path)
    return files[0], files[1]


def configured(config: Config, **training: object) -> Config:
    tree = config.model_dump()
    tree["miun_training"] |= {"epochs": 2, "batch_size": 5, "threads": 1, **training}
    return Config.model_validate(tree)


@pytest.fixture(scope="module")
def alone(
    config2: Config,
    patches: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    ray_on_two_cores: None,
) -> TrainState:
    """What one worker has after two epochs."""
    folder = tmp_path_factory.mktemp("alone")
    with ray_session(2):
        return train_network("miun", configured(config2), [patches[0]], [patches[1]], folder)


def losses(state: TrainState, name: str = "train_loss") -> list[float]:
    return [row[name] for row in state.history]


def without_time(state: TrainState) -> list[dict[str, float]]:
    return [{**row, "seconds": 0.0} for row in state.history]


def test_training_reaches_its_last_epoch_and_learns(alone: TrainState) -> None:
    assert alone.epoch == 2
    assert len(alone.history) == 2
    assert losses(alone)[1] < losses(alone)[0]
    assert alone.best_model.keys() == alone.model.keys()


def test_two_workers_train_the_network_of_one(
    alone: TrainState, config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    """The same batches of 5, shared 2 and 3: the curves differ by rounding, which grows."""
    config = configured(config2, workers=2, min_workers=1)
    with ray_session(2):
        state = train_network("miun", config, [patches[0]], [patches[1]], tmp_path)
    for name in ("train_loss", "valid_loss"):
        assert losses(state, name) == pytest.approx(losses(alone, name), rel=2e-3), name
    left = [path.name for path in tmp_path.iterdir()]
    assert left == [FINISHED], "of the checkpoints only the last is kept"


def test_it_is_the_plain_loop(
    alone: TrainState, config2: Config, patches: tuple[Path, Path]
) -> None:
    config = configured(config2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = ingredients("miun", config, [patches[0]], [patches[1]])
        result = fit(
            parts.model, parts.train, parts.valid, config.miun_training, loss=parts.loss,
            metrics=METRICS["miun"], seed=parts.seed,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    assert [{**row, "seconds": 0.0} for row in result.history] == without_time(alone)


@pytest.mark.cluster
def test_a_worker_that_fails_within_an_epoch_is_not_noticed_in_the_result(
    alone: TrainState,
    config2: Config,
    patches: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on from a step within an epoch, in a process of its own."""
    config = configured(config2, checkpoint_minutes=1e-9)
    marks = tmp_path / "marks"
    marks.mkdir()
    with ray_session(2):
        state = train_network(
            "miun", config, [patches[0]], [patches[1]], tmp_path / "c", callbacks=[Kill(marks)]
        )
    assert [p.name for p in marks.iterdir()] == ["1.0 1.0"], "killed in the second epoch"
    assert without_time(state) == without_time(alone)
    for name, tensor in alone.model.items():
        assert torch.equal(tensor, state.model[name]), name


class Kill(UserCallback):
    """Kills the process that trains after the first checkpoint of the second epoch."""

    def __init__(self, marks: Path) -> None:
        self.marks = marks

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        numbers = metrics[0]
        if numbers["epoch"] == 1.0 and numbers.get("step") == 1.0 and not any(self.marks.iterdir()):
            (self.marks / f"{numbers['epoch']} {numbers['step']}").touch()
            (worker,) = train_workers(os.getppid())
            os.kill(worker, signal.SIGKILL)


def train_workers(parent: int) -> list[int]:
    """The processes that train among the children of a Ray node."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name = (path / "cmdline").read_bytes()
            above = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent and b"RayTrainWorker" in name:
            found.append(int(path.name))
    return found


@pytest.mark.cluster
def test_patches_drawn_by_ray_data_have_the_same_bytes(
    alone: TrainState, config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    config = configured(config2, loader_workers=1)
    reader = PatchReader([patches[0]], config)
    with ray_session(2):
        for start in (0, 1):
            for one, other in zip(reader.train(1, start), streamed(reader, 1, start), strict=True):
                assert one.target.equal(other.target)
                assert all(a.equal(b) for a, b in zip(one.inputs, other.inputs, strict=True))
                assert one.weight == other.weight
        state = train_network("miun", config, [patches[0]], [patches[1]], tmp_path)
    assert without_time(state) == without_time(alone)


def test_more_workers_than_cores_is_refused(
    config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    config = configured(config2, workers=64)
    with pytest.raises(InputError, match=r"miun_training.workers: 64 on 2 cores"), ray_session(2):
        train_network("miun", config, [patches[0]], [patches[1]], tmp_path)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"workers": 2, "loader_workers": 1},
            r"miun_training.loader_workers: 1 beside 2 workers on 2 cores: .*; use 0 or fewer work",
        ),
        ({"workers": 8, "min_workers": 3}, r"miun_training.min_workers: 3 on 2 cores; use 2 or"),
    ],
)
def test_what_would_wait_for_ever_is_refused(
    training: dict[str, int],
    message: str,
    config2: Config,
    patches: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    config = configured(config2, **training)
    with pytest.raises(InputError, match=message), ray_session(2):
        train_network("miun", config, [patches[0]], [patches[1]], tmp_path)


def test_more_least_workers_than_workers_are_refused(config2: Config) -> None:
    with pytest.raises(ValueError, match="min_workers 3 is above workers 2; lower it"):
        configured(config2, workers=2, min_workers=3)


def test_a_gpu_that_is_not_there_is_refused(
    config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    config = configured(config2, use_gpu=True)
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=r"use_gpu: 1 workers on 0 GPUs"), ray_session(2):
        train_network("miun", config, [patches[0]], [patches[1]], tmp_path)


@pytest.mark.cluster
@pytest.mark.parametrize("loaders", [0, 1])
def test_a_fault_of_the_data_is_not_tried_again(
    loaders: int, config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    """A file that breaks off within its pages is found by the worker, in the first epoch."""
    broken = tmp_path / "broken.parquet"
    data = bytearray(patches[0].read_bytes())
    data[1000 : len(data) // 2] = bytes(len(data) // 2 - 1000)
    broken.write_bytes(data)
    config = configured(config2, loader_workers=loaders)
    attempts = Attempts(tmp_path / "attempts")
    with (
        pytest.raises(InputError, match=r"broken.parquet: is no readable Parquet file"),
        ray_session(2),
    ):
        train_network("miun", config, [broken], [patches[1]], tmp_path / "c", callbacks=[attempts])
    assert (tmp_path / "attempts").read_text() == "x"


class Attempts(UserCallback):
    """Counts how often workers failed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
        with self.path.open("a") as file:
            file.write("x")


@pytest.mark.cluster
def test_the_patches_of_another_configuration_are_refused(
    config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(patches[0].read_bytes()[:1000])
    with (
        pytest.raises(InputError, match=r"broken.parquet: is no readable Parquet file"),
        ray_session(2),
    ):
        train_network("miun", configured(config2), [broken], [patches[1]], tmp_path / "c")
