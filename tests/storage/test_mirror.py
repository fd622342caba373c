"""A mirror: what is written is put away, what is read is the newest, nothing torn is ever seen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geminga import storage
from geminga.errors import InputError, StorageError
from geminga.files import (
    atomic,
    is_whole,
    map_arrays,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)
from geminga.storage.mirror import MANIFEST, Mirror


def write_sky(path: Path, text: str, names: tuple[str, ...] = ("a", "b")) -> None:
    with atomic(path) as temporary:
        (temporary / "deep").mkdir(parents=True)
        for name in names:
            (temporary / "deep" / name).write_text(text)


def objects(mirror: Mirror) -> set[str]:
    root = Path(mirror.prefix)
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


def empty(mirror: Mirror) -> None:
    """Take the mirror away, as on another machine."""
    shutil.rmtree(mirror.root)
    mirror.root.mkdir()


def test_what_is_written_is_read_on_another_machine(mirror: Mirror) -> None:
    root = mirror.root / "run"
    write_json(root / "a.json", {"x": 1})
    write_parquet(root / "b.parquet", pd.DataFrame({"x": [1, 2]}))
    with atomic(root / "c.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, v=np.arange(3))
    assert objects(mirror) == {"run/a.json", "run/b.parquet", "run/c.npz"}
    empty(mirror)
    assert storage.exists(root / "a.json")
    assert read_json(root / "a.json") == {"x": 1}
    assert list(read_parquet(root / "b.parquet")["x"]) == [1, 2]
    assert list(map_arrays(root / "c.npz", ["v"])["v"]) == [0, 1, 2]


def test_the_newest_is_fetched_once(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mirror.root / "a.json"
    write_json(path, [1])
    before = path.stat().st_ino
    assert read_json(path) == [1]
    assert path.stat().st_ino == before, "what this machine wrote is not fetched"
    # Another machine writes as many bytes.
    (Path(mirror.prefix) / "a.json").write_text(path.read_text().replace("1", "2"))
    assert read_json(path) == [2]
    fetched = path.stat().st_ino
    assert fetched != before
    assert read_json(path) == [2]
    assert path.stat().st_ino == fetched


def test_a_leftover_in_the_mirror_is_not_taken_for_the_file(mirror: Mirror) -> None:
    path = mirror.root / "a.json"
    write_json(path, [1])
    (Path(mirror.prefix) / "a.json").unlink()
    assert not storage.exists(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_json(path)
    # And one that was never put away.
    (mirror.root / "b.json").write_text("[3]")
    assert not storage.exists(mirror.root / "b.json")


def test_a_folder_is_there_whole_or_not_at_all(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    sky = mirror.root / "sky"
    put = Mirror._put
    seen: list[bool] = []

    def watched(self: Mirror, source: Path, key: str) -> None:
        seen.append(storage.exists(sky))
        put(self, source, key)

    monkeypatch.setattr(Mirror, "_put", watched)
    write_sky(sky, "one")
    write_sky(sky, "two", ("b", "c"))
    assert seen == [False] * 6, "three files and a list, twice; not there before the last of them"
    assert storage.exists(sky)
    assert objects(mirror) == {"sky/deep/b", "sky/deep/c", f"sky/{MANIFEST}"}
    empty(mirror)
    storage.here(sky)
    assert (sky / "deep" / "c").read_text() == "two"


def test_a_folder_that_was_not_put_away_whole_is_not_there(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    sky = mirror.root / "sky"
    put = Mirror._put

    def dying(self: Mirror, source: Path, key: str) -> None:
        if key.endswith(MANIFEST):
            raise OSError(28, "No space left on device")
        put(self, source, key)

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_put", dying)
        with pytest.raises(InputError, match="No space left"):
            write_sky(sky, "one")
    assert objects(mirror) == {"sky/deep/a", "sky/deep/b"}
    assert not storage.exists(sky)
    assert not sky.exists()
    write_sky(sky, "two")
    assert storage.exists(sky)


def test_only_whole_folders_are_put_away(mirror: Mirror) -> None:
    with atomic(mirror.root / "model") as temporary:
        temporary.mkdir()
        write_json(temporary / "meta.json", {})
        assert not objects(mirror)
        assert read_json(temporary / "meta.json") == {}
    assert objects(mirror) == {"model/meta.json", f"model/{MANIFEST}"}


def test_a_stage_takes_its_name_at_last(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    work, final = mirror.root / ".stage.k.partial", mirror.root / "stage"
    write_json(final / "stage.json", "old")
    write_json(final / "gone.json", "old")
    write_sky(work / "sky", "one")
    write_json(work / "stage.json", "new")
    copy = Mirror._copy

    def killed(self: Mirror, key: str, other: str, local: Path) -> Any:
        assert not storage.exists(final / "stage.json")
        if other.endswith("stage.json"):
            raise OSError("killed")
        return copy(self, key, other, local)

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_copy", killed)
        with pytest.raises(InputError, match="killed"):
            storage.finish(work, final, "stage.json")
    assert not storage.exists(final / "stage.json")
    assert storage.exists(work / "sky"), "the finished piece is kept"

    storage.finish(work, final, "stage.json")
    assert objects(mirror) == {
        "stage/stage.json", "stage/sky/deep/a", "stage/sky/deep/b", f"stage/sky/{MANIFEST}",
    }  # fmt: skip
    assert storage.names(mirror.root) == ["stage"]
    before = (final / "sky" / "deep" / "a").stat().st_ino
    assert storage.here(final / "sky" / "deep" / "a").stat().st_ino == before, "nothing is fetched"
    assert read_json(final / "stage.json") == "new"


def test_a_stage_that_is_being_replaced_in_a_folder_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, final = tmp_path / ".stage.k.partial", tmp_path / "stage"
    for folder in (work, final):
        write_json(folder / "piece.json", folder.name)
        write_json(folder / "stage.json", folder.name)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            storage.finish(work, final, "stage.json")
    assert not storage.exists(final / "stage.json")
    storage.finish(work, final, "stage.json")
    assert read_json(final / "piece.json") == work.name


def test_a_stage_ends_on_a_machine_without_its_pieces(mirror: Mirror) -> None:
    work, final = mirror.root / ".stage.k.partial", mirror.root / "stage"
    write_sky(work / "sky", "one")
    empty(mirror)
    write_json(work / "stage.json", "new")
    storage.finish(work, final, "stage.json")
    assert storage.exists(final / "sky")
    assert (storage.here(final / "sky") / "deep" / "a").read_text() == "one"


def test_names_and_removal(mirror: Mirror) -> None:
    write_sky(mirror.root / "sky", "one")
    write_json(mirror.root / "a.json", 1)
    assert storage.names(mirror.root) == ["a.json", "sky"]
    assert storage.names(mirror.root / "nowhere") == []
    storage.remove(mirror.root / "sky")
    storage.remove(mirror.root / "a.json")
    storage.remove(mirror.root / "never")
    assert not objects(mirror)
    assert storage.names(mirror.root) == []
    assert not (mirror.root / "sky").exists()


def test_a_fetched_folder_has_nothing_else_in_it(mirror: Mirror) -> None:
    folder = mirror.root / "figures"
    write_json(folder / "a.json", 1)
    (folder / "old.png").write_text("of another time")
    (folder / ".b.json.0123abcd.tmp").write_text("being written")
    storage.here(folder)
    assert {p.name for p in folder.iterdir()} == {"a.json", ".b.json.0123abcd.tmp"}


def test_what_arrives_torn_does_not_stay(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = Mirror._mark

    def torn(self: Mirror, local: Path, key: str) -> None:
        os.truncate(key, 1)
        mark(self, local, key)

    monkeypatch.setattr(Mirror, "_mark", torn)
    with pytest.raises(InputError, match="did not arrive whole"):
        write_json(mirror.root / "a.json", [1, 2, 3])
    assert not objects(mirror)
    assert not (mirror.root / "a.json").exists()


def test_places_outside_the_mirror_are_left_alone(mirror: Mirror, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "a.json"
    write_json(path, 1)
    assert not objects(mirror)
    assert storage.exists(path)
    assert storage.place(path) == str(path)
    assert storage.train_storage(path.parent) == (str(path.parent), None)
    assert storage.train_storage(mirror.root / "x")[0] == f"{mirror.prefix}/x"
    assert storage.place(mirror.root / "x") == f"s3://{mirror.prefix}/x"
    assert json.loads(storage.environment()[storage.VARIABLE]) == {
        str(mirror.root): "s3://bucket/runs"
    }


def test_a_damaged_piece_is_removed_and_said(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    path = mirror.root / "piece.parquet"
    assert not is_whole(path, read_parquet)
    write_parquet(path, pd.DataFrame({"x": np.arange(1000.0)}))
    assert is_whole(path, read_parquet)
    assert not caplog.records
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    (Path(mirror.prefix) / "piece.parquet").write_bytes(content)
    assert not is_whole(path, read_parquet)
    assert "piece.parquet" in caplog.text
    assert "made anew" in caplog.text
    assert not storage.exists(path)


def test_a_store_that_is_away_damages_nothing(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mirror.root / "piece.parquet"
    write_parquet(path, pd.DataFrame({"x": [1.0]}))

    def away(path: Path) -> None:
        raise StorageError("s3://bucket", "does not answer", "start it")

    with pytest.raises(StorageError, match="does not answer"):
        is_whole(path, away)
    assert storage.exists(path)
