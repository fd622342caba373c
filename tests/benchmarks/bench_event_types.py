"""Which event types, added or apart? Expected TS of the same sources with each choice.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_event_types.py [--out FOLDER]``: a table, and
with --out an MLflow run of each choice. What costs time in a search is the number of channels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlflow
import numpy as np
from levers_store import open_store

from geminga.arrays import Float64
from geminga.config import Config, load_config
from geminga.likelihood.expected_ts import expected_ts
from geminga.patches.grid import grid_for_sky
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky

CHOICES = (
    "[FRONT]",
    "[FRONT+BACK]",
    "[FRONT, BACK]",
    "[PSF0, PSF1, PSF2, PSF3]",
    "[PSF1, PSF2, PSF3]",
)
SETTINGS = ("sky.least_ts=null", "sky.depth=null", "sky.interstellar=builtin")
"""The same sources whatever the photons: none is left out for its TS."""


def source_ts(config: Config) -> Float64:
    """Return the expected TS of every source of the first validation sky."""
    response = build_response(config)
    diffuse = diffuse_counts(config, response)
    number = sky_id(Split.VALID, 0)
    population = load_population(config.sky.population)
    sky = simulate_sky(config, response, population, diffuse, number)
    return expected_ts(sky, grid_for_sky(config, number))


def main() -> None:
    """Print a row for each choice of event types."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/front.yaml"))
    parser.add_argument("--out", type=Path, help="folder of the MLflow store")
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    asked = parser.parse_args()
    if asked.out is not None:
        open_store(asked.out, "event types")
    first: Float64 | None = None
    print(
        "| event types | channels | sources | TS > 25 | TS > 16 | TS over Front's |\n"
        + "|---" * 6
        + "|"
    )
    for choice in CHOICES:
        overrides = [*SETTINGS, *asked.overrides, f"response.event_types={choice}"]
        config = load_config(asked.config, overrides)
        ts = source_ts(config)
        first = ts if first is None else first
        seen = first > 15.0
        figures = {
            "sources": float(len(ts)),
            "ts_above_25": float((ts > 25.0).sum()),
            "ts_above_16": float((ts > 16.0).sum()),
            "median_ts_ratio": float(np.median(ts[seen] / first[seen])),
        }
        print(
            f"| {choice.strip('[]')} | {len(config.channels)} | {len(ts)} "
            f"| {figures['ts_above_25']:.0f} | {figures['ts_above_16']:.0f} "
            f"| {figures['median_ts_ratio']:.2f} |",
            flush=True,
        )
        if asked.out is not None:
            with mlflow.start_run(run_name=choice):
                mlflow.log_params({"event_types": choice, "seed": config.seed})
                mlflow.log_metrics(figures)


if __name__ == "__main__":
    main()
