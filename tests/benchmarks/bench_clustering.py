"""Time of the searches on simulated network output of one whole sky, on one core.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_clustering.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from geminga.config import LocalisationConfig
from geminga.localisation import disk_kernel_scores, find_sources, kmeans_sources, stitch
from geminga.patches.grid import make_grid

PIXELS, SIZE_DEG, SOURCES_PER_PATCH, KMEANS_PATCHES, REPEATS = 128, 10.0, 14, 12, 3


def response_maps(patches: int) -> np.ndarray:
    """Disks at random places, brighter and fainter, blends among them, blurred by noise."""
    rng = np.random.default_rng(1)
    row, column = np.mgrid[:PIXELS, :PIXELS]
    maps = np.zeros((patches, PIXELS, PIXELS), np.float32)
    for image in maps:
        for y, x in rng.uniform(0, PIXELS, (rng.poisson(SOURCES_PER_PATCH), 2)):
            disk = (row - y) ** 2 + (column - x) ** 2 < 25
            image[disk] = np.maximum(image[disk], rng.uniform(0.3, 1.0))
    maps += rng.normal(0, 0.05, maps.shape).astype(np.float32)
    return np.clip(maps, 0, 1)


def best_time(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several processor times, in seconds: others may use the machine."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print one table."""
    settings, grid = LocalisationConfig(), make_grid(8, SIZE_DEG)
    ids, n = np.arange(len(grid)), len(grid)
    maps = response_maps(n)
    detections = find_sources(maps, 0, ids, grid.frames, SIZE_DEG, settings)  # compiles
    candidates = stitch(detections, grid, settings)
    few = slice(0, KMEANS_PATCHES)

    def kmeans() -> pd.DataFrame:
        return kmeans_sources(maps[few], 0, ids[few], grid.frames[few], SIZE_DEG, settings, 1)

    kmeans_found = len(kmeans())
    rows = [
        ("disk-kernel scores", n, best_time(lambda: disk_kernel_scores(maps, 5.0), REPEATS), ""),
        (
            "threshold clustering",
            n,
            best_time(lambda: find_sources(maps, 0, ids, grid.frames, SIZE_DEG, settings), REPEATS),
            f"{len(detections) / n:.1f}",
        ),
        (
            "stitching",
            n,
            best_time(lambda: stitch(detections, grid, settings), REPEATS),
            f"{len(candidates) / n:.1f}",
        ),
        (
            "k-means, every k",
            KMEANS_PATCHES,
            best_time(kmeans, 1),
            f"{kmeans_found / KMEANS_PATCHES:.1f}",
        ),
    ]
    print(f"{'':22}{'patches':>8}{'seconds':>10}{'ms/patch':>10}{'sky, s':>9}{'found/patch':>13}")
    for name, patches, seconds, found in rows:
        each = seconds / patches
        print(f"{name:22}{patches:8d}{seconds:10.3f}{1e3 * each:10.3f}{each * n:9.2f}{found:>13}")
    ratio = (rows[3][2] / rows[3][1]) / (rows[1][2] / rows[1][1])
    print(f"k-means takes {ratio:.0f} times as long per patch as threshold clustering")


if __name__ == "__main__":
    main()
