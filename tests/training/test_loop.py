from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geminga.config import TrainingConfig
from geminga.errors import InputError
from geminga.files import file_digest
from geminga.networks import build_loss
from geminga.training import steps
from geminga.training.batches import Batch
from geminga.training.loop import EpochReport, fit
from geminga.training.state import TrainState, load_state, save_state
from geminga.training.steps import Pace, dropout_seed

LOSS = build_loss("bce")


class Linear(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out[:, 0]


def data(seed: int, n: int = 32) -> Batch:
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32))
    return Batch((x,), (x.sum(dim=1) > 0).float())


def training(epoch: int) -> Iterable[Batch]:
    return [data(10 * epoch + i) for i in range(3)]


def validation() -> Iterable[Batch]:
    return [data(1000, 40), data(1001, 8)]


def settings(**changes: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"epochs": 6, "learning_rate": 0.01, **changes})


def constant(values: list[float]) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss with a slope whose value follows a list, one entry per call without gradients."""
    queue = iter(values)

    def loss(output: Tensor, _target: Tensor) -> Tensor:
        return output.sum() if output.requires_grad else output.sum() * 0 + next(queue)

    return loss


def one() -> Iterable[Batch]:
    return [data(1)]


def test_it_learns_and_reports() -> None:
    reports: list[EpochReport] = []
    model = Linear()
    result = fit(
        model,
        training,
        validation,
        settings(epochs=15),
        loss=LOSS,
        metrics={"right": lambda o, t: ((o > 0) == (t > 0)).float().mean()},
        on_epoch=reports.append,
    )
    assert [r.epoch for r in reports] == list(range(1, 16))
    assert reports[-1].valid_loss < 0.5 * reports[0].valid_loss
    assert reports[-1].metrics["right"] > 0.9
    assert set(reports[0].numbers()) == {
        "epoch", "train_loss", "valid_loss", "valid_right", "learning_rate", "seconds"
    }  # fmt: skip
    assert result.history == [r.numbers() for r in reports]
    assert not model.training


def test_means_weigh_records_not_batches() -> None:
    reports: list[EpochReport] = []
    fit(
        Linear(),
        lambda _epoch: [data(1)],
        validation,
        settings(epochs=1),
        loss=LOSS,
        metrics={"size": lambda _o, t: torch.tensor(float(len(t)))},
        on_epoch=reports.append,
    )
    assert reports[0].metrics["size"] == pytest.approx((40 * 40 + 8 * 8) / 48)


def test_the_best_epoch_is_kept() -> None:
    model = Linear()
    states: list[TrainState] = []
    result = fit(
        model,
        lambda _e: one(),
        one,
        settings(epochs=4),
        loss=constant([3.0, 1.0, 2.0, 1.0]),
        on_epoch=lambda r: states.append(r.state),
    )
    assert (result.best_epoch, result.best_loss) == (2, 1.0)
    best = states[1].model
    assert all(torch.equal(tensor, best[name]) for name, tensor in model.state_dict().items())
    assert not all(torch.equal(best[name], states[3].model[name]) for name in best)


@pytest.mark.parametrize(
    ("patience", "rates"),
    [(1, [1e-2, 1e-2, 1e-3, 1e-4]), (2, [1e-2, 1e-2, 1e-2, 1e-3]), (3, [1e-2] * 4)],
)
def test_the_rate_falls_after_epochs_without_gain(patience: int, rates: list[float]) -> None:
    reports: list[EpochReport] = []
    chosen = settings(epochs=4, plateau_patience=patience, min_learning_rate=1e-4)
    fit(
        Linear(), lambda _e: one(), one, chosen,
        loss=constant([1.0] * 4), on_epoch=reports.append,
    )  # fmt: skip
    assert [r.learning_rate for r in reports] == pytest.approx(rates)


def test_the_rate_has_a_floor_and_training_stops() -> None:
    reports: list[EpochReport] = []
    chosen = settings(epochs=30, plateau_patience=1, min_learning_rate=5e-3, stop_patience=5)
    fit(
        Linear(), lambda _e: one(), one, chosen,
        loss=constant([1.0] * 30), on_epoch=reports.append,
    )  # fmt: skip
    assert [r.epoch for r in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[-1].learning_rate == pytest.approx(5e-3)


def steps_from(epoch: int, start: int = 0) -> Iterable[Batch]:
    return [data(10 * epoch + i) for i in range(start, 5)]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("epoch", "step"), [(3, 0), (0, 2), (2, 1), (2, 5)])
def test_resuming_gives_the_same_as_one_go(
    epoch: int, step: int, dropout: float, tmp_path: Path
) -> None:
    """After any epoch and any step, to the last bit; the last step of an epoch included."""
    whole, part, rest = Linear(dropout), Linear(dropout), Linear(dropout)
    expected = fit(whole, steps_from, validation, settings(), loss=LOSS, seed=4)

    def save(state: TrainState) -> None:
        if (state.epoch, state.step) == (epoch, step):
            save_state(tmp_path / "state", state)

    always = settings(epochs=5, checkpoint_minutes=1e-9)
    fit(
        part, steps_from, validation, always, loss=LOSS, seed=4,
        on_epoch=lambda r: save(r.state), on_checkpoint=save,
    )  # fmt: skip
    torch.rand(7)
    state = load_state(tmp_path / "state")
    result = fit(rest, steps_from, validation, settings(), loss=LOSS, seed=4, state=state)
    timeless = [[{**h, "seconds": 0.0} for h in r.history] for r in (result, expected)]
    assert timeless[0] == timeless[1]
    assert (result.best_epoch, result.best_loss) == (expected.best_epoch, expected.best_loss)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, rest.state_dict()[name]), name
    for a, b in zip(
        expected.state.optimiser["state"].values(),
        result.state.optimiser["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert result.state.scheduler == expected.state.scheduler


def test_dropout_differs_between_steps_and_workers() -> None:
    seeds = {
        dropout_seed(seed, epoch, step, rank)
        for seed in (1, 2)
        for epoch in (0, 1)
        for step in (0, 1)
        for rank in (0, 1)
    }
    assert len(seeds) == 16


def test_another_number_of_workers_goes_on_with_all_sums() -> None:
    """The loss of an epoch is that of all its records, whoever took the steps before."""
    states: list[TrainState] = []
    fit(
        Linear(), steps_from, validation, settings(epochs=1, checkpoint_minutes=1e-9),
        loss=LOSS, on_checkpoint=states.append,
    )  # fmt: skip
    third = states[2]
    assert third.step == 3
    (all_sums,) = third.sums
    for sums in ([all_sums], [(0.25 * all_sums[0], 32.0), (0.75 * all_sums[0], 64.0)]):
        result = fit(
            Linear(), steps_from, validation, settings(epochs=1), loss=LOSS,
            state=dataclasses.replace(third, sums=sums),
        )  # fmt: skip
        whole = fit(Linear(), steps_from, validation, settings(epochs=1), loss=LOSS)
        assert result.history[0]["train_loss"] == pytest.approx(whole.history[0]["train_loss"])


def test_a_checkpoint_is_due_after_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(steps.time, "perf_counter", lambda: now[0])
    asked = []

    def reduce_sum(values: torch.Tensor) -> torch.Tensor:
        asked.append(float(values))
        return values * 2

    pace = Pace(1.0, 2, reduce_sum)
    due = []
    for number in range(2000):
        now[0] += 0.25
        if pace.due():
            due.append(number)
            pace.restart()
    assert due == [239 + 240 * n for n in range(8)]
    assert len(asked) < 60, "workers ask each other at few steps"
    never = Pace(0.0, 2, reduce_sum)
    assert not any(never.due() for _ in range(10))


def test_a_finished_state_trains_no_more() -> None:
    model = Linear()
    done = fit(model, training, validation, settings(epochs=2), loss=LOSS).state

    def never(_epoch: int) -> Iterable[Batch]:
        raise AssertionError

    again = Linear()
    result = fit(again, never, validation, settings(epochs=2), loss=LOSS, state=done)
    assert len(result.history) == 2
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_workers_agree_on_means() -> None:
    """A second worker with three times the records and twice the loss is in every figure."""
    reports: list[EpochReport] = []
    alone = fit(Linear(), lambda _e: one(), one, settings(epochs=1), loss=LOSS).history[0]

    def with_other(values: Tensor) -> Tensor:
        other = values * 3
        if len(values) == 2:
            other[0] *= 2
        return values + other

    wrapped: list[nn.Module] = []

    def wrap(model: nn.Module) -> nn.Module:
        wrapped.append(model)
        return model

    fit(
        Linear(), lambda _e: one(), one, settings(epochs=1),
        loss=LOSS, on_epoch=reports.append, workers=2, wrap_model=wrap, reduce_sum=with_other,
    )  # fmt: skip
    assert len(wrapped) == 1
    assert reports[0].train_loss == pytest.approx(alone["train_loss"] * 7 / 4)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(
        InputError, match=r"epoch 1: loss is \S+ in training, nan in validation; lower"
    ):
        fit(Linear(), lambda _e: one(), one, settings(), loss=constant([math.nan]))


def test_sets_without_records_are_an_error() -> None:
    with pytest.raises(InputError, match="training set: holds no records"):
        fit(Linear(), lambda _e: [], validation, settings(), loss=LOSS)
    with pytest.raises(InputError, match="validation set: holds no records"):
        fit(Linear(), training, lambda: [], settings(), loss=LOSS)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    state = fit(Linear(), training, validation, settings(epochs=2), loss=LOSS).state
    save_state(tmp_path / "state", state)
    return tmp_path / "state"


def test_a_state_holds_no_code(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == ["state.json", "state.safetensors"]
    tree = json.loads((saved / "state.json").read_text(), parse_constant=pytest.fail)
    assert tree["format_version"] == 2
    assert tree["epoch"] == 2


def test_the_state_before_the_first_epoch_is_kept_too(tmp_path: Path) -> None:
    states: list[TrainState] = []
    fit(
        Linear(), training, validation, settings(epochs=1, checkpoint_minutes=1e-9),
        loss=LOSS, on_checkpoint=states.append,
    )  # fmt: skip
    assert [s.step for s in states] == [1, 2, 3]
    save_state(tmp_path / "s", states[0])
    again = load_state(tmp_path / "s")
    assert again.best_loss == math.inf
    assert again.best_model == {}
    assert again.scheduler == states[0].scheduler
    assert again.optimiser["param_groups"] == states[0].optimiser["param_groups"]
    assert again.sums == states[0].sums


def test_states_of_another_format_are_refused(saved: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    torch.save({"format_version": 1, "epoch": 2}, old / "state.pt")
    with pytest.raises(InputError, match=r"old: format version 1, this geminga reads 2; remove it"):
        load_state(old)
    for tree in ({"format_version": 99}, {}, [1, 2]):
        (saved / "state.json").write_text(json.dumps(tree))
        with pytest.raises(InputError, match=r"format version (99|None), this geminga reads 2"):
            load_state(saved)


def test_states_that_cannot_be_read(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*; remove it to train from the start"):
        load_state(tmp_path / "none")
    tensors, meta = saved / "state.safetensors", saved / "state.json"
    whole, tree = tensors.read_bytes(), json.loads(meta.read_text())
    for content in (b"", whole[:-1], whole[:-1] + b"?"):
        tensors.write_bytes(content)
        with pytest.raises(InputError, match=r"is not the file that state.json describes; remove"):
            load_state(saved)
    tensors.unlink()
    with pytest.raises(InputError, match=r"state.safetensors: cannot be read"):
        load_state(saved)
    tensors.write_bytes(b"no tensors")
    meta.write_text(json.dumps({**tree, "tensors_sha256": file_digest(tensors)}))
    with pytest.raises(InputError, match=r"state.safetensors: is not a training state"):
        load_state(saved)
    tensors.write_bytes(whole)
    for damaged in (meta.read_text()[:-20], "{"):
        meta.write_text(damaged)
        with pytest.raises(InputError, match=r"state.json: is not JSON .*; remove it to train"):
            load_state(saved)
    for key in tree.keys() - {"format_version"}:
        meta.write_text(json.dumps({k: v for k, v in tree.items() if k != key}))
        with pytest.raises(InputError, match=f"state.json: is not a training state .*{key}"):
            load_state(saved)
    for key in ("epoch", "sums", "scheduler"):
        meta.write_text(json.dumps({**tree, key: "none"}))
        with pytest.raises(InputError, match=r"state.json: is not a training state"):
            load_state(saved)


def test_the_state_of_another_network_is_refused() -> None:
    state = fit(Linear(), lambda _e: one(), one, settings(epochs=1), loss=LOSS).state
    with pytest.raises(InputError, match="is of another network"):
        fit(nn.Linear(3, 1), training, validation, settings(), loss=LOSS, state=state)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_a_compiled_network_learns_the_same() -> None:
    plain, compiled = (
        fit(Linear(), training, validation, settings(epochs=2, compile=c), loss=LOSS).history
        for c in (False, True)
    )
    for one, other in zip(plain, compiled, strict=True):
        assert other["valid_loss"] == pytest.approx(one["valid_loss"], rel=1e-4)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"compile: there is no C\+\+ compiler \(no-such-comp"):
        fit(Linear(), training, validation, settings(compile=True), loss=LOSS)
