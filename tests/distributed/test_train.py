"""Ray Train: two workers learn what one learns, and a bad request is refused plainly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geminga.config import Config
from geminga.distributed.session import ray_session
from geminga.distributed.train import train_network
from geminga.errors import InputError
from geminga.patches.grid import grid_for_sky
from geminga.patches.records import make_records
from geminga.patches.store import write_records
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky

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
    tree["miun_training"] |= {"epochs": 2, "batch_size": 4, **training}
    return Config.model_validate(tree)


@pytest.mark.parametrize("workers", [1, 2])
def test_training_reaches_its_last_epoch_and_learns(
    workers: int, config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    config = configured(config2, workers=workers)
    with ray_session(2):
        state = train_network("miun", config, [patches[0]], [patches[1]], tmp_path)
    assert state.epoch == 2
    assert len(state.history) == 2
    losses = [row["train_loss"] for row in state.history]
    assert losses[1] < losses[0]
    assert state.best_model.keys() == state.model.keys()


def test_more_workers_than_cores_is_refused(
    config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    config = configured(config2, workers=64)
    with pytest.raises(InputError, match=r"miun_training.workers: 64 on 2 cores"), ray_session(2):
        train_network("miun", config, [patches[0]], [patches[1]], tmp_path)


def test_a_gpu_that_is_not_there_is_refused(
    config2: Config, patches: tuple[Path, Path], tmp_path: Path
) -> None:
    config = configured(config2, use_gpu=True)
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=r"use_gpu: 1 workers on 0 GPUs"), ray_session(2):
        train_network("miun", config, [patches[0]], [patches[1]], tmp_path)


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
