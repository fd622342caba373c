"""Batches of patches from files: what is shown in an epoch, in which order, to which worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.patches.quantise import quantised
from geminga.patches.store import write_records
from geminga.training import patches, plan
from geminga.training.batches import Batch
from geminga.training.patches import PatchReader, prefetch

ORDER = [44, 52, 28, 16, 2, 45, 15, 53, 33, 6, 38, 42]
"""Patches of epoch 3 in batches of 20, as the reader of one worker has always shown them."""

GROUPS = ([5, 1, 7], [32], [3, 2, 2, 2])
"""Sizes of the row groups of three files: 54 patches in 8 groups."""


def records(first: int, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return patches whose number is what every pixel of their target holds."""
    number = np.arange(first, first + count)
    return {
        "sky_id": np.full(count, 1),
        "patch_id": number,
        "frame": np.zeros((count, 3, 3)),
        "image_0": quantised(np.full((count, 32, 32), 0.5)),
        "image_1": quantised(np.full((count, 64, 64), 0.5)),
        "target": np.broadcast_to(number[:, None, None], (count, 64, 64)).astype(np.uint8),
    }


def write(folder: Path, sizes: tuple[list[int], ...] = GROUPS) -> list[Path]:
    files, first = [], 0
    for number, groups in enumerate(sizes):
        parts = []
        for count in groups:
            parts.append(records(first, count))
            first += count
        files.append(folder / f"sky_{number}.parquet")
        write_records(files[-1], parts)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(tmp_path_factory.mktemp("patches"))


def batches_of(config: Config, size: int) -> Config:
    tree = config.model_dump(mode="json")
    tree["miun_training"]["batch_size"] = size
    return config_from_tree(tree, "test")


def numbers(batch: Batch) -> list[int]:
    return [int(n) for n in batch.target[:, 0, 0]]


def flat(batches: list[Batch]) -> list[int]:
    return [n for batch in batches for n in numbers(batch)]


@pytest.mark.parametrize("in_memory", [1, 3, 8])
@pytest.mark.parametrize("size", [1, 4, 9, 54, 100])
def test_every_patch_is_shown_once_an_epoch(
    size: int, in_memory: int, config2: Config, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "GROUPS_IN_MEMORY", in_memory)
    # The draw of counts is tested elsewhere, and is most of the time.
    monkeypatch.setattr(patches, "train_batch", lambda part, *_: part["patch_id"].tolist())
    reader = PatchReader(files, batches_of(config2, size))
    for epoch in (0, 1):
        shown: list[Any] = list(reader.train(epoch))
        assert sorted(n for part in shown for n in part) == list(range(54))
        assert len(shown) == reader.batches == -(-54 // size)
        assert {len(part) for part in shown[:-1]} <= {size}


def test_batches_are_images_and_targets_of_the_same_patches(
    config2: Config, files: list[Path]
) -> None:
    for batch in PatchReader(files, batches_of(config2, 20)).train(0):
        assert [tuple(image.shape[1:]) for image in batch.inputs] == [(32, 32), (64, 64)]
        assert batch.target.shape[1:] == (64, 64)
        assert {len(image) for image in batch.inputs} == {len(batch.target)}
        # Counts were drawn from a mean of one half.
        means = batch.inputs[1].mean(dim=(1, 2)).numpy()
        np.testing.assert_allclose(means, 0.5, atol=6 * (0.5 / 64**2) ** 0.5)


def test_the_order_differs_by_epoch_and_seed_alone(config2: Config, files: list[Path]) -> None:
    config = batches_of(config2, 16)
    first = list(PatchReader(files, config).train(0))
    again = list(PatchReader(files, config).train(0))
    for one, other in zip(first, again, strict=True):
        assert one.target.equal(other.target)
        assert all(a.equal(b) for a, b in zip(one.inputs, other.inputs, strict=True))
    orders = [flat(first), list(range(54)), flat(list(PatchReader(files, config).train(1)))]
    reseeded = config.model_copy(update={"seed": 1})
    orders.append(flat(list(PatchReader(files, reseeded).train(0))))
    assert len({tuple(order) for order in orders}) == 4


def test_patches_of_different_files_are_mixed(config2: Config, files: list[Path]) -> None:
    first = numbers(next(iter(PatchReader(files, batches_of(config2, 27)).train(0))))
    bounds = np.cumsum([0, *(sum(groups) for groups in GROUPS)])
    assert len(set(np.searchsorted(bounds, first, side="right"))) == len(GROUPS)


@pytest.mark.parametrize("in_memory", [2, 8])
@pytest.mark.parametrize("size", [4, 7, 54, 100])
@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_share_the_batches_of_one(
    workers: int,
    size: int,
    in_memory: int,
    config2: Config,
    files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "GROUPS_IN_MEMORY", in_memory)
    monkeypatch.setattr(
        patches, "train_batch", lambda part, _c, _e, weight: (part["patch_id"].tolist(), weight)
    )
    config = batches_of(config2, size)
    alone: list[Any] = list(PatchReader(files, config).train(1))
    shares: list[list[Any]] = [
        list(PatchReader(files, config, rank, workers).train(1)) for rank in range(workers)
    ]
    for (whole, full), *parts in zip(alone, *shares, strict=True):
        assert full == 1.0
        counted = [n for numbers, weight in parts if weight for n in numbers]
        assert sorted(counted) == sorted(whole)
        assert all(numbers for numbers, _ in parts)
        for numbers, weight in parts:
            assert weight in (0.0, pytest.approx(len(numbers) * workers / len(whole)))
        lengths = [len(numbers) if weight else 0 for numbers, weight in parts]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("start", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_epoch_goes_on_at_any_batch(
    start: int, workers: int, config2: Config, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "GROUPS_IN_MEMORY", 2)
    reader = PatchReader(files, batches_of(config2, 9), workers - 1, workers)
    whole = list(reader.train(1))
    rest = list(reader.train(1, start))
    assert len(whole) == 6
    assert len(rest) == max(6 - start, 0)
    for one, other in zip(whole[start:], rest, strict=True):
        assert one.target.equal(other.target)
        assert one.weight == other.weight
        assert all(a.equal(b) for a, b in zip(one.inputs, other.inputs, strict=True))


def test_the_order_of_one_worker_is_that_of_before(config2: Config, files: list[Path]) -> None:
    """Networks were trained with this order; a change of it would change what is trained."""
    shown = flat(list(PatchReader(files, batches_of(config2, 20)).train(3)))
    assert shown[:12] == ORDER


def test_workers_need_not_read_every_row_group(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(tmp_path, ([16] * 4,) * 4)
    config = batches_of(config2, 32)
    monkeypatch.setattr(patches, "train_batch", lambda part, *_: len(part["patch_id"]))
    read = patches.read_group
    for workers, most in ((1, 16), (4, 8)):
        asked: list[object] = []

        def counted(path: Path, group: int, columns: Any, asked: list[object] = asked) -> Any:
            asked.append((path, group))
            return read(path, group, columns)

        monkeypatch.setattr(patches, "read_group", counted)
        assert sum(PatchReader(files, config, 0, workers).train(0)) == 256 // workers  # type: ignore[arg-type]
        assert len(asked) == len(set(asked)) <= most


def test_validation_shows_every_patch_once_over_all_workers(
    config2: Config, files: list[Path]
) -> None:
    config = batches_of(config2, 8)
    alone = list(PatchReader(files, config).valid())
    assert flat(alone) == list(range(54))
    assert sorted(map(numbers, alone)) == sorted(
        numbers(batch) for rank in range(3) for batch in PatchReader(files, config, rank, 3).valid()
    )
    shares = [list(PatchReader(files, config, rank, 2).valid()) for rank in range(2)]
    assert sorted(flat(shares[0]) + flat(shares[1])) == list(range(54))
    # The draw is fixed, and does not depend on who makes it.
    single = {n: image for b in alone for n, image in zip(numbers(b), b.inputs[1], strict=True)}
    for batch in [b for share in shares for b in share]:
        for n, image in zip(numbers(batch), batch.inputs[1], strict=True):
            assert image.equal(single[n])


def test_no_patches_are_refused(config2: Config) -> None:
    with pytest.raises(InputError, match=r"training patches: there are none; simulate"):
        next(PatchReader([], config2).train(0))


def test_files_that_cannot_be_used_are_named(config2: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.parquet: is no readable Parquet file"):
        PatchReader([tmp_path / "none.parquet"], config2)
    table = records(0, 3)
    del table["image_1"]
    write_records(tmp_path / "one_band.parquet", [table])
    reader = PatchReader([tmp_path / "one_band.parquet"], config2)
    for batches in (reader.train(0), reader.valid()):
        with pytest.raises(InputError, match=r"has no column \['image_1'\]"):
            next(iter(batches))


def items(count: int, log: list[int]) -> Iterator[dict[str, Any]]:
    for number in range(count):
        log.append(number)
        yield {"n": number}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_prefetch_keeps_the_order(count: int) -> None:
    def make(item: Any) -> int:
        time.sleep(0.002 * (count - item["n"]))
        return int(item["n"])

    assert list(prefetch(items(count, []), make)) == list(range(count))


def test_prefetch_works_ahead_but_not_far() -> None:
    asked: list[int] = []
    names: set[str] = set()

    def make(item: Any) -> int:
        names.add(threading.current_thread().name)
        return int(item["n"])

    made = prefetch(items(100, asked), make)
    assert [next(made) for _ in range(4)] == [0, 1, 2, 3]
    assert 4 < len(asked) <= 8
    made.close()  # type: ignore[attr-defined]
    assert len(asked) <= 8
    assert threading.current_thread().name not in names


def test_prefetch_hands_on_errors() -> None:
    def make(item: Any) -> int:
        if item["n"] == 3:
            raise InputError("patch 3", "is broken", "make it anew")
        return int(item["n"])

    made = prefetch(items(10, []), make)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="patch 3: is broken"):
        next(made)
