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
from torch.nn import functional

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


def sum_over_workers(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the workers of the process group."""
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total


class _Normalise(torch.autograd.Function):
    """Normalisation with statistics of all workers; the heavy passes are torch's own."""

    @staticmethod
    def forward(
        context: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        counts: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var = torch.batch_norm_update_stats(input, None, None, 0.0)
        mean, var = mean.double(), var.double()
        number = input.numel() // input.shape[1] if counts else 0
        own = torch.cat([mean, var + mean**2, mean.new_ones(1)])
        total = sum_over_workers(own * number)
        n, mean, square = total[-1], total[: len(mean)], total[len(mean) : -1]
        mean = mean / n
        var = (square / n - mean**2).clamp(min=0.0)
        used = [values.to(_statistics_type(input, weight)) for values in (mean, var)]
        # As if the statistics were given, which leaves nothing to add up.
        out = functional.batch_norm(input, used[0], used[1], weight, bias, False, 0.0, eps)
        context.save_for_backward(input, weight, *used, n)
        context.eps, context.counts = eps, counts
        context.mark_non_differentiable(mean, var, n)
        return out, mean, var, n

    @staticmethod
    def backward(
        context: Any, gradient: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        input, weight, mean, var, n = context.saved_tensors
        scale = torch.rsqrt(var + context.eps)
        # With given statistics; the sums of the gradient alone and times the normalised input.
        result, along, plain = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight, mean, var, None, None, False, context.eps, [True] * 3
        )
        if context.needs_input_grad[0]:
            total = sum_over_workers(torch.stack([plain, along]).double()) / n
            if context.counts:
                factor = scale.double() if weight is None else scale.double() * weight.double()
                slope = factor * scale.double() * total[1]
                offset = factor * total[0] - slope * mean.double()
                shape = [1, -1] + [1] * (input.dim() - 2)
                result.addcmul_(input, slope.to(input.dtype).view(shape), value=-1.0)
                result.sub_(offset.to(input.dtype).view(shape))
        has = weight is not None
        return result, along if has else None, plain if has else None, None, None


def _statistics_type(input: Tensor, weight: Tensor | None) -> torch.dtype:
    """Return the precision torch wants of statistics: that of the weights, if they are finer."""
    return input.dtype if weight is None else weight.dtype


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

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, channels, ...) over all axes but the second."""
        if not self.training:
            return super().forward(input)
        out, mean, var, n = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps, self.counts
        )
        self._follow(mean, var * n / (n - 1).clamp(min=1))
        normalised: Tensor = out
        return normalised

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
            # Its sums over the workers are not for the compiler, whose import takes a second: here
            # and not with a decorator.
            shared.forward = torch.compiler.disable(shared.forward)  # type: ignore[method-assign, no-untyped-call]
            setattr(model, name, shared.train(child.training))
        else:
            share_norms(child)
    return model


def count_records(model: nn.Module, batch: Batch) -> None:
    """Tell the shared normalisations whether the records of a batch count."""
    for module in model.modules():
        if isinstance(module, SharedNorm):
            module.counts = batch.records > 0
