"""Expected counts of the diffuse emission: intensity times exposure, smeared with the PSF."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geminga import tables
from geminga.arrays import Float32, Float64
from geminga.bands import edges_mev
from geminga.classes import DIFFUSE_COMPONENTS, EXTENDED, INTERSTELLAR, ISOTROPIC
from geminga.config import Config, data_path
from geminga.errors import InputError
from geminga.files import atomic, map_arrays
from geminga.response import Response
from geminga.response.selection import check_entries
from geminga.sky.emission.diffuse_models import (
    Interstellar,
    Isotropic,
    builtin_interstellar,
    builtin_isotropic,
    check_range,
    read_isotropic,
)
from geminga.sky.emission.extended import read_extended, template_paths
from geminga.sky.emission.extended_maps import extended_counts
from geminga.sky.emission.folding import convolve, interstellar_integrals, isotropic_integral
from geminga.sky.emission.mapcube import MapCube
from geminga.sky.emission.templates import (
    is_template,
    read_template,
    template_files,
    template_model,
)
from geminga.sky.populations.depth import isotropic_left
from geminga.sky.populations.population import load_population

_LOG = logging.getLogger(__name__)
BUILTIN = "builtin"
_ARRAYS = ("interstellar", "models", "isotropic", "isotropic_left", "extended", "origin")
_ROW = "extended_"
PSF_INDEX = 2.4
"""Spectral index of interstellar emission for the choice of its PSF."""


@dataclass(frozen=True)
class DiffuseCounts:
    """Expected counts per steradian over the whole observing time, exposure and PSF folded in.

    Attributes
    ----------
    interstellar : Float32 (M, C, npix)
        Of each interstellar model (RING, Galactic).
    models : tuple of str (M,)
        Names of the models, as configured.
    isotropic : Float32 (C, npix)
    isotropic_left : Float64 (C,)
        Part of the isotropic emission that is left where ``sky.depth`` turns some of it into
        sources.
    extended : Float32 (C, npix), or (C, 0) without extended sources
    nside : int
    origin : dict
        Origin of each component.
    extended_sources : DataFrame
        Table EXTENDED of the sources in `extended`.
    """

    interstellar: Float32
    models: tuple[str, ...]
    isotropic: Float32
    isotropic_left: Float64
    extended: Float32
    nside: int
    origin: dict[str, str]
    extended_sources: pd.DataFrame = field(default_factory=tables.EXTENDED.empty)

    @classmethod
    def of_maps(cls, interstellar: Float32, isotropic: Float32) -> DiffuseCounts:
        """Return diffuse counts of one interstellar and an isotropic map, both (C, npix)."""
        return cls(
            np.asarray(interstellar, dtype=np.float32)[None],
            ("given",),
            np.asarray(isotropic, dtype=np.float32),
            np.ones(len(isotropic)),
            np.zeros((len(isotropic), 0), dtype=np.float32),
            int(healpy.npix2nside(isotropic.shape[1])),
            {INTERSTELLAR: "given", ISOTROPIC: "given", EXTENDED: "none"},
        )

    def component(self, name: str, model: int, channel: int) -> Float32:
        """Return the map of a component (npix,); `model` chooses the interstellar one."""
        if name == INTERSTELLAR:
            values = self.interstellar[model, channel]
        elif name == ISOTROPIC:
            values = self.isotropic[channel]
        elif self.extended.shape[1] == 0:
            values = np.zeros(healpy.nside2npix(self.nside), dtype=np.float32)
        else:
            values = self.extended[channel]
        return np.asarray(values)

    def save(self, path: Path) -> None:
        """Write the maps as one npz file."""
        content: dict[str, NDArray[Any]] = {
            "interstellar": self.interstellar,
            "models": np.array(self.models),
            "isotropic": self.isotropic,
            "isotropic_left": self.isotropic_left,
            "extended": self.extended,
            "origin": np.array([self.origin[name] for name in DIFFUSE_COMPONENTS]),
        }
        for name in tables.EXTENDED.names:
            content[f"{_ROW}{name}"] = _plain(self.extended_sources[name])
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **content)

    @classmethod
    def load(cls, path: Path) -> DiffuseCounts:
        """Read what `save` wrote; maps stay in the file, shared by all processes of a machine.

        Raises
        ------
        InputError
            If the file is missing, damaged or of another kind.
        """
        rows = {name: f"{_ROW}{name}" for name in tables.EXTENDED.names}
        names = (*_ARRAYS, *rows.values())
        try:
            content = map_arrays(path, names)
            nside = int(healpy.npix2nside(content["isotropic"].shape[-1]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                str(path), f"is not a file of diffuse counts ({error})", "compute it anew"
            ) from error
        return cls(
            content["interstellar"],
            tuple(str(name) for name in content["models"]),
            content["isotropic"],
            content["isotropic_left"],
            content["extended"],
            nside,
            dict(zip(DIFFUSE_COMPONENTS, (str(n) for n in content["origin"]), strict=True)),
            tables.EXTENDED.frame({name: _listed(content[key]) for name, key in rows.items()}),
        )


def _plain(values: pd.Series[Any]) -> NDArray[Any]:
    """Return a column as an array that numpy stores without pickling."""
    return np.array([str(v) for v in values]) if values.dtype.kind == "O" else values.to_numpy()


def _listed(values: NDArray[Any]) -> list[Any]:
    return [str(v) for v in values] if values.dtype.kind == "U" else values.tolist()


def model_names(config: Config) -> tuple[str, ...]:
    """Return the interstellar models of training skies, then those of test skies alone."""
    return tuple(dict.fromkeys([*config.sky.interstellar, *config.sky.test_interstellar]))


def reference_config(config: Config) -> Config:
    """Return the settings of the diffuse emission that a search takes as its reference."""
    sky = {
        "interstellar": (config.likelihood.reference,),
        "test_interstellar": (),
        # Faint sources that are told apart from the isotropic emission are background all the same.
        "depth": None,
        "least_ts": None,
    }
    return config.model_copy(update={"sky": config.sky.model_copy(update=sky)})


def diffuse_files(config: Config) -> list[Path]:
    """Return every file that the diffuse emission of a configuration is read from.

    Raises
    ------
    InputError
        If a model is neither built in nor a file, or another file is missing.
    """
    sky, files = config.sky, []
    for name in model_names(config):
        if name == BUILTIN:
            continue
        try:
            files += [data_path(config, part) for part in template_files(name)]
        except InputError as error:
            key = "interstellar" if name in sky.interstellar else "test_interstellar"
            raise InputError(
                f"sky.{key}",
                f"{name!r} is neither 'builtin' nor found ({error.where}: {error.problem})",
                "name a mapcube or HEALPix templates in the data folder",
            ) from error
    files += [data_path(config, name) for name in _isotropic_names(config) if name != BUILTIN]
    for other in (sky.fine_structure, sky.extended):
        files += [] if other is None else [data_path(config, f) for f in template_files(other)]
    return files + ([] if sky.extended is None else template_paths(config, sky.extended))


def diffuse_counts(config: Config, response: Response) -> DiffuseCounts:
    """Compute the diffuse counts of a configuration.

    Counts per steradian are the integral over a channel's energies of intensity times exposure
    at every direction; interstellar ones and those of extended sources are then convolved with
    the PSF of the channel by spherical harmonics.

    Parameters
    ----------
    config : Config
    response : Response

    Raises
    ------
    InputError
        If a model file cannot be used or stops short of the bands, or the faint sources of
        ``sky.depth`` outshine the isotropic emission.
    """
    nside = config.sky.diffuse_nside
    diffuse_files(config)
    isotropic = isotropic_models(config)
    for table in dict.fromkeys(isotropic):
        _check_model(table, response)
    channels = range(len(response.channels))
    flat = np.empty((len(channels), healpy.nside2npix(nside)), dtype=np.float32)
    for channel in channels:
        flat[channel] = isotropic_integral(isotropic[channel], response, channel, nside)
    names, models = model_names(config), interstellar_models(config)
    counts = np.empty((len(names), *flat.shape), dtype=np.float32)
    windows = [response.psf.harmonic(channel, PSF_INDEX, 2 * nside) for channel in channels]
    for model in models:
        _check_model(model, response)
    for number, model in enumerate(models):
        whole = interstellar_integrals(model, response, nside)
        for channel in channels:
            counts[number, channel] = convolve(whole[channel], windows[channel])
    extended, listed, origin = flat[:, :0], tables.EXTENDED.empty(), "none"
    if config.sky.extended is not None:
        sources = read_extended(config, config.sky.extended)
        extended = extended_counts(sources, response, nside)
        listed, origin = sources.table(), sources.origin
    return DiffuseCounts(
        counts,
        names,
        flat,
        _left(config, response, flat),
        extended,
        nside,
        {
            INTERSTELLAR: "; ".join(model.origin for model in models),
            ISOTROPIC: "; ".join(dict.fromkeys(table.origin for table in isotropic)),
            EXTENDED: origin,
        },
        listed,
    )


def _left(config: Config, response: Response, flat: Float32) -> Float64:
    """Return the part of the isotropic emission (C,) that is left beside faint sources."""
    population = load_population(config.sky.population)
    if set(config.classes) - set(population.classes):
        # Drawing the sources names the class that is missing.
        return np.ones(len(flat))
    pixel_sr = healpy.nside2pixarea(config.sky.diffuse_nside)
    counts = flat.sum(axis=1, dtype=np.float64) * pixel_sr
    return isotropic_left(population, config, response, counts)


def _isotropic_names(config: Config) -> list[str]:
    """Return the isotropic table of each entry of ``response.event_types``."""
    entries, named = config.response.event_types, config.sky.isotropic
    if isinstance(named, str):
        return [named] * len(entries)
    check_entries("sky.isotropic", named, entries)
    return [named[entry] for entry in entries]


def isotropic_models(config: Config) -> tuple[Isotropic, ...]:
    """Return the isotropic emission of each channel of a configuration, shape (C,).

    What is left of cosmic rays is part of it, and differs between event types.
    """
    read = {
        name: builtin_isotropic(config.response.irf)
        if name == BUILTIN
        else read_isotropic(data_path(config, name))
        for name in _isotropic_names(config)
    }
    return tuple(read[name] for name in _isotropic_names(config) for _ in config.bands)


def interstellar_models(config: Config) -> list[Interstellar]:
    """Return the models of a configuration, in the order of their names."""
    builtin = builtin_interstellar()
    fine = config.sky.fine_structure
    structure = None if fine is None else read_template(config, fine)
    models: list[Interstellar] = []
    for name in model_names(config):
        if name == BUILTIN:
            _LOG.info("interstellar emission: %s", builtin.origin)
            models.append(builtin)
        elif is_template(config, name):
            models.append(template_model(config, name, builtin))
        else:
            models.append(MapCube(data_path(config, name), structure, fine or ""))
    if fine is not None and not any(isinstance(model, MapCube) for model in models):
        raise InputError(
            "sky.fine_structure",
            f"{fine} has no map cube to fill among sky.interstellar {list(model_names(config))}",
            "name a map cube, or leave it out",
        )
    return models


def _check_model(model: Interstellar | Isotropic, response: Response) -> None:
    """Check a model's energies against the bands."""
    edges = edges_mev(response.channels)
    first, last, end = edges[:, 0].min(), edges[:, 0].max(), edges[:, 1].max()
    check_range(model.energy_mev, first, last, model.origin)
    if model.energy_mev[-1] < end:
        _LOG.info(
            "%s ends at %.4g GeV; a power law goes on to %.4g GeV",
            model.origin,
            model.energy_mev[-1] / 1e3,
            end / 1e3,
        )
