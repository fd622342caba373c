"""Where the runner keeps a run, and what it says about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from geminga import storage
from geminga.config import Config
from geminga.files import is_whole, read_json, write_json
from geminga.pipeline import runner
from geminga.pipeline.runner import Context, Stage
from geminga.storage.mirror import Mirror

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class NoTracker:
    is_new = False

    @classmethod
    @contextmanager
    def open(cls, config: Config, root: Path, *_: Any) -> Iterator[NoTracker]:
        yield cls()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: nullcontext()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "Tracker", NoTracker)
    monkeypatch.delenv(JOB, raising=False)
    monkeypatch.chdir(tmp_path)


def kept_in(config: Config, **where: str | None) -> Config:
    return config.model_copy(update={"run": config.run.model_copy(update=where)})


def run(config: Config, *bodies: Any) -> Context:
    stages = [Stage(f"s{n}", body, settings=("seed",)) for n, body in enumerate(bodies)]
    return runner.run_stages(stages, config, lambda path: "")


def write(context: Context, folder: Path) -> Mapping[str, Any]:
    write_json(folder / "made.json", 1)
    return {}


def test_a_folder_by_its_address(config2: Config, tmp_path: Path) -> None:
    run(kept_in(config2, storage=(tmp_path / "shared").as_uri()), write)
    assert read_json(tmp_path / "shared" / "test" / "s0" / "made.json") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("where", "job", "warned"),
    [
        ({}, True, True),
        ({"output": "results"}, True, True),
        ({}, False, False),
        ({"output": "/tmp/{}"}, True, False),
        ({"storage": "file://{}"}, True, False),
    ],
)
def test_a_job_that_would_lose_its_results_says_so(
    where: dict[str, str],
    job: bool,
    warned: bool,
    config2: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if job:
        monkeypatch.setenv(JOB, "{}")
    filled = {
        key: value.replace("/tmp/{}", str(tmp_path / "x")).replace("{}", str(tmp_path / "x"))
        for key, value in where.items()
    }
    run(kept_in(config2, **filled), write)
    told = [record for record in caplog.records if "set run.storage" in record.getMessage()]
    assert len(told) == warned


def test_pieces_of_a_stage_that_failed_are_kept_for_another_machine(
    config2: Config, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "run_folder", lambda _: mirror.root / "test")
    monkeypatch.setattr(storage, "check", lambda _: None)
    made: list[int] = []

    def pieces(context: Context, folder: Path) -> Mapping[str, Any]:
        for number in range(4):
            path = folder / f"{number}.json"
            if not is_whole(path, read_json):
                if len(made) == 2:
                    made.append(-1)
                    raise KeyboardInterrupt
                made.append(number)
                write_json(path, number)
        return {"made": len(made)}

    with pytest.raises(KeyboardInterrupt):
        run(config2, write, pieces)
    assert made == [0, 1, -1]
    shutil.rmtree(mirror.root)
    mirror.root.mkdir()
    run(config2, write, pieces)
    assert made == [0, 1, -1, 2, 3]
    root = mirror.root / "test"
    assert storage.names(root / "s1") == ["0.json", "1.json", "2.json", "3.json", "stage.json"]
    assert not [name for name in storage.names(root) if name.endswith(".partial")]
    # With another seed the stages are made again, and nothing of the old ones stays.
    shutil.rmtree(mirror.root)
    mirror.root.mkdir()
    other = config2.model_copy(
        update={"seed": 7, "run": config2.run.model_copy(update={"replace": True})}
    )
    run(other, write)
    assert read_json(root / "s0" / "stage.json")["seed"] == 7
