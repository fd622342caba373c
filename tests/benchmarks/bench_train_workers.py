"""Training with one and two workers, patches drawn beside them or not, against the plain loop.

Run ``RAY_worker_niceness=0 OMP_NUM_THREADS=1 python tests/benchmarks/bench_train_workers.py``. The
patches are made up: what is measured is not learnt from. Every worker has one thread. An epoch's
seconds are those of the fastest epoch but the first, so that whoever else uses the machine counts
little; ``whole`` is everything from the call to the result. ``--compile`` compares the plain loop
with and without compilation, and leaves Ray out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from geminga.config import Config, load_config
from geminga.distributed.ingredients import ingredients
from geminga.distributed.session import close_ray, ray_session
from geminga.distributed.stream import streamed
from geminga.distributed.train import train_network
from geminga.networks.losses import METRICS
from geminga.patches.quantise import quantised
from geminga.patches.records import image_columns
from geminga.patches.store import write_records
from geminga.training.batches import Batch
from geminga.training.loop import fit
from geminga.training.patches import PatchReader

PER_GROUP = 16


@dataclass(frozen=True)
class Row:
    """One way to train."""

    name: str
    settings: dict[str, object]
    plain: bool = False


RAY_ROWS = [
    Row("plain loop", {}, plain=True),
    Row("Ray Train, 1 worker", {}),
    Row("Ray Train, 2 workers", {"workers": 2}),
    Row("Ray Train, 1 worker, 1 loader", {"loader_workers": 1}),
]
PLAIN_ROWS = [
    Row("plain loop", {}, plain=True),
    Row("plain loop, compiled", {"compile": True}, plain=True),
]


def write_patches(path: Path, config: Config, count: int, seed: int) -> Path:
    """Write made-up patches: disks on a background of one photon a pixel."""
    rng = np.random.default_rng(seed)
    top = max(c.pixels for c in config.channels)
    groups = []
    for first in range(0, count, PER_GROUP):
        number = np.arange(first, first + PER_GROUP)
        target = np.zeros((PER_GROUP, top, top), dtype=np.uint8)
        for mask in target:
            for row, column in rng.integers(6, top - 6, (8, 2)):
                mask[row - 4 : row + 5, column - 4 : column + 5] = 1
        group = {
            "sky_id": np.full(PER_GROUP, seed),
            "patch_id": number,
            "frame": np.zeros((PER_GROUP, 3, 3)),
            "target": target,
        }
        for name, channel in zip(image_columns(config.channels), config.channels, strict=True):
            step = top // channel.pixels
            rough = target[:, ::step, ::step].astype(np.float32)
            group[name] = quantised(rng.gamma(2.0, 0.5, rough.shape).astype(np.float32) + rough)
        groups.append(group)
    write_records(path, groups)
    return path


def with_settings(config: Config, **settings: object) -> Config:
    """Return a configuration with other settings of MIUN's training."""
    tree = config.model_dump()
    tree["miun_training"] |= settings
    return Config.model_validate(tree)


def train_plain(config: Config, train: list[Path], valid: list[Path]) -> list[dict[str, float]]:
    """Train in this process, without Ray."""
    torch.set_num_threads(1)
    parts = ingredients("miun", config, train, valid)
    return fit(
        parts.model, parts.train, parts.valid, config.miun_training, loss=parts.loss,
        metrics=METRICS["miun"], seed=parts.seed,
    ).history  # fmt: skip


def rate(batches: Callable[[], Iterable[Batch]]) -> float:
    """Return how many patches a second are drawn when nobody trains."""
    start = time.perf_counter()
    count = sum(batch.records for batch in batches())
    return count / (time.perf_counter() - start)


def measure(
    rows: list[Row], config: Config, train: list[Path], valid: list[Path], folder: Path
) -> None:
    """Train in every way and print a line for each."""
    first: list[dict[str, float]] = []
    print(f"{'':32}{'s/epoch':>9}{'ratio':>7}{'whole s':>9}  greatest difference of a loss")
    for number, row in enumerate(rows):
        chosen = with_settings(config, **row.settings)
        start = time.perf_counter()
        if row.plain:
            history = train_plain(chosen, train, valid)
        else:
            place = folder / str(number)
            history = train_network("miun", chosen, train, valid, place).history
        whole = time.perf_counter() - start
        first = first or history
        seconds = [min(r["seconds"] for r in h[1:]) for h in (first, history)]
        apart = max(
            abs(mine[name] / other[name] - 1.0)
            for mine, other in zip(history, first, strict=True)
            for name in ("train_loss", "valid_loss")
        )
        print(
            f"{row.name:32}{seconds[1]:9.2f}{seconds[0] / seconds[1]:7.2f}{whole:9.1f}  {apart:.1e}"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/demo.yaml"))
    parser.add_argument("--patches", type=int, default=128)
    parser.add_argument("--drawn", type=int, default=2048, help="patches drawn without training")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    config = with_settings(
        load_config(options.config), batch_size=options.batch_size, epochs=options.epochs, threads=1
    )
    with tempfile.TemporaryDirectory(prefix="bench_train_") as place:
        folder = Path(place)
        train = [
            write_patches(folder / f"{n}.parquet", config, options.patches // 4, n)
            for n in range(4)
        ]
        valid = [write_patches(folder / "valid.parquet", config, PER_GROUP, 9)]
        if options.compile:
            measure(PLAIN_ROWS, config, train, valid, folder)
            return
        try:
            with ray_session(2):
                measure(RAY_ROWS, config, train, valid, folder)
                many = [
                    write_patches(folder / f"drawn_{n}.parquet", config, options.drawn // 8, n)
                    for n in range(8)
                ]
                drawn = PatchReader(many, with_settings(config, loader_workers=2))
                thread = rate(lambda: drawn.train(0))
                rate(lambda: streamed(drawn, 0))
                stream = rate(lambda: streamed(drawn, 1))
            print(f"drawn in a thread {thread:.0f} patches/s, by 2 tasks {stream:.0f} patches/s")
        finally:
            close_ray()


if __name__ == "__main__":
    main()
