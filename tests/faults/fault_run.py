"""Runs that are broken on purpose: how they are started, watched, and compared with a quiet one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from cluster_demo import ROOT, Head, members
from job_run import PATIENCE_S, settings

SETTINGS = {
    "patches": ("sets.train=24", "sets.validation=1", "sets.test=1"),
    "detect": (
        "sets.train=1", "sets.validation=1", "sets.test=3", "miun_training.epochs=1",
        "localisation.detector=miun", "evaluation.kmeans=false",
    ),
}  # fmt: skip
"""Verb: settings with which its stages have pieces enough to be caught in, and take seconds."""
BROKEN = {"patches": ("skies", "patches"), "detect": ("observe", "search")}
"""Verb: the stages that something happens to."""
PIECES = {
    "skies": "sky_*/sources.parquet",
    "patches": "*.parquet",
    "observe": "patches_*.parquet",
    "search": "pieces/*.parquet",
}
"""Stage: the last file of each of its pieces."""


def arguments(verb: str, out: Path) -> list[str]:
    """Return the arguments of the run whose folder is `out`/tiny."""
    return settings(out, *SETTINGS[verb])


def prepare(quiet: Path, out: Path, made: tuple[str, ...]) -> Path:
    """Give a new output folder the stages of the quiet run but those to be made; return the run's."""
    for path in quiet.iterdir():
        if (path / "stage.json").is_file() and path.name not in made:
            shutil.copytree(path, out / "tiny" / path.name)
    return out / "tiny"


def drive(
    verb: str, out: Path, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start the command line in a process group of its own."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "geminga", verb, *arguments(verb, out)],
            cwd=ROOT, env={**environment, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip


def finish(verb: str, out: Path, environment: Mapping[str, str], log: Path) -> str:
    """Run the command line to its good end; return what it said."""
    process = drive(verb, out, environment, log)
    code = process.wait(PATIENCE_S)
    said = log.read_text(encoding="utf-8")
    assert code == 0, said[-3000:]
    return said


def on(head: Head) -> dict[str, str]:
    """Return the environment of a driver that joins a head."""
    return {**head.environment, "RAY_ADDRESS": head.gcs}


def pieces(root: Path, stage: str) -> list[Path]:
    """Return the finished pieces of a stage that is being made."""
    return sorted(root.glob(f".{stage}.*.partial/{PIECES[stage]}"))


def made_in(marks: Mapping[str, tuple[int, int]], *stages: str) -> set[tuple[str, tuple[int, int]]]:
    """Return the files of some stages, of all that `finished_files` found."""
    return {item for item in marks.items() if item[0].split("/")[0] in stages}


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a driver, and what it started, without warning."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def busy_workers(pids: list[int]) -> list[int]:
    """Return those of some processes that are at a piece of work: Ray names them after it."""
    listing = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "-p", ",".join(map(str, pids))],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    found = []
    for line in listing.splitlines():
        pid, command = line.split(maxsplit=1)
        if re.match(r"ray::.*MapBatches\(", command):
            found.append(int(pid))
    return found


def kill_a_worker(head: Head) -> int:
    """Kill a process that is at a piece of work; return how many were killed, 0 or 1."""
    for pid in busy_workers(members(head)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself
        return 1
    return 0


def digests(root: Path, stages: tuple[str, ...]) -> dict[str, str]:
    """Return a digest of every file whose bytes must not depend on what happened."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for stage in stages
        for path in sorted((root / stage).rglob("*"))
        if path.is_file() and path.name != "stage.json"
    }


def assert_like(quiet: Path, root: Path, verb: str) -> None:
    """See that a run has the bytes of the quiet one, and left nothing lying about."""
    expected = digests(quiet, BROKEN[verb])
    assert len(expected) >= 12
    assert digests(root, BROKEN[verb]) == expected
    assert not [p for p in root.rglob("*") if p.name.endswith((".partial", ".tmp", ".old"))]


def _read(path: Path) -> None:
    if path.suffix == ".parquet":
        pq.read_table(path)
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path) as content:
            assert content.testzip() is None, path


@contextmanager
def watched(root: Path) -> Iterator[None]:
    """Read every file with a final name as soon as it is there; each must be whole.

    Raises
    ------
    AssertionError
        At the end of the block, with the files that were not.
    """
    seen: set[tuple[int, int]] = set()
    torn: list[str] = []
    done = threading.Event()

    def look() -> None:
        # Folders that go away meanwhile are passed over by os.walk.
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not name.endswith((".tmp", ".old"))]
            for path in (Path(folder, name) for name in names if not name.endswith(".tmp")):
                try:
                    status = path.stat()
                    mark = (status.st_ino, status.st_mtime_ns)
                    if mark not in seen:
                        _read(path)
                        seen.add(mark)
                except FileNotFoundError:
                    continue  # its folder got its final name, or made room, between two steps
                except Exception as error:
                    torn.append(f"{path}: {error!r}")

    def watch() -> None:
        while not done.wait(0.05):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    look()
    assert seen
    assert not torn
