"""Patch records in Parquet: what is written comes back, group by group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geminga.errors import InputError
from geminga.patches.quantise import quantised
from geminga.patches.store import group_sizes, read_group, write_records


def records(n: int, first: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(first)
    return {
        "patch_id": np.arange(first, first + n, dtype=np.int64),
        "frame": rng.normal(size=(n, 3, 3)),
        "image_0": quantised(rng.uniform(size=(n, 4, 4))),
        "image_1": rng.integers(0, 200, (n, 8, 8)).astype(np.uint8),
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
            assert back[name].dtype == (np.float32 if "image" in name else values.dtype)
            np.testing.assert_array_equal(back[name], values)
    assert [p.name for p in path.parent.iterdir()] == ["patches.parquet"]


def test_parts_of_photons_keep_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    image = np.random.default_rng(1).uniform(0.0, 3.0, (5, 8, 8)).astype(np.float32)
    group = {"patch_id": np.arange(5), "image_0": image}
    write_records(path, [group], parts=True)
    back = read_group(path, 0)["image_0"]
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, image)
    with pytest.raises(ValueError, match="not rounded"):
        write_records(path, [group])


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


def test_the_file_says_what_its_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    write_records(path, [records(2)])
    schema = pq.read_schema(path)
    assert schema.metadata[b"format"] == b"geminga-patches-2"
    about = json.loads(schema.field("image_0").metadata[b"geminga"])
    assert about == {"codec": "expected", "dtype": "float32", "shape": [4, 4]}
    about = json.loads(schema.field("frame").metadata[b"geminga"])
    assert about == {"codec": "plain", "dtype": "float64", "shape": [3, 3]}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_counts_come_back_as_they_were_in_single_precision(dtype: type, tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    counts = np.random.default_rng(1).poisson(3.0, (3, 8, 8)).astype(dtype)
    counts[1, 2, 3] = min(np.iinfo(dtype).max, 1 << 24)
    write_records(path, [{"image_0": counts[:1]}, {"image_0": counts[1:]}])
    back = [read_group(path, g)["image_0"] for g in range(2)]
    assert [b.dtype for b in back] == [np.float32] * 2
    np.testing.assert_array_equal(np.concatenate(back), counts)


def test_images_that_a_file_cannot_hold_are_a_fault_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    for image in (np.full((1, 4, 4), 0.1), np.full((1, 4, 4), 3, np.int64), np.ones((1, 4))):
        with pytest.raises(ValueError, match="column image_0 has images"):
            write_records(path, [{"image_0": image}])
    with pytest.raises(ValueError, match="not rounded to storable values"):
        write_records(path, [{"image_0": np.full((1, 4, 4), 0.1, np.float32)}])
    assert not path.exists()


def test_patches_of_another_version_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "patches.parquet"
    pq.write_table(pa.table({"patch_id": [1]}), path)
    for read in (group_sizes, lambda p: read_group(p, 0)):
        with pytest.raises(InputError, match=r"no patches of format geminga-patches-2 \(no format"):
            read(path)
    old = pa.table({"patch_id": [1]}).replace_schema_metadata({"format": "geminga-patches-1"})
    pq.write_table(old, path)
    with pytest.raises(InputError, match=r"geminga-patches-1\); cut the patches anew") as error:
        group_sizes(path)
    assert "\n" not in str(error.value)


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
    with pytest.raises(InputError, match=r"has no column \['image_2'\]; cut the patches anew"):
        read_group(path, 0, ["target", "image_2"])


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
