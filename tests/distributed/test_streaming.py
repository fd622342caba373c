"""Workers and drivers are killed for real; nothing is lost, torn or made twice."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geminga.config import Config
from geminga.distributed.session import close_ray, ray_session
from geminga.distributed.simulate import PatchWriter, SkyWriter, patch_file
from geminga.distributed.work import Piece, run_pieces
from geminga.files import remove_temporaries
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts

PIECES = [{"sky_id": sky_id(Split.TRAIN, n)} for n in range(6)]


@pytest.fixture(scope="module")
def ray_on_four_cores() -> Iterator[None]:
    with ray_session(4):
        pass
    yield
    close_ray()


@pytest.fixture(scope="module")
def skies(
    config2: Config, tmp_path_factory: pytest.TempPathFactory, ray_on_four_cores: None
) -> tuple[str, str, str]:
    """Configuration, diffuse counts and simulated skies, to be cut into patches."""
    patches = config2.patches.model_copy(update={"grid_nside": 4})
    config = config2.model_copy(update={"patches": patches})
    folder = tmp_path_factory.mktemp("skies")
    text, diffuse = config.model_dump_json(), str(folder / "diffuse.npz")
    diffuse_counts(config, build_response(config)).save(Path(diffuse))
    with ray_session():
        run_pieces(SkyWriter, (text, diffuse, str(folder / "skies")), PIECES, 2, "skies", "sky")
    return text, diffuse, str(folder / "skies")


class Watch(threading.Thread):
    """Looks at a folder all the time: every file that shows itself is whole at once.

    With `kill`, the process that is writing a file is killed, once, when others are finished.
    """

    def __init__(self, folder: Path, kill: bool) -> None:
        super().__init__(daemon=True)
        self.folder, self.kill = folder, kill
        self.seen: dict[Path, tuple[int, int]] = {}
        self.before_kill: set[Path] = set()
        self.killed, self.torn, self.over = 0, [], False

    def run(self) -> None:
        while not self.over:
            for path in self.folder.glob("[!.]*"):
                if path not in self.seen:
                    status = path.stat()
                    self.seen[path] = status.st_ino, status.st_mtime_ns
                    try:
                        pq.read_table(path)
                    except Exception as error:
                        self.torn.append(f"{path.name}: {error}")
            if self.kill and not self.killed and self.seen:
                for temporary in self.folder.glob(".*.tmp"):
                    writer = process_writing(temporary)
                    if writer and temporary.stat().st_size > 0:
                        self.before_kill = set(self.seen)
                        os.kill(writer, signal.SIGKILL)
                        self.killed = writer
                        break
            time.sleep(0.001)


def process_writing(path: Path) -> int | None:
    """The process, not this one, that has a file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == path and link.parts[2] != str(os.getpid()):
                return int(link.parts[2])
        except OSError:
            continue
    return None


def cut(skies: tuple[str, str, str], folder: Path, workers: int, kill: bool = False) -> Watch:
    folder.mkdir()
    watch = Watch(folder, kill)
    watch.start()
    with ray_session():
        arguments = (*skies, str(folder))
        rows = run_pieces(PatchWriter, arguments, PIECES, workers, "patches", "sky")
    watch.over = True
    watch.join()
    assert [row["sky_id"] for row in rows] == [piece["sky_id"] for piece in PIECES]
    assert all(set(row) == {"sky_id", "patches", "bytes"} for row in rows)
    assert watch.torn == []
    return watch


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("[!.]*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def calm(skies: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches that one worker made, undisturbed."""
    folder = tmp_path_factory.mktemp("calm") / "patches"
    cut(skies, folder, 1)
    return folder


def test_a_killed_worker_loses_nothing(
    skies: tuple[str, str, str], calm: Path, tmp_path: Path
) -> None:
    watch = cut(skies, tmp_path / "killed", 2, kill=True)
    assert watch.killed
    assert not Path(f"/proc/{watch.killed}").exists()
    assert digests(tmp_path / "killed") == digests(calm)
    assert watch.before_kill, "some were finished before"
    for path, identity in watch.seen.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == identity, f"{path} was made anew"
    left = list((tmp_path / "killed").glob(".*.tmp"))
    assert len(left) == 1, "what the killed process was writing"
    assert remove_temporaries(tmp_path / "killed") == 1
    assert len(digests(tmp_path / "killed")) == len(PIECES)


def test_four_workers_give_the_bytes_of_one(
    skies: tuple[str, str, str], calm: Path, tmp_path: Path
) -> None:
    cut(skies, tmp_path / "four", 4)
    assert digests(tmp_path / "four") == digests(calm)


def test_pieces_from_before_are_not_in_the_rate(
    skies: tuple[str, str, str], calm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "patches"
    shutil.copytree(calm, folder)
    patch_file(folder, PIECES[3]["sky_id"]).unlink()
    with ray_session():
        run_pieces(PatchWriter, (*skies, str(folder)), PIECES, 1, "patches", "sky")
    assert "patches (5 from before): 6/6 sky" in capsys.readouterr().err


def memory(field: str) -> float:
    """Memory of this process in MB: VmRSS now, VmHWM at its highest."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) / 1024


class Measured:
    """Generates a sky and cuts it; answers with the memory its process has taken at most."""

    def __init__(self, config_json: str, diffuse: str, folder: str) -> None:
        self.skies = SkyWriter(config_json, diffuse, f"{folder}/skies")
        self.patches = PatchWriter(config_json, diffuse, f"{folder}/skies", f"{folder}/patches")

    def __call__(self, piece: Piece) -> Piece:
        self.skies(piece)
        self.patches(piece)
        return {"process": os.getpid(), "peak": memory("VmHWM")}


def test_memory_is_flat_from_2_to_40_skies(config2: Config, tmp_path: Path) -> None:
    text, diffuse = config2.model_dump_json(), str(tmp_path / "diffuse.npz")
    diffuse_counts(config2, build_response(config2)).save(Path(diffuse))
    peak, driver = {}, {}
    for count in (2, 40):
        pieces = [{"sky_id": sky_id(Split.TRAIN, n)} for n in range(count)]
        with ray_session():
            rows = run_pieces(
                Measured, (text, diffuse, str(tmp_path / str(count))), pieces, 2, "skies", "sky"
            )
        peak[count] = max(row["peak"] for row in rows)
        driver[count] = memory("VmRSS")
    # A worker that kept its skies, or only their patches' images, would grow by 100 MB and more.
    assert peak[40] < peak[2] + 40, peak
    assert driver[40] < driver[2] + 40, driver


RUN = """
import sys
from pathlib import Path
from geminga.config import Config
from geminga.pipeline.stages import run_pipeline
run_pipeline(Config.model_validate_json(Path(sys.argv[1]).read_text()), until="patches")
"""


def start_run(config: Config, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config.model_dump_json())
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder / "config.json")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_for(what: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(6000):
        if what():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    pytest.fail("waited for a minute")


def processes_of(session: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parts[2]))
    return found


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_stopped(config2: Config, tmp_path: Path) -> None:
    config = config2.model_copy(
        update={
            "patches": config2.patches.model_copy(update={"grid_nside": 4}),
            "sets": config2.sets.model_copy(update={"train": 8}),
            "run": config2.run.model_copy(update={"workers": 1, "output": str(tmp_path / "out")}),
        }
    )
    folder, root = tmp_path / "run", tmp_path / "out" / "test"
    first = start_run(config, folder)
    try:
        wait_for(
            lambda: (
                len(list(root.glob(".patches.*.partial/[!.]*"))) >= 2
                and list(root.glob(".patches.*.partial/.*.tmp"))
            ),
            first,
            folder / "log.txt",
        )
    finally:
        first.kill()
        first.wait()
    # Workers die with their driver at once; Ray's idle agents linger.
    end = time.monotonic() + 60
    while left := processes_of(first.pid):
        assert time.monotonic() < end, f"left are {left}"
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    (work,) = root.glob(".patches.*.partial")
    finished = {p.name: p.stat() for p in work.glob("[!.]*")}
    assert 2 <= len(finished) < 9
    skies = {p: p.stat().st_mtime_ns for p in (root / "skies").rglob("*")}
    assert start_run(config, folder).wait(120) == 0, (folder / "log.txt").read_text()
    assert f"patches: 9/9 skies ({len(finished)} from before)" in (folder / "log.txt").read_text()
    for name, status in finished.items():
        now = (root / "patches" / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert {p: p.stat().st_mtime_ns for p in (root / "skies").rglob("*")} == skies
    assert not list(root.rglob(".*.tmp"))
    # A process of its own, without Ray, makes the same patches.
    skies_folder, diffuse = str(root / "skies"), str(root / "response" / "diffuse.npz")
    alone = PatchWriter(config.model_dump_json(), diffuse, skies_folder, str(tmp_path / "alone"))
    for name in finished:
        alone({"sky_id": int(name.partition("_")[2].partition(".")[0])})
    alone({"sky_id": sky_id(Split.VALID, 0)})
    made = digests(root / "patches")
    assert digests(tmp_path / "alone").items() <= made.items()
