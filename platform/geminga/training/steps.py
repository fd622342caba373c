"""Passes over batches: the steps of an epoch, and validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from geminga.errors import InputError
from geminga.networks.losses import Measure
from geminga.sections import TrainingConfig
from geminga.seeds import Stage, generator
from geminga.training.batches import Batch
from geminga.training.norms import count_records

_DROPOUT_STREAM = 1000
"""Key that keeps the streams of dropout apart from those of the starting weights."""

Reduce = Callable[[Tensor], Tensor]
"""Sum over the workers of a vector of float64 on the CPU."""


def alone(values: Tensor) -> Tensor:
    """Return the sum over one worker."""
    return values


class Pace:
    """Says when a checkpoint within an epoch is due, the same on all workers.

    Workers agree on the time that has passed. They do so at few steps: from the pace so far all of
    them know at which step it is worth while to ask again.

    Parameters
    ----------
    minutes : float
        Time between checkpoints; 0 asks for none.
    workers : int
        How many workers there are.
    reduce_sum : callable
        Sum over them.
    """

    def __init__(self, minutes: float, workers: int, reduce_sum: Reduce) -> None:
        self._seconds, self._workers, self._reduce = 60.0 * minutes, workers, reduce_sum
        self.restart()

    def restart(self) -> None:
        """Count from now on: a checkpoint was written."""
        self._began, self._steps, self._ask = time.perf_counter(), 0, 1

    def due(self) -> bool:
        """Count a step; return whether a checkpoint is to follow it."""
        if not self._seconds:
            return False
        self._steps += 1
        if self._steps < self._ask:
            return False
        passed = torch.tensor([time.perf_counter() - self._began], dtype=torch.float64)
        mean = float(self._reduce(passed)) / self._workers
        if mean >= self._seconds:
            return True
        ahead = (self._seconds - mean) / (mean / self._steps)
        # Not all the way: the first steps are slower than those that follow, or the other way.
        self._ask = self._steps + max(int(min(ahead, 10.0 * self._steps)), 1)
        return False


def train_steps(
    model: nn.Module,
    batches: Iterable[Batch],
    optimiser: Optimizer,
    loss: Measure,
    settings: TrainingConfig,
    device: torch.device,
    *,
    step: int,
    sums: tuple[float, float],
    seed_of_step: Callable[[int], int],
    after_step: Callable[[int, tuple[float, float]], None],
) -> Tensor:
    """Take the steps of an epoch from number `step` on.

    Parameters
    ----------
    model : Module
        The network, wrapped.
    batches : iterable of Batch
        Batch number `step` and those that follow.
    step : int
        Steps of this epoch done before.
    sums : (float, float)
        Sums of the loss and of the records over them.
    seed_of_step : callable
        Step to the seed of its dropout.
    after_step : callable
        Given the number of steps done and the sums, after each.

    Returns
    -------
    Tensor (2,)
        Sums of the loss and of the records over the epoch, float64.
    """
    model.train()
    total, records = sums
    for batch in batches:
        count_records(model, batch)
        inputs, target = to_device(batch, device)
        torch.manual_seed(seed_of_step(step))
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=_low(settings)):
            output = model(*inputs)
        value = loss(output, target)
        # The mean over the workers of this is the mean over the whole batch.
        (value * batch.weight).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if batch.records:
            total += float(value.detach()) * batch.records
            records += batch.records
        step += 1
        after_step(step, (total, records))
    return torch.tensor([total, records], dtype=torch.float64)


def validate(
    model: nn.Module,
    batches: Iterable[Batch],
    measures: Mapping[str, Measure],
    settings: TrainingConfig,
    device: torch.device,
) -> Tensor:
    """Return the sums of every measure, then of the records, as float64."""
    model.eval()
    sums = torch.zeros(len(measures) + 1, dtype=torch.float64)
    with torch.inference_mode():
        for batch in batches:
            inputs, target = to_device(batch, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=_low(settings)):
                output = model(*inputs)
            values = [float(measure(output, target)) for measure in measures.values()]
            sums += torch.tensor([*values, 1.0], dtype=torch.float64) * len(target)
    return sums


def means(sums: Tensor, name: str) -> list[float]:
    """Return the means from sums, the last of which is the number of records.

    Raises
    ------
    InputError
        If there are no records; `name` is that of the set.
    """
    *totals, records = sums.tolist()
    if records == 0:
        raise InputError(f"{name} set", "holds no records", f"simulate at least one {name} sky")
    return [total / records for total in totals]


def to_device(batch: Batch, device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return inputs and target on a device."""
    return (
        tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs),
        batch.target.to(device, non_blocking=True),
    )


def dropout_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Return the seed of the dropout of one step in one worker."""
    rng = generator(seed, Stage.WEIGHTS, _DROPOUT_STREAM, epoch, step, rank)
    return int(rng.integers(2**62))


def _low(settings: TrainingConfig) -> bool:
    return settings.precision == "bfloat16"
