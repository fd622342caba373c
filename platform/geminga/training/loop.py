"""One training loop for every network, on any iterables of batches.

The loop knows nothing of files, clusters or trackers. A distributed caller hands in how to wrap
the network (for example in DistributedDataParallel) and how to average numbers over the workers;
every decision then rests on averaged numbers and is the same on all of them.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from geminga.errors import InputError
from geminga.networks.losses import Measure
from geminga.sections import TrainingConfig
from geminga.seeds import Stage, generator
from geminga.training.batches import Batch
from geminga.training.norms import average_buffers, settle_norms
from geminga.training.state import TrainState

logger = logging.getLogger(__name__)

_DROPOUT_STREAM = 1000
"""Key that keeps the streams of dropout apart from those of the starting weights."""


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


def _same(values: Tensor) -> Tensor:
    return values


def _bare(model: nn.Module) -> nn.Module:
    return model


def fit(
    model: nn.Module,
    train_batches: Callable[[int], Iterable[Batch]],
    valid_batches: Callable[[], Iterable[Batch]],
    settings: TrainingConfig,
    *,
    loss: Measure,
    metrics: Mapping[str, Measure] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    state: TrainState | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    rank: int = 0,
    wrap_model: Callable[[nn.Module], nn.Module] = _bare,
    reduce_mean: Callable[[Tensor], Tensor] = _same,
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
        Epoch (from 0) to the batches of this worker. Workers must have equally many.
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
    state : TrainState, optional
        Go on from here; the result is the same as without the interruption.
    device : torch.device or str
        Where to train.
    seed, rank : int
        Root seed and worker number, for dropout.
    wrap_model : callable
        Wraps the network, once it is on its device, for distributed training.
    reduce_mean : callable
        Mean over the workers of a vector of float64 (on the CPU).

    Raises
    ------
    InputError
        If there is no batch, the loss is not finite, or the state is of another network.
    """
    device = torch.device(device)
    metrics = dict(metrics or {})
    model.to(device)
    if state is not None:
        try:
            model.load_state_dict(state.model)
        except RuntimeError as error:
            raise InputError(
                "training state",
                f"is of another network ({str(error).splitlines()[0]})",
                "remove it to train from the start",
            ) from error
    wrapped = wrap_model(model)
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
        optimiser.load_state_dict(state.optimiser)
        scheduler.load_state_dict(state.scheduler)

    while state.epoch < settings.epochs:
        if state.epoch - state.best_epoch >= settings.stop_patience:
            logger.info("stopped: no gain since epoch %d", state.best_epoch)
            break
        start = time.perf_counter()
        rate = float(optimiser.param_groups[0]["lr"])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(_dropout_seed(seed, state.epoch, rank))
            train_loss = reduce_mean(
                _train_epoch(wrapped, train_batches(state.epoch), optimiser, loss, settings, device)
            )
        settle_norms(model, train_batches(state.epoch), device)
        average_buffers(model, reduce_mean)
        measures = {"loss": loss, **metrics}
        # Without the wrapper: workers may have unequal numbers of validation batches.
        valid = reduce_mean(_validate(model, valid_batches(), measures, settings, device))
        values = _means(valid, "validation")
        (train_value,) = _means(train_loss, "training")
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

    model.load_state_dict(state.best_model)
    model.eval()
    return FitResult(state.best_epoch, state.best_loss, state.history, state)


def _train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimiser: Adam,
    loss: Measure,
    settings: TrainingConfig,
    device: torch.device,
) -> Tensor:
    """Take one pass of steps; return the sums of loss and records as float64."""
    model.train()
    total, records = 0.0, 0
    for batch in batches:
        inputs, target = _to_device(batch, device)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=_low(settings)):
            output = model(*inputs)
        value = loss(output, target)
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += float(value.detach()) * len(target)
        records += len(target)
    return torch.tensor([total, records], dtype=torch.float64)


def _validate(
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
            inputs, target = _to_device(batch, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=_low(settings)):
                output = model(*inputs)
            values = [float(measure(output, target)) for measure in measures.values()]
            sums += torch.tensor([*values, 1.0], dtype=torch.float64) * len(target)
    return sums


def _means(sums: Tensor, name: str) -> list[float]:
    *totals, records = sums.tolist()
    if records == 0:
        raise InputError(f"{name} set", "holds no records", f"simulate at least one {name} sky")
    return [total / records for total in totals]


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return Batch(
        tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs),
        batch.target.to(device, non_blocking=True),
    )


def _low(settings: TrainingConfig) -> bool:
    return settings.precision == "bfloat16"


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _dropout_seed(seed: int, epoch: int, rank: int) -> int:
    rng = generator(seed, Stage.WEIGHTS, _DROPOUT_STREAM, epoch, rank)
    return int(rng.integers(2**62))
