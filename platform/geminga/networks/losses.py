"""Losses and metrics of logits against targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from geminga.errors import InputError

Measure = Callable[[Tensor, Tensor], Tensor]
"""Logits and target to one number."""

Kind = Literal["miun", "ranker", "classifier", "evidence_net"]


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits and a mask of 0 and 1, same shape."""
    return functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft Dice overlap of the whole batch (Milletari et al. 2016).

    Over the batch and not per patch: many patches hold few or no sources, and the overlap of an
    empty target has no slope.
    """
    mask = target.to(logits.dtype)
    probability = torch.sigmoid(logits)
    overlap = 2.0 * (probability * mask).sum() + 1.0
    return 1.0 - overlap / (probability.sum() + mask.sum() + 1.0)


def bce_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return the sum of binary cross-entropy and soft Dice loss."""
    return bce(logits, target) + dice(logits, target)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (N, classes) and class numbers (N,)."""
    return functional.cross_entropy(logits, target.long())


def balanced_cross_entropy(counts: Sequence[int]) -> Measure:
    """Return a cross-entropy under which the network answers for classes of equal number.

    Samples weigh by the inverse root of their class' number, and what is left of the mix is added to
    the logits as its log (logit adjustment, Menon et al. 2021). Full weights let a few samples of a
    rare class set the direction of whole batches; the log alone leaves the rare classes little say
    in when to stop.

    Parameters
    ----------
    counts : sequence of int
        Samples of each class in the training; a class without any is never the answer.
    """
    number = torch.tensor(list(counts), dtype=torch.float32)
    root = number.clamp(min=0.5).sqrt()
    log_mix = torch.log(root / root.sum())
    weight = number.sum() / (root * number.sqrt().sum())

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        chosen = target.long()
        each = functional.cross_entropy(
            logits + log_mix.to(logits.device), chosen, reduction="none"
        )
        return (weight.to(logits.device)[chosen] * each).mean()

    return loss


def mask_overlap(logits: Tensor, target: Tensor) -> Tensor:
    """Return the Dice overlap of the pixels above probability 1/2 with the mask; 1 if both empty."""
    found, mask = logits > 0, target > 0
    total = found.sum() + mask.sum()
    return torch.where(total > 0, 2.0 * (found & mask).sum() / total.clamp(min=1), 1.0)


def accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the part of the rows whose largest logit (N, classes) is that of the target (N,)."""
    return (logits.argmax(dim=1) == target).float().mean()


def binary_accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the part of logits (N,) on the right side of probability 1/2 for targets of 0 and 1."""
    return ((logits > 0) == (target > 0)).float().mean()


LOSSES: dict[str, Measure] = {
    "bce": bce,
    "dice": dice,
    "bce_dice": bce_dice,
    "cross_entropy": cross_entropy,
}

METRICS: dict[Kind, dict[str, Measure]] = {
    "miun": {"mask_overlap": mask_overlap},
    "ranker": {"accuracy": binary_accuracy},
    "classifier": {"accuracy": accuracy},
    "evidence_net": {"accuracy": accuracy},
}
"""What each network reports besides its loss."""

_LOSSES_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "miun": ("bce", "dice", "bce_dice"),
    "ranker": ("bce",),
    "classifier": ("cross_entropy",),
    "evidence_net": ("cross_entropy",),
}


def build_loss(name: str, kind: Kind | None = None) -> Measure:
    """Return a loss by its name in the configuration.

    Parameters
    ----------
    name : str
        ``bce``, ``dice``, ``bce_dice`` or ``cross_entropy``.
    kind : str, optional
        Network it is for; a loss that does not fit it is refused.

    Raises
    ------
    InputError
        If there is no such loss, or it does not fit the network.
    """
    fitting = tuple(LOSSES) if kind is None else _LOSSES_OF_KIND[kind]
    if name not in fitting:
        where = "loss" if kind is None else f"{kind}_training.loss"
        raise InputError(where, f"{name!r} does not fit", f"use one of {', '.join(fitting)}")
    return LOSSES[name]
