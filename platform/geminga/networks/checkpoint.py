"""Saved networks: weights in safetensors, everything about them in model.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import geminga
from geminga import storage
from geminga.classes import with_fake
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import atomic, file_digest, read_json, write_json
from geminga.networks.build import build_classifier, build_miun, build_ranker
from geminga.networks.losses import Kind
from geminga.networks.miun import Miun
from geminga.networks.ranker import Ranker
from geminga.networks.source_cnn import SourceCnn

FORMAT_VERSION = 1
WEIGHTS, META = "weights.safetensors", "model.json"
FEATURES = "features"
"""Key of a ranker's extra: the names of its features, in order."""
_MANY: Kind = "evidence_net"
"""Several networks in a folder, read by their own reader."""
_RETRAIN = "train the network again"


def save_checkpoint(
    folder: Path, model: nn.Module, kind: Kind, config: Config, extra: dict[str, Any]
) -> None:
    """Write a network to a folder, which appears complete or not at all.

    Parameters
    ----------
    folder : Path
        Gets ``weights.safetensors`` and ``model.json``; an older one is replaced.
    model : Module
        The network; a distributed wrapper around it is taken off.
    kind : str
        ``miun``, ``ranker`` or ``classifier``.
    config : Config
        Configuration that built the network.
    extra : dict
        Anything JSON-like to keep with it, for example class priors or figures of the training.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    inner = getattr(model, "module", None)
    bare = inner if isinstance(inner, nn.Module) else model
    write_tensors(folder, bare.state_dict(), kind, config, _needs(config, kind), extra)


def write_tensors(
    folder: Path,
    state: Mapping[str, Tensor],
    kind: Kind,
    config: Config,
    needs: dict[str, Any],
    extra: dict[str, Any],
) -> None:
    """Write named tensors and what they were made for, as `save_checkpoint`.

    Parameters
    ----------
    needs : dict
        Settings they cannot do without, JSON-like, by their name in the configuration.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic(folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / WEIGHTS)
        meta = {
            "format_version": FORMAT_VERSION,
            "geminga_version": geminga.__version__,
            "kind": kind,
            "config_hash": config.hash(),
            "needs": needs,
            "weights_sha256": file_digest(temporary / WEIGHTS),
            "extra": extra,
        }
        write_json(temporary / META, meta)


def load_checkpoint(
    folder: Path, config: Config, kind: Kind | None = None
) -> tuple[Miun | Ranker | SourceCnn, dict[str, Any]]:
    """Read a network that fits a configuration.

    Parameters
    ----------
    folder : Path
        Folder written by `save_checkpoint`.
    config : Config
        Its bands, classes and network settings must be those of the network.
    kind : str, optional
        Refuse a network of the other kind.

    Returns
    -------
    model : Miun, Ranker or SourceCnn
        In evaluation mode.
    meta : dict
        Contents of ``model.json``; ``extra`` is what was given when saving.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another format version, or the network was made for
        other bands, classes or settings.
    """
    meta = _read_meta(folder / META)
    if meta["kind"] == _MANY or (kind is not None and meta["kind"] != kind):
        wanted = kind or "single network"
        raise InputError(str(folder), f"holds a {meta['kind']}", f"name the folder of a {wanted}")
    _compare(folder, meta["needs"], _needs(config, meta["kind"]))
    model = _build(config, meta)
    fill_network(model, read_weights(folder, meta), folder)
    return model.to(memory_format=torch.channels_last), meta  # type: ignore[call-overload]


def read_tensors(
    folder: Path, kind: Kind, needs: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote: the tensors, and the contents of ``model.json``.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another format version, kind, or made for other `needs`.
    """
    meta = _read_meta(folder / META)
    if meta["kind"] != kind:
        raise InputError(str(folder), f"holds a {meta['kind']}", f"name the folder of a {kind}")
    _compare(folder, meta["needs"], needs)
    return read_weights(folder, meta), meta


def read_weights(folder: Path, meta: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a folder whose ``model.json`` is `meta`.

    Raises
    ------
    InputError
        If they are missing, damaged or not those described.
    """
    path = folder / WEIGHTS
    try:
        if file_digest(storage.here(path)) != meta["weights_sha256"]:
            raise InputError(str(path), f"is not the file that {META} describes", _RETRAIN)
        return dict(load_file(path))
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", _RETRAIN) from error
    except safetensors.SafetensorError as error:
        line = str(error).splitlines()[0]
        raise InputError(str(path), f"does not hold this network ({line})", _RETRAIN) from error


def fill_network(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    """Give a network its weights, in evaluation mode.

    Raises
    ------
    InputError
        If they are of another network; `folder` is where they came from.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        line = str(error).splitlines()[0]
        where = str(folder / WEIGHTS)
        raise InputError(where, f"does not hold this network ({line})", _RETRAIN) from error
    model.eval()


def _build(config: Config, meta: dict[str, Any]) -> Miun | Ranker | SourceCnn:
    if meta["kind"] == "ranker":
        return build_ranker(config, len(meta["extra"][FEATURES]))
    return build_miun(config) if meta["kind"] == "miun" else build_classifier(config)


def _read_meta(path: Path) -> dict[str, Any]:
    meta = read_json(path)
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(
            str(path),
            f"format version {version}, this geminga reads {FORMAT_VERSION}",
            "train the network again",
        )
    keys = {"needs", "weights_sha256", "extra"}
    if meta.get("kind") not in get_args(Kind) or not keys <= set(meta):
        raise InputError(str(path), "does not describe a network", "train the network again")
    return dict(meta)


def _needs(config: Config, kind: str) -> dict[str, Any]:
    """Return the settings a network cannot do without, by their name in the configuration."""
    channels = [c.model_dump(mode="json") for c in config.channels]
    if kind == "miun":
        return {
            "channels": channels,
            "patches.size_deg": config.patches.size_deg,
            **{f"miun.{key}": value for key, value in config.miun.model_dump(mode="json").items()},
        }
    if kind == "ranker":
        parts = {"likelihood": config.likelihood, "ranker": config.ranker}
        dumped = {name: part.model_dump(mode="json") for name, part in parts.items()}
        return {
            "channels": channels,
            "patches.size_deg": config.patches.size_deg,
            **{f"{name}.{key}": v for name, part in dumped.items() for key, v in part.items()},
        }
    settings = config.classifier
    return {
        "channels": channels,
        "classes": list(with_fake(config.classes)),
        "sky.years": config.sky.years,
        "classifier.width": settings.width,
        "classifier.dense": list(settings.dense),
        "classifier.input_scaling": settings.input_scaling,
        **{f"images.{key}": value for key, value in config.images.model_dump(mode="json").items()},
    }


def _compare(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in [*wanted, *(k for k in saved if k not in wanted)]:
        if saved.get(key) != wanted.get(key):
            raise InputError(
                str(folder),
                f"was made for {key} {_text(saved.get(key))}, "
                f"the configuration has {_text(wanted.get(key))}",
                "use the configuration it was trained with or train again",
            )


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        bands = (
            f"{b.get('emin_gev')}-{b.get('emax_gev')} GeV ({b.get('pixels')} px, "
            f"nside {b.get('nside')})"
            for b in value
        )
        return ", ".join(bands)
    return str(value)
