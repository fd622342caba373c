"""A cluster of two nodes on one machine, the second of which can be taken away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEEPER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "temp_dir": sys.argv[1], "include_dashboard": False},
)
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""


@dataclass(frozen=True)
class TwoNodes:
    """A running cluster: what a driver needs, and the process that keeps it."""

    keeper: subprocess.Popen[str]
    environment: Mapping[str, str]

    def remove(self) -> None:
        """Take the second node away at once."""
        assert self.keeper.stdin is not None
        assert self.keeper.stdout is not None
        self.keeper.stdin.write("remove\n")
        self.keeper.stdin.flush()
        assert self.keeper.stdout.readline() == "removed\n"


@contextmanager
def two_nodes(log: Path) -> Iterator[TwoNodes]:
    """Start two nodes of one core each, in processes of their own; stop them at the end."""
    # Not below a test's own folder: sockets have names of at most 107 bytes.
    session = Path(tempfile.mkdtemp(prefix="gr"))
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as stream:
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(session)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
            start_new_session=True, text=True,
        )  # fmt: skip
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        address = keeper.stdout.readline().strip()
        assert address, log.read_text()[-2000:]
        yield TwoNodes(keeper, {**environment, "RAY_ADDRESS": address})
    finally:
        keeper.stdin.close()
        try:
            keeper.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(keeper.pid, signal.SIGKILL)
            keeper.wait()
        keeper.stdout.close()
        shutil.rmtree(session, ignore_errors=True)
