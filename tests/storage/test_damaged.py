"""A damaged shard is found wherever the damage is, and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.errors import InputError, StorageError
from geminga.files import read_parquet, write_parquet
from geminga.patches.store import check_records, write_records
from geminga.sky.photons import Photons, photons_from_vectors
from geminga.training import state


def table(path: Path) -> None:
    write_parquet(path, pd.DataFrame({"x": np.arange(3000.0)}))


def patches(path: Path) -> None:
    rng = np.random.default_rng(1)
    groups = [
        {"sky_id": np.full(4, n), "image_0": rng.integers(0, 9, (4, 16, 16)).astype(np.uint8)}
        for n in range(3)
    ]
    write_records(path, groups)


def photons(path: Path) -> None:
    rng = np.random.default_rng(1)
    years = np.zeros(3000, np.int8)
    photons_from_vectors(rng.normal(size=(3000, 3)), years, years).save(path)


@pytest.mark.parametrize(
    ("write", "read"),
    [(table, read_parquet), (patches, check_records), (photons, Photons.load)],
)
def test_one_wrong_byte_anywhere_is_found(
    write: Callable[[Path], None], read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "shard.parquet"
    write(path)
    read(path)
    whole = path.read_bytes()
    # The data: the footer after them says where they are.
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in range(40, end - 40, max(end // 25, 1)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"shard\.parquet"):
            read(path)


@pytest.mark.parametrize("length", [0, 3, 0.5, 0.999])
def test_a_cut_off_shard_is_found(length: float, tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    patches(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(length if length > 1 else length * len(whole))])
    with pytest.raises(InputError, match=r"shard\.parquet"):
        check_records(path)


def test_a_store_that_is_away_says_nothing_about_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state may be whole: nobody is told to remove it."""

    def away(path: Path) -> object:
        raise StorageError("s3://bkt", "does not answer", "start again")

    monkeypatch.setattr(state, "read_json", away)
    with pytest.raises(StorageError, match="does not answer; start again"):
        state.load_state(tmp_path)
