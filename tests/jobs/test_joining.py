"""Joining a cluster: what workers are given, and one clear line for each way it fails."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_demo import Head
from ray.exceptions import AuthenticationError

import geminga
from geminga.distributed import joining
from geminga.distributed.joining import check_reachable, cluster_error, worker_environment

MISMATCH = (
    "Version mismatch: The cluster was started with:\n    Ray: 2.58.1\n    Python: {}\n"
    "This process on node 192.0.2.7 was started with:\n    Ray: {}\n    Python: 3.11.7\n"
)
PACKAGE = Path(geminga.__file__).parents[1]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR", "GEMINGA_DATA", "GEMINGA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def submitted(monkeypatch: pytest.MonkeyPatch, **runtime_env: object) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": runtime_env}))


def test_workers_of_a_job_find_the_package_in_their_own_copy(plain: pytest.MonkeyPatch) -> None:
    plain.chdir(PACKAGE.parent)
    submitted(plain, working_dir="gcs://upload.zip")
    assert worker_environment()["PYTHONPATH"] == "platform"


def test_workers_of_a_shell_find_the_package_where_it_is(
    plain: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain.chdir(tmp_path)
    assert worker_environment() == {"PYTHONPATH": str(PACKAGE)}


def test_the_data_folder_is_handed_on_as_one_that_does_not_depend_on_the_place(
    plain: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    plain.chdir(tmp_path / "here")
    plain.setenv("GEMINGA_DATA", "lat")
    assert worker_environment()["GEMINGA_DATA"] == str(tmp_path / "here" / "lat")
    plain.delenv("GEMINGA_DATA")
    assert "GEMINGA_DATA" not in worker_environment()
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert worker_environment()["GEMINGA_DATA"] == str(tmp_path / "shared" / "data")


def test_workers_know_their_cluster_among_others(plain: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain.chdir(tmp_path)
    plain.setenv("RAY_ADDRESS", "192.0.2.7:6379")
    assert worker_environment()["RAY_ADDRESS"] == "192.0.2.7:6379"
    plain.setenv("RAY_ADDRESS", "auto")
    assert "RAY_ADDRESS" not in worker_environment()


def test_what_the_job_was_submitted_with_stands(plain: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain.chdir(tmp_path)
    plain.setenv("GEMINGA_DATA", "/elsewhere")
    submitted(plain, env_vars={"GEMINGA_DATA": "/elsewhere"})
    assert set(worker_environment()) == {"PYTHONPATH"}


def test_nobody_at_the_address_is_one_line_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(
            joining.InputError, match=rf"no cluster can be joined at {address} .*refused"
        ):
            check_reachable(address)
    check_reachable("auto")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError(MISMATCH.format("3.11.7", "2.60.0")),
            r"c:1 runs Ray 2\.58\.1, this is Ray 2",
        ),
        (RuntimeError(MISMATCH.format("3.10.2", "2.58.1")), r"runs Python 3\.10\.2, this is 3\.11"),
        (AuthenticationError("InvalidAuthToken: Authentication token is missing"), "refuses the t"),
        (AuthenticationError("no authentication token was found."), "demands a token and none"),
        (ConnectionError("Failed to connect to Ray cluster\nat c:1"), r"joined at c:1 \(Failed"),
    ],
)
def test_every_failure_is_one_line(error: Exception, message: str) -> None:
    refused = cluster_error(error, "c:1")
    assert refused is not None
    assert "\n" not in str(refused)
    with pytest.raises(joining.InputError, match=message):
        raise refused


def test_a_fault_of_the_program_is_not_taken_for_one_of_the_cluster() -> None:
    assert cluster_error(TypeError("init() got an unexpected keyword"), "c:1") is None


JOIN = """
import os, sys
import ray
from geminga.distributed.session import ray_session
from geminga.errors import InputError
if len(sys.argv) > 1:
    ray.__version__ = sys.argv[1]
try:
    with ray_session():
        print("joined")
except InputError as error:
    print(error)
"""


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("version", "changed", "said"),
    [
        ((), {}, "joined"),
        (("2.59.0",), {}, "runs Ray 2.60.0, this is Ray 2.59.0; submit to a cluster of Ray 2.59.0"),
        ((), {"RAY_AUTH_TOKEN_PATH": "{folder}/none"}, "demands a token and none was found"),
        ((), {"RAY_AUTH_TOKEN_PATH": "{folder}/wrong"}, "refuses the token, or none was given"),
    ],
    ids=["joined", "version", "no-token", "wrong-token"],
)
def test_a_real_cluster_is_joined_or_refuses_in_one_line(
    head: Head, tmp_path: Path, version: tuple[str, ...], changed: dict[str, str], said: str
) -> None:
    (tmp_path / "wrong").write_text("0" * 64)
    environment = {
        **head.environment,
        "RAY_ADDRESS": head.gcs,
        **{key: value.format(folder=tmp_path) for key, value in changed.items()},
    }
    done = subprocess.run(
        [sys.executable, "-c", JOIN, *version],
        env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert said in line
    assert "Traceback" not in done.stderr
