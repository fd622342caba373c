"""Workers that share a batch train the network that one worker trains on the whole of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geminga.classification.images import SourceImages
from geminga.config import Config
from geminga.networks import build_loss
from geminga.networks.build import build_classifier, build_miun, build_ranker
from geminga.sections import TrainingConfig
from geminga.training import norms
from geminga.training.batches import Batch
from geminga.training.loop import FitResult, fit
from geminga.training.norms import SharedNorm, share_norms
from geminga.training.shares import part_of_batch

LOSS = build_loss("bce")


class Team:
    """Workers as threads that add up tensors, as a process group does for processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.barrier = threading.Barrier(workers, timeout=60)
        self.given: dict[int, Tensor] = {}
        self.rank = threading.local()

    def sum(self, values: Tensor) -> Tensor:
        self.given[self.rank.number] = values.detach().clone()
        self.barrier.wait()
        total = sum(self.given[r] for r in range(self.workers))
        self.barrier.wait()
        assert isinstance(total, Tensor)
        return total

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        results: list[Any] = [None] * self.workers

        def one(rank: int) -> None:
            self.rank.number = rank
            try:
                results[rank] = work(rank)
            except BaseException:
                self.barrier.abort()
                raise

        threads = [threading.Thread(target=one, args=(r,)) for r in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


@pytest.fixture
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Team:
    """Stands for the processes of a group."""
    made = Team(request.param)
    monkeypatch.setattr(norms, "sum_over_workers", made.sum)
    return made


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out[:, 0]


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = (100.0 + 5.0 * rng.normal(size=(n, 1, 4, 4))).astype(np.float32)
    return x, (x.mean(axis=(1, 2, 3)) > 100).astype(np.float32)


@pytest.mark.parametrize("team", [2, 3], indirect=True)
@pytest.mark.parametrize("counted", [True, False])
def test_it_is_the_normalisation_of_the_whole_batch(team: Team, counted: bool) -> None:
    """Values, gradients and running statistics; a worker whose records do not count adds nothing."""
    x = torch.from_numpy(images(8, 3)[0]).expand(-1, 2, -1, -1).clone()
    weight = torch.linspace(-1.0, 1.0, 8 * 2 * 16).reshape(8, 2, 4, 4)
    plain = nn.BatchNorm2d(2)
    whole = x.clone().requires_grad_()
    expected = plain(whole)
    (expected * weight).sum().backward()
    bounds = [8 * r // team.workers for r in range(team.workers + 1)]

    def work(rank: int) -> tuple[Tensor, Tensor, SharedNorm]:
        norm = share_norms(nn.Sequential(nn.BatchNorm2d(2)))[0]
        assert isinstance(norm, SharedNorm)
        own = slice(bounds[rank], bounds[rank + 1])
        if not counted and rank == team.workers - 1:
            norm.counts = False
        part = x[own].clone().requires_grad_()
        out = norm(part)
        (out * weight[own]).sum().backward()
        assert part.grad is not None
        return out.detach(), part.grad, norm

    parts = team.run(work)
    if not counted:
        rest = nn.BatchNorm2d(2)
        rest(x[: bounds[-2]])
        torch.testing.assert_close(parts[0][2].running_mean, rest.running_mean)
        torch.testing.assert_close(parts[0][2].running_var, rest.running_var)
        return
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([p[1] for p in parts]), whole.grad, atol=2e-5, rtol=1e-4)
    gradients = sum(p[2].weight.grad for p in parts)
    torch.testing.assert_close(gradients, plain.weight.grad, atol=2e-4, rtol=1e-4)
    for _, _, norm in parts:
        torch.testing.assert_close(norm.running_mean, plain.running_mean)
        torch.testing.assert_close(norm.running_var, plain.running_var)
        assert int(norm.num_batches_tracked) == 1


def test_names_and_values_stay() -> None:
    model = Small()
    model.layers[1].running_mean += 3.0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    share_norms(model)
    assert sum(isinstance(m, SharedNorm) for m in model.modules()) == 2
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(value is parameters[name] for name, value in model.named_parameters())
    x = torch.from_numpy(images(5, 0)[0])
    plain = Small()
    plain.load_state_dict(before)
    assert torch.equal(model.eval()(x), plain.eval()(x))


def train(rank: int, team: Team | None, model: nn.Module) -> FitResult:
    """Train on batches of 7, 7 and 2 records, or a worker's parts of them."""
    workers = team.workers if team else 1

    def batches(epoch: int, start: int = 0) -> Iterable[Batch]:
        x, y = images(16, epoch)
        for first in range(7 * start, 16, 7):
            rows = np.arange(first, min(first + 7, 16))
            mine, weight = part_of_batch(rows, rank, workers)
            yield Batch((torch.from_numpy(x[mine]),), torch.from_numpy(y[mine]), weight)

    def valid() -> Iterable[Batch]:
        x, y = images(40, 1000)
        for first in range(10 * rank, 40, 10 * workers):
            part = slice(first, first + 10)
            yield Batch((torch.from_numpy(x[part]),), torch.from_numpy(y[part]))

    def wrap(model: nn.Module) -> nn.Module:
        assert team is not None
        for parameter in share_norms(model).parameters():
            # What DistributedDataParallel does with gradients: their mean over the workers.
            parameter.register_hook(lambda g: mean(g, rank))
        return model

    def mean(gradient: Tensor, rank: int) -> Tensor:
        assert team is not None
        team.rank.number = rank
        return team.sum(gradient) / workers

    settings = TrainingConfig(epochs=4, learning_rate=0.003)
    if team is None:
        return fit(model, batches, valid, settings, loss=LOSS)
    return fit(
        model, batches, valid, settings, loss=LOSS,
        rank=rank, workers=workers, wrap_model=wrap, reduce_sum=team.sum,
    )  # fmt: skip


@pytest.mark.parametrize("team", [2, 3, 5], indirect=True)
def test_loss_curves_are_those_of_one_worker(team: Team) -> None:
    """Also where a batch does not divide by the workers, or is too short for all of them."""
    alone = train(0, None, Small())
    # Made here: threads have but one stream of random numbers between them.
    models = [Small() for _ in range(team.workers)]
    shared = team.run(lambda rank: train(rank, team, models[rank]))
    for result in shared:
        for one, other in zip(alone.history, result.history, strict=True):
            for name in ("train_loss", "valid_loss"):
                assert other[name] == pytest.approx(one[name], rel=2e-4), name
        assert result.best_epoch == alone.best_epoch
    for name, tensor in shared[0].state.model.items():
        assert all(torch.equal(tensor, other.state.model[name]) for other in shared[1:]), name


@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 13])
def test_parts_of_a_batch(n: int, workers: int) -> None:
    rows = np.arange(10, 10 + n)
    values = np.random.default_rng(n).normal(size=30)
    parts = [part_of_batch(rows, rank, workers) for rank in range(workers)]
    counted = np.concatenate([part for part, weight in parts if weight])
    np.testing.assert_array_equal(counted, rows)
    assert all(len(part) for part, _ in parts)
    mean = sum(weight * values[part].mean() for part, weight in parts) / workers
    assert mean == pytest.approx(values[rows].mean())


@pytest.mark.parametrize("kind", ["miun", "ranker", "classifier"])
def test_every_parameter_has_a_gradient(kind: str, config2: Config) -> None:
    """DistributedDataParallel waits for all of them."""
    miun = [torch.ones(2, c.pixels, c.pixels) for c in config2.channels]
    sources = SourceImages(
        np.ones((2, 2, 7, 7), np.float32), np.ones((2, 4, 7, 7), np.float32), np.zeros(2)
    )
    given: dict[str, tuple[nn.Module, list[Tensor]]] = {
        "miun": (build_miun(config2), miun),
        "ranker": (build_ranker(config2, 3), [torch.ones(2, 3)]),
        "classifier": (
            build_classifier(config2), [torch.from_numpy(sources.stack()), torch.zeros(2)]
        ),
    }  # fmt: skip
    model, inputs = given[kind]
    model(*inputs).sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_worker_has_what_torch_has(
    precision: torch.dtype,
    affine: bool,
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(norms, "sum_over_workers", torch.clone)
    plain = nn.Sequential(nn.BatchNorm2d(3, affine=affine))
    shared = share_norms(nn.Sequential(nn.BatchNorm2d(3, affine=affine)))
    values = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2.0 + 1.0
    weight = torch.linspace(-1.0, 1.0, 6 * 192).reshape(6, 3, 8, 8).to(precision)
    results = []
    for model in (plain, shared):
        x = values.to(precision).contiguous(memory_format=layout).requires_grad_()
        out = model(x)
        (out * weight).sum().backward()
        assert x.grad is not None
        assert out.dtype == precision
        results.append([out, x.grad, *(p.grad for p in model.parameters()), *model.buffers()])
    rough = precision == torch.bfloat16
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(
            other, one, atol=0.05 if rough else 1e-5, rtol=0.02 if rough else 1e-4
        )
