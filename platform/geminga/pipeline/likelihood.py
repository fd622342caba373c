"""Likelihood search of whole skies, with an estimated background or, as a ceiling, the true one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geminga.config import Config
from geminga.distributed.likelihood import LikelihoodSearcher, list_file
from geminga.distributed.session import ray_session
from geminga.distributed.simulate import patch_pieces
from geminga.distributed.work import run_here, run_pieces
from geminga.files import read_parquet, write_parquet
from geminga.likelihood.position_errors import TAIL, calibrated_positions
from geminga.likelihood.sky_list import sky_list
from geminga.patches.grid import grid_for_sky
from geminga.tables import CANDIDATES, patch_sources


def likelihood_search(
    config: Config,
    patches: Path,
    skies: Sequence[int],
    folder: Path,
    reference: str,
    true_skies: tuple[str, str] | None = None,
    label: str = "likelihood",
    here: bool = False,
) -> dict[int, pd.DataFrame]:
    """Search skies; finished groups of patches in `folder` are not searched again.

    Every patch first finds its sources by itself; the sky's list of them is then what the last
    round of every patch starts from, so that a patch knows what shines into it from outside.

    Parameters
    ----------
    config : Config
    patches : Path
        Folder of the counted patches.
    skies : sequence of int
    folder : Path
        Working folder of this search.
    reference : str
        Diffuse counts of the reference model.
    true_skies : (str, str), optional
        See `LikelihoodSearcher`.
    label : str
        For the progress lines.
    here : bool
        Search in this process, not in Ray's: quicker for a few patches, with the same result.

    Returns
    -------
    dict of DataFrame
        `patch_sources` of each sky, every source once.
    """
    thresholds = config.likelihood.search_thresholds
    table = patch_sources(len(config.channels))
    known = ""
    lists: dict[int, pd.DataFrame] = {}
    for number, part in enumerate((thresholds[:-1], thresholds[-1:])):
        target, title = folder / f"round{number}", f"{label}, round {number + 1} of 2"
        pieces = patch_pieces(patches, skies)
        arguments = (
            config.model_dump_json(),
            reference,
            str(target.resolve()),
            part,
            known,
            true_skies,
        )
        if here:
            rows = run_here(LikelihoodSearcher, arguments, pieces, title, "group")
        else:
            with ray_session():
                rows = run_pieces(
                    LikelihoodSearcher, arguments, pieces, config.run.workers, title, "group"
                )
        found: dict[int, list[pd.DataFrame]] = {sky: [] for sky in skies}
        for piece, row in zip(pieces, rows, strict=True):
            found[int(piece["sky_id"])].append(read_parquet(Path(row["sources"])))
        for sky in skies:
            whole = sky_list(pd.concat(found[sky], ignore_index=True), grid_for_sky(config, sky))
            lists[sky] = table.check(whole, "sources")
            write_parquet(list_file(target, sky), lists[sky])
        known = str(target.resolve())
    return lists


def candidates_of(sources: pd.DataFrame, config: Config, sky_id: int) -> pd.DataFrame:
    """Return fitted sources as candidates: columns of CANDIDATES, then what the fit says.

    The score is the TS, the position error the mean of the two axes of the ellipse, which is
    calibrated (`geminga.likelihood.position_errors`): `sources` come as fitted.
    """
    sources = calibrated_positions(sources)
    grid = grid_for_sky(config, sky_id)
    lon, lat = sources["lon_deg"].to_numpy(), sources["lat_deg"].to_numpy()
    variance = 0.5 * (sources["cov_east_deg2"] + sources["cov_north_deg2"]).to_numpy()
    base = CANDIDATES.frame(
        {
            "sky_id": sources["sky_id"],
            "lon_deg": lon,
            "lat_deg": lat,
            "position_error_deg": np.sqrt(variance),
            "score": sources["ts"],
            "n_patches": np.ones(len(sources), np.int64),
            "n_patches_covering": np.maximum(grid.covers(lon, lat), 1),
        }
    )
    names = patch_sources(len(config.channels)).names
    further = [name for name in names if name not in base.columns] + [TAIL]
    return pd.concat([base, sources[further].reset_index(drop=True)], axis=1)
