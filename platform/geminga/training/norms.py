"""Running statistics of batch normalisation.

The running averages a network gathers in training follow its last few batches, which may all lie on
the Galactic plane, and weights that have changed since. Evaluated with them its loss jumps from
epoch to epoch; it does not once they are measured anew for the weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from geminga.training.batches import Batch

SETTLING_BATCHES = 64
"""Batches the statistics are measured on."""


def settle_norms(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> None:
    """Measure the statistics of batch normalisation on training batches, for fixed weights.

    Every batch weighs the same (Wu & Johnson 2021, arXiv:2105.07576, "precise BatchNorm"). Networks
    without batch normalisation are left alone, as is every other part of the network.

    Parameters
    ----------
    model : Module
        Called as ``model(*batch.inputs)``; ends in the mode it was in.
    batches : iterable of Batch
        The first `SETTLING_BATCHES` are used.
    device : torch.device
        Where the network is.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    with torch.no_grad():
        for batch in islice(batches, SETTLING_BATCHES):
            model(*(tensor.to(device) for tensor in batch.inputs))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


def average_buffers(model: nn.Module, reduce_mean: Callable[[Tensor], Tensor]) -> None:
    """Give all workers the mean of their running statistics of batch normalisation."""
    buffers = [b for b in model.buffers() if b.is_floating_point()]
    if not buffers:
        return
    flat = torch.cat([b.detach().reshape(-1).double().cpu() for b in buffers])
    means = torch.split(reduce_mean(flat), [b.numel() for b in buffers])
    for buffer, mean in zip(buffers, means, strict=True):
        buffer.copy_(mean.reshape(buffer.shape))
