"""Running statistics of batch normalisation.

The running averages a network gathers in training follow its last few batches, which may all lie on
the Galactic plane, and weights that have changed since. Evaluated with them its loss jumps from
epoch to epoch; it does not once they are measured anew for the weights as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

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
        Those of this worker, if there are several with a `SharedNorm`. The first `SETTLING_BATCHES` are used.
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
            count_records(model, batch)
            # Not compiled: the plain mean over the batches is one more graph, for a few steps.
            model.forward(*(tensor.to(device) for tensor in batch.inputs))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


class _SumOverWorkers(torch.autograd.Function):
    """Sum of a tensor over the workers, with the gradient that belongs to it."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


class SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation with the statistics of the whole batch, of which workers have parts.

    With the statistics of its own part alone each worker would train another network, and the more
    so the more workers share a batch. ``torch.nn.SyncBatchNorm`` needs GPUs; this needs a process
    group of any kind.

    Attributes
    ----------
    counts : bool
        This worker's records count.
    """

    counts = True

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected records and channels, got {input.dim()} dimensions")

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, channels, ...) over all axes but the second."""
        if not self.training:
            return super().forward(input)
        channels = input.shape[1]
        axes = [axis for axis in range(input.dim()) if axis != 1]
        values = input.float()
        var, mean = torch.var_mean(values, axes, correction=0)
        mean, var = mean.double(), var.double()
        own = torch.cat([mean, var + mean**2, mean.new_ones(1)])
        number = input.numel() // channels if self.counts else 0
        total: Tensor = _SumOverWorkers.apply(own * number)  # type: ignore[no-untyped-call]
        n, mean, square = total[-1], total[:channels], total[channels:-1]
        mean = mean / n
        var = (square / n - mean**2).clamp(min=0.0)
        self._follow(mean.detach(), (var * n / (n - 1).clamp(min=1)).detach())
        shape = [1, channels] + [1] * (input.dim() - 2)
        scale = torch.rsqrt(var + self.eps)
        out = (values - mean.float().view(shape)) * scale.float().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        if self.running_mean is None or self.running_var is None:
            return
        with torch.no_grad():
            rate = self.momentum
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
                if rate is None:
                    rate = 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate or 0.0)
            self.running_var.lerp_(var.to(self.running_var.dtype), rate or 0.0)


def share_norms(model: nn.Module) -> nn.Module:
    """Put a `SharedNorm` in place of every batch normalisation in a network; return the network.

    Parameters and statistics are those it had, under the same names.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            shared = SharedNorm(
                child.num_features,
                eps=child.eps,
                momentum=child.momentum,
                affine=child.affine,
                track_running_stats=child.track_running_stats,
            )
            shared._parameters.update(child._parameters)
            shared._buffers.update(child._buffers)
            setattr(model, name, shared.train(child.training))
        else:
            share_norms(child)
    return model


def count_records(model: nn.Module, batch: Batch) -> None:
    """Tell the shared normalisations whether the records of a batch count."""
    for module in model.modules():
        if isinstance(module, SharedNorm):
            module.counts = batch.records > 0
