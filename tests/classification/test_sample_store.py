"""Labelled source images in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geminga.classification import SourceImages
from geminga.classification.store import load_samples, save_samples
from geminga.errors import InputError

SKY = 1_000_003


def images(n: int, bands: int = 2, years: int = 4) -> SourceImages:
    rng = np.random.default_rng(n)
    return SourceImages(
        rng.uniform(0, 9, (n, bands, 7, 7)).astype(np.float32),
        rng.uniform(0, 9, (n, years, 7, 7)).astype(np.float32),
        rng.uniform(-90, 90, n),
    )


def save(path: Path, n: int, years: int = 4) -> tuple[SourceImages, dict[str, Any]]:
    made = images(n, years=years)
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {
        "labels": rng.integers(0, 5, n),
        "expected": rng.integers(0, 2, n).astype(np.bool_),
        "scores": rng.uniform(30, 90, n),
    }
    save_samples(path, made, parts["labels"], parts["expected"], parts["scores"], SKY)
    return made, parts


@pytest.mark.parametrize("n", [0, 1, 6])
def test_what_is_saved_comes_back(n: int, tmp_path: Path) -> None:
    path = tmp_path / "new" / "images.npz"
    made, parts = save(path, n)
    samples, scores = load_samples(path)
    assert len(samples) == n
    np.testing.assert_array_equal(samples.images, made.stack())
    assert samples.images.dtype == np.float32
    assert samples.images.shape == (n, 6, 7, 7)
    np.testing.assert_array_equal(samples.lat_deg, made.lat_deg)
    np.testing.assert_array_equal(samples.labels, parts["labels"])
    np.testing.assert_array_equal(samples.expected, parts["expected"])
    assert samples.expected.dtype == np.bool_
    np.testing.assert_array_equal(scores, parts["scores"])
    np.testing.assert_array_equal(samples.sky_id, np.full(n, SKY))
    np.testing.assert_array_equal(samples.row, np.arange(n))
    assert [p.name for p in path.parent.iterdir()] == ["images.npz"]


def test_the_bytes_depend_on_the_samples_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", 4)
    save(tmp_path / "b.npz", 4)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_name_is_kept_whatever_its_ending(tmp_path: Path) -> None:
    save(tmp_path / "images.data", 2)
    assert len(load_samples(tmp_path / "images.data")[0]) == 2


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "cut", "one array", "other", "pickle"]
)
def test_files_that_hold_no_samples_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an archive")
    elif kind == "cut":
        save(path, 6)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "one array":
        with path.open("wb") as stream:
            np.save(stream, np.arange(3))
    elif kind == "other":
        np.savez(path, bands=np.zeros(3))
    elif kind == "pickle":
        np.savez(path, bands=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"images.npz: holds no source images .*make the images"):
        load_samples(path)


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    save(path, 6)
    data = bytearray(path.read_bytes())
    data[600] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="holds no source images"):
        load_samples(path)
