"""The real command line with its run on an S3 server: the bytes of a folder, and a killed driver."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import S3Server
from tiny_run import ROOT, TINY, geminga

from geminga import storage
from geminga.config import load_config

sys.path.insert(0, str(ROOT / "scripts"))  # for cluster_demo

from cluster_demo import local_head

pytestmark = pytest.mark.cluster

PATIENCE_S = 240
COMPARED = ("response", "skies", "patches", "observe", "evidence", "catalog")
UNLIKE = ("stage.json", ".files.json")
"""Files with times in them, and those that only an object store has."""


@pytest.fixture
def keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {**s3.environment, storage.VARIABLE: ""}.items():
        monkeypatch.setenv(name, value)
    yield
    storage._open_mirror.cache_clear()


@pytest.fixture
def address(s3: S3Server, keys: None) -> str:
    return s3.uri(f"{s3.make_bucket(f'b-{secrets.token_hex(4)}')}/runs")


def on(address: str, mirror: Path, *changes: str) -> list[str]:
    """Return the options of a run in an object store."""
    options = ["--config", str(TINY)]
    for change in (f"run.storage={address}", f"run.mirror={mirror}", *changes):
        options += ["--set", change]
    return options


def opened(address: str, mirror: Path) -> Path:
    """Return the folder of the run, as a machine sees it whose mirror is `mirror`."""
    config = load_config(TINY, [f"run.storage={address}", f"run.mirror={mirror}"])
    return config.run.folder() / config.name


def test_the_whole_run_has_the_bytes_of_one_in_a_folder(
    finished: tuple[Path, str], address: str, tmp_path: Path
) -> None:
    done = geminga("run", *on(address, tmp_path / "mirror"))
    assert done.returncode == 0, done.stderr[-3000:]
    place = address.partition("?")[0]
    assert f"{place}/tiny/catalog/catalog_2000000.fits" in done.stdout
    assert f"{place}/tiny/report/report.html" in done.stdout
    assert f"kept in {place}/tiny" in done.stderr
    assert "name a server with run.tracking_uri" in done.stderr
    plain, root = finished[0] / "tiny", opened(address, tmp_path / "elsewhere")
    for stage in COMPARED:
        paths = [
            path.relative_to(plain)
            for path in sorted((plain / stage).rglob("*"))
            if path.is_file() and path.name not in UNLIKE
        ]
        assert paths
        found = {
            path.relative_to(root)
            for path in storage.here(root / stage).rglob("*")
            if path.is_file() and path.name not in UNLIKE
        }
        assert found == set(paths)
        for path in paths:
            assert (root / path).read_bytes() == (plain / path).read_bytes(), str(path)
    again = geminga("run", *on(address, tmp_path / "elsewhere"))
    assert again.returncode == 0, again.stderr[-3000:]
    assert "done in" not in again.stderr
    assert again.stdout == done.stdout


def test_after_a_killed_driver_another_machine_goes_on(
    s3: S3Server, address: str, tmp_path: Path
) -> None:
    more = ("sets.train=4", "run.workers=1")
    with local_head(2, {"OMP_NUM_THREADS": "1", **s3.environment}) as head:
        environment = {**os.environ, **head.environment, "RAY_ADDRESS": head.gcs, **s3.environment}
        command = [sys.executable, "-m", "geminga", "simulate"]
        with (tmp_path / "log").open("wb") as log:
            driver = subprocess.Popen(
                [*command, *on(address, tmp_path / "first", *more)],
                cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        root = opened(address, tmp_path / "looking")
        kept = wait_for_skies(root, driver, tmp_path / "log")
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        assert not storage.exists(root / "skies" / "stage.json")
        # Its workers may still be at their last file.
        shutil.rmtree(tmp_path / "first", ignore_errors=True)

        done = subprocess.run(
            [*command, *on(address, tmp_path / "second", *more)],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    from_before = re.search(r"skies \((\d+) from before\)", done.stderr)
    assert from_before is not None, done.stderr
    assert int(from_before[1]) >= kept
    assert storage.exists(root / "skies" / "stage.json")
    assert len([name for name in storage.names(root / "skies") if name.startswith("sky_")]) == 6


def wait_for_skies(root: Path, driver: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until some of the skies are finished and others are not; return how many are."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        for name in storage.names(root):
            if name.startswith(".skies."):
                skies = [root / name / sky for sky in storage.names(root / name)]
                number = sum(storage.exists(sky) for sky in skies if sky.name.startswith("sky_"))
                if number:
                    return number
        assert driver.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.05)
