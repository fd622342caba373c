"""The head of ``make cluster-demo``: its token, its end, the exit code."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_demo import (
    ROOT,
    Head,
    client_environment,
    free_ports,
    handed_on,
    jobs,
    write_token,
)
from job_run import TINY


def test_the_token_is_random_and_for_this_user_alone(tmp_path: Path) -> None:
    path = write_token(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text()
    assert re.fullmatch(r"[0-9a-f]{64}", token)
    path.unlink()
    assert write_token(tmp_path).read_text() != token


def test_the_environment_of_the_shell_names_no_other_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    environment = client_environment(tmp_path / "token")
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN"} & set(environment)


def test_a_relative_data_folder_means_the_same_in_the_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMINGA_DATA", "lat")
    assert handed_on()["GEMINGA_DATA"] == str(tmp_path / "lat")
    monkeypatch.delenv("GEMINGA_DATA")
    assert "GEMINGA_DATA" not in handed_on()


def test_ports_differ() -> None:
    assert len(set(free_ports(7))) == 7


@pytest.mark.cluster
def test_a_job_that_fails_gives_its_code_and_only_its_own_head_ends(
    head: Head, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            sys.executable, "scripts/cluster_demo.py", "--config", TINY,
            "--storage", f"file://{tmp_path}", "--set", "miun.widht=3",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert "unknown key miun.widht = 3" in done.stdout
    found = re.search(r"^head at 127\.0\.0\.1:(\d+), ", done.stderr, re.MULTILINE)
    assert found is not None
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True)
    assert f"--port={found[1]}" not in listing.stdout, "a process of the demo's head is left"
    assert isinstance(jobs(head), list), "another head of the machine goes on"
