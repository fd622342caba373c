from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geminga.config import Config
from geminga.errors import InputError
from geminga.training.augment import N_SYMMETRIES, apply_symmetry
from geminga.training.batches import (
    draw_counts,
    patch_batch,
    shuffled,
    split_rows,
    train_batch,
    valid_batch,
)


def records(n: int = 6, mean: float = 0.5) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "sky_id": np.full(n, 3),
        "patch_id": np.arange(n),
        "frame": np.zeros((n, 3, 3)),
        "image_0": rng.uniform(0, 2 * mean, (n, 32, 32)).astype(np.float32),
        "image_1": rng.uniform(0, 2 * mean, (n, 64, 64)).astype(np.float32),
        "target": rng.integers(0, 2, (n, 64, 64)).astype(np.uint8),
    }


def rows(table: dict[str, Any], chosen: list[int]) -> dict[str, Any]:
    return {name: values[chosen] for name, values in table.items()}


def test_symmetries_are_the_eight_of_the_square() -> None:
    image = np.arange(9).reshape(3, 3)
    turned = [apply_symmetry(image, k).copy() for k in range(N_SYMMETRIES)]
    assert len({t.tobytes() for t in turned}) == 8
    assert all(sorted(t.ravel()) == list(range(9)) for t in turned)
    for t in turned:
        assert t[1, 1] == 4
        assert t[0, 0] + t[2, 2] == 8
    stack = np.stack([image, image.T])
    assert np.array_equal(apply_symmetry(stack, 5)[1], apply_symmetry(image.T, 5))
    with pytest.raises(ValueError, match="symmetry 8"):
        apply_symmetry(image, 8)


def test_draws_do_not_depend_on_batch_or_order(config2: Config) -> None:
    table = records()
    whole = draw_counts(table, config2, 4, train=True, augment=True)
    part = draw_counts(rows(table, [5, 2]), config2, 4, train=True, augment=True)
    for name in ("image_0", "image_1", "target"):
        assert part[name].tobytes() == whole[name][[5, 2]].tobytes()


def test_draws_differ_between_epochs_patches_skies_sets_and_seeds(config2: Config) -> None:
    table = records(2, mean=50)
    table["image_0"][1] = table["image_0"][0]
    first = draw_counts(table, config2, 0)["image_0"]
    assert not np.array_equal(first[0], first[1])
    other_sky = {**table, "sky_id": table["sky_id"] + 1}
    other_seed = config2.model_copy(update={"seed": 1})
    for other in (
        draw_counts(table, config2, 1),
        draw_counts(table, config2, 0, train=True),
        draw_counts(other_sky, config2, 0),
        draw_counts(table, other_seed, 0),
    ):
        assert not np.array_equal(first, other["image_0"])


def test_counts_are_poisson(config2: Config) -> None:
    table = records(2)
    for name, mean in (("image_0", 4000.0), ("image_1", 0.02)):
        table[name][:] = mean
        counts = draw_counts(table, config2, 0)[name]
        assert counts.dtype == np.float32
        assert np.array_equal(counts, np.round(counts))
        assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / counts.size))
        assert counts.var() == pytest.approx(mean, rel=0.15)


def test_bands_and_target_turn_together(config2: Config) -> None:
    n = 64
    image = np.zeros((n, 64, 64), dtype=np.float32)
    image[:, 5, 20] = 1000
    table = {
        "sky_id": np.zeros(n, dtype=int),
        "patch_id": np.arange(n),
        "image_0": image[:, :32, :32].copy() * 0,
        "image_1": image,
        "target": (image > 0).astype(np.uint8),
    }
    table["image_0"][:, 2, 10] = 1000
    drawn = draw_counts(table, config2, 0, train=True, augment=True)
    assert np.array_equal(drawn["image_1"] > 0, drawn["target"] > 0)
    halved = drawn["target"].reshape(n, 32, 2, 32, 2).max(axis=(2, 4))
    assert np.array_equal(drawn["image_0"] > 0, halved > 0)
    places = np.argwhere(drawn["target"])[:, 1:]
    seen = {(int(row), int(column)) for row, column in places}
    assert len(seen) == 8
    still = draw_counts(table, config2, 0, train=True)
    assert np.array_equal(still["target"], table["target"])
    assert table["target"][0, 5, 20] == 1


def test_batches_of_training_and_validation(config2: Config) -> None:
    table = records()
    batch = train_batch(table, config2, 2)
    assert [tuple(t.shape) for t in batch.inputs] == [(6, 32, 32), (6, 64, 64)]
    assert {t.dtype for t in batch.inputs} == {torch.float32}
    assert batch.target.shape == (6, 64, 64)
    again = patch_batch(draw_counts(table, config2, 2, train=True, augment=True), config2)
    assert torch.equal(batch.inputs[1], again.inputs[1])
    assert torch.equal(valid_batch(table, config2).inputs[0], valid_batch(table, config2).inputs[0])
    assert torch.equal(valid_batch(table, config2).target, torch.from_numpy(table["target"]))


def test_shuffling_and_splitting() -> None:
    order = shuffled(10, 1, 0)
    assert sorted(order) == list(range(10))
    assert not np.array_equal(order, shuffled(10, 1, 1))
    parts = list(split_rows({"sky_id": np.arange(10)}, order, 4))
    assert [len(p["sky_id"]) for p in parts] == [4, 4, 2]
    assert np.array_equal(np.concatenate([p["sky_id"] for p in parts]), order)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_expected_counts_that_are_none(value: float, config2: Config) -> None:
    table = records(1)
    table["image_1"][0, 3, 3] = value
    with pytest.raises(InputError, match="patch 0 of sky 3, image_1: expected counts"):
        draw_counts(table, config2, 0)


def test_a_missing_band(config2: Config) -> None:
    table = records(1)
    del table["image_1"]
    with pytest.raises(InputError, match="have no column image_1"):
        draw_counts(table, config2, 0)
