"""Skies streamed through generation and patching: rate of one and two workers, memory, cost.

Run ``python tests/benchmarks/bench_streaming.py --config jobs/configs/demo.yaml --skies 4``. The
numbers of workers take turns, so that whoever else uses the machine slows them alike; the rate is
that of the median round. Memory is the resident set of the largest worker, shared pages included.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geminga.config import Config, load_config
from geminga.distributed.session import close_ray, ray_session
from geminga.distributed.simulate import PatchWriter, SkyWriter
from geminga.distributed.work import run_pieces
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts

SET, CORES = 335, 100
EMPTY_PIECES = 100
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """One pass over some skies."""

    workers: int
    seconds: float
    core_seconds: float
    peak_worker: float
    peak_driver: float
    bytes_a_sky: float


class Nothing:
    """A worker that does nothing: what is left is the cost of sharing pieces."""

    def __call__(self, piece: Mapping[str, int | float | str]) -> dict[str, int]:
        return {"number": int(piece["number"])}


class Memory(threading.Thread):
    """Watches the resident sets of the worker processes and of this one, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.worker = self.driver = 0.0
        self.over = False

    def run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self.over:
            for pid in [*worker_processes(), os.getpid()]:
                try:
                    rss = page * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except OSError:
                    continue
                if pid == os.getpid():
                    self.driver = max(self.driver, rss)
                else:
                    self.worker = max(self.worker, rss)
            time.sleep(0.1)


def worker_processes() -> list[int]:
    """Return the process numbers of this run's Ray workers."""
    parents = {}
    names = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            names[int(path.name)] = (path / "cmdline").read_bytes()
            stat = (path / "stat").read_text().rpartition(")")[2].split()
            parents[int(path.name)] = int(stat[1])
        except OSError:
            continue
    mine = []
    for pid, name in names.items():
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and name.startswith(b"ray::") and b"IDLE_Spill" not in name:
            mine.append(pid)
    return mine


def core_seconds() -> float:
    """Return the processor time the worker processes have used so far."""
    total = 0.0
    for pid in worker_processes():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(stat[11]) + int(stat[12])) / TICKS
    return total


def one_round(config: Config, diffuse: str, skies: int, workers: int) -> Round:
    """Generate and cut some skies; every process has done one before."""
    text = config.model_dump_json()
    folder = Path(tempfile.mkdtemp(prefix="bench_streaming_"))
    arguments = (text, diffuse, str(folder / "skies"))
    try:
        memory = Memory()
        with ray_session():
            for first, count in ((skies, workers), (0, skies)):
                pieces = [{"sky_id": sky_id(Split.TRAIN, first + n)} for n in range(count)]
                if first == 0:
                    memory.start()
                start, used = time.monotonic(), core_seconds()
                run_pieces(SkyWriter, arguments, pieces, workers, "skies", "sky")
                run_pieces(
                    PatchWriter, (*arguments, str(folder / "patches")), pieces, workers,
                    "patches", "sky",
                )  # fmt: skip
        seconds, used = time.monotonic() - start, core_seconds() - used
        memory.over = True
        memory.join()
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        return Round(workers, seconds, used, memory.worker, memory.driver, size / (skies + workers))
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--skies", type=int, default=4, help="skies a round")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = load_config(options.config)
    folder = Path(tempfile.mkdtemp(prefix="bench_streaming_"))
    diffuse = str(folder / "diffuse.npz")
    rounds: list[Round] = []
    try:
        start = time.monotonic()
        diffuse_counts(config, build_response(config)).save(Path(diffuse))
        response_seconds = time.monotonic() - start
        start = time.monotonic()
        with ray_session(max(options.workers)):
            # The first piece of a process pays for its imports and its response.
            first = [{"sky_id": sky_id(Split.TRAIN, 0)}]
            arguments = (config.model_dump_json(), diffuse, str(folder / "first"))
            run_pieces(SkyWriter, arguments, first, 1, "first", "sky")
        startup = time.monotonic() - start
        empty = [{"number": n} for n in range(EMPTY_PIECES)]
        with ray_session():
            run_pieces(Nothing, (), empty, 1, "empty", "piece")
            start = time.monotonic()
            run_pieces(Nothing, (), empty, max(options.workers), "empty", "piece")
            sharing = (time.monotonic() - start) / EMPTY_PIECES
        for turn in range(options.rounds):
            order = options.workers if turn % 2 == 0 else options.workers[::-1]
            rounds += [one_round(config, diffuse, options.skies, w) for w in order]
    finally:
        close_ray()
        shutil.rmtree(folder)
    show(rounds, options.workers, options.skies, response_seconds, startup, sharing)


def show(
    rounds: list[Round],
    workers: list[int],
    skies: int,
    response_seconds: float,
    startup: float,
    sharing: float,
) -> None:
    """Print the table and the figure for the whole set."""
    middle = {w: statistics.median(r.seconds for r in rounds if r.workers == w) for w in workers}
    print(
        f"{'skies':>6}{'workers':>9}{'seconds':>9}{'(all rounds)':>22}{'skies/min':>11}"
        f"{'ratio':>7}{'GB/worker':>11}{'GB driver':>11}{'MB/sky':>8}{'core s/sky':>12}"
    )
    for w in workers:
        mine = [r for r in rounds if r.workers == w]
        times = " ".join(f"{r.seconds:.1f}" for r in mine)
        print(
            f"{skies:6d}{w:9d}{middle[w]:9.1f}{times:>22}{60 * skies / middle[w]:11.1f}"
            f"{middle[workers[0]] / middle[w]:7.2f}"
            f"{max(r.peak_worker for r in mine) / 1e9:11.2f}"
            f"{max(r.peak_driver for r in mine) / 1e9:11.2f}"
            f"{mine[0].bytes_a_sky / 1e6:8.1f}"
            f"{statistics.median(r.core_seconds for r in mine) / skies:12.2f}"
        )
    most = max(workers)
    wall = middle[most] * most / skies
    core = statistics.median(r.core_seconds for r in rounds if r.workers == most) / skies
    turns = math.ceil(SET / CORES)
    # Two stages hand out every piece once; the driver does that one after another.
    total = response_seconds + startup + max(turns * wall, 2 * sharing * SET)
    print(
        f"response and diffuse maps {response_seconds:.1f} s, Ray and the first sky "
        f"{startup:.1f} s, handing out a piece {1e3 * sharing:.0f} ms"
    )
    size = rounds[0].bytes_a_sky * SET / 1e9
    print(
        f"{SET} skies on {CORES} cores: {turns} turns of {wall:.1f} s and start-up: {total:.0f} s; "
        f"{core * SET / 3600:.2f} core hours, {size:.1f} GB"
    )


if __name__ == "__main__":
    main()
