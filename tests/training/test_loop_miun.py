from __future__ import annotations

import numpy as np
import pytest
import torch

from geminga.config import Config, TrainingConfig
from geminga.networks import build_loss, build_miun
from geminga.networks.losses import METRICS
from geminga.training.batches import Batch
from geminga.training.loop import EpochReport, fit


def settings(**changes: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"epochs": 6, "learning_rate": 0.01, **changes})


@pytest.mark.parametrize("loss", ["bce", "bce_dice"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_tiny_miun_learns_one_batch_by_heart(loss: str, precision: str, config2: Config) -> None:
    rng = np.random.default_rng(0)
    target = np.zeros((4, 64, 64), dtype=np.uint8)
    for patch in target:
        for row, column in rng.integers(6, 58, (3, 2)):
            patch[row - 4 : row + 5, column - 4 : column + 5] = 1
    fine = rng.poisson(0.1 + 2.0 * target).astype(np.float32)
    coarse = fine.reshape(4, 32, 2, 32, 2).sum(axis=(2, 4)) + rng.poisson(1.0, (4, 32, 32))
    images = (torch.from_numpy(coarse.astype(np.float32)), torch.from_numpy(fine))
    batch = Batch(images, torch.from_numpy(target))
    reports: list[EpochReport] = []
    chosen = settings(epochs=2, learning_rate=0.01, precision=precision)
    fit(
        build_miun(config2),
        lambda _epoch: [batch] * 40,
        lambda: [batch],
        chosen,
        loss=build_loss(loss, "miun"),
        metrics=METRICS["miun"],
        on_epoch=reports.append,
    )
    with torch.no_grad():
        start = float(build_loss(loss)(build_miun(config2)(*images), batch.target))
    assert reports[-1].valid_loss < start / 3
    assert reports[-1].metrics["mask_overlap"] > 0.8
