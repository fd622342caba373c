"""Cost of one simulated sky, step by step, on one core, and of a plain healpy implementation.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_sky.py [--config jobs/configs/demo.yaml]``.
Each step is the shortest of three runs in processor time, since others may use the machine. The
limit set by the memory is a plain pass: every pixel of all patches read, scaled and written once.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import healpy
import numpy as np

from geminga.bands import pixel_sizes
from geminga.config import Config, load_config
from geminga.geometry import from_plane
from geminga.patches.grid import PatchGrid, grid_for_sky
from geminga.patches.observed import counted_records
from geminga.patches.project import bin_photons
from geminga.patches.records import images_from_records, make_records
from geminga.patches.render import expected_images
from geminga.patches.store import PATCHES_PER_GROUP, group_sizes, read_group, write_records
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.observe import draw_photons
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, simulate_sky
from geminga.sky.sky_files import save_sky

REPEATS = 3
PSF_INDEX = 2.4


def best_time(function: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the shortest of several processor times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def plain_pass(pixels: int) -> float:
    """Return the time to read, scale and write a float32 for every pixel, in seconds."""
    values = np.random.default_rng(1).random(pixels, dtype=np.float32)
    result = np.empty_like(values)
    return best_time(lambda: np.multiply(values, 1.5, out=result), 5)


def healpy_reference(sky: Sky, grid: PatchGrid, config: Config) -> float:
    """Time the textbook way for one component of every band, in seconds.

    Sources as delta functions on the band's HEALPix grid, smoothed by spherical harmonics with
    the PSF, and every patch pixel read from the nearest HEALPix pixel.
    """
    table = sky.sources.table
    lon, lat = table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy()
    seconds = 0.0
    for number, channel in enumerate(config.channels):
        window = sky.psf.harmonic(number, PSF_INDEX, 2 * channel.nside)
        axis = (np.arange(channel.pixels) + 0.5) / channel.pixels - 0.5
        x, y = np.meshgrid(axis * grid.size_deg, axis * grid.size_deg)

        start = time.process_time()
        counts = np.zeros(healpy.nside2npix(channel.nside))
        np.add.at(counts, healpy.ang2pix(channel.nside, lon, lat, lonlat=True), 1.0)
        alm = healpy.map2alm(counts, lmax=2 * channel.nside, iter=0)
        smooth = healpy.alm2map(healpy.almxfl(alm, window), channel.nside, lmax=2 * channel.nside)
        for frame in grid.frames:
            vectors = from_plane(frame, x.ravel(), y.ravel())
            smooth[healpy.vec2pix(channel.nside, *vectors.T)]
        seconds += time.process_time() - start
    return seconds


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="jobs/configs/demo.yaml")
    parser.add_argument("--set", action="append", dest="overrides", help="section.key=value")
    parser.add_argument("--no-healpy", action="store_true", help="leave the healpy way out")
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    first = range(0, config.patches.grid_nside**2 * 12, PATCHES_PER_GROUP)

    start = time.process_time()
    response = build_response(config)
    diffuse = diffuse_counts(config, response)
    population = load_population(config.sky.population)
    setup = time.process_time() - start

    number = sky_id(Split.TRAIN, 0)
    sky = simulate_sky(config, response, population, diffuse, number)
    grid = grid_for_sky(config, number)
    groups = [range(f, min(f + PATCHES_PER_GROUP, len(grid))) for f in first]
    expected_images(sky, grid.frames[:1], grid.size_deg)  # compiles

    pixels = len(grid) * sum(n * n for n in pixel_sizes(config.channels))
    bare = plain_pass(pixels)

    def render() -> None:
        for group in groups:
            expected_images(sky, grid.frames[group.start : group.stop], grid.size_deg)

    def records() -> None:
        for group in groups:
            make_records(sky, grid, config, group)

    rows = [
        (
            "draw sources, integrate spectra",
            best_time(lambda: simulate_sky(config, response, population, diffuse, number)),
        ),
        ("render expected counts", best_time(render)),
        ("the same with targets, as records", best_time(records)),
    ]
    photons = draw_photons(sky, config.seed)
    bin_photons(photons.select(np.arange(10)), grid.frames, grid.size_deg, config.channels)
    rows.append(
        (
            f"draw {len(photons) / 1e6:.1f} M photons",
            best_time(lambda: draw_photons(sky, config.seed)),
        )
    )
    rows.append(
        (
            "project them into the patches",
            best_time(lambda: bin_photons(photons, grid.frames, grid.size_deg, config.channels)),
        )
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patches, counted = folder / "patches.parquet", folder / "counted.parquet"
        photon_list, truth = folder / "photons.parquet", folder / "sky"
        made = (make_records(sky, grid, config, group) for group in groups)
        write_records(patches, made)
        stored = [read_group(patches, g) for g in range(len(groups))]
        rows.append(("write the records", best_time(lambda: write_records(patches, stored), 1)))

        def read() -> list[Any]:
            return [
                images_from_records(read_group(patches, g), config.channels)
                for g in range(len(group_sizes(patches)))
            ]

        rows.append(("read and decode them", best_time(read, 2)))
        images = read()
        rng = np.random.default_rng(2)
        rows.append(
            (
                "Poisson draw of every patch",
                best_time(lambda: [rng.poisson(image) for group in images for image in group], 2),
            )
        )
        write_records(counted, counted_records(photons, grid, config, number))
        rows.append(("write the photon list", best_time(lambda: photons.save(photon_list), 1)))
        save_sky(truth, sky)
        sizes = {
            "expected counts": patches.stat().st_size,
            "counted patches": counted.stat().st_size,
            "photon list": photon_list.stat().st_size,
            "truth and counts": sum(f.stat().st_size for f in truth.iterdir()),
        }

    print(
        f"{config.name}: {len(config.channels)} channels, {len(sky.sources.table)} sources, "
        f"{len(grid)} patches, {pixels / 1e6:.1f} M pixels; one core\n"
    )
    print(f"{'step':<38}{'seconds':>9}{'M pixels/s':>12}{'/ plain pass':>14}")
    for label, seconds in (("plain pass over the pixels", bare), *rows):
        print(f"{label:<38}{seconds:>9.3f}{pixels / 1e6 / seconds:>12.1f}{seconds / bare:>14.1f}")
    cost = sum(rows[i][1] for i in (0, 2, 5))
    print(f"\nset-up, once per run: {setup:.1f} s")
    print(f"one sky, sources to records on disk: {cost:.2f} s, {cost / bare:.0f} plain passes")
    if not options.no_healpy:
        one = healpy_reference(sky, grid, config)
        parts = len(config.classes) + 2
        print(
            f"healpy, one component: {one:.1f} s; times {parts} components: {parts * one:.0f} s, "
            f"{parts * one / cost:.0f} times ours"
        )
    print(
        "on disk, MB: "
        + ", ".join(f"{key} {size / 1e6:.1f}" for key, size in sizes.items())
        + f"; together {sum(sizes.values()) / 1e6:.1f}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"largest memory of this process: {peak:.2f} GB")


if __name__ == "__main__":
    main()
