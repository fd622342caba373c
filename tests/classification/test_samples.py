from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geminga.classification import SourceImages, SourceSamples
from geminga.classification.samples import (
    Plan,
    plan_epoch,
    sample_batch,
    train_batches,
    valid_batches,
)
from geminga.config import Config, config_from_tree
from geminga.errors import InputError

LABELS = np.array([0] * 12 + [1] * 5 + [2] * 1 + [4] * 6)
"""Class numbers of BLL, FSRQ, PSR and FAKE; PWN+SNR has none."""


def samples_of(config: Config, labels: np.ndarray[Any, Any], sky: int = 1) -> SourceSamples:
    rng = np.random.default_rng(sky)
    n = len(labels)
    images = SourceImages(
        rng.uniform(5, 50, (n, len(config.bands), 7, 7)).astype(np.float32),
        rng.uniform(5, 50, (n, config.sky.years, 7, 7)).astype(np.float32),
        rng.uniform(-90, 90, n),
    )
    return SourceSamples.of_sky(images, labels, sky)


def with_(config: Config, **sections: dict[str, Any]) -> Config:
    tree = config.model_dump(mode="json")
    for name, value in sections.items():
        tree[name] |= value
    return config_from_tree(tree, "test")


@pytest.mark.parametrize("train", [True, False])
def test_a_balanced_epoch_shows_classes_equally_often(train: bool, config2: Config) -> None:
    plan = plan_epoch(LABELS, config2, 3, train)
    assert np.bincount(LABELS[plan.samples], minlength=5).tolist() == [6, 6, 6, 0, 6]
    pairs = list(zip(plan.samples.tolist(), plan.repeats.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    lone = plan.repeats[plan.samples == 17]
    assert sorted(lone) == [0, 1, 2, 3, 4, 5]
    # A large class is thinned out without repeats, a small one comes evenly.
    assert not plan.repeats[LABELS[plan.samples] == 0].any()
    assert np.bincount(plan.samples, minlength=24)[12:17].max() == 2


def test_epochs_choose_anew_and_validation_stays(config2: Config) -> None:
    first, second = plan_epoch(LABELS, config2, 0), plan_epoch(LABELS, config2, 1)
    assert first.samples.tolist() != second.samples.tolist()
    assert plan_epoch(LABELS, config2, 0).samples.tolist() == first.samples.tolist()
    seen = {int(s) for e in range(12) for s in plan_epoch(LABELS, config2, e).samples}
    assert seen == set(range(24))


def test_the_natural_mix_shows_rotated_classes_four_times(config2: Config) -> None:
    config = with_(config2, classifier={"balance": False})
    plan = plan_epoch(LABELS, config, 0)
    assert np.bincount(LABELS[plan.samples], minlength=5).tolist() == [12, 5, 4, 0, 6]
    plan = plan_epoch(LABELS, config, 0, train=False)
    assert plan.samples.tolist() == list(range(24))
    still = with_(config, classifier_training={"augment": False})
    assert len(plan_epoch(LABELS, still, 0).samples) == 24


def test_a_draw_depends_on_epoch_sky_sample_and_repeat_alone(config2: Config) -> None:
    samples = samples_of(config2, LABELS)
    plan = Plan(np.array([3, 17, 17, 20]), np.array([0, 0, 1, 0]))
    batch = sample_batch(samples, plan, config2, 2)
    assert batch.inputs[0].shape == (4, 6, 7, 7)
    assert batch.inputs[1].dtype == torch.float32
    assert batch.inputs[1].tolist() == pytest.approx(samples.lat_deg[plan.samples], rel=1e-6)
    assert batch.target.tolist() == [0, 2, 2, 4]
    alone = sample_batch(samples, Plan(np.array([17]), np.array([1])), config2, 2)
    assert torch.equal(alone.inputs[0][0], batch.inputs[0][2])
    assert not torch.equal(batch.inputs[0][1], batch.inputs[0][2])
    assert not torch.equal(sample_batch(samples, plan, config2, 3).inputs[0], batch.inputs[0])
    assert not torch.equal(
        sample_batch(samples, plan, config2, 2, train=False).inputs[0], batch.inputs[0]
    )
    assert torch.equal(batch.inputs[0], batch.inputs[0].round())


def test_rotated_classes_turn_and_others_do_not(config2: Config) -> None:
    labels = np.array([0, 2])
    images = np.zeros((2, 6, 7, 7), dtype=np.float32)
    images[:, :, 0, 2] = 1000
    n = np.arange(2)
    samples = SourceSamples(images, n * 1.0, labels, n, n, np.array([True, True]))
    plan = Plan(np.repeat(n, 4), np.tile(np.arange(4), 2))
    drawn = sample_batch(samples, plan, config2, 0).inputs[0].numpy()
    places = [tuple(np.argwhere(image[0])[0].tolist()) for image in drawn]
    assert places[:4] == [(0, 2)] * 4
    assert set(places[4:]) == {(0, 2), (4, 0), (6, 4), (2, 6)}
    for config, train in (
        (config2, False),
        (with_(config2, classifier_training={"augment": False}), True),
    ):
        still = sample_batch(samples, plan, config, 0, train).inputs[0].numpy()
        assert np.all(still[:, :, 0, 2] > 0)


def test_counted_images_are_not_drawn_again(config2: Config) -> None:
    images = SourceImages(
        np.full((1, 2, 7, 7), 3.0, np.float32), np.full((1, 4, 7, 7), 1.0, np.float32), np.zeros(1)
    )
    samples = SourceSamples.of_sky(images, np.array([0]), 1, expected=False)
    batch = sample_batch(samples, Plan(np.zeros(3, int), np.arange(3)), config2, 0)
    assert torch.equal(batch.inputs[0], torch.from_numpy(images.stack()).expand(3, -1, -1, -1))


def test_workers_share_the_batches_of_an_epoch(config2: Config) -> None:
    config = with_(config2, classifier_training={"batch_size": 8})
    samples = samples_of(config, LABELS[:23])
    alone = list(train_batches(samples, config, 1))
    assert [len(b.target) for b in alone] == [8, 8, 8]
    shares = [list(train_batches(samples, config, 1, rank=rank, workers=3)) for rank in range(3)]
    for batch, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(torch.cat([p.inputs[0] for p in parts]), batch.inputs[0])
        assert [p.weight for p in parts] == pytest.approx([6 / 8, 9 / 8, 9 / 8])
    (last,) = train_batches(samples, config, 1, 2)
    assert torch.equal(last.inputs[0], alone[2].inputs[0])
    checked = list(valid_batches(samples, config))
    parts = [b for rank in range(3) for b in valid_batches(samples, config, rank, 3)]
    assert {b.inputs[0].numpy().tobytes() for b in parts} == {
        b.inputs[0].numpy().tobytes() for b in checked
    }


def test_more_workers_than_samples(config2: Config) -> None:
    samples = samples_of(config2, np.array([0]))
    shares = [list(train_batches(samples, config2, 0, rank=rank, workers=3)) for rank in range(3)]
    # All keep step; what is shown again does not count.
    assert [[len(b.target) for b in share] for share in shares] == [[1], [1], [1]]
    assert sorted(b.weight for share in shares for b in share) == [0.0, 0.0, 3.0]


def test_joining_skies(config2: Config) -> None:
    parts = [samples_of(config2, LABELS, sky) for sky in (1, 2)]
    both = SourceSamples.join(parts)
    assert len(both) == 48
    assert both.sky_id.tolist() == [1] * 24 + [2] * 24
    assert both.row.tolist() == [*range(24), *range(24)]
    with pytest.raises(InputError, match="none given"):
        SourceSamples.join([])


def test_samples_that_cannot_be_used(config2: Config) -> None:
    with pytest.raises(InputError, match=r"there are none; lower localisation.threshold"):
        list(train_batches(samples_of(config2, LABELS[:0]), config2, 0))
    with pytest.raises(InputError, match="class number 9, the configuration 5 classes"):
        list(valid_batches(samples_of(config2, np.array([9])), config2))
