"""Patch records in Parquet: what is written comes back, group by group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from geminga.errors import InputError
from geminga.patches.store import group_sizes, read_group, write_records


def records(n: int, first: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(first)
    return {
        "patch_id": np.arange(first, first + n, dtype=np.int64),
        "frame": rng.normal(size=(n, 3, 3)),
        "band_0": rng.uniform(size=(n, 4, 4)).astype(np.float32),
        "target": rng.integers(0, 2, (n, 8, 8)).astype(np.uint8),
    }


def test_groups_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "patches.parquet"
    groups = [records(3), records(1, 3), records(40, 4)]
    assert write_records(path, groups) == 44
    assert group_sizes(path) == [3, 1, 40]
    for number, group in enumerate(groups):
        back = read_group(path, number)
        assert list(back) == list(group)
        for name, values in group.items():
            assert back[name].dtype == values.dtype
            np.testing.assert_array_equal(back[name], values)
    assert [p.name for p in path.parent.iterdir()] == ["patches.parquet"]


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    write_records(path, [records(5)])
    back = read_group(path, 0, ["target", "patch_id"])
    assert set(back) == {"target", "patch_id"}
    assert back["target"].shape == (5, 8, 8)


def test_images_that_are_not_contiguous_keep_their_orientation(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    image = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    write_records(path, [{"a": image.transpose(0, 2, 1), "b": image[:, ::-1]}])
    back = read_group(path, 0)
    np.testing.assert_array_equal(back["a"], image.transpose(0, 2, 1))
    np.testing.assert_array_equal(back["b"], image[:, ::-1])


def test_arrow_readers_see_the_shape_of_images(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    write_records(path, [records(2)])
    field = pq.read_schema(path).field("band_0")
    assert field.type.extension_name == "arrow.fixed_shape_tensor"
    assert list(field.type.shape) == [4, 4]


def test_the_bytes_depend_on_the_records_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_records(tmp_path / name, [records(3), records(2, 3)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_records(tmp_path / "c", [records(2), records(3, 2)])
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    write_records(path, [records(3)])

    def failing() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        yield records(2)
        raise InputError("sky 7", "is broken", "make it anew")

    with pytest.raises(InputError, match="sky 7: is broken"):
        write_records(path, failing())
    assert group_sizes(path) == [3]
    assert [p.name for p in tmp_path.iterdir()] == ["patches.parquet"]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    write_records(path, [records(2)])
    with pytest.raises(InputError, match=r"has no column \['band_1'\]; cut the patches anew"):
        read_group(path, 0, ["target", "band_1"])


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and then nothing", "cut"])
def test_files_that_are_no_parquet_are_refused(content: bytes | str | None, tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    if content == "cut":
        write_records(path, [records(20)])
        path.write_bytes(path.read_bytes()[:1000])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    for read in (group_sizes, lambda p: read_group(p, 0)):
        with pytest.raises(InputError, match=r"is no readable Parquet file .*cut the patches anew"):
            read(path)
