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
    BROKEN,
    assert_like,
    drive,
    finish,
    kill_a_worker,
    kill_group,
    made_in,
    on,
    pieces,
    prepare,
    watched,
)
from job_run import PATIENCE_S, finished_files, until

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("verb", ["patches", "detect"])
def test_workers_killed_in_the_middle_of_stages(
    head: Head, quiet: dict[str, Path], tmp_path: Path, verb: str
) -> None:
    stages = BROKEN[verb]
    root = prepare(quiet[verb], tmp_path, stages)
    log = tmp_path / "log"
    with watched(root):
        process = drive(verb, tmp_path, on(head), log)
        for stage in stages:
            until(lambda stage=stage: bool(pieces(root, stage)), f"{stage} has a piece")
            before = made_in(finished_files(root), stage)
            until(lambda: bool(kill_a_worker(head)), f"a worker of {stage} can be killed")
            assert not (root / stage).exists(), "the stage was over before the worker died"
            until(lambda stage=stage: (root / stage).is_dir(), f"{stage} is finished")
            assert before <= made_in(finished_files(root), stage), "work was done again"
        assert process.wait(PATIENCE_S) == 0, log.read_text()[-3000:]
    assert_like(quiet[verb], root, verb)


@pytest.mark.parametrize(("verb", "stage"), [("patches", "skies"), ("detect", "search")])
def test_a_killed_driver_is_run_again(
    head: Head, quiet: dict[str, Path], tmp_path: Path, verb: str, stage: str
) -> None:
    root = prepare(quiet[verb], tmp_path, BROKEN[verb] if stage == "skies" else (stage,))
    log = tmp_path / "log"
    with watched(root):
        process = drive(verb, tmp_path, on(head), log)
        until(lambda: len(pieces(root, stage)) >= 2, f"{stage} has pieces")
        kill_group(process)
        assert not (root / stage).exists(), "the stage was over before the driver died"
        before = made_in(finished_files(root), stage)
        said = finish(verb, tmp_path, on(head), log)
    assert before <= made_in(finished_files(root), stage), "finished work was done again"
    assert f"{stage}: done in" in said
    assert_like(quiet[verb], root, verb)


@pytest.mark.parametrize("stage", ["skies", "patches"])
def test_a_damaged_piece_is_made_anew(
    head: Head, quiet: dict[str, Path], tmp_path: Path, stage: str
) -> None:
    root = prepare(
        quiet["patches"], tmp_path, ("skies", "patches") if stage == "skies" else (stage,)
    )
    log = tmp_path / "log"
    process = drive("patches", tmp_path, on(head), log)
    until(lambda: len(pieces(root, stage)) >= 2, f"{stage} has pieces")
    kill_group(process)
    assert not (root / stage).exists(), "the stage was over before the driver died"
    damaged, kept = pieces(root, stage)[:2]
    os.truncate(damaged, damaged.stat().st_size // 2)
    before = kept.relative_to(kept.parents[len(kept.relative_to(root).parts) - 2])
    inode = kept.stat().st_ino
    said = finish("patches", tmp_path, on(head), log)
    assert "made anew" in said
    assert (root / stage / before).stat().st_ino == inode
    assert_like(quiet["patches"], root, "patches")


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
    head: Head, quiet: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "disk"
    skies = sum(p.stat().st_size for p in (quiet["patches"] / "skies").rglob("*") if p.is_file())
    log = tmp_path / "log"
    with small_disk(out, 200 + 3 * skies // 10**6):
        root = prepare(quiet["patches"], out, BROKEN["patches"])
        filler = out / "filler"
        # Room for MLflow's store and some of the skies.
        filler.write_bytes(bytes(shutil.disk_usage(out).free - skies // 3 - 3_000_000))
        with watched(root):
            process = drive("patches", out, on(head), log)
            assert process.wait(PATIENCE_S) == 2, log.read_text()[-3000:]
            said = log.read_text(encoding="utf-8")
            last = said.splitlines()[-1]
            assert last.startswith("error: ")
            # Some libraries put words of their own around the system's.
            assert "cannot be written (" in last
            assert "No space left on device" in last
            assert "Traceback" not in said
            before = made_in(finished_files(root), "skies")
            assert before
            filler.unlink()
            finish("patches", out, on(head), log)
        assert before <= made_in(finished_files(root), "skies")
        assert_like(quiet["patches"], root, "patches")


def test_a_stopped_driver_leaves_with_143(
    head: Head, quiet: dict[str, Path], tmp_path: Path
) -> None:
    root = prepare(quiet["patches"], tmp_path, BROKEN["patches"])
    log = tmp_path / "log"
    process = drive("patches", tmp_path, on(head), log)
    until(lambda: bool(pieces(root, "skies")), "skies has a piece")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 143
    said = log.read_text(encoding="utf-8")
    assert "stopped by SIGTERM: what is finished is kept" in said
    assert "Traceback" not in said
