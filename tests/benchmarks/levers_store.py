"""Where the benchmarks of levers keep their runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import mlflow


def open_store(out: Path, name: str) -> None:
    """Point MLflow to a store in a folder, and to an experiment of a name."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{out.resolve() / 'mlflow.db'}")
    if mlflow.get_experiment_by_name(name) is None:
        mlflow.create_experiment(name, (out.resolve() / "mlartifacts").as_uri())
    mlflow.set_experiment(name)
