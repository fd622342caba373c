"""Example patches for the report: input, target, network output, true and found positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.distributed.search import MiunScores
from geminga.distributed.simulate import patch_file
from geminga.evaluation.figures import PatchExample
from geminga.geometry import to_plane, unit_vectors
from geminga.patches.grid import PatchGrid, grid_for_sky
from geminga.patches.records import image_columns
from geminga.patches.store import group_sizes, read_group
from geminga.pipeline.runner import Context

SHOWN_LATITUDES_DEG = (60.0, 20.0, 2.0)


def example_patches(
    context: Context, sky: int, truth: pd.DataFrame | None, candidates: pd.DataFrame
) -> list[PatchExample]:
    """Return one patch of a sky at high, middle and low latitude.

    Parameters
    ----------
    context : Context
        The run; its MIUN is applied to the patches.
    sky : int
        Test sky.
    truth : DataFrame or None
        True (or catalogued) sources to mark, with ``lon_deg`` and ``lat_deg``.
    candidates : DataFrame
        Detections to mark.
    """
    config = context.config
    path = patch_file(context.folder("observe"), sky)
    scores = MiunScores(config, context.folder("miun") / "model")
    grid = grid_for_sky(config, sky)
    examples = []
    for patch in _chosen(grid):
        records = _record(path, patch)
        lon, lat = grid.centres()
        frame = records["frame"][0]
        target = records["target"][0]
        examples.append(
            PatchExample(
                f"l {lon[patch]:.0f}°, b {lat[patch]:.0f}°",
                config.patches.size_deg,
                [records[c][0] for c in image_columns(config.channels)],
                target if target.any() else None,
                scores(records)[0],
                _inside(frame, truth, config.patches.size_deg),
                _inside(frame, candidates, config.patches.size_deg),
            )
        )
    return examples


def _chosen(grid: PatchGrid) -> list[int]:
    _, lat = grid.centres()
    return [int(np.argmin(np.abs(np.abs(lat) - wanted))) for wanted in SHOWN_LATITUDES_DEG]


def _record(file: Path, patch: int) -> dict[str, Any]:
    first = 0
    for group, size in enumerate(group_sizes(file)):
        if patch < first + size:
            row = patch - first
            return {k: v[row : row + 1] for k, v in read_group(file, group).items()}
        first += size
    raise ValueError(f"patch {patch} is not in {file}")


def _inside(frame: Float64, table: pd.DataFrame | None, size_deg: float) -> Float64:
    if table is None or table.empty:
        return np.zeros((0, 2))
    vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    x, y = to_plane(frame, vectors)
    keep = (np.abs(x) < size_deg / 2) & (np.abs(y) < size_deg / 2)
    return np.stack([x[keep], y[keep]], axis=1)
