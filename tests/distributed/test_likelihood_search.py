"""The likelihood search of a tiny sky: any number of workers, interrupted or not, the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config
from geminga.distributed.likelihood import list_file
from geminga.distributed.search import Observer
from geminga.distributed.simulate import SkyWriter, patch_file
from geminga.distributed.work import run_here
from geminga.patches.grid import grid_for_sky
from geminga.patches.store import group_sizes
from geminga.pipeline.likelihood import candidates_of, likelihood_search
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.tables import patch_sources

pytestmark = pytest.mark.usefixtures("ray_on_two_cores")

SKY = sky_id(Split.TEST, 0)


@pytest.fixture(scope="module")
def sky(config2: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated sky, its counted patches and the diffuse counts."""
    folder = tmp_path_factory.mktemp("sky")
    text, diffuse = config2.model_dump_json(), str(folder / "diffuse.npz")
    diffuse_counts(config2, build_response(config2)).save(folder / "diffuse.npz")
    skies, piece = str(folder / "skies"), [{"sky_id": SKY}]
    run_here(SkyWriter, (text, diffuse, skies), piece, "skies", "sky")
    observed = str(folder / "observed")
    run_here(Observer, (text, diffuse, skies, observed, False), piece, "observe", "sky")
    return folder


def searched(
    config: Config, sky: Path, folder: Path, workers: int, here: bool = False, true: bool = False
) -> pd.DataFrame:
    config = config.model_copy(update={"run": config.run.model_copy(update={"workers": workers})})
    diffuse = str(sky / "diffuse.npz")
    oracle = (diffuse, str(sky / "skies")) if true else None
    return likelihood_search(config, sky / "observed", [SKY], folder, diffuse, oracle, here=here)[
        SKY
    ]


@pytest.fixture(scope="module")
def alone(config2: Config, sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    searched(config2, sky, folder, 1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(folder.rglob("*.parquet"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_one_and_two_workers_and_none_write_the_same(
    config2: Config, sky: Path, alone: Path, tmp_path: Path
) -> None:
    searched(config2, sky, tmp_path / "two", 2)
    searched(config2, sky, tmp_path / "here", 1, here=True)
    groups = len(group_sizes(patch_file(sky / "observed", SKY)))
    assert len(contents(alone)) == 2 * (groups + 1)
    assert contents(tmp_path / "two") == contents(alone)
    assert contents(tmp_path / "here") == contents(alone)


def test_an_interrupted_search_goes_on(
    config2: Config, sky: Path, alone: Path, tmp_path: Path
) -> None:
    whole = contents(alone)
    names = [name for name in whole if "sources_" not in name and name.startswith("round0")]
    kept = tmp_path / names[0]
    kept.parent.mkdir()
    kept.write_bytes(whole[names[0]])
    before = kept.stat().st_mtime_ns
    searched(config2, sky, tmp_path, 1, here=True)
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path) == whole


def test_the_list_of_the_sky(config2: Config, alone: Path) -> None:
    found = pd.read_parquet(list_file(alone / "round1", SKY))
    assert list(found.columns) == patch_sources(2).names
    assert len(found) > 20
    assert np.isfinite(found.select_dtypes("number")).all(axis=None)
    assert (found["ts"] >= config2.likelihood.search_least_ts).all()
    assert np.all(np.diff(found["ts"]) <= 0)
    # From a patch that holds it deep: nowhere near an edge that another patch covers.
    grid = grid_for_sky(config2, SKY)
    covering = grid.covers(found["lon_deg"].to_numpy(), found["lat_deg"].to_numpy(), 1.0)
    assert (found["edge_deg"][covering > 0] > 0.5).all()
    candidates = candidates_of(found, config2, SKY)
    assert {"counts_0", "background_1", "score", "n_patches_covering"} <= set(candidates.columns)
    np.testing.assert_array_equal(candidates["score"], found["ts"])


def test_with_the_true_background(config2: Config, sky: Path, alone: Path, tmp_path: Path) -> None:
    oracle = searched(config2, sky, tmp_path, 1, here=True, true=True)
    found = pd.read_parquet(list_file(alone / "round1", SKY))
    # The brightest are the same sources whichever background is used.
    top = oracle.head(5)
    x = top[["lon_deg", "lat_deg"]].to_numpy()[:, None] - found[["lon_deg", "lat_deg"]].to_numpy()
    x[..., 0] *= np.cos(np.radians(top["lat_deg"].to_numpy()))[:, None]
    assert np.hypot(x[..., 0], x[..., 1]).min(axis=1).max() < 0.1
