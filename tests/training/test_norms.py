"""Statistics of batch normalisation measured for fixed weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geminga.training.batches import Batch
from geminga.training.norms import SETTLING_BATCHES, settle_norms


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.norm(x))
        return out


def batches(n: int, seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng(seed)
    return [
        Batch(
            (torch.from_numpy(rng.normal(3.0, 2.0, (16, 2)).astype(np.float32)),), torch.zeros(16)
        )
        for _ in range(n)
    ]


def test_statistics_are_the_mean_over_the_batches() -> None:
    model = Normed()
    model.norm.running_mean.fill_(99.0)
    given = batches(5)
    settle_norms(model, given, torch.device("cpu"))
    mean = torch.stack([b.inputs[0].mean(dim=0) for b in given]).mean(dim=0)
    variance = torch.stack([b.inputs[0].var(dim=0) for b in given]).mean(dim=0)
    torch.testing.assert_close(model.norm.running_mean, mean)
    torch.testing.assert_close(model.norm.running_var, variance)


@pytest.mark.parametrize("training", [True, False])
def test_mode_momentum_and_weights_stay(training: bool) -> None:
    model = Normed().train(training)
    before = {name: value.clone() for name, value in model.named_parameters()}
    settle_norms(model, batches(2), torch.device("cpu"))
    assert model.training is training
    assert model.norm.training is training
    assert model.norm.momentum == 0.1
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_only_so_many_batches_are_read() -> None:
    read = 0

    def endless() -> object:
        nonlocal read
        while True:
            read += 1
            yield batches(1, read)[0]

    settle_norms(Normed(), endless(), torch.device("cpu"))
    assert read == SETTLING_BATCHES


def test_a_network_without_norms_reads_nothing() -> None:
    def never() -> object:
        raise AssertionError("a batch was asked for")
        yield

    settle_norms(nn.Linear(2, 2), never(), torch.device("cpu"))
