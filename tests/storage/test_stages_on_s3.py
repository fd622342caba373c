"""Stages that work on an S3 server, in one process: the bytes of a folder, and what is kept."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from servers import S3Server

from geminga import storage
from geminga.config import Config, load_config
from geminga.distributed import simulate as workers
from geminga.distributed.work import run_here
from geminga.files import file_digest
from geminga.pipeline import runner, simulate
from geminga.pipeline.runner import Stage

pytestmark = pytest.mark.cluster

STAGES = (
    Stage("response", simulate.run_response, settings=("sky",)),
    Stage("skies", simulate.run_skies, reads=("response",), settings=("sets",)),
    Stage("patches", simulate.run_patches, reads=("response", "skies"), settings=("patches",)),
)
TINY = Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml"


class NoTracker:
    is_new = False

    @classmethod
    @contextmanager
    def open(cls, config: Config, root: Path, *_: Any) -> Iterator[NoTracker]:
        yield cls()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: nullcontext()


def one_after_the_other(
    worker: Any, arguments: Sequence[Any], pieces: Sequence[Any], *rest: Any
) -> list[dict[str, Any]]:
    return run_here(worker, arguments, pieces, *rest[-2:])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> Iterator[pytest.MonkeyPatch]:
    """Let stages work in this process, with the keys of the server."""
    monkeypatch.setattr(runner, "Tracker", NoTracker)
    monkeypatch.setattr(simulate, "ray_session", nullcontext)
    monkeypatch.setattr(simulate, "run_pieces", one_after_the_other)
    for name, value in {**s3.environment, storage.VARIABLE: ""}.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    storage._open_mirror.cache_clear()


def settings(*changes: str) -> Config:
    return load_config(TINY, ["patches.grid_nside=1", "sets.train=2", *changes])


def run(config: Config, until: str) -> Path:
    return runner.run_stages(STAGES, config, file_digest, until).root


def contents(root: Path, stages: Sequence[str]) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for stage in stages
        for path in sorted(storage.here(root / stage).rglob("*"))
        if path.is_file() and path.name not in ("stage.json", ".files.json")
    }


def test_the_same_bytes_and_nothing_twice(
    here: pytest.MonkeyPatch,
    s3: S3Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "geminga")
    stages = ["response", "skies", "patches"]
    expected = contents(run(settings(f"run.output={tmp_path / 'plain'}"), "patches"), stages)
    assert len(expected) > 15

    bucket = s3.make_bucket(f"b-{secrets.token_hex(4)}")
    kept = f"run.storage={s3.uri(f'{bucket}/runs')}"
    first = settings(kept, f"run.mirror={tmp_path / 'first'}")
    simulated: list[int] = []
    simulate_sky = workers.simulate_sky

    def watched(*arguments: Any) -> Any:
        if len(simulated) == 2:
            raise KeyboardInterrupt
        simulated.append(arguments[-1])
        return simulate_sky(*arguments)

    with here.context() as patch:
        patch.setattr(workers, "simulate_sky", watched)
        with pytest.raises(KeyboardInterrupt):
            run(first, "patches")
    assert not storage.exists(runner.run_folder(first) / "skies" / "stage.json")

    # Another machine goes on, with nothing but the address.
    second = settings(kept, f"run.mirror={tmp_path / 'second'}")
    shutil.rmtree(tmp_path / "first")
    again: list[int] = []

    def counted(*arguments: Any) -> Any:
        again.append(arguments[-1])
        return simulate_sky(*arguments)

    here.setattr(workers, "simulate_sky", counted)
    root = run(second, "patches")
    assert root.is_relative_to(tmp_path / "second")
    assert not set(again) & set(simulated)
    assert len(again) == 2
    assert contents(root, stages) == expected
    assert f"kept in s3://{bucket}/runs/tiny" in caplog.text
    assert "name a server with run.tracking_uri" in caplog.text
    assert not [name for name in storage.names(root / "skies") if name.startswith(".")]

    # And a third, where all is finished; a mirror with stale files is set right.
    caplog.clear()
    victim = next(root.glob("patches/*.parquet"))
    victim.write_bytes(b"of another time")
    assert contents(run(second, "patches"), stages) == expected
    assert caplog.text.count("finished before, skipped") == len(stages)


def test_a_damaged_piece_of_an_unfinished_stage_is_made_anew(
    here: pytest.MonkeyPatch,
    s3: S3Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket = s3.make_bucket(f"b-{secrets.token_hex(4)}")
    config = settings(
        f"run.storage={s3.uri(f'{bucket}/runs')}", f"run.mirror={tmp_path / 'mirror'}"
    )
    root = run(config, "patches")
    expected = contents(root, ["patches"])
    # As if the driver had been killed before the end, and a shard been damaged in the store.
    key = next(path for path in expected if path.endswith(".parquet"))
    damaged = bytearray(expected[key])
    damaged[len(damaged) // 2] ^= 0xFF
    storage.remove(root / "patches" / "stage.json")
    work = root / f".patches.{stage_key(config, 'patches')}.partial"
    storage.finish(root / "patches", work, Path(key).name)
    with s3.filesystem().open_output_stream(
        f"{bucket}/runs/tiny/{work.name}/{Path(key).name}"
    ) as stream:
        stream.write(damaged)
    caplog.clear()
    assert contents(run(config, "patches"), ["patches"]) == expected
    lines = [line for line in caplog.messages if "made anew" in line]
    assert len(lines) == 1
    assert Path(key).name in lines[0]


def stage_key(config: Config, name: str) -> str:
    return runner.stage_keys(STAGES, config, file_digest)[name]
