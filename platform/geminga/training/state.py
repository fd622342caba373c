"""The state of a training: everything needed to go on where it stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geminga.errors import InputError
from geminga.files import atomic

FORMAT_VERSION = 1


@dataclass
class TrainState:
    """State after a number of finished epochs.

    Attributes
    ----------
    epoch : int
        Epochs finished.
    model, optimiser, scheduler : dict
        Their state dictionaries.
    best_epoch : int
        Epoch with the lowest validation loss, counted from 1; 0 before the first.
    best_loss : float
        That loss.
    best_model : dict
        The network of that epoch.
    history : list of dict
        Numbers of every epoch, see `EpochReport.numbers`.
    """

    epoch: int
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    scheduler: dict[str, Any]
    best_epoch: int
    best_loss: float
    best_model: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)


def save_state(path: Path, state: TrainState) -> None:
    """Write a state to a file that holds tensors and plain values only."""
    tree = {"format_version": FORMAT_VERSION, **_shallow(state)}
    with atomic(path) as temporary:
        torch.save(tree, temporary)


def load_state(path: Path) -> TrainState:
    """Read a state; no code in the file is run.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another format version.
    """
    remedy = "remove it to train from the start"
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", remedy) from error
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(str(path), f"is not a training state ({line})", remedy) from error
    version = tree.pop("format_version", None) if isinstance(tree, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            str(path), f"format version {version}, this geminga reads {FORMAT_VERSION}", remedy
        )
    missing = TrainState.__dataclass_fields__.keys() - tree.keys()
    if missing:
        raise InputError(
            str(path), f"is not a training state (no {', '.join(sorted(missing))})", remedy
        )
    return TrainState(**{name: tree[name] for name in TrainState.__dataclass_fields__})


def _shallow(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__dataclass_fields__}
