"""Start a Ray head with a token on this machine, submit the pipeline to it, follow, stop the head.

    .venv/bin/python scripts/cluster_demo.py --config jobs/configs/demo.yaml [--set KEY=VALUE ...]

What a laptop does to a remote cluster, on one machine: the job gets nothing but the upload of the
working folder, a storage address and what the environment of its runtime says. The dashboard and
the job API listen on 127.0.0.1, Ray's other ports on the machine's address; all demand a token that
only this user can read. Only this head is stopped at the end: other Ray clusters of the machine go
on. Leaves with the exit code of the job: 0 if it succeeded, 2 for a setting that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geminga.tracking.revision import VARIABLE, revision

ROOT = Path(__file__).resolve().parents[1]
RAY = (sys.executable, "-m", "ray.scripts.scripts")
START_S = 120.0
STOP_S = 15.0


@dataclass(frozen=True)
class Head:
    """A running head: where it is, and what a client needs in its environment."""

    process: subprocess.Popen[bytes]
    gcs: str
    dashboard: str
    folder: Path
    environment: Mapping[str, str]

    def submit(
        self,
        *entrypoint: str,
        env_vars: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> list[str]:
        """Return the command that submits an entry point with a working folder, the repository's.

        The driver waits for its workers nearly all the time: a tenth of a core leaves every whole
        one to them. One core for the driver on a machine of two would halve the work, and with
        training workers and their readers none would be left to go on.
        """
        runtime = json.dumps({"env_vars": dict(env_vars or {})})
        return [
            *RAY, "job", "submit", "--address", self.dashboard,
            "--working-dir", str(folder or ROOT), "--runtime-env-json", runtime,
            "--entrypoint-num-cpus", "0.1", "--", *entrypoint,
        ]  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; held together, so that they differ."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]


def write_token(folder: Path) -> Path:
    """Write a random token that only this user can read."""
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
    return path


def client_environment(token: Path) -> dict[str, str]:
    """Return the environment of both sides; the home folder's token, if any, plays no part."""
    return {
        **{k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")},
        # A job says 'python', and means the one that the cluster has beside its 'ray'.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


@contextmanager
def local_head(cpus: int, extra: Mapping[str, str] | None = None) -> Iterator[Head]:
    """Start a head with a token and ports of its own; stop it, and nothing else, at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gr"))
    try:
        environment = {**client_environment(write_token(folder)), **(extra or {})}
        head = start_head(folder, environment, cpus)
        try:
            yield head
        finally:
            stop(head)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_head(folder: Path, environment: Mapping[str, str], cpus: int) -> Head:
    """Start a head in a process group of its own and wait until it takes jobs."""
    gcs, dashboard, agent, grpc, client, metrics, runtime = free_ports(7)
    with (folder / "head.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *RAY, "start", "--head", "--block", "--disable-usage-stats",
                "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
                f"--port={gcs}", f"--dashboard-port={dashboard}",
                # The usual ports may be those of another cluster, and a job would go to its agent.
                f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}",
                f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}",
                f"--runtime-env-agent-port={runtime}",
                f"--num-cpus={cpus}", f"--temp-dir={folder}",
            ],
            # Workers of a lower priority than everything else would starve beside a busy machine.
            env={"RAY_worker_niceness": "0", **environment},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{dashboard}"
    head = Head(process, f"127.0.0.1:{gcs}", address, folder, environment)
    try:
        _wait_for_jobs(head)
    except BaseException:
        stop(head)
        raise
    return head


def _wait_for_jobs(head: Head) -> None:
    """Wait until the job API answers: the agent that runs jobs is up last."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if head.process.poll() is not None:
            break
        try:
            jobs(head)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    tail = (head.folder / "head.log").read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"the head did not start:\n{tail}")


def jobs(head: Head) -> list[dict[str, Any]]:
    """Return what the job API of a head says of every job."""
    token = Path(head.environment["RAY_AUTH_TOKEN_PATH"]).read_text(encoding="utf-8")
    request = urllib.request.Request(
        f"{head.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        told: list[dict[str, Any]] = json.load(answer)
    return told


def members(head: Head) -> list[int]:
    """Return the processes of a head: its group, all that name its folder, and their children."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,pgid=,stat=,args="],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found: set[int] = set()
    parents: dict[int, int] = {}
    for line in listing.splitlines():
        pid, parent, group, state, command = line.split(maxsplit=4)
        if state.startswith("Z") or int(pid) == os.getpid():
            continue
        parents[int(pid)] = int(parent)
        if int(group) == head.process.pid or str(head.folder) in command:
            found.add(int(pid))
    # Workers may have groups and names of their own.
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def stop(head: Head) -> None:
    """Ask the head to end; kill what is left of it after a while."""
    if head.process.poll() is None:
        head.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            head.process.wait(STOP_S)
    kill(head)


def kill(head: Head) -> None:
    """Kill every process of a head at once, as a machine that loses power."""
    end = time.monotonic() + STOP_S
    while (left := members(head)) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    head.process.wait()


def handed_on() -> dict[str, str]:
    """Return the variables of this shell that the job is to have."""
    given = {k: os.environ[k] for k in ("GEMINGA_DATA", "OMP_NUM_THREADS") if k in os.environ}
    if "GEMINGA_DATA" in given:
        # The job works in a folder of its own, from where a relative path leads elsewhere.
        given["GEMINGA_DATA"] = str(Path(given["GEMINGA_DATA"]).resolve())
    made_from = revision()
    return given | ({VARIABLE: made_from} if made_from else {})


def main() -> int:
    """Run the demo as a job of a head of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="jobs/configs/demo.yaml", help="of the repository")
    parser.add_argument("--storage", default=(ROOT / "out").as_uri(), help="where the run is kept")
    parser.add_argument("--set", action="append", default=[], help="as for 'geminga run'")
    asked = parser.parse_args()
    # A head that outlives a stopped demo would hold its ports and memory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = [f"run.storage={asked.storage}", *asked.set]
    with local_head(os.cpu_count() or 1) as head:
        sys.stderr.write(f"head at {head.gcs}, dashboard at {head.dashboard}, with a token\n")
        command = head.submit(
            "python", "jobs/pipeline.py", "--config", asked.config,
            *(word for setting in settings for word in ("--set", setting)),
            env_vars=handed_on(),
        )  # fmt: skip
        submitted = subprocess.run(command, cwd=ROOT, env=dict(head.environment), check=False)
        # Ray's command leaves with 1 for a job that failed, however it did.
        codes = [job["driver_exit_code"] for job in jobs(head) if job["driver_exit_code"]]
    return int(codes[0]) if codes else submitted.returncode


if __name__ == "__main__":
    sys.exit(main())
