"""Joining a cluster: what its workers are given, and one clear line if it cannot be joined."""

from __future__ import annotations

import json
import os
import re
import socket
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError

import geminga
from geminga import storage
from geminga.errors import InputError

_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_WHERE = "RAY_ADDRESS"
_CONNECT_S = 10.0


def worker_environment() -> dict[str, str]:
    """Return the environment that workers of a cluster need of this driver.

    Workers are started by their node, with its environment. A job's upload lies at a place of its
    own on every node, and a worker starts in it: the package is named relative to it, and comes
    before one that the node may have installed.
    """
    given = _given_to_the_job()
    wanted = storage.environment()
    package = Path(geminga.__file__).resolve().parents[1]
    if package != Path(sysconfig.get_path("purelib")).resolve():
        here = Path.cwd().resolve()
        uploaded = "working_dir" in given and package.is_relative_to(here)
        wanted["PYTHONPATH"] = str(package.relative_to(here) if uploaded else package)
    if ":" in os.environ.get(_WHERE, ""):
        # Ray Train's own helpers look for the cluster anew, and may find others on their machine.
        wanted[_WHERE] = os.environ[_WHERE]
    data = Path(os.environ.get("GEMINGA_DATA", Path("..") / "shared" / "data"))
    if "GEMINGA_DATA" in os.environ or data.is_dir():
        wanted["GEMINGA_DATA"] = str(data.resolve())
    # What the job was submitted with stands: Ray refuses to be told the same thing twice.
    env_vars = given.get("env_vars", {})
    fixed = set(env_vars) if isinstance(env_vars, Mapping) else set()
    return {key: value for key, value in wanted.items() if key not in fixed}


def _given_to_the_job() -> Mapping[str, object]:
    """Return the runtime environment this driver was submitted with, if it is a job."""
    text = os.environ.get(_JOB_CONFIG)
    runtime = json.loads(text).get("runtime_env") if text else None
    return runtime if isinstance(runtime, dict) else {}


def check_reachable(address: str) -> None:
    """See that something listens at a cluster's address: Ray itself tries for minutes.

    Raises
    ------
    InputError
        If nothing does. What is no ``host:port``, such as ``auto``, is left to Ray.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, OverflowError) as error:
        raise _nobody(address, str(error)) from error


def _nobody(address: str, reason: str) -> InputError:
    return InputError(
        _WHERE,
        f"no cluster can be joined at {address} ({reason})",
        "name a running one, or unset RAY_ADDRESS to start Ray on this machine",
    )


def cluster_error(error: Exception, address: str) -> InputError | None:
    """Say in one line why a cluster cannot be joined; None for an error of another kind."""
    told = "\n".join(str(part) for part in _chain(error))
    if "Version mismatch" in told:
        return _version_error(told, address)
    if any(isinstance(part, AuthenticationError) for part in _chain(error)) or (
        "AuthenticationError" in told
    ):
        if "cannot be opened" in told or "no authentication token was found" in told:
            problem = f"{address} demands a token and none was found"
        else:
            problem = f"{address} refuses the token, or none was given"
        return InputError(
            _WHERE,
            problem,
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file with the cluster's token",
        )
    if any(isinstance(part, ConnectionError | ValueError) for part in _chain(error)):
        return _nobody(address, (str(error).strip() or "no answer").splitlines()[0])
    return None


def _version_error(told: str, address: str) -> InputError:
    found = re.findall(r"Ray: (\S+)\s+Python: (\S+)", told)
    (theirs, their_python), (ours, our_python) = (
        found if len(found) == 2 else [("another", "another"), (ray.__version__, "another")]
    )
    if theirs != ours:
        problem = f"the cluster at {address} runs Ray {theirs}, this is Ray {ours}"
        remedy = f"submit to a cluster of Ray {ours}, or pip install 'ray=={theirs}' here"
    else:
        problem = f"the cluster at {address} runs Python {their_python}, this is {our_python}"
        remedy = f"use Python {their_python} here, or a cluster of Python {our_python}"
    return InputError(_WHERE, problem, remedy)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what it came from."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
