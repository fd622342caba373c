"""Workers, drivers and files that are lost while a run goes on; the run ends as if nothing was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster_demo import Head
from fault_run import (
    assert_like,
    drive,
    finish,
    kill_a_worker,
    kill_group,
    on,
    pieces,
    prepare,
    watched,
)
from job_run import PATIENCE_S, finished_files, until

pytestmark = pytest.mark.cluster

STAGES = {"skies": "sky_*/*", "patches": "*.parquet", "search": "pieces/*.parquet"}


def test_workers_killed_in_the_middle_of_stages(head: Head, quiet: Path, tmp_path: Path) -> None:
    root = prepare(quiet, tmp_path)
    log = tmp_path / "log"
    for verb, stages in {"patches": ("skies", "patches"), "detect": ("search",)}.items():
        process = drive(verb, tmp_path, on(head), log)
        with watched(root):
            for stage in stages:
                until(
                    lambda stage=stage: bool(pieces(root, stage, STAGES[stage])),
                    f"{stage} has a piece",
                )
                first = finished_files(root)
                until(lambda: bool(kill_a_worker(head)), f"a worker of {stage} can be killed")
                assert not (root / stage).exists(), "the stage was over before the worker died"
                kept = {k: v for k, v in first.items() if k.startswith(f"{stage}/")}
                until(lambda stage=stage: (root / stage).is_dir(), f"{stage} is finished")
                assert kept.items() <= finished_files(root).items()
            assert process.wait(PATIENCE_S) == 0, log.read_text()[-3000:]
    assert_like(quiet, root)


@pytest.mark.parametrize(("verb", "stage"), [("patches", "skies"), ("detect", "search")])
def test_a_killed_driver_is_run_again(
    head: Head, quiet: Path, tmp_path: Path, verb: str, stage: str
) -> None:
    root = prepare(quiet, tmp_path)
    if stage == "search":
        for name in ("skies", "patches", "observe"):
            shutil.copytree(quiet / name, root / name)
    log = tmp_path / "log"
    with watched(root):
        process = drive(verb, tmp_path, on(head), log)
        until(lambda: len(pieces(root, stage, STAGES[stage])) >= 2, f"{stage} has pieces")
        kill_group(process)
        assert not (root / stage).exists()
        before = finished_files(root)
        said = finish(verb, tmp_path, on(head), log)
        if verb != "detect":
            finish("detect", tmp_path, on(head), log)
    after = finished_files(root)
    made = {k: v for k, v in before.items() if k.startswith((f"{stage}/", "response/"))}
    assert made.items() <= after.items(), "finished work was done again"
    assert f"{stage}: done in" in said
    assert_like(quiet, root)


def test_a_damaged_piece_is_made_anew(head: Head, quiet: Path, tmp_path: Path) -> None:
    root = prepare(quiet, tmp_path)
    shutil.copytree(quiet / "skies", root / "skies")
    log = tmp_path / "log"
    process = drive("patches", tmp_path, on(head), log)
    until(lambda: len(pieces(root, "patches", "*.parquet")) >= 2, "patches has pieces")
    kill_group(process)
    damaged, kept = sorted(pieces(root, "patches", "*.parquet"))[:2]
    os.truncate(damaged, damaged.stat().st_size // 2)
    inode = kept.stat().st_ino
    said = finish("patches", tmp_path, on(head), log)
    assert "made anew" in said
    assert (root / "patches" / kept.name).stat().st_ino == inode
    finish("detect", tmp_path, on(head), log)
    assert_like(quiet, root)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a file system of a few megabytes; skip where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_room_is_all_it_takes(
    head: Head, quiet: Path, tmp_path: Path
) -> None:
    out = tmp_path / "disk"
    skies = sum(path.stat().st_size for path in (quiet / "skies").rglob("*") if path.is_file())
    given = sum(path.stat().st_size for path in quiet.parent.rglob("*") if path.is_file())
    log = tmp_path / "log"
    # Room for what the run starts with, MLflow's store and two of six skies.
    with small_disk(out, 4 * given // 10**6 + 20):
        root = prepare(quiet, out)
        free = shutil.disk_usage(out).free
        filler = out / "filler"
        filler.write_bytes(bytes(max(0, free - skies // 3 - 3_000_000)))
        with watched(root):
            process = drive("patches", out, on(head), log)
            assert process.wait(PATIENCE_S) == 2, log.read_text()[-3000:]
            last = log.read_text(encoding="utf-8").splitlines()[-1]
            assert last.startswith("error: ")
            assert "cannot be written (No space left on device)" in last
            assert "Traceback" not in log.read_text(encoding="utf-8")
            before = finished_files(root)
            filler.unlink()
            finish("patches", out, on(head), log)
        finish("detect", out, on(head), log)
        made = {k: v for k, v in before.items() if k.startswith(("skies/", "response/"))}
        assert made.items() <= finished_files(root).items()
        assert_like(quiet, root)


def test_a_stopped_driver_leaves_with_143(head: Head, quiet: Path, tmp_path: Path) -> None:
    root = prepare(quiet, tmp_path)
    log = tmp_path / "log"
    process = drive("patches", tmp_path, on(head), log)
    until(lambda: bool(pieces(root, "skies", STAGES["skies"])), "skies has a piece")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 143
    assert "stopped by SIGTERM: what is finished is kept" in log.read_text(encoding="utf-8")
