"""Models of MLflow's registry for ``geminga detect``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geminga.errors import InputError
from geminga.pipeline.aliases import CANDIDATE, CHAMPION, DETECTOR

_ALIASES = (CHAMPION, CANDIDATE)
_NUMBER = re.compile(rf"models:/{DETECTOR}/([0-9]+)")


def is_registered(model: str | None) -> bool:
    """Return whether a model is asked of the registry: by an alias, or as ``models:/...``."""
    return model is not None and (model in _ALIASES or model.startswith("models:/"))


@contextmanager
def given_model(model: str | None, tracking_uri: str | None) -> Iterator[str | None]:
    """Give what ``detect --model`` takes: a model of the registry as a folder, others as they are.

    Parameters
    ----------
    model : str, optional
        ``champion``, ``candidate``, ``models:/detector/NUMBER``, or anything else.
    tracking_uri : str, optional
        Address of the MLflow store; MLFLOW_TRACKING_URI if not given.

    Raises
    ------
    InputError
        If there is no such version, its files are not those registered, or the store cannot be
        asked.
    """
    if model is None or not is_registered(model):
        if tracking_uri is not None:
            raise InputError(
                "--tracking-uri", "has no meaning without a registered model",
                f"say --model {CHAMPION}, or leave it out",
            )  # fmt: skip
        yield model
        return
    # MLflow takes seconds, which other models do not need.
    from geminga.tracking.registry import Registry

    registry = Registry(tracking_uri)
    number = _NUMBER.fullmatch(model)
    if number is not None:
        version = registry.numbered(DETECTOR, number[1])
    else:
        version = registry.by_alias(DETECTOR, model.removeprefix(f"models:/{DETECTOR}@"))
    if version is None:
        raise InputError(
            "--model",
            f"{registry.uri} has no {DETECTOR} {model!r}",
            "run the pipeline with run.register_models, then 'geminga promote'; or use champion, "
            f"candidate, models:/{DETECTOR}/NUMBER",
        )
    with registry.files(version) as folder:
        yield str(Path(folder))
