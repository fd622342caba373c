"""The network that judges fitted sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geminga.config import Config
from geminga.errors import InputError
from geminga.networks.build import build_ranker
from geminga.networks.checkpoint import FEATURES, load_checkpoint, save_checkpoint
from geminga.networks.losses import binary_accuracy, build_loss
from geminga.networks.ranker import Ranker, calibrated, real_logits
from geminga.sections import RankerConfig, TrainingConfig
from geminga.training.loop import fit
from geminga.training.rows import TARGET, RowReader

NAMES = ("a", "b", "c")


def rows(path: Path, n: int, seed: int) -> Path:
    """Write rows whose truth is a known function of two features."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3)) * [1.0, 100.0, 1e-3] + [0.0, 500.0, 0.0]
    chance = 1 / (1 + np.exp(-2 * values[:, 0] - (values[:, 1] - 500) / 50))
    frame = pd.DataFrame(values, columns=list(NAMES)).astype(np.float32)
    frame[TARGET] = (rng.random(n) < chance).astype(np.float32)
    frame.to_parquet(path)
    return path


def test_learns_a_known_probability(tmp_path: Path) -> None:
    torch.manual_seed(0)
    train = RowReader([rows(tmp_path / "t.parquet", 6000, 1)], NAMES, 128, 7)
    valid = RowReader([rows(tmp_path / "v.parquet", 3000, 2)], NAMES, 128, 7)
    model = Ranker(3, 16, 2)
    model.standardise(train.features)
    settings = TrainingConfig(epochs=6, batch_size=128, learning_rate=3e-3)
    measures = {"accuracy": binary_accuracy}
    result = fit(
        model,
        train.train,
        valid.valid,
        settings,
        loss=build_loss("bce", "ranker"),
        metrics=measures,
    )
    exact = 2 * valid.features[:, 0] + (valid.features[:, 1] - 500) / 50
    with np.errstate(over="ignore"):
        best = np.logaddexp(0, -np.where(valid.target > 0, exact, -exact)).mean()
    assert result.best_loss < best + 0.02
    assert result.history[-1]["valid_accuracy"] > 0.8
    logits = real_logits(model, valid.features)
    assert np.corrcoef(logits, exact)[0, 1] > 0.97


def test_rows_have_the_same_bits_in_any_company() -> None:
    torch.manual_seed(1)
    model = Ranker(4, 8, 1)
    features = np.random.default_rng(1).normal(size=(700, 4)).astype(np.float32)
    whole = real_logits(model, features)
    assert whole.shape == (700,)
    np.testing.assert_array_equal(whole[300:310], real_logits(model, features[300:310]))
    assert real_logits(model, features[:0]).shape == (0,)


def test_far_features_are_no_farther() -> None:
    model = Ranker(2, 8, 1)
    model.standardise(np.random.default_rng(2).normal(size=(100, 2)).astype(np.float32))
    far = np.array([[50.0, 0.0], [5000.0, 0.0]], np.float32)
    assert np.ptp(real_logits(model, far)) == 0.0


def test_a_constant_feature_is_no_division_by_zero() -> None:
    model = Ranker(2, 4, 1)
    model.standardise(np.ones((10, 2), np.float32))
    assert np.isfinite(real_logits(model, np.ones((3, 2), np.float32))).all()


def test_calibration_is_a_logistic_function() -> None:
    logits = np.array([-800.0, 0.0, 2.0, 800.0])
    assert calibrated(logits, 1.0, 0.0) == pytest.approx([0, 0.5, 1 / (1 + np.exp(-2)), 1])
    assert calibrated(logits, 2.0, -1.0)[2] == pytest.approx(1 / (1 + np.exp(-3)))


def test_saved_and_loaded(config2: Config, tmp_path: Path) -> None:
    model = build_ranker(config2, 3)
    model.standardise(np.random.default_rng(4).normal(3, 2, size=(50, 3)).astype(np.float32))
    save_checkpoint(tmp_path / "m", model, "ranker", config2, {FEATURES: list(NAMES)})
    loaded, meta = load_checkpoint(tmp_path / "m", config2, "ranker")
    assert isinstance(loaded, Ranker)
    assert meta["extra"][FEATURES] == list(NAMES)
    x = np.random.default_rng(5).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_array_equal(real_logits(loaded, x), real_logits(model, x))
    other = config2.model_copy(update={"ranker": RankerConfig(width=7)})
    with pytest.raises(InputError, match=r"was made for ranker\.width 48"):
        load_checkpoint(tmp_path / "m", other)
    with pytest.raises(InputError, match="holds a ranker"):
        load_checkpoint(tmp_path / "m", config2, "miun")


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_batches_of_an_epoch(workers: int, tmp_path: Path) -> None:
    path = rows(tmp_path / "t.parquet", 101, 3)
    alone = RowReader([path], NAMES, 20, 7)
    shares = [RowReader([path], NAMES, 20, 7, rank, workers) for rank in range(workers)]
    whole = list(alone.train(3))
    assert [len(b.target) for b in whole] == [20] * 5 + [1]
    for batch, *parts in zip(whole, *(s.train(3) for s in shares), strict=True):
        joined = np.concatenate([p.inputs[0].numpy() for p in parts if p.records])
        np.testing.assert_array_equal(joined, batch.inputs[0].numpy())
        mean = sum(p.weight * float(p.target.mean()) for p in parts) / workers
        assert mean == pytest.approx(float(batch.target.mean()))
    for batch, other in zip(whole[4:], alone.train(3, 4), strict=True):
        np.testing.assert_array_equal(batch.inputs[0].numpy(), other.inputs[0].numpy())
    checked = {b.inputs[0].numpy().tobytes() for s in shares for b in s.valid()}
    assert checked == {b.inputs[0].numpy().tobytes() for b in alone.valid()}
    assert sum(len(b.target) for s in shares for b in s.valid()) == 101
    assert not np.array_equal(
        whole[0].inputs[0].numpy(), next(iter(alone.train(4))).inputs[0].numpy()
    )


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    path = rows(tmp_path / "t.parquet", 10, 1)
    with pytest.raises(InputError, match="has no column d"):
        RowReader([path], (*NAMES, "d"), 5, 1)
    with pytest.raises(InputError, match="hold 10 detections for 11 workers"):
        RowReader([path], NAMES, 5, 1, 0, 11)
    bad = pd.read_parquet(path)
    bad.loc[2, "a"] = np.nan
    bad.to_parquet(path)
    with pytest.raises(InputError, match="are not finite"):
        RowReader([path], NAMES, 5, 1)
