"""Heads and nodes that are lost while a job runs; it ends as if nothing was."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_demo import kill, local_head, start_head, stop
from fault_run import arguments, assert_like, drive, finish, on, pieces, prepare, watched
from job_run import PATIENCE_S, ask, finished_files, start, submit, until
from two_nodes import two_nodes

pytestmark = pytest.mark.cluster


def test_a_head_that_is_lost_is_replaced_and_the_job_submitted_again(
    quiet: Path, tmp_path: Path
) -> None:
    root = prepare(quiet, tmp_path)
    command = ("python", "jobs/patches.py", *arguments(tmp_path))
    with watched(root), local_head(2, {"OMP_NUM_THREADS": "1"}) as first:
        job = start(first, *command)
        until(lambda: len(pieces(root, "skies", "sky_*/*")) >= 2, "skies are finished")
        assert "RUNNING" in ask(first, "status", job)
        kill(first)
        before = finished_files(root)
        assert not (root / "skies").exists()
        second = start_head(first.folder, first.environment, 2)
        try:
            done = submit(second, *command)
            assert done.code == 0, done.printed[-3000:]
            finish("detect", tmp_path, on(second), tmp_path / "log")
        finally:
            stop(second)
    made = {k: v for k, v in before.items() if k.startswith(("skies/", "response/"))}
    assert made.items() <= finished_files(root).items(), "finished work was done again"
    assert_like(quiet, root)


def test_a_node_that_leaves_takes_no_work_with_it(quiet: Path, tmp_path: Path) -> None:
    root = prepare(quiet, tmp_path)
    log = tmp_path / "log"
    with two_nodes(tmp_path / "cluster.log") as nodes:
        with watched(root):
            process = drive("patches", tmp_path, nodes.environment, log)
            until(lambda: bool(pieces(root, "skies", "sky_*/*")), "a sky is finished")
            nodes.remove()
            before = finished_files(root)
            assert not (root / "skies").exists(), "the stage was over before the node left"
            assert process.wait(PATIENCE_S) == 0, log.read_text()[-3000:]
        finish("detect", tmp_path, nodes.environment, log)
    made = {k: v for k, v in before.items() if k.startswith(("skies/", "response/"))}
    assert made.items() <= finished_files(root).items()
    assert_like(quiet, root)
