"""A cluster of two nodes on one machine, the second of which can leave, or come late."""

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

session, head_cores, second_cores = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": head_cores, "temp_dir": session, "include_dashboard": False},
)
late = head_cores == 0
second = None if late else cluster.add_node(num_cpus=second_cores)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    if late:
        cluster.add_node(num_cpus=second_cores)
    else:
        cluster.remove_node(second, allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""


@dataclass(frozen=True)
class TwoNodes:
    """A running cluster: what a driver needs, and the process that keeps it."""

    keeper: subprocess.Popen[str]
    environment: Mapping[str, str]

    def change(self) -> None:
        """Take the second node away at once; where it is late, let it come."""
        assert self.keeper.stdin is not None
        assert self.keeper.stdout is not None
        self.keeper.stdin.write("change\n")
        self.keeper.stdin.flush()
        assert self.keeper.stdout.readline() == "done\n"


@contextmanager
def two_nodes(log: Path, head_cores: int = 1, second_cores: int = 1) -> Iterator[TwoNodes]:
    """Start two nodes, in processes of their own; stop them at the end.

    With no core in the head the second node is not there until it is asked for.
    """
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
            [sys.executable, "-c", KEEPER, str(session), str(head_cores), str(second_cores)],
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
