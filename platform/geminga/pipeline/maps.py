"""Expected counts of a simulated sky as HEALPix FITS maps."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np

from geminga.classes import components
from geminga.config import Config
from geminga.distributed.simulate import sky_folder
from geminga.errors import InputError
from geminga.files import atomic
from geminga.pipeline.simulate import DIFFUSE_FILE, sky_ids
from geminga.pipeline.stages import run_pipeline
from geminga.response import build_response
from geminga.seeds import Split
from geminga.sky.asimov import expected_map
from geminga.sky.diffuse import DiffuseCounts
from geminga.sky.sky_files import load_sky


def write_expected_maps(
    config: Config, out: Path, component: str = "all", year: int | None = None
) -> list[Path]:
    """Write the expected counts of the first test (or training) sky, one file per band.

    Parameters
    ----------
    config : Config
        Settings of the run; its skies are simulated if they are not there yet.
    out : Path
        Folder of the maps.
    component : str
        One component, or ``all`` for their sum.
    year : int, optional
        One time bin; their sum if not given.

    Raises
    ------
    InputError
        If there is no such component or year.
    """
    known = components(config.classes)
    if component != "all" and component not in known:
        raise InputError("--component", f"{component!r} is unknown", f"use all or one of {known}")
    if year is not None and not 0 <= year < config.sky.years:
        raise InputError("--year", f"{year} is out of range", f"use 0 to {config.sky.years - 1}")
    context = run_pipeline(config, until="skies")
    number = (sky_ids(config, Split.TEST) or sky_ids(config, Split.TRAIN))[0]
    sky = load_sky(
        sky_folder(context.folder("skies"), number),
        config,
        build_response(config),
        DiffuseCounts.load(context.folder("response") / DIFFUSE_FILE),
    )
    chosen = known if component == "all" else (component,)
    paths = []
    for index, channel in enumerate(config.channels):
        counts = np.sum([expected_map(sky, name, index, year) for name in chosen], axis=0)
        path = out / f"expected_{component.replace('+', '_')}_channel{index}.fits"
        with atomic(path) as temporary:
            hp.write_map(
                str(temporary),
                counts.astype(np.float32),
                coord="G",
                column_names=["COUNTS"],
                extra_header=[
                    ("EMIN", channel.emin_gev, "GeV"),
                    ("EMAX", channel.emax_gev, "GeV"),
                    ("CONFHASH", config.hash(), "hash of the configuration"),
                    ("SKY_ID", number, "simulated sky"),
                ],
                overwrite=True,
            )
        paths.append(path)
    return paths
