"""What an ingestion has counted so far: the files it has seen, their selection, their times.

Kept in ``provenance.json`` beside the maps; the two change together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from geminga.arrays import Float64
from geminga.bands import Channel, edges_mev
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import read_json
from geminga.response.event_types import type_bits
from geminga.sky.formats.selection import Selection
from geminga.sky.observation import Observation, dss_cards

MAPS = "counts"
PROVENANCE_FILE = "provenance.json"
GOOD_TIMES_FILE = "good_times.npy"
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class Ingestion:
    """What does not change from one call to the next.

    Attributes
    ----------
    config : Config
    nside : int
    class_bits : tuple of int
        EVENT_CLASS bits that are asked for.
    max_zenith_deg : float or None
    time_range_s : tuple of two floats or None, or None
        Times taken, mission elapsed time; an end that is None is open.
    time_bins : int
        Equal parts of that time with maps of their own.
    """

    config: Config
    nside: int
    class_bits: tuple[int, ...]
    max_zenith_deg: float | None
    time_range_s: tuple[float | None, float | None]
    time_bins: int

    def selection(self) -> dict[str, Any]:
        """Return what has to be the same in every call, as JSON keeps it."""
        start, stop = self.time_range_s
        return {
            "channels": [channel.label for channel in self.config.channels],
            "zenith_angles_deg": [channel.max_zenith_deg for channel in self.config.channels],
            "event_types": list(self.config.response.event_types),
            "irf": self.config.response.irf,
            "nside": self.nside,
            "event_class_bits": list(self.class_bits),
            "max_zenith_deg": self.max_zenith_deg,
            "from_met_s": start,
            "to_met_s": stop,
            "time_bins": self.time_bins,
        }


@dataclass(frozen=True)
class SeenFile:
    """An event list that was counted.

    Attributes
    ----------
    file : str
        Its name.
    sha256 : str
        Digest of its bytes, shortened.
    bytes, rows : int
    start_s, stop_s : float or None
        The time it covers, mission elapsed time.
    class_bits, type_bits : tuple of int or None
        Event classes and types it was cut to.
    max_zenith_deg : float or None
        Zenith angle it was cut at.
    region : str or None
        Position cut.
    """

    file: str
    sha256: str
    bytes: int
    rows: int
    start_s: float | None
    stop_s: float | None
    class_bits: tuple[int, ...] | None
    type_bits: tuple[int, ...] | None
    max_zenith_deg: float | None
    region: str | None

    @classmethod
    def of(
        cls, path: Path, answer: Mapping[str, Any], selection: Selection, good_times: Float64
    ) -> SeenFile:
        """Make it of what the examiner of a file answered."""
        spans = len(good_times) > 0
        return cls(
            path.name,
            str(answer["digest"]),
            int(answer["bytes"]),
            int(answer["rows"]),
            float(good_times.min()) if spans else None,
            float(good_times.max()) if spans else None,
            None if selection.class_bits is None else tuple(sorted(selection.class_bits)),
            None if selection.type_bits is None else tuple(sorted(selection.type_bits)),
            selection.max_zenith_deg,
            selection.region,
        )


@dataclass(frozen=True, eq=False)
class State:
    """What was counted so far.

    Attributes
    ----------
    files : tuple of SeenFile
    passed : dict of str to int
        Rows read, and left after each cut.
    good_times : Float64 (n, 2)
        Good time intervals of the files, without those that are cut away.
    photons : mapping of str to int
        In the maps on the disk, by the label of their channel; empty if there are none.
    """

    files: tuple[SeenFile, ...]
    passed: dict[str, int]
    good_times: Float64
    photons: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Hold a folder of results while the block adds to it: two at once would count photons twice.

    The lock goes with the process, however it ends; see `geminga.pipeline.taking`.

    Raises
    ------
    InputError
        If another process holds it, or the folder cannot be written.
    """
    made, path = not out.exists(), out / LOCK_FILE
    lock = FileLock(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            "--out",
            f"{out} is being added to by another process",
            "wait until it is done, or choose another folder",
        ) from error
    except OSError as error:
        raise InputError(
            "--out", f"{out} cannot be written ({error.strerror})", "choose another"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if made:
            with suppress(OSError):  # results are in it
                out.rmdir()
        lock.release()


def read_state(folder: Path, ingestion: Ingestion) -> State:
    """Read what a folder of maps holds; nothing was counted if there is none.

    Raises
    ------
    InputError
        If it was made with another selection, or is damaged.
    """
    path = folder / PROVENANCE_FILE
    tree = read_json(path)
    asked = ingestion.selection()
    try:
        held = tree["selection"]
        files = tuple(_seen_file(item) for item in tree["files"])
        passed = {str(key): int(number) for key, number in tree["rows"].items()}
        photons = {str(key): int(number) for key, number in tree["photons"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            str(path), f"is no provenance of an ingestion ({error})", "choose another --out"
        ) from error
    for key, value in asked.items():
        if held.get(key) != value:
            raise InputError(
                "--out",
                f"{folder} was ingested with {key} = {held.get(key)}, not {value}",
                "use the same settings again, or choose another folder",
            )
    path = folder / GOOD_TIMES_FILE
    try:
        good_times: Float64 = np.load(path, allow_pickle=False).reshape(-1, 2)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, str(error)) from error
    return State(files, passed, good_times, photons)


def damaged(path: Path, problem: str) -> InputError:
    """Return the error of results that cannot be added to."""
    return InputError(str(path), f"is damaged ({problem})", "ingest all lists into a new folder")


def _seen_file(tree: Mapping[str, Any]) -> SeenFile:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
    return SeenFile(**values)


def provenance(ingestion: Ingestion, state: State, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what is written beside the maps; the same for any order of files and calls."""
    return {
        "config_hash": ingestion.config.hash(),
        "selection": ingestion.selection(),
        "files": [asdict(file) for file in state.files],
        "rows": state.passed,
        "photons": dict(counts),
    }


def joined(intervals: Sequence[Float64], within: tuple[float | None, float | None]) -> Float64:
    """Return intervals (n, 2) joined where they touch or overlap, and cut to a range."""
    start, stop = (-np.inf if within[0] is None else within[0]), within[1]
    every: Float64 = np.concatenate([np.empty((0, 2)), *intervals])
    every = np.clip(every, start, np.inf if stop is None else stop)
    every = every[every[:, 1] > every[:, 0]]
    if not len(every):
        return every
    every = every[np.lexsort((every[:, 1], every[:, 0]))]
    reached = np.maximum.accumulate(every[:, 1])
    first = np.concatenate([[True], every[1:, 0] > reached[:-1]])
    last = np.concatenate([np.flatnonzero(first)[1:] - 1, [len(every) - 1]])
    return np.stack([every[first, 0], reached[last]], axis=1)


def overlap_s(one: Float64, other: Float64) -> float:
    """Return how long two sets of joined intervals overlap, s."""
    both = float(np.sum(one[:, 1] - one[:, 0]) + np.sum(other[:, 1] - other[:, 0]))
    union = joined([one, other], (None, None))
    return both - float(np.sum(union[:, 1] - union[:, 0]))


def header_cards(ingestion: Ingestion, state: State, channel: Channel) -> list[tuple[Any, ...]]:
    """Return the keywords of time and selection of a map: true of every file in it."""
    config, files = ingestion.config, state.files
    version = config.response.irf.split("_")[0]
    cuts: list[tuple[str, str, str]] = []
    bit = _class_bit(ingestion, files)
    if bit is not None:
        cuts.append((f"BIT_MASK(EVENT_CLASS,{1 << bit},{version})", "DIMENSIONLESS", "1:1"))
    regions = {file.region for file in files}
    if len(regions) == 1:
        cuts.append(("POS(RA,DEC)", "deg", next(iter(regions)) or "CIRCLE(0,0,180)"))
    types = sum(1 << number for number in type_bits(channel.event_types))
    edges = edges_mev([channel])[0]
    limit = channel.max_zenith_deg
    limit = min(limit, ingestion.max_zenith_deg or limit)
    zenith = max((min(limit, file.max_zenith_deg or limit) for file in files), default=limit)
    cuts += [
        ("TIME", "s", "TABLE"),
        (f"BIT_MASK(EVENT_TYPE,{types},{version})", "DIMENSIONLESS", "1:1"),
        ("ENERGY", "MeV", f"{edges[0]:.10g}:{edges[1]:.10g}"),
        ("ZENITH_ANGLE", "deg", f"0:{zenith:g}"),
    ]
    cards: list[tuple[Any, ...]] = [*dss_cards(cuts)]
    good = state.good_times
    if len(good):
        seen = Observation(config.response.irf, float(good.min()), float(good.max()))
        # The date of writing would make every file another.
        cards = [*(card for card in seen.times() if card[0] != "DATE"), *cards]
    return cards


def _class_bit(ingestion: Ingestion, files: Sequence[SeenFile]) -> int | None:
    """Return the class that every photon is of: the loosest of the files', as the cuts leave it.

    Standard classes are nested: a higher bit holds a subset of the events of a lower one.
    """
    asked = max(ingestion.class_bits, default=-1)
    bits = [max((asked, *(file.class_bits or ()))) for file in files] or [asked]
    return None if min(bits) < 0 else min(bits)
