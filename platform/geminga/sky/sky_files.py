"""Simulated skies on disk: what is particular to each."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from geminga import storage
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import REMAKE, atomic, read_parquet, write_parquet
from geminga.response import Response
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.emission.texture import Texture
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky
from geminga.tables import TRUTH

SOURCES_FILE = "sources.parquet"
EXTENDED_FILE = "extended.parquet"
COUNTS_FILE = "counts.npz"


def save_sky(folder: Path, sky: Sky) -> None:
    """Write what is particular to a sky: sources, counts, normalisations (about 1 MB).

    The table of its extended sources goes with it.
    """
    with atomic(folder) as temporary:
        temporary.mkdir()
        write_parquet(temporary / SOURCES_FILE, sky.sources.table)
        write_parquet(temporary / EXTENDED_FILE, sky.extended_sources)
        with (temporary / COUNTS_FILE).open("wb") as stream:
            np.savez_compressed(
                stream,
                sky_id=np.int64(sky.sky_id),
                yearly=sky.sources.yearly,
                source_counts=sky.source_counts,
                source_psf_index=sky.source_psf_index,
                shares=sky.shares,
                interstellar_model=np.int64(sky.interstellar_model),
                diffuse_norm=sky.diffuse_norm,
                distortion=sky.distortion,
                texture=np.float64(sky.texture.amplitude),
                # As text: a root seed may have any number of bits.
                texture_seed=np.array(str(sky.texture.seed)),
            )


def load_sky(folder: Path, config: Config, response: Response, diffuse: DiffuseCounts) -> Sky:
    """Read a sky that `save_sky` wrote; response and diffuse emission are those of the run.

    Raises
    ------
    InputError
        If files are missing, damaged, or of a configuration with other channels or years.
    """
    table = TRUTH.check(read_parquet(folder / SOURCES_FILE), str(folder / SOURCES_FILE))
    path = folder / COUNTS_FILE
    names = (
        "sky_id",
        "yearly",
        "source_counts",
        "source_psf_index",
        "shares",
        "interstellar_model",
        "diffuse_norm",
        "distortion",
        "texture",
        "texture_seed",
    )
    try:
        with storage.here(path).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            str(path), f"is not a readable sky ({error})", f"simulate the sky anew: {REMAKE}"
        ) from error
    counts, yearly = content["source_counts"], content["yearly"]
    wanted = (len(table), len(config.channels)), (len(table), config.sky.years)
    if (counts.shape, yearly.shape) != wanted:
        raise InputError(
            str(path),
            f"has counts {counts.shape} and years {yearly.shape}",
            f"the configuration needs {wanted[0]} and {wanted[1]}; simulate the sky anew",
        )
    return Sky(
        int(content["sky_id"]),
        config.channels,
        config.classes,
        SourceSet(table, yearly),
        counts,
        content["source_psf_index"],
        content["shares"],
        diffuse,
        int(content["interstellar_model"]),
        content["diffuse_norm"],
        content["distortion"],
        response.psf,
        response.year_share,
        Texture(
            float(content["texture"]), int(content["texture_seed"].item()), int(content["sky_id"])
        ),
    )
