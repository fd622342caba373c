"""The maps of an ingestion: partial counts added to what there is, written with their provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from geminga import storage
from geminga.arrays import Int32
from geminga.bands import Channel
from geminga.files import atomic, write_json
from geminga.pipeline.ingested import (
    GOOD_TIMES_FILE,
    PROVENANCE_FILE,
    Ingestion,
    State,
    damaged,
    header_cards,
    joined,
    provenance,
)
from geminga.sky.formats.healpix_write import write_counts_map
from geminga.sky.partial_counts import add_counts


def map_name(channel: Channel, nside: int) -> str:
    """Return the name of a channel's map."""
    types = f"_{'+'.join(channel.event_types)}" if channel.labelled else ""
    return f"counts_{channel.emin_gev:g}-{channel.emax_gev:g}GeV{types}_nside{nside}.fits"


def write_maps(maps: Path, parts: Sequence[Path], state: State, ingestion: Ingestion) -> None:
    """Add counts to the maps that are there, and put the new ones in their place, all at once.

    One map is in memory at a time, and beside it those of a part of the time, if it is divided.

    Parameters
    ----------
    maps : Path
        Folder of the maps.
    parts : sequence of Path
        Files of partial counts.
    state : State
        After they are added; its `photons` are those of the maps that are there.
    ingestion : Ingestion

    Raises
    ------
    InputError
        If a map that is there is damaged, or holds another number of photons than it should.
    """
    channels, bins = ingestion.config.channels, ingestion.time_bins
    numbers = {}
    with atomic(maps) as folder:
        folder.mkdir(parents=True)
        for index, channel in enumerate(channels):
            name = map_name(channel, ingestion.nside)
            cards = header_cards(ingestion, state, channel)
            total = np.zeros(12 * ingestion.nside**2, dtype=np.int32)
            held = 0
            for number in range(bins):
                place = Path(f"time_{number:03d}") / name if bins > 1 else Path(name)
                counts = total if bins == 1 else np.zeros_like(total)
                if state.photons:
                    old = _old_counts(storage.here(maps / place), len(total))
                    held += int(old.sum())
                    counts += old
                for part in parts:
                    add_counts(counts, number * len(channels) + index, storage.here(part))
                if bins > 1:
                    total += counts
                    within = _bin_range(ingestion, number)
                    good = joined([state.good_times], within)
                    own = header_cards(ingestion, replace(state, good_times=good), channel)
                    (folder / place.parent).mkdir(exist_ok=True)
                    write_counts_map(folder / place, counts, channel, own, good)
            if held != state.photons.get(channel.label, 0):
                raise damaged(
                    maps / name, f"{held:,} photons, not {state.photons[channel.label]:,}"
                )
            numbers[channel.label] = int(total.sum())
            write_counts_map(folder / name, total, channel, cards, state.good_times)
        np.save(folder / GOOD_TIMES_FILE, state.good_times)
        write_json(folder / PROVENANCE_FILE, provenance(ingestion, state, numbers))


def _bin_range(ingestion: Ingestion, number: int) -> tuple[float, float]:
    start, stop = ingestion.time_range_s
    edges = np.linspace(start or 0.0, stop or 0.0, ingestion.time_bins + 1)
    return float(edges[number]), float(edges[number + 1])


def _old_counts(path: Path, pixels: int) -> Int32:
    try:
        with fits.open(path, memmap=True) as hdus:
            counts = np.array(hdus[1].data["CHANNEL1"], dtype=np.int32)
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise damaged(path, str(error)) from error
    if counts.shape != (pixels,):
        raise damaged(path, f"{counts.size:,} pixels, not {pixels:,}")
    return counts
