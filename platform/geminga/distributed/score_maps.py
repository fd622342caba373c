"""Workers that keep MIUN's output on whole skies, for whatever is measured on it again and again."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geminga import storage
from geminga.arrays import Float32, Float64, Int64
from geminga.config import Config
from geminga.distributed.search import MiunScores
from geminga.distributed.work import KEPT, Piece
from geminga.errors import InputError
from geminga.files import atomic, map_arrays
from geminga.patches.store import read_group


@dataclass(frozen=True)
class ScoreMaps:
    """MIUN's output on patches of one sky.

    Attributes
    ----------
    maps : Float32 (patches, top, top)
        0 to 1; mapped into memory, read only.
    patch_ids : Int64 (patches,)
    frames : Float64 (patches, 3, 3)
    """

    maps: Float32
    patch_ids: Int64
    frames: Float64


def map_file(folder: Path, piece: Piece) -> Path:
    """Return where the output on the patches of a piece is kept."""
    return folder / f"scores_{int(piece['sky_id']):07d}_{int(piece['group']):04d}.npz"


class ScoreMapper:
    """Keeps MIUN's output on one row group of counted patches.

    Parameters
    ----------
    config_json : str
        The configuration.
    weights : str
        Folder of MIUN's checkpoint.
    folder : str
        Where the maps go, a file per piece.
    """

    def __init__(self, config_json: str, weights: str, folder: str) -> None:
        self.scores = MiunScores(Config.model_validate_json(config_json), Path(weights))
        self.folder = Path(folder)

    def __call__(self, piece: Piece) -> Piece:
        """Run MIUN on the patches of ``path``, row group ``group``."""
        target = map_file(self.folder, piece)
        if storage.exists(target):
            return {"maps": str(target), KEPT: True}
        records = read_group(Path(str(piece["path"])), int(piece["group"]))
        with atomic(target) as temporary, temporary.open("wb") as stream:
            # Uncompressed, so that every trial of a machine maps the same pages.
            np.savez(
                stream,
                maps=self.scores(records),
                patch_ids=np.asarray(records["patch_id"], np.int64),
                frames=np.asarray(records["frame"], np.float64),
            )
        return {"maps": str(target)}


def read_score_maps(path: Path) -> ScoreMaps:
    """Read what `ScoreMapper` wrote.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        return ScoreMaps(**map_arrays(path, ("maps", "patch_ids", "frames")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            str(path), f"holds no score maps ({error})", "remove it and run the command again"
        ) from error
