"""What Ray costs: every stage's pieces through it against a loop over them in one process.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_engine.py [--skies 6] [--rounds 3]``. Each
stage does the same pieces three times a round, in turn: in a plain loop, through Ray with one
worker, and with two. Overhead is the time of one worker over that of the loop, less one; both of
a round, so that whoever else uses the machine slows them alike; the median of the rounds is shown.
Processes have done a piece before. The load of the machine stands beside the figures.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from geminga.config import Config, load_config
from geminga.distributed.evidence import EvidenceWriter
from geminga.distributed.likelihood import LikelihoodSearcher
from geminga.distributed.search import Observer
from geminga.distributed.session import close_ray, ray_session
from geminga.distributed.simulate import PatchWriter, SkyWriter, patch_pieces
from geminga.distributed.work import one_thread, run_pieces
from geminga.files import read_parquet, write_parquet
from geminga.likelihood.sky_list import sky_list
from geminga.patches.grid import grid_for_sky
from geminga.pipeline.likelihood import candidates_of
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts, reference_config

STAGES = ("skies", "patches", "observe", "search", "evidence")


@dataclass(frozen=True)
class Stage:
    """A worker, the arguments it is made with for a folder of results, and its pieces."""

    name: str
    worker: Any
    arguments: Callable[[str], tuple[Any, ...]]
    pieces: list[dict[str, Any]]


def stages(config: Config, folder: Path, skies: int) -> Iterator[Stage]:
    """Give the stages in order; each needs what the one before left in its folder."""
    text, diffuse = config.model_dump_json(), str(folder / "diffuse.npz")
    reference = str(folder / "reference.npz")
    response = build_response(config)
    diffuse_counts(config, response).save(Path(diffuse))
    diffuse_counts(reference_config(config), response).save(Path(reference))
    numbers = [sky_id(Split.TRAIN, n) for n in range(skies)]
    each: list[dict[str, Any]] = [{"sky_id": n} for n in numbers]
    made = {name: str(folder / name) for name in STAGES}
    yield Stage("skies", SkyWriter, lambda to: (text, diffuse, to), each)
    yield Stage("patches", PatchWriter, lambda to: (text, diffuse, made["skies"], to), each)
    yield Stage("observe", Observer, lambda to: (text, diffuse, made["skies"], to, True), each)
    groups = patch_pieces(Path(made["observe"]), numbers)
    thresholds = config.likelihood.search_thresholds
    yield Stage(
        "search",
        LikelihoodSearcher,
        lambda to: (text, reference, to, thresholds[:-1], "", None),
        groups,
    )
    measured = []
    for number in numbers:
        tables = [
            read_parquet(path)
            for path in sorted(Path(made["search"]).glob(f"patches_{number:07d}_*.parquet"))
        ]
        found = sky_list(pd.concat(tables, ignore_index=True), grid_for_sky(config, number))
        target = folder / f"candidates_{number}.parquet"
        write_parquet(target, candidates_of(found, config, number))
        measured.append({"sky_id": number, "candidates": str(target), "photons": "", "kind": ""})
    yield Stage(
        "evidence",
        EvidenceWriter,
        lambda to: (text, diffuse, made["skies"], to, 10.0),
        measured,
    )


def loop(stage: Stage, folder: str) -> float:
    """Return the seconds of the pieces in this process."""
    start = time.monotonic()
    with one_thread():
        work = stage.worker(*stage.arguments(folder))
        for piece in stage.pieces:
            work(piece)
    return time.monotonic() - start


def spread(stage: Stage, folder: str, workers: int) -> float:
    """Return the seconds of the pieces through Ray."""
    start = time.monotonic()
    with ray_session():
        run_pieces(
            stage.worker, stage.arguments(folder), stage.pieces, workers, stage.name, "piece"
        )
    return time.monotonic() - start


def measure(stage: Stage, folder: Path, rounds: int) -> list[tuple[float, float, float]]:
    """Return seconds of the loop, of one worker and of two, for each round."""
    # The first piece of a process pays for imports and tables.
    loop(stage, str(folder / stage.name))
    spread(stage, str(folder / "warm"), 2)
    shutil.rmtree(folder / "warm")
    found = []
    for turn in range(rounds):
        ways = [
            lambda: loop(stage, str(folder / "r0")),
            lambda: spread(stage, str(folder / "r1"), 1),
            lambda: spread(stage, str(folder / "r2"), 2),
        ]
        seconds = [0.0, 0.0, 0.0]
        for index in (0, 1, 2) if turn % 2 == 0 else (2, 1, 0):
            seconds[index] = ways[index]()
        found.append((seconds[0], seconds[1], seconds[2]))
        for name in ("r0", "r1", "r2"):
            shutil.rmtree(folder / name)
    return found


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/tiny.yaml"))
    parser.add_argument("--skies", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args()
    config = load_config(options.config)
    folder = Path(tempfile.mkdtemp(prefix="bench_engine_"))
    lines = []
    try:
        with ray_session(2):
            pass
        for stage in stages(config, folder, options.skies):
            if len(lines) == len(options.stages):
                break
            if stage.name not in options.stages:
                loop(stage, str(folder / stage.name))
                continue
            found = measure(stage, folder, options.rounds)
            over = statistics.median(one / plain - 1 for plain, one, _ in found)
            each = statistics.median(plain for plain, _, _ in found) / len(stage.pieces)
            gain = statistics.median(one / two for _, one, two in found)
            against = statistics.median(plain / two for plain, _, two in found)
            lines.append(
                f"{stage.name:10s}{len(stage.pieces):8d}{each:12.3f}{100 * over:12.1f}"
                f"{gain:14.2f}{against:14.2f}{os.getloadavg()[0]:8.1f}"
            )
    finally:
        close_ray()
        shutil.rmtree(folder)
    print(
        f"{'stage':10s}{'pieces':>8s}{'s a piece':>12s}{'overhead %':>12s}"
        f"{'1 / 2 workers':>14s}{'loop / 2':>14s}{'load':>8s}"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
