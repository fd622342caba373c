"""Jobs on a cluster: from submit to first work, and what each fault costs.

Run ``python tests/benchmarks/bench_jobs.py --skies 100``. Every round simulates the same skies of the
tiny configuration on a head of its own with two cores, into a folder of its own. *Recovery* is the
time from the fault to the next finished sky, with whatever has to be started again for it: a
driver, a head, a submission. *Ratio* is the whole time from start to end, the fault in it, to that
of the undisturbed run of the same kind.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from cluster_demo import ROOT, Head, kill, local_head, start_head, stop
from fault_run import kill_a_worker, on
from job_run import ask, settings, start, until
from two_nodes import two_nodes

Row = tuple[str, float, float, float]
Fault = Callable[[], None]


class Rounds:
    """Runs of the same skies, undisturbed and disturbed."""

    def __init__(self, skies: int, scratch: Path) -> None:
        self.more = (f"sets.train={skies}", "sets.validation=1", "sets.test=1")
        self.skies, self.scratch, self.count = skies + 2, scratch, 0
        self.out = scratch

    def fresh(self) -> list[str]:
        """Return the arguments of a run in a new folder."""
        self.count += 1
        self.out = self.scratch / str(self.count)
        return settings(self.out, *self.more)

    def done(self) -> int:
        """Return how many skies are finished."""
        return len(
            [*self.out.glob("tiny/.skies.*.partial/sky_*"), *self.out.glob("tiny/skies/sky_*")]
        )

    def drive(
        self, arguments: list[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start the command line."""
        return subprocess.Popen(
            [sys.executable, "-m", "geminga", "simulate", *arguments],
            cwd=ROOT, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def direct(self, environment: Mapping[str, str], fault: Fault | None) -> tuple[float, float]:
        """Return seconds of a run of the command line, and of its recovery."""
        arguments, begin = self.fresh(), time.monotonic()
        process = self.drive(arguments, environment)
        recovery = 0.0
        if fault is not None:
            until(lambda: self.done() >= 2, "two skies are finished")
            struck = time.monotonic()
            fault()
            had = self.done()
            until(lambda: self.done() > had, "another sky is finished")
            recovery = time.monotonic() - struck
        if process.wait():
            raise RuntimeError("the run failed")
        return time.monotonic() - begin, recovery

    def killed_driver(self, environment: Mapping[str, str]) -> tuple[float, float]:
        """Return seconds of a run whose driver is killed and started again, and of its recovery."""
        arguments, begin = self.fresh(), time.monotonic()
        process = self.drive(arguments, environment)
        until(lambda: self.done() >= 2, "two skies are finished")
        struck = time.monotonic()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        had = self.done()
        process = self.drive(arguments, environment)
        until(lambda: self.done() > had, "another sky is finished")
        recovery = time.monotonic() - struck
        if process.wait():
            raise RuntimeError("the run failed")
        return time.monotonic() - begin, recovery

    def submitted(
        self, head: Head, fault: Callable[[Head, str], Head] | None
    ) -> tuple[float, float, dict[str, float]]:
        """Return seconds of a job, of its recovery, and from submit to each step."""
        command = ("python", "jobs/simulate.py", *self.fresh())
        begin = time.monotonic()
        job = start(head, *command)
        steps = {"accepted": time.monotonic() - begin}
        root = self.out / "tiny"
        until(lambda: (root / "config.json").is_file(), "the driver is at work")
        steps["driver at work"] = time.monotonic() - begin
        until(lambda: any(root.glob(".skies.*.partial/*")), "a worker is at work")
        steps["first piece begun"] = time.monotonic() - begin
        recovery = 0.0
        if fault is not None:
            until(lambda: self.done() >= 2, "two skies are finished")
            struck = time.monotonic()
            head = fault(head, job)
            had = self.done()
            job = start(head, *command)
            until(lambda: self.done() > had, "another sky is finished")
            recovery = time.monotonic() - struck
        until(lambda: (root / "skies" / "stage.json").is_file(), "the skies are finished")
        seconds = time.monotonic() - begin
        until(lambda: "succeeded" in ask(head, "status", job), "the job is over")
        if head.gcs != self.first:
            stop(head)
        return seconds, recovery, steps

    first = ""


def stopped(head: Head, job: str) -> Head:
    """Stop a job as a user does."""
    ask(head, "stop", job)
    until(lambda: "was stopped" in ask(head, "status", job), "the job is stopped")
    return head


def lost(head: Head, job: str) -> Head:
    """Lose the head and start another."""
    kill(head)
    return start_head(head.folder, head.environment, 2)


def measure(rounds: Rounds) -> tuple[list[Row], dict[str, float]]:
    """Return a row for each fault, and the steps of a quiet submission."""
    rows: list[Row] = []

    def add(name: str, took: tuple[float, float], quiet: float) -> None:
        rows.append((name, took[1], took[0], took[0] / quiet))

    with local_head(2) as head:
        rounds.first = head.gcs
        quiet, _ = rounds.direct(on(head), None)
        rows.append(("none, driver in a shell", 0.0, quiet, 1.0))
        strike = lambda: until(lambda: bool(kill_a_worker(head)), "a worker is killed")  # noqa: E731
        add("worker killed", rounds.direct(on(head), strike), quiet)
        add("driver killed, run again", rounds.killed_driver(on(head)), quiet)
        job, _, steps = rounds.submitted(head, None)
        rows.append(("none, job", 0.0, job, 1.0))
        add("job stopped, submitted again", rounds.submitted(head, stopped)[:2], job)
        add("head lost, started and submitted again", rounds.submitted(head, lost)[:2], job)
    with two_nodes(rounds.scratch / "nodes.log") as nodes:
        two, _ = rounds.direct(nodes.environment, None)
        rows.append(("none, two nodes of one core", 0.0, two, 1.0))
        add("second node lost", rounds.direct(nodes.environment, nodes.change), two)
    return rows, steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--skies", type=int, default=100, help="training skies; two more are made")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        rows, steps = measure(Rounds(asked.skies, Path(scratch)))
    print("| from submit to | s |\n|---|---|")
    for name, seconds in steps.items():
        print(f"| {name} | {seconds:.1f} |")
    print("\n| fault | recovery (s) | start to end (s) | ratio |\n|---|---|---|---|")
    for name, recovery, seconds, ratio in rows:
        print(f"| {name} | {recovery:.1f} | {seconds:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
