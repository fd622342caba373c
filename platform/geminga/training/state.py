"""The state of a training: everything needed to go on where it stopped.

A folder of two files: tensors in safetensors, everything else in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from geminga.errors import InputError, StorageError
from geminga.files import atomic, file_digest, read_json, write_json

FORMAT_VERSION = 2
TENSORS, META = "state.safetensors", "state.json"
_OLD_FILE = "state.pt"
"""What format version 1 was."""
_REMEDY = "remove it to train from the start"
_INFINITE = "infinite"
"""Stands for a number JSON has no sign for: the best loss before there is one."""


@dataclass
class TrainState:
    """State after a number of finished epochs and of steps of the next one.

    Random numbers need no state: their streams are named by seed, epoch, step and worker.

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
    step : int
        Batches done of the epoch that follows: where to go on in its order.
    sums : list of (float, float)
        Sums of the loss and of the records over these batches, for each worker.
    """

    epoch: int
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    scheduler: dict[str, Any]
    best_epoch: int
    best_loss: float
    best_model: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    sums: list[tuple[float, float]] = field(default_factory=list)


def save_state(folder: Path, state: TrainState) -> None:
    """Write a state to a folder, which appears complete or not at all.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    moments = state.optimiser.get("state", {})
    tensors = {
        **{f"model/{name}": tensor for name, tensor in state.model.items()},
        **{f"best/{name}": tensor for name, tensor in state.best_model.items()},
        **{
            f"optimiser/{number}/{name}": tensor
            for number, values in moments.items()
            for name, tensor in values.items()
        },
    }
    with atomic(folder) as temporary:
        temporary.mkdir()
        # Copies: the network of the best epoch may be that of the last one, memory and all.
        own = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        save_file({name: t.contiguous() for name, t in own.items()}, temporary / TENSORS)
        meta = {
            "format_version": FORMAT_VERSION,
            "tensors_sha256": file_digest(temporary / TENSORS),
            "epoch": state.epoch,
            "step": state.step,
            "sums": state.sums,
            "best_epoch": state.best_epoch,
            "best_loss": state.best_loss,
            "history": state.history,
            "optimiser_groups": state.optimiser.get("param_groups", []),
            "scheduler": state.scheduler,
        }
        write_json(temporary / META, _plain(meta))


def load_state(folder: Path) -> TrainState:
    """Read a state; there is no code in it.

    Raises
    ------
    InputError
        If it is missing, damaged or of another format version.
    """
    meta = _read_meta(folder)
    path = folder / TENSORS
    try:
        if file_digest(path) != meta["tensors_sha256"]:
            raise InputError(str(path), f"is not the file that {META} describes", _REMEDY)
        tensors = load_file(path)
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", _REMEDY) from error
    except safetensors.SafetensorError as error:
        raise _no_state(path, str(error).splitlines()[0]) from error
    try:
        return _state(meta, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise _no_state(folder / META, f"{type(error).__name__} {error}") from error


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    if (folder / _OLD_FILE).is_file() and not path.is_file():
        meta: Any = {"format_version": 1}
    else:
        try:
            meta = read_json(path)
        except StorageError:
            raise  # the state may be whole
        except InputError as error:
            raise InputError(error.where, error.problem, _REMEDY) from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            str(folder), f"format version {version}, this geminga reads {FORMAT_VERSION}", _REMEDY
        )
    if "tensors_sha256" not in meta:
        raise _no_state(path, "no tensors_sha256")
    plain: dict[str, Any] = _unplain(meta)
    return plain


def _state(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainState:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser/"):
            _, number, key = name.split("/", 2)
            moments.setdefault(int(number), {})[key] = tensor
    groups = [{**group, "betas": tuple(group["betas"])} for group in meta["optimiser_groups"]]
    return TrainState(
        epoch=int(meta["epoch"]),
        model=_part(tensors, "model/"),
        optimiser={"state": dict(sorted(moments.items())), "param_groups": groups},
        scheduler=dict(meta["scheduler"]),
        best_epoch=int(meta["best_epoch"]),
        best_loss=float(meta["best_loss"]),
        best_model=_part(tensors, "best/"),
        history=[dict(row) for row in meta["history"]],
        step=int(meta["step"]),
        sums=[(float(total), float(records)) for total, records in meta["sums"]],
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _no_state(path: Path, why: str) -> InputError:
    return InputError(str(path), f"is not a training state ({why})", _REMEDY)


def _plain(tree: Any) -> Any:
    """Return a tree with words for infinite numbers."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return _INFINITE if isinstance(tree, float) and tree == math.inf else tree


def _unplain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _unplain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_unplain(value) for value in tree]
    return math.inf if tree == _INFINITE else tree
