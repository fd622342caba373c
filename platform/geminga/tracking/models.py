"""Models as MLflow keeps them: an MLmodel file beside the files of the model, weights as they are.

MLflow's own torch flavour writes pickles or compiled programs. These models name
`geminga.tracking.flavour` as their loader instead, which reads safetensors and JSON alone.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import geminga
from geminga.config import Config
from geminga.files import write_json
from geminga.tracking.store import quiet

DATA = "data"
"""Folder of a model's own files beside its MLmodel file."""
NETWORK = "network"
"""Folder of a network's files in it, which MLflow's layout wants."""
DIGEST = "digest"
"""Tag of a model and its versions: `folder_digest` of its own files."""
FLAVOUR = "geminga"


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all files in a folder."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            one = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()} {one}\n".encode())
    return whole.hexdigest()


def _mlflow() -> Any:
    """Return MLflow's module of models, which takes seconds and warns of types of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        import mlflow.pyfunc
    return mlflow


@contextmanager
def network_model(weights: Path, config: Config) -> Iterator[tuple[Path, str]]:
    """Give a folder that holds a network as an MLflow model, and the digest of its files.

    Parameters
    ----------
    weights : Path
        Its checkpoint.
    config : Config
        The run's settings.
    """
    from geminga.tracking.flavour import CONFIG_FILE, load

    quiet()
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / NETWORK
        # Contents alone: weights are written for their owner only.
        data.mkdir()
        for path in weights.iterdir():
            shutil.copyfile(path, data / path.name)
        tree = config.model_dump(mode="json")
        tree.pop("run")  # the machine it ran on
        write_json(data / CONFIG_FILE, tree)
        model = load(data)
        example = model.example()
        digest = folder_digest(data)
        target = Path(temporary) / "model"
        mlflow = _mlflow()
        inputs, outputs = _schema(example), _schema(np.asarray(model.predict(example)))
        mlflow.pyfunc.save_model(
            target,
            loader_module="geminga.tracking.flavour",
            data_path=str(data),
            signature=mlflow.models.ModelSignature(inputs, outputs),
            input_example=example,
            pip_requirements=[f"geminga=={geminga.__version__}"],
            metadata={"config_hash": config.hash(), "name": config.name},
        )
        yield target, digest


@contextmanager
def folder_model(folder: Path, metadata: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Give a folder that holds a packaged model for ``geminga detect`` as an MLflow model.

    It takes files of photons, not arrays: it has no signature, and MLflow cannot call it.
    """
    quiet()
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "model"
        target.mkdir()
        shutil.copytree(folder, target / DATA)
        model = _mlflow().models.Model(metadata=metadata)
        model.add_flavor(FLAVOUR, version=geminga.__version__, data=DATA)
        model.save(str(target / "MLmodel"))
        yield target, folder_digest(folder)


def _schema(values: dict[str, np.ndarray] | np.ndarray) -> Any:
    types = _mlflow().types
    if isinstance(values, dict):
        specs = [types.TensorSpec(v.dtype, (-1, *v.shape[1:]), name) for name, v in values.items()]
    else:
        specs = [types.TensorSpec(values.dtype, (-1, *values.shape[1:]))]
    return types.Schema(specs)
