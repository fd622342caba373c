"""Cost of the likelihood search per patch, by step, and what it finds.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_search.py --cache FOLDER [--every 8]``.
Counted patches of one validation sky of a configuration, every so many of them, searched as the
pipeline does (but that each patch's last round starts from its own sources, not the sky's).
Processor time. Completeness at the purity that a cut in TS reaches, of sources that are deepest
in the patches searched; all true sources of the sky count, those with an expected TS of 25 (in
its own line) as well. The sky is made once and kept in the cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

import geminga.likelihood.search as search_module
from geminga.config import Config, load_config
from geminga.geometry import unit_vectors
from geminga.likelihood.diffuse_templates import Templates, diffuse_templates
from geminga.likelihood.expected_ts import expected_ts, without_sources
from geminga.likelihood.known import KnownSources, known_sources
from geminga.likelihood.search import make_search, places_of
from geminga.likelihood.sky_list import depth_deg
from geminga.likelihood.source_table import source_columns, source_table
from geminga.localisation.choose import completeness_at_purity
from geminga.matching import match
from geminga.patches.grid import grid_for_sky
from geminga.patches.project import bin_photons
from geminga.patches.render import expected_images
from geminga.response import Response, build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.observe import draw_photons
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky

STEPS = {
    "background": "estimate_background",
    "TS map": "ts_maps",
    "fit": "best_fit",
    "measure": "measure",
    "outline": "outline",
}
PURITIES = (0.8, 0.9, 0.95)


class Clock:
    """Processor time spent inside functions of a module, by replacing them."""

    def __init__(self, module: ModuleType, steps: dict[str, str]) -> None:
        self.seconds = dict.fromkeys(steps, 0.0)
        for label, name in steps.items():
            setattr(module, name, self.timed(label, getattr(module, name)))

    def timed(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that adds its time to a label."""

        def run(*args: Any, **options: Any) -> Any:
            start = time.process_time()
            result = function(*args, **options)
            self.seconds[label] += time.process_time() - start
            return result

        return run


def make_sky(
    config: Config, response: Response, diffuse: DiffuseCounts, number: int, cache: Path
) -> tuple[Any, pd.DataFrame]:
    """Return counts, true background and frames (from the cache), and the true sources."""
    images, truth = cache / f"sky{number}.npz", cache / f"truth{number}.parquet"
    if not images.exists():
        cache.mkdir(parents=True, exist_ok=True)
        population = load_population(config.sky.population)
        which = sky_id(Split.VALID, number)
        sky = simulate_sky(config, response, population, diffuse, which)
        grid, size = grid_for_sky(config, which), config.patches.size_deg
        counts = bin_photons(draw_photons(sky, config.seed), grid.frames, size, config.channels)
        true = expected_images(without_sources(sky), grid.frames, size)
        sky.sources.table.assign(ts=expected_ts(sky, grid)).to_parquet(truth)
        arrays = {f"n{c}": image.astype(np.uint16) for c, image in enumerate(counts)}
        arrays |= {f"b{c}": image for c, image in enumerate(true)}
        np.savez(images, frames=grid.frames, **arrays)
    return dict(np.load(images)), pd.read_parquet(truth)


def report(sources: pd.DataFrame, truth: pd.DataFrame, label: str) -> None:
    """Print completeness at purities by a cut in TS."""
    pairs = match(sources, truth, 0.3)
    right = np.zeros(len(sources), np.bool_)
    found = pairs[(pairs["candidate"] >= 0) & (pairs["source"] >= 0)]
    right[found["candidate"]] = True
    strong = truth["ts"].to_numpy() > 25.0
    held = np.isin(np.flatnonzero(strong), found["source"]).mean()
    whole = [
        completeness_at_purity(sources["ts"].to_numpy(), right, len(truth), p)[0] for p in PURITIES
    ]
    print(
        f"  {label}: {len(sources)} candidates of {len(truth)} sources; completeness "
        + ", ".join(f"{c:.3f} at {p:g}" for c, p in zip(whole, PURITIES, strict=True))
        + f"; candidates for {held:.3f} of those of expected TS 25"
        f"; median error {found['separation_deg'].median():.4f} deg"
    )


def main() -> None:
    """Search, and print times and completeness."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/demo.yaml"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--sky", type=int, default=0)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--true-background", action="store_true")
    parser.add_argument("--keep", type=Path, help="write the sources found here")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    response = build_response(config)
    diffuse = diffuse_counts(config, response)
    sky, truth = make_sky(config, response, diffuse, arguments.sky, arguments.cache)
    size, channels = config.patches.size_deg, len(config.channels)
    frames, chosen = sky["frames"], np.arange(0, len(sky["frames"]), arguments.every)
    search = make_search(config, response)
    start = time.process_time()
    places = places_of(search, frames[chosen], frames)
    seconds = {"spectra": time.process_time() - start}
    templates: Templates | None = None
    if not arguments.true_background:
        start = time.process_time()
        model = config.likelihood.reference
        templates = diffuse_templates(response, diffuse, frames[chosen], size, model)
        seconds["templates"] = time.process_time() - start
    thresholds = config.likelihood.search_thresholds
    photons = [sky[f"n{c}"][chosen] for c in range(channels)]
    true = [sky[f"b{c}"][chosen] for c in range(channels)]

    def patch(p: int, known: KnownSources, rounds: tuple[float, ...], in_full: bool) -> Any:
        return search_module.search_patch(
            search,
            [image[p] for image in photons],
            places[p],
            known,
            rounds,
            templates=None if templates is None else templates.part(slice(p, p + 1)),
            background=[image[p] for image in true] if templates is None else None,
            in_full=in_full,
        )

    def both(p: int) -> dict[str, np.ndarray]:
        result = patch(p, known_sources(), thresholds[:-1], False)
        table = pd.DataFrame(source_columns(result.fit, result.diffuse, places[p].frame, size))
        result = patch(p, known_sources(table), thresholds[-1:], True)
        return source_columns(result.fit, result.diffuse, places[p].frame, size)

    both(0)
    clock = Clock(search_module, STEPS)
    start = time.process_time()
    columns = [both(p) for p in range(len(chosen))]
    sources = source_table(columns, int(truth["sky_id"].iloc[0]), chosen, channels)
    total = time.process_time() - start
    seconds |= clock.seconds
    seconds["all else"] = total - sum(clock.seconds.values())
    print(f"{config.name}, {len(chosen)} patches: {1e3 * total / len(chosen):.1f} ms a patch")
    for label, value in seconds.items():
        print(f"  {label:12s} {1e3 * value / len(chosen):7.2f} ms")
    if arguments.keep is not None:
        sources.to_parquet(arguments.keep)
    for table in (sources, truth):
        vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
        table["deepest"] = depth_deg(vectors, frames, size).argmax(axis=0)
    mine = sources[sources["patch_id"] == sources["deepest"]].reset_index(drop=True)
    true_mine = truth[np.isin(truth["deepest"], chosen)].reset_index(drop=True)
    report(mine, true_mine, "sky")
    for low, high in ((0, 10), (10, 20), (20, 90)):
        parts = [
            t[t["lat_deg"].abs().between(low, high)].reset_index(drop=True)
            for t in (mine, true_mine)
        ]
        report(parts[0], parts[1], f"|b| {low} to {high} deg")


if __name__ == "__main__":
    main()
