"""Error of the estimated background against the truth, and its cost.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_background.py``. Validation skies of a
configuration are drawn with an interstellar model that the estimate does not know (or does),
photons are drawn in every few patches, and the estimate is compared with the true expected
counts in blocks as large as the disk of radius r68 of a channel. Each figure is the rms of
estimate / truth - 1 over the blocks in percent, the mean of the same, and the rms of
(estimate - truth) / sqrt(truth), the error in units of the block's own Poisson noise. Needs the
LAT files.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np

from geminga.config import Config, load_config
from geminga.likelihood.background import estimate_background
from geminga.likelihood.background_prior import PSF_INDEX, BackgroundPrior, background_prior
from geminga.likelihood.diffuse_templates import Templates, diffuse_templates
from geminga.patches.grid import grid_for_sky
from geminga.patches.render import diffuse_images, expected_images
from geminga.response import Response, build_response
from geminga.seeds import Split, sky_id
from geminga.sky.detectability import local_ts
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky, simulate_sky

EXPOSURE = "exposure/exposure_2to20GeV_UCV_PSF3_573w_nside128.npy.gz"
CUBE = "diffuse/gll_iem_v07_blockmean_1p5deg.fits"
GALPROP = "+".join(f"diffuse/template_{part}_nside128.npy.gz@{EXPOSURE}" for part in ("Api", "Aic"))
FINE = f"diffuse/template_dif_nside128.npy.gz@{EXPOSURE}"
MODELS = {"builtin": 0, "gll_iem_v07": 1, "GALPROP A": 2}
LATITUDES = {"|b| < 5": (0, 5), "5-20": (5, 20), "|b| > 20": (20, 91)}
Images = tuple[np.ndarray, ...]


def with_models(config: Config) -> Config:
    """Return the configuration with the three interstellar models."""
    sky = config.sky.model_copy(
        update={"interstellar": ("builtin", CUBE, GALPROP), "fine_structure": FINE}
    )
    return config.model_copy(update={"sky": sky})


class Scene:
    """Patches of one sky: truth, photons, and the sources' share of both."""

    def __init__(
        self, config: Config, response: Response, sky: Sky, patches: int, exact: bool
    ) -> None:
        grid = grid_for_sky(config, sky.sky_id)
        self.frames = grid.frames[:: max(len(grid) // patches, 1)]
        self.size = grid.size_deg
        self.lat = np.degrees(np.arcsin(self.frames[:, 0, 2]))
        self.background: Images = tuple(
            diffuse_images(sky.diffuse_density(c), self.frames, self.size, channel.pixels)
            for c, channel in enumerate(response.channels)
        )
        ts = expected_ts(sky)
        self.sources, self.found, self.bright = (
            self.images(with_sources(sky, ts >= least)) for least in (0.0, 16.0, 100.0)
        )
        rng = np.random.default_rng(sky.sky_id)
        draw = (lambda x: x) if exact else rng.poisson
        self.photons = tuple(draw(image) for image in self.background)
        self.shining = tuple(n + draw(s) for n, s in zip(self.photons, self.sources, strict=True))

    def images(self, sky: Sky) -> Images:
        """Return the expected counts of a sky's sources."""
        whole = expected_images(sky, self.frames, self.size)
        return tuple(np.maximum(a - b, 0.0) for a, b in zip(whole, self.background, strict=True))


def expected_ts(sky: Sky) -> np.ndarray:
    """Return the expected TS of every source on the diffuse emission."""
    lon, lat = (sky.sources.table[name].to_numpy() for name in ("lon_deg", "lat_deg"))
    beneath = [
        healpy.get_interp_val(sky.diffuse_density(c), lon, lat, lonlat=True)
        for c in range(len(sky.channels))
    ]
    return local_ts(sky.psf, sky.source_counts, sky.source_psf_index, np.stack(beneath, axis=1))


def with_sources(sky: Sky, kept: np.ndarray) -> Sky:
    """Return the sky with some of its sources."""
    sources = SourceSet(sky.sources.table[kept].reset_index(drop=True), sky.sources.yearly[kept])
    return replace(
        sky,
        sources=sources,
        source_counts=sky.source_counts[kept],
        source_psf_index=sky.source_psf_index[kept],
        shares=sky.shares[kept],
    )


def blocks_of(images: np.ndarray, side: int) -> np.ndarray:
    """Return sums in blocks of side x side pixels, shape (patches, blocks)."""
    n = images.shape[1] // side * side
    shape = (len(images), n // side, side, n // side, side)
    whole = images[:, :n, :n].reshape(shape).sum(axis=(2, 4), dtype=float)
    return np.asarray(whole.reshape(len(images), -1))


def sides(response: Response, size_deg: float) -> list[int]:
    """Return the pixels along a square as large as the disk of radius r68, per channel."""
    return [
        max(
            round(
                np.sqrt(np.pi)
                * response.psf.radius_of_containment(c, PSF_INDEX, 0.68)
                / size_deg
                * channel.pixels
            ),
            1,
        )
        for c, channel in enumerate(response.channels)
    ]


def report(title: str, estimates: list[Images], scenes: list[Scene], blocks: list[int]) -> None:
    """Print the three figures of every latitude class and channel."""
    for name, (low, high) in LATITUDES.items():
        cells = []
        for c, side in enumerate(blocks):
            found, truth = (
                np.concatenate(
                    [
                        blocks_of(image, side)[(np.abs(s.lat) >= low) & (np.abs(s.lat) < high)]
                        for image, s in zip(images, scenes, strict=True)
                    ]
                )
                for images in (
                    [estimate[c] for estimate in estimates],
                    [s.background[c] for s in scenes],
                )
            )
            error, noise = found / truth - 1.0, (found - truth) / np.sqrt(truth)
            rms, sigma = (np.sqrt(np.mean(x**2)) for x in (error, noise))
            cells.append(f"{100 * rms:5.1f} {100 * error.mean():+5.1f} {sigma:4.2f}")
        print(f"{title:44s} {name:9s} " + "  ".join(cells), flush=True)


def variants(
    scene: Scene, templates: Templates, prior: BackgroundPrior, flat: BackgroundPrior
) -> dict[str, Images]:
    """Return the estimates to compare."""
    none, shining = scene.photons, scene.shining
    settings = (templates, prior)
    return {
        "no sources, norms only": estimate_background(none, templates, flat, rounds=0),
        "no sources": estimate_background(none, *settings, rounds=0),
        "no sources, excesses left out": estimate_background(none, *settings),
        "sources ignored": estimate_background(shining, *settings, rounds=0),
        "excesses left out": estimate_background(shining, *settings),
        "excesses left out, norms only": estimate_background(shining, templates, flat),
        "TS > 100 known, excesses out": estimate_background(
            shining, *settings, sources_model=scene.bright, rounds=1
        ),
        "TS > 16 known": estimate_background(
            shining, *settings, sources_model=scene.found, rounds=0
        ),
        "all sources known": estimate_background(
            shining, *settings, sources_model=scene.sources, rounds=0
        ),
    }


def main() -> None:
    """Print one table for each pair of true and reference model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/demo.yaml"))
    parser.add_argument("--patches", type=int, default=96, help="per sky")
    parser.add_argument("--skies", type=int, default=1)
    parser.add_argument("--diffuse", type=Path, help="file to keep the diffuse counts in")
    parser.add_argument("--exact", action="store_true", help="expected counts, no Poisson noise")
    parser.add_argument("--set", nargs="*", default=[], help="background_...=value")
    arguments = parser.parse_args()
    config = with_models(load_config(arguments.config))
    changes = {k: float(v) for k, v in (part.split("=") for part in arguments.set)}
    if "background_mask_rounds" in changes:
        changes["background_mask_rounds"] = int(changes["background_mask_rounds"])
    settings = config.likelihood.model_copy(update=changes)
    response = build_response(config)
    if arguments.diffuse is not None and arguments.diffuse.exists():
        diffuse = DiffuseCounts.load(arguments.diffuse)
    else:
        diffuse = diffuse_counts(config, response)
        if arguments.diffuse is not None:
            diffuse.save(arguments.diffuse)
    population = load_population(config.sky.population)
    size = config.patches.size_deg
    prior = background_prior(response, size, settings)
    flat = background_prior(
        response, size, settings.model_copy(update={"background_scatter": 1e-6})
    )
    blocks = sides(response, size)
    print("blocks (pixels):", blocks, " channels:", [c.label for c in response.channels])
    for truth, reference in (
        ("gll_iem_v07", "builtin"),
        ("GALPROP A", "builtin"),
        ("gll_iem_v07", "GALPROP A"),
        ("gll_iem_v07", "gll_iem_v07"),
    ):
        print(f"\ntruth {truth}, reference {reference}: rms % / mean % / rms in Poisson sigma")
        scenes, found = [], []
        for number in range(arguments.skies):
            sky = simulate_sky(config, response, population, diffuse, sky_id(Split.VALID, number))
            sky = replace(sky, interstellar_model=MODELS[truth])
            scene = Scene(config, response, sky, arguments.patches, arguments.exact)
            templates = diffuse_templates(response, diffuse, scene.frames, size, MODELS[reference])
            scenes.append(scene)
            found.append(variants(scene, templates, prior, flat))
        for name in found[0]:
            report(name, [each[name] for each in found], scenes, blocks)
        for label, rounds in (("one fit", 0), ("with masks", settings.background_mask_rounds)):
            start = time.process_time()
            estimate_background(scenes[0].shining, templates, prior, rounds=rounds)
            spent = (time.process_time() - start) / len(scenes[0].frames)
            print(f"{label}: {1e3 * spent:.1f} ms a patch")


if __name__ == "__main__":
    main()
