"""Packaged models, and the one that fits the photons of a user.

A model is a folder with ``config.yaml``, a complete configuration of a detection, and the weights
that were trained with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import geminga
from geminga.config import Config, load_config
from geminga.errors import InputError
from geminga.response.cube_choice import CubeSummary, same_types, types_text
from geminga.response.event_types import type_bits
from geminga.sky.formats.event_bits import entries_of
from geminga.sky.formats.healpix import bins_of_band
from geminga.sky.formats.healpix_file import EnergyBin

_LOG = logging.getLogger(__name__)
SHIPPED = Path(geminga.__file__).parent / "models"
CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class Model:
    """A packaged model, or one of the user's own.

    Attributes
    ----------
    name : str
    folder : Path
        Holds ``config.yaml`` and the weights.
    config : Config
    """

    name: str
    folder: Path
    config: Config

    @property
    def text(self) -> str:
        """Name, event types and bands for messages."""
        bands = ", ".join(f"{b.emin_gev:g}-{b.emax_gev:g}" for b in self.config.bands)
        return f"{self.name} ({', '.join(self.config.response.event_types)}: {bands} GeV)"


@dataclass(frozen=True)
class PhotonFile:
    """What is known of a file of photons before they are read.

    Attributes
    ----------
    path : Path
    bins : tuple of EnergyBin
        Energy bins of a counts map, without counts; none of an event list.
    energy_mev : tuple of two floats, or None
        Energies of an event list.
    types : frozenset of int, or None
        EVENT_TYPE bits it was selected to; None if it does not tell.
    class_bit : int or None
        Highest EVENT_CLASS bit it was selected to.
    span_s : tuple of two floats, or None
        Mission elapsed time.
    has_time : bool
        Whether the time of each photon is known.
    region : str or None
        Position cut.
    has_class : bool
        An event list with a column EVENT_CLASS.
    """

    path: Path
    bins: tuple[EnergyBin, ...] = ()
    energy_mev: tuple[float, float] | None = None
    types: frozenset[int] | None = None
    class_bit: int | None = None
    span_s: tuple[float, float] | None = None
    has_time: bool = False
    region: str | None = None
    has_class: bool = False


def shipped_models() -> tuple[Model, ...]:
    """Return the packaged models, by name."""
    folders = sorted(path.parent for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))
    return tuple(Model(f.name, f, load_config(f / CONFIG_FILE)) for f in folders)


def load_model(name_or_folder: str, overrides: Sequence[str] = ()) -> Model:
    """Return a packaged model by its name, or the model of a folder.

    Raises
    ------
    InputError
        If there is no such model, or its configuration is unsound.
    """
    shipped = SHIPPED / name_or_folder
    known = (shipped / CONFIG_FILE).is_file() and Path(name_or_folder).name == name_or_folder
    folder = shipped if known else Path(name_or_folder)
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(
            "--model",
            f"{name_or_folder!r} is neither a packaged model nor a folder with {CONFIG_FILE}",
            f"use one of {', '.join(m.name for m in shipped_models())}, or a folder",
        )
    name = folder.name or folder.resolve().name
    return Model(name, folder, load_config(folder / CONFIG_FILE, list(overrides)))


def choose_model(
    files: Sequence[PhotonFile],
    cubes: Sequence[CubeSummary],
    asked: Model | None,
    event_types: str | None,
) -> Model:
    """Return the model whose bands and event types are those of the files.

    Of several that fit, the one that uses the widest range of energies and, of an event list, the
    most event types; where files do not tell their event types, FRONT comes first.

    Parameters
    ----------
    files : sequence of PhotonFile
    cubes : sequence of CubeSummary
        Exposure cubes; none for the built-in exposure.
    asked : Model, optional
        The model the user wants: it is checked like the others.
    event_types : str, optional
        The event types the user states, for example ``FRONT+BACK``.

    Raises
    ------
    InputError
        If no model fits; says why, and which bands the models have.
    """
    models = shipped_models() if asked is None else (asked,)
    if event_types is not None:
        type_bits(event_types.split("+"))
    reasons = {m.name: _misfit(m, files, cubes, event_types) for m in models}
    fitting = [m for m in models if reasons[m.name] is None]
    if not fitting:
        reason = next(text for text in reasons.values() if text is not None)
        if asked is None:
            reason = "; ".join(f"{name}: {text}" for name, text in reasons.items())
        raise InputError(
            ", ".join(str(file.path) for file in files),
            f"fit no packaged model ({reason})" if asked is None else f"do not fit ({reason})",
            f"give maps or events with the bands of {' or of '.join(m.text for m in models)}",
        )
    chosen = max(fitting, key=lambda m: _preference(m, files))
    stated = all(file.types is not None for file in files) or event_types is not None
    if not stated:
        _LOG.warning(
            "the files do not say their event types: taken as %s, those of the model; "
            "--event-types states others",
            ", ".join(chosen.config.response.event_types),
        )
    _LOG.info("model %s", chosen.text)
    return chosen


def _preference(model: Model, files: Sequence[PhotonFile]) -> tuple[float, float, str]:
    bands = model.config.bands
    width = float(np.log(bands[-1].emax_gev / bands[0].emin_gev))
    types = len({name for entry in entries_of(model.config.channels) for name in entry})
    listed = all(not file.bins for file in files)
    # Only an event list that says what it holds surely has the events of all types.
    told = listed and all(file.types is not None for file in files)
    return width, float(types if told else -types), model.name


def _misfit(
    model: Model,
    files: Sequence[PhotonFile],
    cubes: Sequence[CubeSummary],
    event_types: str | None,
) -> str | None:
    """Return why a model does not fit, None if it does."""
    entries = entries_of(model.config.channels)
    names = ["+".join(entry) for entry in entries]
    if event_types is not None:
        wanted = frozenset(type_bits(event_types.split("+")))
        mine = frozenset(bit for entry in entries for bit in type_bits(entry))
        if not same_types(wanted, mine):
            return f"is of {', '.join(names)}, not of --event-types {event_types}"
    try:
        grouped = files_of_entries(model, files)
    except InputError as error:
        return error.problem
    for entry in entries:
        reason = _missing_band(model, entry, grouped["+".join(entry)])
        if reason is not None:
            return reason
        if cubes and not any(cube.is_of(entry) for cube in cubes):
            return f"no --exposure of {'+'.join(entry)}: {', '.join(c.text for c in cubes)}"
    return None


def _missing_band(model: Model, entry: tuple[str, ...], files: Sequence[PhotonFile]) -> str | None:
    """Return which band files of a selection of event types do not hold, None if they hold all."""
    channels = [c for c in model.config.channels if c.event_types == entry]
    if files and not files[0].bins:
        spans = [file.energy_mev for file in files if file.energy_mev is not None]
        low, high = min(s[0] for s in spans), max(s[1] for s in spans)
        first, last = channels[0], channels[-1]
        if low > first.emin_gev * 1e3 * (1 + 1e-6) or high <= last.emin_gev * 1e3:
            return (
                f"events of {low / 1e3:g}-{high / 1e3:g} GeV do not fill bands "
                f"{first.emin_gev:g} to {last.emax_gev:g} GeV"
            )
        return None
    bins = [energy_bin for file in files for energy_bin in file.bins]
    for channel in channels:
        try:
            bins_of_band(channel, bins, [file.path.name for file in files])
        except InputError as error:
            return error.problem
    return None


def files_of_entries(model: Model, files: Sequence[PhotonFile]) -> dict[str, list[PhotonFile]]:
    """Return the files with the photons of each of a model's selections of event types.

    An event list serves every selection it holds; a counts map is of one.

    Raises
    ------
    InputError
        If a file is of other event types, or a map does not tell which of several it is of.
    """
    entries = entries_of(model.config.channels)
    names = ["+".join(entry) for entry in entries]
    grouped: dict[str, list[PhotonFile]] = {name: [] for name in names}
    for file in files:
        fits = [
            name
            for name, entry in zip(names, entries, strict=True)
            if file.types is None or _serves(file, frozenset(type_bits(entry)))
        ]
        where = str(file.path)
        if not fits:
            held = types_text(file.types or frozenset())
            raise InputError(where, f"holds {held}, not {' or '.join(names)}", "give others")
        if file.bins and len(fits) > 1:
            raise InputError(
                where,
                f"does not say which of {', '.join(names)} it holds",
                "make the map with gtbin, whose keywords say so",
            )
        for name in fits:
            grouped[name].append(file)
    missing = [name for name, mine in grouped.items() if not mine]
    if missing:
        raise InputError("files", f"hold no {', '.join(missing)}", f"give files of {names}")
    return grouped


def _serves(file: PhotonFile, wanted: frozenset[int]) -> bool:
    held = file.types or frozenset()
    if file.bins:
        return same_types(held, wanted)
    # Events carry their types: those not wanted are left out.
    from_all = same_types(held, frozenset({0, 1}))
    return from_all or wanted <= held
