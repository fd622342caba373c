"""A stage that trains keeps its checkpoints until the network is kept."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from geminga.config import Config
from geminga.files import write_json
from geminga.networks.build import build_ranker
from geminga.networks.checkpoint import FEATURES, load_checkpoint
from geminga.pipeline import train
from geminga.pipeline.runner import Context
from geminga.training.state import TrainState


class NoTracker:
    def curve(self, history: Any) -> None:
        pass


def test_checkpoints_go_when_the_network_is_kept(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c"]
    weights = build_ranker(config2, len(names)).state_dict()
    checkpoints = tmp_path / train.CHECKPOINTS

    def trained(kind: str, config: Config, shown: Any, held: Any, folder: Path) -> TrainState:
        write_json(folder / "state.json", {})
        return TrainState(1, weights, {}, {}, 1, 0.5, weights, [{"epoch": 1.0}])

    def log(context: Context, kind: str, folder: Path) -> None:
        assert (checkpoints / "state.json").exists(), "gone before the network is logged"

    monkeypatch.setattr(train, "ray_session", nullcontext)
    monkeypatch.setattr(train, "train_network", trained)
    monkeypatch.setattr(train, "log_network", log)
    context = Context(config2, tmp_path, NoTracker())  # type: ignore[arg-type]

    def fails(model: Any) -> dict[str, Any]:
        raise RuntimeError("no calibration")

    with pytest.raises(RuntimeError, match="no calibration"):
        train.train_and_save("ranker", context, tmp_path, [], [], {FEATURES: names}, fails)
    assert checkpoints.exists()
    figures = train.train_and_save("ranker", context, tmp_path, [], [], {FEATURES: names})
    assert figures["best_epoch"] == 1
    assert not checkpoints.exists()
    load_checkpoint(tmp_path / "model", config2, "ranker")
