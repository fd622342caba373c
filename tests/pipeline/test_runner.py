"""The runner: what is skipped, what is run again, what an interruption leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geminga.config import Config
from geminga.errors import InputError
from geminga.files import read_json, write_json
from geminga.pipeline import runner
from geminga.pipeline.runner import Context, Stage, is_finished, run_stages


class NoTracker:
    is_new = False

    @classmethod
    @contextmanager
    def open(cls, config: Config, root: Path) -> Iterator[NoTracker]:
        yield cls()

    def tree(self, tree: Mapping[str, Any], name: str) -> None:
        assert name == "stage.json"

    def datasets(self, files: Any) -> None:
        pass

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        yield


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(runner, "Tracker", NoTracker)
    return []


def make_stages(log: list[str], fail: set[str] | None = None) -> list[Stage]:
    def body(name: str) -> Any:
        def run(context: Context, folder: Path) -> Mapping[str, Any]:
            log.append(name)
            piece = folder / "piece.json"
            if not piece.exists():
                write_json(piece, {"by": len(log)})
            if fail and name in fail:
                raise InputError(name, "fails", "mend it")
            return {"ran": name}

        return run

    return [
        Stage("a", body("a"), settings=("sky",)),
        Stage("b", body("b"), reads=("a",), settings=("miun",)),
        Stage("c", body("c"), reads=("a",), settings=("images.pixels",)),
        Stage("d", body("d"), reads=("b", "c")),
    ]


def configured(config: Config, folder: Path, **changes: Any) -> Config:
    tree = config.model_dump(mode="json")
    tree["run"]["output"] = str(folder)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tree[section][name] = value
    return Config.model_validate(tree)


def digest(path: Path) -> str:
    return path.name


def test_a_run_that_is_new_to_mlflow_tells_it_of_the_stages_that_are_skipped(
    config2: Config, tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other settings take finished skies over: they are inputs of that run too."""
    config, told = configured(config2, tmp_path), list[tuple[str, str]]()
    first, *others = make_stages(log)
    first = replace(
        first,
        tell=lambda context, folder: told.append((context.config.name, folder.name)),
        input_files=lambda _: [Path(__file__)],
    )
    stages = [first, *others]

    def given(self: NoTracker, rows: list[dict[str, str]]) -> None:
        told.extend(("input", row["name"]) for row in rows)

    monkeypatch.setattr(NoTracker, "datasets", given)
    run_stages(stages, config, digest)
    run_stages(stages, config, digest)
    assert told == [("input", "test_runner.py")]
    told.clear()
    monkeypatch.setattr(NoTracker, "is_new", True)
    run_stages(stages, config, digest)
    assert told == [("input", "test_runner.py"), (config.name, "a")]


def test_finished_stages_are_skipped(config2: Config, tmp_path: Path, log: list[str]) -> None:
    config = configured(config2, tmp_path)
    run_stages(make_stages(log), config, digest)
    assert log == ["a", "b", "c", "d"]
    run_stages(make_stages(log), config, digest)
    assert log == ["a", "b", "c", "d"]


def test_a_changed_setting_reruns_what_depends_on_it(
    config2: Config, tmp_path: Path, log: list[str]
) -> None:
    run_stages(make_stages(log), configured(config2, tmp_path), digest)
    log.clear()
    run_stages(
        make_stages(log), configured(config2, tmp_path, miun__width=6, run__replace=True), digest
    )
    assert log == ["b", "d"]
    log.clear()
    run_stages(
        make_stages(log),
        configured(config2, tmp_path, images__yearly_box_deg=3.0, run__replace=True),
        digest,
    )
    assert log == ["b", "d"], "another key of a section counts only where the section is named"
    log.clear()
    run_stages(
        make_stages(log), configured(config2, tmp_path, images__pixels=5, run__replace=True), digest
    )
    assert log == ["c", "d"]
    log.clear()
    changed = configured(
        config2, tmp_path, miun__width=6, sky__density_factor=2.0, run__replace=True
    )
    run_stages(make_stages(log), changed, digest)
    assert log == ["a", "b", "c", "d"]


def test_where_it_runs_changes_nothing(config2: Config, tmp_path: Path, log: list[str]) -> None:
    run_stages(make_stages(log), configured(config2, tmp_path), digest)
    log.clear()
    run_stages(make_stages(log), configured(config2, tmp_path, run__workers=7), digest)
    assert log == []


def test_until_runs_only_what_is_needed(config2: Config, tmp_path: Path, log: list[str]) -> None:
    run_stages(make_stages(log), configured(config2, tmp_path), digest, until="c")
    assert log == ["a", "c"]
    with pytest.raises(InputError, match="'nonsense' is no stage of this run; use one of"):
        run_stages(make_stages(log), configured(config2, tmp_path), digest, until="nonsense")


def test_an_interrupted_stage_goes_on_from_its_pieces(
    config2: Config, tmp_path: Path, log: list[str]
) -> None:
    config = configured(config2, tmp_path)
    root = tmp_path / config.name
    with pytest.raises(InputError, match="b: fails"):
        run_stages(make_stages(log, {"b"}), config, digest)
    assert not (root / "b").exists()
    run_stages(make_stages(log), config, digest)
    assert log == ["a", "b", "b", "c", "d"]
    assert read_json(root / "b" / "piece.json") == {"by": 2}, "the piece of the first try was kept"
    assert not list(root.glob(".*partial"))


def test_an_old_result_stays_until_the_new_one_is_there(
    config2: Config, tmp_path: Path, log: list[str]
) -> None:
    config = configured(config2, tmp_path)
    run_stages(make_stages(log), config, digest)
    root = tmp_path / config.name
    key = read_json(root / "b" / "stage.json")["key"]
    changed = configured(config2, tmp_path, miun__width=6, run__replace=True)
    with pytest.raises(InputError, match="b: fails"):
        run_stages(make_stages(log, {"b"}), changed, digest)
    assert is_finished(root / "b", key)


def test_provenance_is_beside_every_output(config2: Config, tmp_path: Path, log: list[str]) -> None:
    config = configured(config2, tmp_path)
    run_stages(make_stages(log), config, digest)
    for name in "abcd":
        note = read_json(tmp_path / config.name / name / "stage.json")
        assert note["config_hash"] == config.hash()
        assert note["seed"] == config.seed


def test_an_output_that_cannot_be_a_folder(config2: Config, tmp_path: Path, log: list[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(InputError, match=r"cannot be written .*; choose a writable folder"):
        run_stages(make_stages(log), configured(config2, blocked), digest)


def test_a_training_is_the_same_whoever_shares_it(config2: Config) -> None:
    """A run that lost its nodes goes on with other workers where it stopped."""
    stage = Stage("m", lambda _c, _f: {}, settings=("miun_training",))

    def key(**changes: object) -> str:
        training = config2.miun_training.model_copy(update=changes)
        config = config2.model_copy(update={"miun_training": training})
        return runner.stage_keys([stage], config, str)["m"]

    shared = {"workers": 4, "min_workers": 2, "loader_workers": 3, "threads": 2}
    assert key(**shared, checkpoint_minutes=1.0) == key()
    assert len({key(), key(batch_size=7), key(precision="bfloat16"), key(epochs=3)}) == 4
