"""One training loop for every network, on any iterables of batches.

The loop knows nothing of files, clusters or trackers. A distributed caller hands in how to wrap
the network (for example in DistributedDataParallel) and how to add numbers up over the workers;
every decision then rests on these sums and is the same on all of them.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from geminga.errors import InputError
from geminga.networks.losses import Measure
from geminga.sections import TrainingConfig
from geminga.training.batches import Batch
from geminga.training.norms import settle_norms
from geminga.training.state import TrainState
from geminga.training.steps import (
    Pace,
    Reduce,
    alone,
    dropout_seed,
    means,
    train_steps,
    validate,
)

logger = logging.getLogger(__name__)


class TrainBatches(Protocol):
    """Epoch (from 0) to one worker's parts of its batches, from number `start` on.

    They must be the same every time; workers must have equally many.
    """

    def __call__(self, epoch: int, start: int = 0, /) -> Iterable[Batch]:
        """Return the batches."""
        ...


@dataclass(frozen=True)
class EpochReport:
    """Numbers of one finished epoch, counted from 1, and the state to go on from.

    Attributes
    ----------
    learning_rate : float
        Used in this epoch.
    seconds : float
        Wall time of training and validation.
    is_best : bool
        The validation loss is the lowest so far.
    """

    epoch: int
    train_loss: float
    valid_loss: float
    metrics: dict[str, float]
    learning_rate: float
    seconds: float
    is_best: bool
    state: TrainState = field(repr=False)

    def numbers(self) -> dict[str, float]:
        """Return the figures of this epoch for a log or a tracker."""
        return {
            "epoch": float(self.epoch),
            "train_loss": self.train_loss,
            "valid_loss": self.valid_loss,
            **{f"valid_{name}": value for name, value in self.metrics.items()},
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training; the network given to `fit` holds the best epoch's weights."""

    best_epoch: int
    best_loss: float
    history: list[dict[str, float]]
    state: TrainState


def fit(
    model: nn.Module,
    train_batches: TrainBatches,
    valid_batches: Callable[[], Iterable[Batch]],
    settings: TrainingConfig,
    *,
    loss: Measure,
    metrics: Mapping[str, Measure] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_checkpoint: Callable[[TrainState], None] | None = None,
    state: TrainState | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    rank: int = 0,
    workers: int = 1,
    wrap_model: Callable[[nn.Module], nn.Module] | None = None,
    reduce_sum: Reduce = alone,
) -> FitResult:
    """Train a network and leave the weights of its best epoch in it.

    Adam with a learning rate that falls by ``plateau_factor`` after ``plateau_patience`` epochs
    without a lower validation loss, down to ``min_learning_rate``; stops after ``stop_patience``
    epochs without one.

    Parameters
    ----------
    model : Module
        Called as ``model(*batch.inputs)``.
    train_batches : callable
        See `TrainBatches`.
    valid_batches : callable
        Batches of this worker for validation.
    settings : TrainingConfig
        Section of the configuration; ``batch_size``, ``workers`` and ``threads`` are the caller's.
    loss : callable
        Output and target to a number that is a mean over the batch.
    metrics : mapping, optional
        Further such numbers to report of the validation set.
    on_epoch : callable, optional
        Given the report of each epoch, to write checkpoints and logs.
    on_checkpoint : callable, optional
        Given the state within an epoch about every ``checkpoint_minutes``, after the same step on
        all workers.
    state : TrainState, optional
        Go on from here; the result is the same as without the interruption.
    device : torch.device or str
        Where to train.
    seed, rank : int
        Root seed and worker number, for dropout.
    workers : int
        How many workers there are.
    wrap_model : callable, optional
        Wraps the network, once it is on its device, for distributed training.
    reduce_sum : callable
        Sum over the workers of a vector of float64 (on the CPU).

    Raises
    ------
    InputError
        If there is no batch, the loss is not finite, or the state is of another network.
    """
    device = torch.device(device)
    metrics = dict(metrics or {})
    model.to(device)
    _fill(model, state)
    if settings.compile:
        _compile(model, device)
    wrapped = model if wrap_model is None else wrap_model(model)
    optimiser = Adam(wrapped.parameters(), lr=settings.learning_rate)
    scheduler = ReduceLROnPlateau(
        optimiser,
        factor=settings.plateau_factor,
        # torch reduces once the count of bad epochs exceeds its patience.
        patience=max(settings.plateau_patience - 1, 0),
        threshold=settings.plateau_min_gain,
        min_lr=settings.min_learning_rate,
    )
    if state is None:
        state = TrainState(0, {}, {}, {}, 0, math.inf, {})
    else:
        # A copy: the optimiser goes on in the tensors it is given.
        optimiser.load_state_dict(copy.deepcopy(state.optimiser))
        scheduler.load_state_dict(state.scheduler)
    pace = Pace(0.0 if on_checkpoint is None else settings.checkpoint_minutes, workers, reduce_sum)

    while state.epoch < settings.epochs:
        if state.epoch - state.best_epoch >= settings.stop_patience:
            logger.info("stopped: no gain since epoch %d", state.best_epoch)
            break
        start = time.perf_counter()
        rate = float(optimiser.param_groups[0]["lr"])
        before = state

        def keep(step: int, sums: tuple[float, float], before: TrainState = before) -> None:
            if on_checkpoint is None or not pace.due():
                return
            now = dataclasses.replace(
                before,
                model=_copy(model),
                optimiser=copy.deepcopy(optimiser.state_dict()),
                scheduler=scheduler.state_dict(),
                step=step,
                sums=_of_all_workers(sums, rank, workers, reduce_sum),
            )
            on_checkpoint(now)
            pace.restart()

        def seed_of_step(step: int, epoch: int = before.epoch) -> int:
            return dropout_seed(seed, epoch, step, rank)

        batches = (
            train_batches(state.epoch, state.step) if state.step else train_batches(state.epoch)
        )
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            train_sums = reduce_sum(
                train_steps(
                    wrapped,
                    batches,
                    optimiser,
                    loss,
                    settings,
                    device,
                    step=state.step,
                    sums=_own_sums(state, rank, workers),
                    seed_of_step=seed_of_step,
                    after_step=keep,
                )
            )
        settle_norms(model, train_batches(state.epoch), device)
        measures = {"loss": loss, **metrics}
        # Without the wrapper: workers may have unequal numbers of validation batches.
        valid = reduce_sum(validate(model, valid_batches(), measures, settings, device))
        values = means(valid, "validation")
        (train_value,) = means(train_sums, "training")
        valid_value, *metric_values = values
        epoch = state.epoch + 1
        if not (math.isfinite(train_value) and math.isfinite(valid_value)):
            raise InputError(
                f"training, epoch {epoch}",
                f"loss is {train_value:g} in training, {valid_value:g} in validation",
                f"lower learning_rate (now {settings.learning_rate:g})",
            )
        scheduler.step(valid_value)
        is_best = valid_value < state.best_loss
        weights = _copy(model)
        state = TrainState(
            epoch=epoch,
            model=weights,
            optimiser=copy.deepcopy(optimiser.state_dict()),
            scheduler=scheduler.state_dict(),
            best_epoch=epoch if is_best else state.best_epoch,
            best_loss=valid_value if is_best else state.best_loss,
            best_model=weights if is_best else state.best_model,
            history=state.history,
        )
        report = EpochReport(
            epoch=epoch,
            train_loss=train_value,
            valid_loss=valid_value,
            metrics=dict(zip(metrics, metric_values, strict=True)),
            learning_rate=rate,
            seconds=time.perf_counter() - start,
            is_best=is_best,
            state=state,
        )
        state.history = [*state.history, report.numbers()]
        logger.info("epoch %d: loss %.5f, validation %.5f", epoch, train_value, valid_value)
        if on_epoch is not None:
            on_epoch(report)
            pace.restart()

    model.load_state_dict(state.best_model)
    model.eval()
    return FitResult(state.best_epoch, state.best_loss, state.history, state)


def _fill(model: nn.Module, state: TrainState | None) -> None:
    """Give a network the weights of a state, if there is one."""
    if state is None:
        return
    try:
        model.load_state_dict(state.model)
    except RuntimeError as error:
        raise InputError(
            "training state",
            f"is of another network ({str(error).splitlines()[0]})",
            "remove it to train from the start",
        ) from error


def _compile(model: nn.Module, device: torch.device) -> None:
    """Have a network compiled when it is first called."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    if device.type == "cpu" and not any(map(shutil.which, names)):
        raise InputError(
            "compile", f"there is no C++ compiler ({' or '.join(names)})", "set it to false"
        )
    model.compile()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _of_all_workers(
    sums: tuple[float, float], rank: int, workers: int, reduce_sum: Reduce
) -> list[tuple[float, float]]:
    """Return the sums of every worker: each goes on with its own, to the last bit."""
    table = torch.zeros(workers, 2, dtype=torch.float64)
    table[rank] = torch.tensor(sums, dtype=torch.float64)
    rows = reduce_sum(table.reshape(-1)).reshape(workers, 2).tolist()
    return [(float(total), float(records)) for total, records in rows]


def _own_sums(state: TrainState, rank: int, workers: int) -> tuple[float, float]:
    """Return this worker's sums so far; all of them if there were another number of workers."""
    if len(state.sums) == workers:
        return state.sums[rank]
    if rank or not state.sums:
        return 0.0, 0.0
    return sum(total for total, _ in state.sums), sum(records for _, records in state.sums)
