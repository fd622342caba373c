"""Training of any network on any iterable of batches; plain torch."""

from __future__ import annotations

from geminga.training.batches import Batch, draw_counts, patch_batch
from geminga.training.loop import EpochReport, FitResult, fit
from geminga.training.state import TrainState, load_state, save_state

__all__ = [
    "Batch",
    "EpochReport",
    "FitResult",
    "TrainState",
    "draw_counts",
    "fit",
    "load_state",
    "patch_batch",
    "save_state",
]
