"""From network output to sources in each patch: groups of pixels under rising thresholds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geminga.arrays import Float32, Float64, Int32, Int64
from geminga.compiled import compiled
from geminga.config import LocalisationConfig
from geminga.localisation.scores import checked_maps, disk_area, disk_kernel_scores
from geminga.localisation.tables import check_patches, patch_detections

_PATCHES_AT_ONCE = 64  # bounds the memory of the score maps: 4 MiB at 128 pixels

_HALVINGS = 2
"""How often a step that would leave nothing of a group is halved before the group is kept."""


@compiled
def _split_segment(
    scores: Float32,
    level: float,
    pixels: Int32,
    start: int,
    end: int,
    waiting: Int32,
    serial: int,
    queue: Int32,
    lengths: Int32,
) -> int:
    """Find the 8-connected groups of score >= level among pixels[start:end].

    The groups are left one after the other from `start` on, their sizes in `lengths`; the
    segment is untouched if there is none. `waiting` marks pixels not yet taken with `serial`.
    """
    n = scores.shape[0]
    for i in range(start, end):
        if scores[pixels[i] // n, pixels[i] % n] >= level:
            waiting[pixels[i]] = serial
    filled = 0
    groups = 0
    for i in range(start, end):
        seed = pixels[i]
        if waiting[seed] != serial:
            continue
        first = filled
        waiting[seed] = 0
        queue[filled] = seed
        filled += 1
        head = first
        while head < filled:
            row, column = queue[head] // n, queue[head] % n
            head += 1
            for r in range(max(row - 1, 0), min(row + 2, n)):
                for c in range(max(column - 1, 0), min(column + 2, n)):
                    p = r * n + c
                    if waiting[p] == serial:
                        waiting[p] = 0
                        queue[filled] = p
                        filled += 1
        lengths[groups] = filled - first
        groups += 1
    for i in range(filled):
        pixels[start + i] = queue[i]
    return groups


@compiled
def _radius(pixels: Int32, start: int, end: int, n: int) -> float:
    """Return the largest distance of a pixel of the group from the mean of its pixels."""
    row, column = 0.0, 0.0
    for i in range(start, end):
        row += pixels[i] // n
        column += pixels[i] % n
    row /= end - start
    column /= end - start
    largest = 0.0
    for i in range(start, end):
        y, x = pixels[i] // n - row, pixels[i] % n - column
        largest = max(largest, y * y + x * x)
    return float(np.sqrt(largest))


@compiled
def _measure(
    scores: Float32, level: float, pixels: Int32, start: int, end: int, out: Float64
) -> None:
    """Write (row, column, highest score, pixels) of a group: centroid of score above level."""
    n = scores.shape[0]
    total, row, column, plain_row, plain_column, highest = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(start, end):
        r, c = pixels[i] // n, pixels[i] % n
        value = float(scores[r, c])
        weight = value - level
        total += weight
        row += weight * r
        column += weight * c
        plain_row += r
        plain_column += c
        highest = max(highest, value)
    count = end - start
    if total > 0:
        out[0], out[1] = row / total, column / total
    else:  # every pixel exactly at the level: all count the same
        out[0], out[1] = plain_row / count, plain_column / count
    out[2], out[3] = highest, count


@compiled
def _find_groups(
    scores: Float32, threshold: float, step: float, max_radius: float, highest: float, halvings: int
) -> tuple[Int64, Float64]:
    """Return (patch, (row, column, score, pixels)) of every group of every map.

    `highest` is the highest score possible, that of a kernel full of ones.
    """
    patches, n, _ = scores.shape
    size = n * n
    # No more than one 8-connected group fits in a square of 2 x 2 pixels.
    most = ((n + 1) // 2) ** 2 + 1
    pixels, queue = np.empty(size, np.int32), np.empty(size, np.int32)
    waiting, lengths = np.zeros(size, np.int32), np.empty(most, np.int32)
    stack = np.empty((most + 1, 2), np.int32)
    levels, steps = np.empty(most + 1), np.empty(most + 1)
    # What a group was when it first was compact: it stands if no split comes of rising further.
    compact, kept = np.empty((most + 1, 4)), np.zeros(most + 1, np.bool_)
    result = np.empty(4)
    smallest = step / 2.0**halvings
    patch_of, found = np.empty(1024, np.int64), np.empty((1024, 4))
    count = 0
    for patch in range(patches):
        score = scores[patch]
        above = 0
        for row in range(n):
            for column in range(n):
                if score[row, column] >= threshold:
                    pixels[above] = row * n + column
                    above += 1
        if above == 0:
            continue
        waiting[:] = 0
        serial = 1
        depth = 0
        groups = _split_segment(score, threshold, pixels, 0, above, waiting, serial, queue, lengths)
        end = above
        for g in range(groups - 1, -1, -1):  # last first, so that groups come out in scan order
            stack[depth, 0], stack[depth, 1] = end - lengths[g], end
            levels[depth], steps[depth], kept[depth] = threshold, step, False
            end -= lengths[g]
            depth += 1
        while depth > 0:
            depth -= 1
            start, end = stack[depth, 0], stack[depth, 1]
            level, rise, known = levels[depth], steps[depth], kept[depth]
            result[:] = compact[depth]
            radius = _radius(pixels, start, end, n)
            if radius <= max_radius and not known:
                _measure(score, level, pixels, start, end, result)
                known = True
            # A single disk's group shrinks about linearly on the way to the highest score.
            allowed = max_radius
            if level > threshold:
                allowed *= max(highest - level, 0.0) / (highest - threshold)
            groups = 0
            if radius > allowed:
                while groups == 0 and rise >= smallest:
                    serial += 1
                    groups = _split_segment(
                        score, level + rise, pixels, start, end, waiting, serial, queue, lengths
                    )
                    if groups == 0:
                        rise /= 2.0
            if groups == 0:
                if not known:
                    _measure(score, level, pixels, start, end, result)
                if count == patch_of.size:
                    longer, wider = np.empty(2 * count, np.int64), np.empty((2 * count, 4))
                    longer[:count], wider[:count] = patch_of, found
                    patch_of, found = longer, wider
                patch_of[count] = patch
                found[count] = result
                count += 1
                continue
            end = start
            for g in range(groups):
                end += lengths[g]
            for g in range(groups - 1, -1, -1):
                stack[depth, 0], stack[depth, 1] = end - lengths[g], end
                levels[depth], steps[depth] = level + rise, rise
                kept[depth] = known and groups == 1
                compact[depth] = result
                end -= lengths[g]
                depth += 1
    return patch_of[:count].copy(), found[:count].copy()


def find_sources(
    maps: Float32,
    sky_id: int,
    patch_ids: Int64,
    frames: Float64,
    size_deg: float,
    settings: LocalisationConfig,
) -> pd.DataFrame:
    """Find sources in network output by thresholds that rise until groups are compact.

    The map is summed over the disk kernel; 8-connected groups of pixels with a score of at least
    ``threshold`` are sources. A group with a pixel farther than ``max_group_radius_px`` from its
    centre is taken again at a threshold higher by ``threshold_step``, each part on its own, until
    every part is compact or nothing is left: then the group is one source at the last threshold
    it survived. A source's position is the centroid of the score above the threshold at which it
    became compact, its score the highest of its pixels.

    Parameters
    ----------
    maps : Float32, shape (patches, n, n)
        Network output, 0 to 1.
    sky_id : int
        Sky of the patches.
    patch_ids : Int64, shape (patches,)
        Patch numbers.
    frames : Float64, shape (patches, 3, 3)
        Tangent frames.
    size_deg : float
        Width of a patch.
    settings : LocalisationConfig
        Kernel radius, threshold, step and largest radius of a group.

    Returns
    -------
    pandas.DataFrame
        PATCH_DETECTIONS, in the order of the patches and, in each, of the rows.

    Raises
    ------
    InputError
        If shapes disagree or a value of `maps` is not finite.

    Notes
    -----
    Thesis, section on localisation: threshold 30 of 69, step 10, radius 5 px. Two additions, for
    groups that did not pass at the first threshold: a step that would leave nothing is halved,
    twice at most; and a part that is compact but wider than a single disk would be so near the
    highest score still has to show that it does not split. Two full disks 8 px apart (0.6 deg)
    join at 65 of 69, in a group of less than 5 px, and would be one source between them.
    """
    maps = checked_maps(maps)
    check_patches(len(maps), patch_ids, frames)
    patch = [np.empty(0, np.int64)]
    found = [np.empty((0, 4))]
    for first in range(0, len(maps), _PATCHES_AT_ONCE):
        scores = disk_kernel_scores(
            maps[first : first + _PATCHES_AT_ONCE], settings.kernel_radius_px
        )
        part, values = _find_groups(
            scores,
            settings.threshold,
            settings.threshold_step,
            settings.max_group_radius_px,
            float(disk_area(settings.kernel_radius_px)),
            _HALVINGS,
        )
        patch.append(part + first)
        found.append(values)
    row, column, score, group_pixels = np.concatenate(found).T
    return patch_detections(
        sky_id,
        patch_ids,
        frames,
        size_deg,
        maps.shape[1],
        np.concatenate(patch),
        row,
        column,
        score,
        group_pixels.astype(np.int64),
    )
