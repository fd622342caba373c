from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from geminga.bands import Band
from geminga.config import Config, ImageConfig, MiunConfig, PatchConfig, SetsConfig, SkyConfig

# Ray's workers wait for nothing but each other; nice ones would wait for the other tests.
os.environ.setdefault("RAY_worker_niceness", "0")

sys.path.insert(0, str(Path(__file__).parent))  # for servers, in importlib mode

from servers import S3Server, s3_server


@pytest.fixture(scope="session")
def lat_data() -> Path:
    """The folder of LAT files; tests that need it skip without it, except in CI."""
    folder = Path(os.environ.get("GEMINGA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        message = f"no LAT files at {folder}; set GEMINGA_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def bands2() -> tuple[Band, Band]:
    return (
        Band(emin_gev=1, emax_gev=3, nside=64, pixels=32),
        Band(emin_gev=3, emax_gev=30, nside=128, pixels=64),
    )


@pytest.fixture(scope="session")
def config2(bands2: tuple[Band, Band]) -> Config:
    """A small two-band configuration."""
    return Config(
        name="test",
        bands=bands2,
        sky=SkyConfig(years=4, diffuse_nside=64),
        sets=SetsConfig(train=1, validation=1, test=1),
        patches=PatchConfig(grid_nside=1),
        miun=MiunConfig(width=4),
        images=ImageConfig(box_deg=(2.0, 1.0)),
    )


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return an S3 server on loopback; tests take a bucket of their own each."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server
