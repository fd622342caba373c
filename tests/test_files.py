from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError
from geminga.files import (
    atomic,
    file_digest,
    map_arrays,
    read_json,
    read_parquet,
    remove_temporaries,
    write_json,
    write_parquet,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_nothing_stands_at_the_path_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "table.txt"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename must not cross file systems"
    assert path.read_text() == "new"
    assert names(path.parent) == ["table.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.txt"]


def test_an_interrupt_leaves_no_temporary(tmp_path: Path) -> None:
    def interrupt() -> None:
        with atomic(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "part").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert names(tmp_path) == []


def test_a_folder_replaces_the_older_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "stale").write_text("old")
    with atomic(path) as temporary:
        temporary.mkdir()
        (temporary / "fresh").write_text("new")
    assert names(path) == ["fresh"]
    assert names(tmp_path) == ["folder"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "stale").write_text("old")

    def no_space(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", no_space)

    def write() -> None:
        with atomic(path) as temporary:
            temporary.mkdir()

    with pytest.raises(InputError, match="No space left"):
        write()
    assert names(path) == ["stale"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_full_or_read_only_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = tmp_path / "out.json"
    path.write_text("{}")

    def refuse(self: Path, data: str, **kwargs: object) -> int:
        self.touch()  # the file is there, half-written
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(InputError, match=message) as caught:
        write_json(path, {"a": 1})
    assert caught.value.where == str(path)
    assert "choose a writable folder" in caught.value.remedy
    assert path.read_bytes() == b"{}"
    assert names(tmp_path) == ["out.json"]


def test_full_disk_while_writing_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: pd.DataFrame, path: Path, **kwargs: object) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pd.DataFrame, "to_parquet", refuse)
    with pytest.raises(InputError, match="No space left"):
        write_parquet(tmp_path / "t.parquet", pd.DataFrame({"a": [1]}))
    assert names(tmp_path) == []


def test_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out/run/x\.json: cannot be written"):
        write_json(tmp_path / "out" / "run" / "x.json", {})


def test_output_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        write_json(tmp_path / "out" / "x.json", {})


def test_a_missing_input_inside_the_block_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    def write() -> None:
        with atomic(tmp_path / "x") as temporary:
            temporary.write_text((tmp_path / "absent").read_text())

    with pytest.raises(FileNotFoundError, match="absent"):
        write()


def test_json_round_trip_is_stable_text(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_json(first, {"b": [1, 2.5], "a": "é"})
    write_json(second, {"a": "é", "b": [1, 2.5]})
    assert read_json(first) == {"a": "é", "b": [1, 2.5]}
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_bad_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.json: is not JSON"):
        read_json(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: cannot be read \(No such file"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match=r"absent\.parquet: is not a readable Parquet file"):
        read_parquet(tmp_path / "absent.parquet")


def test_parquet_round_trip_keeps_types(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1, 2], "x": [0.5, float("nan")], "name": ["a", "b"]})
    frame["name"] = frame["name"].astype("str")
    write_parquet(tmp_path / "t.parquet", frame)
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "t.parquet"), frame)


@pytest.mark.parametrize("keep", [0, 4, 100])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, pd.DataFrame({"a": range(1000)}))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"t\.parquet: is not a readable Parquet file"):
        read_parquet(path)


def test_digest_follows_the_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"abc")
    b.write_bytes(b"abc")
    assert file_digest(a) == file_digest(b) == "ba7816bf8f01cfea"
    b.write_bytes(b"abd")
    assert file_digest(a) != file_digest(b)


def test_json_is_readable_by_others(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1]}


def test_large_arrays_of_an_npz_file_stay_in_it(tmp_path: Path) -> None:
    arrays = {
        "large": np.arange(2**18, dtype=np.float64).reshape(2, -1),
        "columns": np.asfortranarray(np.arange(2**18, dtype=np.int64).reshape(-1, 4)),
        "small": np.arange(3),
        "empty": np.zeros((4, 0), np.float32),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    for name, mapped in (("a.npz", True), ("b.npz", False)):
        content = map_arrays(tmp_path / name, list(arrays))
        assert isinstance(content["large"].base, np.memmap) is mapped
        for key, values in arrays.items():
            assert content[key].dtype == values.dtype
            np.testing.assert_array_equal(content[key], values)
    with pytest.raises(KeyError, match="other"):
        map_arrays(tmp_path / "a.npz", ["other"])
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:-5000])
    with pytest.raises(zipfile.BadZipFile):
        map_arrays(tmp_path / "a.npz", ["large"])


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "sky").mkdir()
    for name in (".sky.0123abcd.tmp", ".sky.0123abcd.old", "sky/.x.json.89abcdef.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".folder.0123abcd.tmp" / ".inner.0123abcd.tmp").mkdir(parents=True)
    for name in ("sky/x.json", ".keep", "a.tmp", ".keep.partial"):
        (tmp_path / name).write_text("whole")
    assert remove_temporaries(tmp_path) == 5
    assert names(tmp_path) == [".keep", ".keep.partial", "a.tmp", "sky"]
    assert names(tmp_path / "sky") == ["x.json"]
