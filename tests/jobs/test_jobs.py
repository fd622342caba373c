"""Stages as jobs of a head with a token: uploads, logs, exit codes, stopping and going on."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from cluster_demo import ROOT, Head
from job_run import ask, finished_files, settings, start, submit, told, until
from ray._private.runtime_env.packaging import create_package

pytestmark = pytest.mark.cluster

WHERE = """
import os, sys
import upload
import geminga
from geminga.cli import main
from geminga.distributed.session import ray_session
from geminga.distributed.work import run_pieces

class Where:
    def __call__(self, piece):
        return {"package": geminga.__file__, "data": os.environ.get("GEMINGA_DATA", "")}

with ray_session():
    rows = run_pieces(Where, (), [{"n": n} for n in range(2)], 0, "look", "piece")
print("driver", geminga.__file__)
for row in rows:
    print("worker", row["package"], row["data"])
"""


def test_driver_and_workers_have_the_upload_and_the_data_folder(head: Head, tmp_path: Path) -> None:
    package = tmp_path / "upload.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=[])
    copy = tmp_path / "copy"
    with zipfile.ZipFile(package) as sent:
        sent.extractall(copy)
    (copy / "jobs" / "where.py").write_text(WHERE)
    done = submit(
        head, "python", "jobs/where.py", env_vars={"GEMINGA_DATA": "/lat"}, folder=copy
    )  # fmt: skip
    assert done.code == 0, done.printed
    said = [line.split() for line in done.log if line.startswith(("driver ", "worker "))]
    assert [line[0] for line in said] == ["driver", "worker", "worker"]
    for line in said:
        assert "/working_dir_files/" in line[1], "the package that is installed was taken instead"
    assert [line[2] for line in said[1:]] == ["/lat", "/lat"]


def test_a_stage_reads_well_in_the_log_and_is_kept_outside_the_job(
    head: Head, tmp_path: Path
) -> None:
    done = submit(head, "python", "jobs/simulate.py", *settings(tmp_path))
    assert done.code == 0, done.printed
    said = "\n".join(done.log)
    assert "[2/2] skies: done in " in said
    assert "skies: 3/3 sky" in said
    assert "\r" not in said
    assert "\x1b" not in "\n".join(line for line in done.log if "cli.py" not in line), "colours"
    for noise in ("pid=", "WARNING", "INFO worker", "Progress bars", "Traceback"):
        assert noise not in said
    assert told(tmp_path / "tiny", "skies")["summary"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("miun.widht=3", "unknown key miun.widht = 3"),
        ("sky.population=nobody", "nobody"),
    ],
)
def test_an_error_of_the_user_fails_the_job_and_is_its_last_line(
    head: Head, tmp_path: Path, change: str, said: str
) -> None:
    done = submit(head, "python", "jobs/simulate.py", *settings(tmp_path, change))
    assert done.code != 0
    assert "failed with exit code 2" in done.printed
    last = [line for line in done.printed.splitlines() if line.strip()][-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in done.printed
    assert not (tmp_path / "tiny").exists() or not list((tmp_path / "tiny").glob("skies"))


def test_a_stopped_job_says_so_and_another_goes_on_from_it(head: Head, tmp_path: Path) -> None:
    # A sky takes a quarter of a second, and 'ray job stop' some seconds to start.
    more = ("sets.train=100", "sets.validation=1", "sets.test=1")
    job = start(head, "python", "jobs/simulate.py", *settings(tmp_path, *more))
    root = tmp_path / "tiny"
    until(lambda: len(list(root.glob(".skies.*.partial/sky_*"))) >= 2, "two skies are finished")
    ask(head, "stop", job)
    until(lambda: "was stopped" in ask(head, "status", job), "the job is stopped")
    log = ask(head, "logs", job)
    assert "stopped by SIGTERM: what is finished is kept" in log
    assert "Traceback" not in log
    before = finished_files(root)
    assert not (root / "skies").exists()
    done = submit(head, "python", "jobs/simulate.py", *settings(tmp_path, *more))
    assert done.code == 0, done.printed
    assert "response: finished before, skipped" in done.printed
    assert "from before): 102/102 sky" in done.printed
    after = finished_files(root)
    kept = {name: mark for name, mark in before.items() if name.startswith(("response", "skies"))}
    assert sum(name.endswith("sources.parquet") for name in kept) >= 2
    assert kept.items() <= after.items(), "finished work was done again"
    shutil.rmtree(root)
