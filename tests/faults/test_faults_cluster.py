"""Heads and nodes that are lost while a job runs; it ends as if nothing was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster_demo import kill, local_head, start_head, stop
from fault_run import BROKEN, arguments, assert_like, drive, made_in, pieces, prepare, watched
from job_run import PATIENCE_S, finished_files, start, submit, until
from two_nodes import two_nodes

pytestmark = pytest.mark.cluster


def test_a_head_that_is_lost_is_replaced_and_the_job_submitted_again(
    quiet: dict[str, Path], tmp_path: Path
) -> None:
    root = prepare(quiet["patches"], tmp_path, BROKEN["patches"])
    command = ("python", "jobs/patches.py", *arguments("patches", tmp_path))
    with watched(root), local_head(2, {"OMP_NUM_THREADS": "1"}) as first:
        start(first, *command)
        until(lambda: len(pieces(root, "skies")) >= 2, "skies are finished")
        kill(first)
        before = made_in(finished_files(root), "skies")
        assert not (root / "skies").exists(), "the stage was over before the head was lost"
        second = start_head(first.folder, first.environment, 2)
        try:
            done = submit(second, *command)
            assert done.code == 0, done.printed[-3000:]
        finally:
            stop(second)
    assert before <= made_in(finished_files(root), "skies"), "finished work was done again"
    assert_like(quiet["patches"], root, "patches")


def test_a_node_that_leaves_takes_no_work_with_it(quiet: dict[str, Path], tmp_path: Path) -> None:
    root = prepare(quiet["patches"], tmp_path, BROKEN["patches"])
    log = tmp_path / "log"
    with two_nodes(tmp_path / "cluster.log") as nodes, watched(root):
        process = drive("patches", tmp_path, nodes.environment, log)
        until(lambda: bool(pieces(root, "skies")), "a sky is finished")
        nodes.change()
        before = made_in(finished_files(root), "skies")
        assert not (root / "skies").exists(), "the stage was over before the node left"
        assert process.wait(PATIENCE_S) == 0, log.read_text()[-3000:]
    assert before <= made_in(finished_files(root), "skies"), "finished work was done again"
    assert_like(quiet["patches"], root, "patches")


# Each piece waits for the others: they end only if three cores work at the same time.
TOGETHER = """
import sys, time
from pathlib import Path
from geminga.distributed import work
from geminga.distributed.session import close_ray, cluster_size, ray_session

class Together:
    def __call__(self, piece):
        folder = Path(piece["folder"])
        (folder / str(piece["n"])).touch()
        while len(list(folder.iterdir())) < 3:
            time.sleep(0.05)
        return {"n": piece["n"]}

def told():
    size = cluster_size()
    print("cores at the start:", size[0], file=sys.stderr, flush=True)
    return size

work.cluster_size = told
with ray_session():
    pieces = [{"n": n, "folder": sys.argv[1]} for n in range(3)]
    print(len(work.run_pieces(Together, (), pieces, 3, "meet", "piece")))
close_ray()
"""


def test_pieces_wait_for_a_node_that_comes_late(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    with two_nodes(tmp_path / "cluster.log", head_cores=0, second_cores=3) as nodes:
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", TOGETHER, str(meeting)],
                env=dict(nodes.environment), stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        try:
            asked = "cores at the start: 0"
            until(lambda: asked in (tmp_path / "log").read_text(), "work is given out")
            assert not list(meeting.iterdir()), "there is no core yet"
            nodes.change()
            printed, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert printed == b"3\n", (tmp_path / "log").read_text()[-3000:]
