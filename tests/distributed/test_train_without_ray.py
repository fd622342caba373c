"""What surrounds Ray Train: what a finished training leaves, a place that takes no checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import torch

from geminga.config import Config
from geminga.distributed import train, train_worker
from geminga.distributed.train import FINISHED, STATE_FOLDER, train_network
from geminga.distributed.train_worker import _Reporter, _threads
from geminga.errors import InputError
from geminga.training.state import TrainState, save_state

STATE = TrainState(
    epoch=2,
    model={"w": torch.tensor([1.0, 2.0])},
    optimiser={"state": {}, "param_groups": []},
    scheduler={},
    best_epoch=1,
    best_loss=0.5,
    best_model={"w": torch.tensor([3.0, 4.0])},
    history=[{"epoch": 1.0}, {"epoch": 2.0}],
)


class Trainer:
    """Stands for Ray Train: has trained as soon as it is asked to."""

    checkpoint: Trainer
    fitted = 0

    def __init__(self, worker: Any, *, run_config: Any, **_: Any) -> None:
        self.folder = Path(run_config.storage_path) / run_config.name / "checkpoint"

    def fit(self) -> Trainer:
        type(self).fitted += 1
        save_state(self.folder / STATE_FOLDER, STATE)
        self.checkpoint = self
        return self

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        yield str(self.folder)


def test_a_finished_training_is_not_done_again(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "fitted", 0)
    monkeypatch.setattr(train, "TorchTrainer", Trainer)
    monkeypatch.setattr(train, "check_resources", lambda *_: None)
    # As if the stage had failed between the training and its end, and been run again.
    for _ in range(2):
        state = train_network("miun", config2, [], [], tmp_path)
        assert state.history == STATE.history
        assert torch.equal(state.best_model["w"], STATE.best_model["w"])
        assert [path.name for path in tmp_path.iterdir()] == [FINISHED]
    assert Trainer.fitted == 1


@pytest.mark.parametrize(
    ("said", "raised", "match"),
    [
        ("[Errno 28] Error writing file. Detail: No space left on device", InputError, "make room"),
        ("AWS Error ACCESS_DENIED during PutObject operation:\nno", InputError, "PutObject.*: no"),
        ("AWS Error NETWORK_CONNECTION during PutObject operation", OSError, "NETWORK"),
    ],
)
def test_a_checkpoint_that_cannot_be_kept_is_one_line_unless_it_may_pass(
    said: str, raised: type[Exception], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(said)

    monkeypatch.setattr(ray.train, "report", refused)
    with pytest.raises(raised, match=match) as error:
        _Reporter(0, 3).step(STATE)
    assert "\n" not in str(error.value)


def test_a_cluster_that_shrank_to_its_head_is_waited_for(
    config2: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config2.miun_training.model_copy(update={"workers": 4, "use_gpu": True})
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"memory": 1e9})
    train.check_resources("miun", settings)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(InputError, match="4 on 2 cores; use 2 or less"):
        train.check_resources("miun", settings)


def test_threads_are_those_of_the_pod_and_not_of_its_machine(
    config2: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"NodeID": "other", "Resources": {"CPU": 99.0}}, {"NodeID": "own", "Resources": {}}]
    monkeypatch.setattr(train_worker.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    own = SimpleNamespace(get_node_id=lambda: "own")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: own)
    two = SimpleNamespace(get_local_world_size=lambda: 2)

    def threads(**changes: int) -> int:
        settings = config2.miun_training.model_copy(update=changes)
        return _threads(settings, two, 4)

    assert threads() == 32
    nodes[1]["Resources"] = {"CPU": 8.0}
    assert threads() == 4
    assert threads(loader_workers=4) == 3
    nodes[1]["Resources"] = {"CPU": 1.0}
    assert threads() == 1
