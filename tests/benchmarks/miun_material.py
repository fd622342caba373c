"""Skies, patches and batches that `bench_miun.py` trains MIUN on and measures it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.bands import pixel_sizes
from geminga.config import Config, config_from_tree
from geminga.geometry import plane_to_pixel, to_plane, unit_vectors
from geminga.likelihood.diffuse_templates import diffuse_templates
from geminga.networks.build import build_miun
from geminga.networks.miun import Miun
from geminga.patches.grid import PatchGrid, grid_for_sky
from geminga.patches.project import bin_photons
from geminga.patches.records import image_columns
from geminga.patches.render import render_tangent
from geminga.patches.targets import disk_targets
from geminga.response import build_response
from geminga.seeds import Split, Stage, generator, sky_id
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts, reference_config
from geminga.sky.labelled import labelled
from geminga.sky.observe import draw_photons
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, simulate_sky
from geminga.training.augment import N_SYMMETRIES, apply_symmetry
from geminga.training.batches import Batch, draw_counts, shuffled, split_rows

Target = Literal["disk", "heatmap", "marked"]
"""Disks; Gaussians about the true places; the same with 1 in the pixel that holds the source."""

Records = dict[str, np.ndarray[Any, np.dtype[Any]]]

SIGMA_PX = 1.5
"""Width of the Gaussians of heat maps, pixels of the finest images: 0.12 deg."""
PATCHES_AT_ONCE = 64


@dataclass(frozen=True)
class Amount:
    """How much is simulated.

    Attributes
    ----------
    skies, patches_per_sky : int
        Training skies, and patches cut from each: every k-th one.
    valid_patches : int
        Patches of the validation sky; the first ones of the grid, a cap around its pole.
    """

    skies: int
    patches_per_sky: int
    valid_patches: int


class Material:
    """Training patches, and one validation sky that is the same for all variants."""

    def __init__(self, base: Config, amount: Amount) -> None:
        self.base, self.amount = base, amount
        self.response = build_response(base)
        self.population = load_population(base.sky.population)
        self._diffuse: dict[float | None, DiffuseCounts] = {}
        self._reference: DiffuseCounts | None = None
        self.whole = grid_for_sky(base, self.valid_id)
        count = min(amount.valid_patches, len(self.whole))
        self.grid = replace(self.whole, frames=self.whole.frames[:count])
        truth = labelled(self._sky(base, self.valid_id).sources.table, base.sky)
        self.truth = truth[self.inside(truth)].reset_index(drop=True)

    valid_id = sky_id(Split.VALID, 0)

    def inside(self, places: pd.DataFrame) -> Bool:
        """Return which places are deepest in one of the patches used: those count."""
        vectors = unit_vectors(places["lon_deg"].to_numpy(), places["lat_deg"].to_numpy())
        nearest = np.full(len(vectors), -1, np.int64)
        least = np.full(len(vectors), np.inf)
        for p, frame in enumerate(self.whole.frames):
            near = np.flatnonzero(vectors @ frame[0] > np.cos(np.radians(self.whole.size_deg)))
            offset = np.abs(np.stack(to_plane(frame, vectors[near]))).max(axis=0, initial=0.0)
            better = offset < least[near]
            least[near[better]], nearest[near[better]] = offset[better], p
        return np.asarray((nearest >= 0) & (nearest < len(self.grid)))

    def training(self, config: Config, target: Target, background: bool) -> Records:
        """Return expected counts and targets of the training patches of a configuration."""
        parts = []
        for number in range(self.amount.skies):
            sky = self._sky(config, sky_id(Split.TRAIN, number))
            grid = grid_for_sky(config, sky.sky_id)
            step = max(len(grid) // self.amount.patches_per_sky, 1)
            ids = np.arange(number % step, len(grid), step)[: self.amount.patches_per_sky]
            frames, pixels = grid.frames[ids], pixel_sizes(config.channels)
            images = render_tangent(sky, frames, [grid.size_deg] * len(pixels), pixels)
            truth = labelled(sky.sources.table, config.sky)
            named = dict(zip(image_columns(config.channels), images, strict=True))
            parts.append(
                {"sky_id": np.full(len(ids), sky.sky_id), "patch_id": ids, "frame": frames}
                | named
                | {"target": self._targets(config, truth, frames, target)}
                | self._backgrounds(config, frames, background)
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def validation(
        self, config: Config, target: Target, background: bool, grid: PatchGrid | None = None
    ) -> Records:
        """Return photon counts and targets of the validation patches, or of another grid there.

        The channels, the kind and the radius of targets are those of `config`; the sky and what
        counts as a source are those of the base.
        """
        config = config.model_copy(update={"sky": self.base.sky})
        grid = self.grid if grid is None else grid
        sky = self._sky(config, self.valid_id)
        photons = draw_photons(sky, config.seed)
        images = bin_photons(photons, grid.frames, grid.size_deg, config.channels)
        truth = labelled(sky.sources.table, config.sky)
        counted = [image.astype(np.float32) for image in images]
        return {
            "sky_id": np.full(len(grid), sky.sky_id),
            "patch_id": np.arange(len(grid)),
            "frame": grid.frames,
            **dict(zip(image_columns(config.channels), counted, strict=True)),
            "target": self._targets(config, truth, grid.frames, target),
            **self._backgrounds(config, grid.frames, background),
        }

    def _sky(self, config: Config, number: int) -> Sky:
        depth = config.sky.depth
        if depth not in self._diffuse:
            self._diffuse[depth] = diffuse_counts(config, self.response)
        return simulate_sky(config, self.response, self.population, self._diffuse[depth], number)

    def _targets(
        self, config: Config, truth: pd.DataFrame, frames: Float64, kind: Target
    ) -> np.ndarray[Any, np.dtype[Any]]:
        lon, lat = truth["lon_deg"].to_numpy(), truth["lat_deg"].to_numpy()
        size, top = config.patches.size_deg, config.top_pixels
        if kind == "disk":
            radius = config.patches.target_radius_px
            return disk_targets(frames, size, lon, lat, top, radius)
        return gaussian_targets(frames, size, lon, lat, top, mark=kind == "marked")

    def _backgrounds(self, config: Config, frames: Float64, wanted: bool) -> Records:
        if not wanted:
            return {}
        if self._reference is None:
            self._reference = diffuse_counts(reference_config(self.base), self.response)
        response = replace(self.response, channels=config.channels)
        size, reference = config.patches.size_deg, self._reference
        images = diffuse_templates(response, reference, frames, size).total()
        return {f"background_{c}": image for c, image in enumerate(images)}


def on_one_grid(config: Config) -> Config:
    """Return the configuration with the finest band's pixels in all bands."""
    tree = config.model_dump(mode="json")
    tree["bands"] = [band | {"pixels": config.top_pixels} for band in tree["bands"]]
    return config_from_tree(tree, "common grid")


def gaussian_targets(
    frames: Float64,
    size_deg: float,
    lon: Float64,
    lat: Float64,
    pixels: int,
    sigma_px: float = SIGMA_PX,
    mark: bool = False,
) -> Float32:
    """Draw a Gaussian of peak 1 about every source in every patch; the higher where two meet.

    With `mark` the pixel that holds the source is 1, which `focal` asks for.
    """
    vectors, reach = unit_vectors(lon, lat), int(np.ceil(4.0 * sigma_px))
    result = np.zeros((len(frames), pixels, pixels), np.float32)
    for image, frame in zip(result, frames, strict=True):
        near = np.flatnonzero(vectors @ frame[0] > np.cos(np.radians(size_deg)))
        places = [plane_to_pixel(c, pixels, size_deg) for c in to_plane(frame, vectors[near])]
        for column, row in zip(*places, strict=True):
            i, j = round(row), round(column)
            rows = np.arange(max(i - reach, 0), max(min(i + reach + 1, pixels), 0))
            columns = np.arange(max(j - reach, 0), max(min(j + reach + 1, pixels), 0))
            if not (len(rows) and len(columns)):
                continue
            square = (rows[:, None] - row) ** 2 + (columns - column) ** 2
            view = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            np.maximum(view, np.exp(-0.5 * square / sigma_px**2), out=view, casting="unsafe")
            if mark and 0 <= i < pixels and 0 <= j < pixels:
                image[i, j] = 1.0
    return result


def inputs(records: Records, config: Config) -> list[Float32]:
    """Return what the network is given: counts; with a background also (n - b) / sqrt(b + 1).

    Beside a background the counts are scaled here, as the network's entrance otherwise does.
    """
    counts = [records[name] for name in image_columns(config.channels)]
    if "background_0" not in records:
        return counts
    backgrounds = [records[f"background_{c}"] for c in range(len(counts))]
    excess = [(n - b) / np.sqrt(b + 1.0) for n, b in zip(counts, backgrounds, strict=True)]
    if config.miun.input_scaling == "anscombe":
        counts = [2.0 * np.sqrt(n + 0.375) for n in counts]
    return [*counts, *excess]


def network(config: Config, background: bool) -> Miun:
    """Return the network of a configuration; with a background, one of twice as many inputs."""
    if not background:
        return build_miun(config)
    settings, seed = config.miun, generator(config.seed, Stage.WEIGHTS, 0).integers(2**62)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        pixels = pixel_sizes(config.channels) * 2
        model = Miun(pixels, settings.width, settings.bottleneck_pixels, "counts", settings.dropout)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def start_at_mean(model: Miun, target: np.ndarray[Any, np.dtype[Any]]) -> None:
    """Let the network begin with the mean of the targets.

    Its own start, the share of disks, is far above that of Gaussians: a short training then ends
    with all features pushing down and none left to rise above the background.
    """
    mean, bias = float(target.mean()), model.output.bias
    assert bias is not None
    torch.nn.init.constant_(bias, float(np.log(mean / (1.0 - mean))))


def training_batches(records: Records, config: Config) -> Callable[[int], Iterator[Batch]]:
    """Return a function that draws the counts of an epoch anew, in an order of its own."""
    size, augment = config.miun_training.batch_size, config.miun_training.augment

    def batches(epoch: int) -> Iterator[Batch]:
        order = shuffled(len(records["sky_id"]), config.seed, epoch)
        for part in split_rows(records, order, size):
            drawn = draw_counts(part, config, epoch, train=True, augment=augment)
            if augment:
                _turn_backgrounds(drawn, config, epoch)
            yield as_batch(drawn, config)

    return batches


def validation_batches(records: Records, config: Config) -> Callable[[], Iterator[Batch]]:
    """Return a function that gives the counted patches in batches."""

    def batches() -> Iterator[Batch]:
        rows: Int64 = np.arange(len(records["sky_id"]))
        for part in split_rows(records, rows, config.miun_training.batch_size):
            yield as_batch(part, config)

    return batches


def as_batch(records: Records, config: Config) -> Batch:
    """Return counted records as tensors."""
    images = (np.ascontiguousarray(image, np.float32) for image in inputs(records, config))
    target = torch.from_numpy(np.ascontiguousarray(records["target"]))
    return Batch(tuple(torch.from_numpy(image) for image in images), target)


def _turn_backgrounds(records: Records, config: Config, epoch: int) -> None:
    """Turn the backgrounds as `draw_counts` turned the counts: the first number of each stream."""
    names = [name for name in records if name.startswith("background_")]
    if not names:
        return
    keys = zip(records["sky_id"].tolist(), records["patch_id"].tolist(), strict=True)
    for row, key in enumerate(keys):
        rng = generator(config.seed, Stage.POISSON_TRAIN, epoch, *key)
        symmetry = int(rng.integers(N_SYMMETRIES))
        for name in names:
            records[name][row] = apply_symmetry(records[name][row].copy(), symmetry)
