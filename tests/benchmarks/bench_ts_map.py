"""Cost of TS maps per patch, on one core, by channel and by step.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_ts_map.py [--config jobs/configs/demo.yaml]``.
Counted patches of one validation sky, spread over it, with the true diffuse emission as
background. Processor time, the shortest of three runs, since others may use the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import geminga.likelihood.ts_map as module
from geminga.config import Config, load_config
from geminga.likelihood.kernels import counts_per_flux, make_kernels, map_phases
from geminga.likelihood.map_plan import map_plan
from geminga.likelihood.ts_map import ts_maps
from geminga.patches.grid import grid_for_sky
from geminga.patches.render import expected_images
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky

REPEATS = 3
STEPS = {
    "ladder of fluxes": ("flux_ladder",),
    "cores: products": ("multiply_core",),
    "cores: logarithms": ("add_logarithm",),
    "tails: forward transforms": ("_tail_spectra",),
    "interpolation to the finest grid": ("enlarge",),
    "maximum over flux and template": ("_maximise",),
}


class Clock:
    """Processor time spent inside functions of the module, by replacing them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, label: str, name: str) -> None:
        """Time a function of the module under a label."""
        function = getattr(module, name)

        def timed(*args: Any, **options: Any) -> Any:
            start = time.process_time()
            result = function(*args, **options)
            self.seconds[label] = self.seconds.get(label, 0.0) + time.process_time() - start
            return result

        setattr(module, name, timed)


def patches_of(config: Config, number: int) -> tuple[list[Any], list[Any], Any, Any, Any]:
    """Return counts, background, counts per flux, latitudes of patches, and the PSF."""
    sky_number = sky_id(Split.VALID, 0)
    response = build_response(config)
    diffuse = diffuse_counts(config, response)
    population = load_population(config.sky.population)
    sky = simulate_sky(config, response, population, diffuse, sky_number)
    grid = grid_for_sky(config, sky_number)
    chosen = np.linspace(0, len(grid) - 1, min(number, len(grid))).astype(int)
    frames, size = grid.frames[chosen], grid.size_deg
    empty = replace(sky, source_counts=np.zeros_like(sky.source_counts))
    rng = np.random.default_rng(config.seed)
    counts = [rng.poisson(e).astype(np.float32) for e in expected_images(sky, frames, size)]
    background = list(expected_images(empty, frames, size))
    lon, lat = (v[chosen] for v in grid.centres())
    per_flux = counts_per_flux(response, response.channels, lon, lat, config.likelihood.indices)
    return counts, background, per_flux, lat, response.psf


def best_ms(function: Callable[[], Any], patches: int) -> float:
    """Return the shortest processor time, ms per patch."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times) / patches


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/demo.yaml"))
    parser.add_argument("--patches", type=int, default=24)
    options = parser.parse_args()
    config = load_config(options.config)
    settings, channels = config.likelihood, config.channels
    counts, background, per_flux, lat, psf = patches_of(config, options.patches)
    kernels = tuple(
        make_kernels(
            psf,
            channels,
            config.patches.size_deg,
            index,
            settings.containment,
            settings.max_radius_deg,
            map_phases(channels),
        )
        for index in settings.indices
    )
    patches = len(lat)

    def maps(rows: np.ndarray | slice = slice(None)) -> Any:
        return ts_maps(
            [c[rows] for c in counts],
            [b[rows] for b in background],
            kernels,
            per_flux[rows],
            settings,
        )

    start = time.process_time()
    maps(slice(0, 1))
    print(f"compilation and first patch: {time.process_time() - start:.2f} s")
    maps()
    total = best_ms(maps, patches)
    print(f"{config.name}: {patches} patches, {len(channels)} channels, {len(kernels)} templates\n")
    print(f"{'ms per patch, one core':<40}{total:8.2f}")
    for low, high in ((0, 10), (10, 30), (30, 90)):
        rows = np.flatnonzero((np.abs(lat) >= low) & (np.abs(lat) < high))
        if len(rows):
            mean = best_ms(lambda rows=rows: maps(rows), len(rows))
            print(f"  |b| {low} to {high} deg, {len(rows)} patches{'':<13}{mean:8.2f}")

    plan = map_plan(kernels, tuple(c.pixels for c in channels))
    ladders = []
    for p in range(patches):
        ends = np.array([np.quantile(b[p][::2, ::2], (0.05, 0.95)) for b in background])
        ladders.append(
            module.flux_ladder(ends[:, 0], ends[:, 1], plan.width, per_flux[p], settings.map_top_ts)
        )
    steps = np.mean([ladder.shape[1] for ladder in ladders])
    print(f"\nfluxes per template: {steps:.1f} on average\n\nchannel alone, its sums")
    for c, channel in enumerate(channels):

        def sums(c: int = c) -> None:
            for p in range(patches):
                module._one_grid(
                    plan,
                    [c],
                    [n[p] for n in counts],
                    [b[p] for b in background],
                    ladders[p],
                    per_flux[p],
                )

        core = np.mean([len(s[0].dy) for (k, _), s in plan._splits.items() if k == c])
        pixels = plan.kernels[c].shape[-1] ** 2
        print(
            f"  {channel.label:<38}{best_ms(sums, patches):8.2f}   core {core:.0f} of {pixels} px"
        )

    clock = Clock()
    for label, names in STEPS.items():
        for name in names:
            clock.wrap(label, name)
    module.fft = _TimedTransforms(clock)
    for _ in range(REPEATS):
        maps()
    print("\nstep")
    rest = total
    for label, seconds in clock.seconds.items():
        each = 1e3 * seconds / patches / REPEATS
        rest -= each
        print(f"  {label:<38}{each:8.2f}")
    print(f"  {'all else':<38}{rest:8.2f}")


class _TimedTransforms:
    """scipy.fft's way back, timed."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._fft = clock, module.fft

    def rfft2(self, *args: Any) -> Any:
        """Transform."""
        return self._fft.rfft2(*args)

    def irfft2(self, *args: Any) -> Any:
        """Transform back, timed."""
        start = time.process_time()
        result = self._fft.irfft2(*args)
        label = "tails: transforms back"
        spent = time.process_time() - start
        self._clock.seconds[label] = self._clock.seconds.get(label, 0.0) + spent
        return result


if __name__ == "__main__":
    main()
