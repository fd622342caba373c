"""From a trained MIUN to a list of sources: responses, their mean over patches, peaks."""

from __future__ import annotations

from collections.abc import Callable

import healpy
import numpy as np
import pandas as pd
import torch
from miun_material import Material, Records, inputs
from torch import Tensor
from torch.nn import functional

from geminga.arrays import Float32, Float64
from geminga.compiled import compiled
from geminga.config import Config
from geminga.evaluation.working_points import LATITUDES
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.geometry import pixel_to_plane, tangent_frames
from geminga.likelihood.peaks import local_maxima
from geminga.localisation import find_sources, stitch
from geminga.localisation.tables import patch_detections
from geminga.networks.miun import Miun, score_maps
from geminga.patches.grid import PatchGrid
from geminga.training.augment import N_ROTATIONS, N_SYMMETRIES, apply_symmetry

PEAK_THRESHOLD, PEAK_RADIUS_PX = 0.02, 2.0
"""Least response of a peak, and the radius within which it is the highest."""
LEAST_WEIGHT_DEG = 0.05
PURITIES = {0.8: "80", 0.9: "90", 0.95: "95"}
SETTINGS = YardstickSettings(purities=tuple(PURITIES), latitudes=LATITUDES[:1])

Respond = Callable[[Miun, Config, Material, Records], Float32]
"""Network, configuration, material and counted patches to responses (P, top, top)."""


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss (CenterNet: Zhou et al. 2019, arXiv:1904.07850, eq. 1).

    Summed over the pixels, over the number of sources: pixels where the target is 1.
    """
    y = target.to(logits.dtype)
    p, centre = torch.sigmoid(logits), y >= 1.0
    hit = -((1.0 - p) ** 2) * functional.logsigmoid(logits)
    miss = -((1.0 - y) ** 4) * p**2 * functional.logsigmoid(-logits)
    return torch.where(centre, hit, miss).sum() / centre.sum().clamp(min=1)


def plain(model: Miun, config: Config, material: Material, records: Records) -> Float32:
    """Return the response to each patch as it is."""
    return _scores(model, config, inputs(records, config))


def rotations(model: Miun, config: Config, material: Material, records: Records) -> Float32:
    """Return the mean response to the eight turned and mirrored patches, turned back."""
    images = inputs(records, config)
    total = np.zeros_like(records["target"], np.float32)
    for number in range(N_SYMMETRIES):
        turned = _scores(model, config, [apply_symmetry(image, number) for image in images])
        total += _turned_back(turned, number)
    return total / np.float32(N_SYMMETRIES)


def sphere(model: Miun, config: Config, material: Material, records: Records) -> Float32:
    """Return the mean response of all patches that hold a place."""
    maps = plain(model, config, material, records)
    return mean_on_sphere(records["frame"], records["frame"], maps, config.patches.size_deg)


def shifted(model: Miun, config: Config, material: Material, records: Records) -> Float32:
    """Return the same mean with the patches of a second grid, half a patch from the first."""
    return _with_second_grid(plain, model, config, material, records)


def everything(model: Miun, config: Config, material: Material, records: Records) -> Float32:
    """Return the mean over both grids and the eight turns."""
    return _with_second_grid(rotations, model, config, material, records)


def _with_second_grid(
    respond: Respond, model: Miun, config: Config, material: Material, records: Records
) -> Float32:
    other = second_grid(material)
    background = "background_0" in records
    counted = material.validation(config, "disk", background, other)
    maps = np.concatenate([respond(model, config, material, each) for each in (records, counted)])
    frames = np.concatenate([records["frame"], other.frames])
    return mean_on_sphere(records["frame"], frames, maps, config.patches.size_deg)


def second_grid(material: Material) -> PatchGrid:
    """Return patches on the corners between the first grid's HEALPix pixels, as far as used.

    A turn of the whole grid would leave two patches where they are.
    """
    grid = material.grid
    nside = healpy.npix2nside(len(material.whole))
    corner = healpy.boundaries(nside, np.arange(len(grid)), step=1)[:, :, 0]
    # The pixels about the pole share theirs.
    lon, lat = healpy.vec2ang(np.unique(corner.round(12), axis=0), lonlat=True)
    frames = np.ascontiguousarray(tangent_frames(lon, lat) @ grid.rotation.T)
    return PatchGrid(frames, grid.size_deg, grid.rotation)


def mean_on_sphere(frames: Float64, others: Float64, maps: Float32, size_deg: float) -> Float32:
    """Average responses where patches overlap, weighted by the distance to the patch's edge.

    Every pixel reads the maps of all patches that hold it, bilinear between their pixels: no
    HEALPix map in between blurs them a second time.

    Parameters
    ----------
    frames : Float64 (P, 3, 3)
        Patches to give the mean in.
    others : Float64 (Q, 3, 3)
        Patches that were searched.
    maps : Float32 (Q, n, n)
        Their responses.
    size_deg : float
        Width of a patch.
    """
    n, size = maps.shape[1], float(np.radians(size_deg))
    axis = np.radians(pixel_to_plane(np.arange(n, dtype=np.float64), n, size_deg))
    near_cos = float(np.cos(2.0 * np.arctan(size / np.sqrt(2.0))))
    least = float(np.radians(LEAST_WEIGHT_DEG))
    return _mean_on_sphere(frames, others, maps, axis, size, near_cos, least)


@compiled
def _mean_on_sphere(
    frames: Float64,
    others: Float64,
    maps: Float32,
    axis: Float64,
    size: float,
    near_cos: float,
    least: float,
) -> Float32:
    n = len(axis)
    result = np.zeros((len(frames), n, n), np.float32)
    total, weights = np.empty((n, n)), np.empty((n, n))
    for p in range(len(frames)):
        total[:], weights[:] = 0.0, 0.0
        for q in range(len(others)):
            turn = np.empty((3, 3))
            for i in range(3):
                for j in range(3):
                    turn[i, j] = np.sum(others[q, i] * frames[p, j])
            if turn[0, 0] < near_cos:
                continue
            for row in range(n):
                for column in range(n):
                    x, y = axis[column], axis[row]
                    depth = turn[0, 0] + turn[0, 1] * x + turn[0, 2] * y
                    if depth <= 0.0:
                        continue
                    u = (turn[1, 0] + turn[1, 1] * x + turn[1, 2] * y) / depth
                    v = (turn[2, 0] + turn[2, 1] * x + turn[2, 2] * y) / depth
                    edge = 0.5 * size - max(abs(u), abs(v))
                    if edge <= 0.0:
                        continue
                    c = min(max((u / size + 0.5) * n - 0.5, 0.0), n - 1.0)
                    r = min(max((v / size + 0.5) * n - 0.5, 0.0), n - 1.0)
                    c0, r0 = min(int(c), n - 2), min(int(r), n - 2)
                    a, b = c - c0, r - r0
                    value = (1.0 - b) * (
                        (1.0 - a) * maps[q, r0, c0] + a * maps[q, r0, c0 + 1]
                    ) + b * ((1.0 - a) * maps[q, r0 + 1, c0] + a * maps[q, r0 + 1, c0 + 1])
                    weight = max(edge, least)
                    total[row, column] += weight * value
                    weights[row, column] += weight
        for row in range(n):
            for column in range(n):
                result[p, row, column] = total[row, column] / weights[row, column]
    return result


def detect(maps: Float32, config: Config, material: Material, peaks: bool) -> pd.DataFrame:
    """Return the stitched list of the validation patches, as far as it counts.

    Sources are groups of pixels, as the package finds them, or peaks of the response with
    parabolas for the fraction of a pixel and the peak for a score.
    """
    grid, number = material.grid, material.valid_id
    ids, top = np.arange(len(grid)), maps.shape[1]
    if peaks:
        patch, row, column, value = local_maxima(
            maps.astype(np.float64), PEAK_THRESHOLD, PEAK_RADIUS_PX
        )
        found = patch_detections(
            number, ids, grid.frames, grid.size_deg, top, patch, row, column, value,
            np.ones(len(patch), np.int64),
        )  # fmt: skip
    else:
        found = find_sources(maps, number, ids, grid.frames, grid.size_deg, config.localisation)
    stitched = stitch(found, grid, config.localisation, grid.size_deg / top)
    return stitched[material.inside(stitched)].reset_index(drop=True)


def figures(lists: dict[str, pd.DataFrame], truth: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Measure lists of detections; where base is among them, also ratios to it."""
    oracle = "base" if "base" in lists else None
    searches = {name: [found] for name, found in lists.items()}
    measured = measure_searches(searches, [truth], SETTINGS, oracle)
    result = {}
    for name, search in measured.searches.items():
        part = search.parts[LATITUDES[0].name]
        row = {"sources": float(part.sources), "detections": float(part.detections)}
        for purity, label in PURITIES.items():
            completeness = part.at_purity[f"{purity:g}"].completeness
            row[f"completeness_at_purity_{label}"] = completeness.value
            row[f"completeness_at_purity_{label}_error"] = completeness.error
            if completeness.ratio is not None:
                row[f"ratio_{label}"] = completeness.ratio.value
                row[f"ratio_{label}_error"] = completeness.ratio.error
        everyone, bright = search.positions[:2]
        row["median_error_deg"] = everyone.median_deg.value
        row["median_error_bright_deg"] = bright.median_deg.value
        result[name] = row
    return result


def _scores(model: Miun, config: Config, images: list[Float32]) -> Float32:
    return score_maps(model, images, config.localisation.batch_size, config.miun_training.precision)


def _turned_back(maps: Float32, number: int) -> Float32:
    """Undo `apply_symmetry`, which mirrors first and then turns."""
    back = np.rot90(maps, -(number % N_ROTATIONS), axes=(-2, -1))
    return back[..., ::-1] if number >= N_ROTATIONS else back
