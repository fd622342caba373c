"""Workers that say which test statistic the true sources of a simulated sky can reach."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from geminga.distributed.simulate import StoredSkies
from geminga.distributed.work import KEPT, Piece
from geminga.files import is_whole, read_parquet, write_parquet
from geminga.likelihood.expected_ts import expected_ts
from geminga.patches.grid import grid_for_sky


def expected_ts_file(folder: Path, sky_id: int) -> Path:
    """Return where the expected test statistics of a sky are kept."""
    return folder / f"expected_ts_{sky_id:07d}.parquet"


class ExpectedTsWriter:
    """Writes ``source_id`` and ``ts`` of every source of a sky; a finished sky is left as it is.

    Parameters
    ----------
    config_json, diffuse_path, skies : str
        See `StoredSkies`.
    folder : str
        Where the tables go.
    """

    def __init__(self, config_json: str, diffuse_path: str, skies: str, folder: str) -> None:
        self.skies = StoredSkies(config_json, diffuse_path, skies)
        self.folder = Path(folder)

    def __call__(self, piece: Piece) -> Piece:
        """Take the sky of ``sky_id``."""
        sky_id = int(piece["sky_id"])
        target = expected_ts_file(self.folder, sky_id)
        kept = is_whole(target, read_parquet)
        if not kept:
            sky = self.skies.load(sky_id)
            ts = expected_ts(sky, grid_for_sky(self.skies.config, sky_id))
            ids = sky.sources.table["source_id"].to_numpy()
            write_parquet(target, pd.DataFrame({"source_id": ids, "ts": ts}))
        return {"sky_id": sky_id, KEPT: kept}
