from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evidence_cases import EDGES, NAMES, changed, classed_evidence

from geminga.arrays import Int64
from geminga.classification.boosting import fit_boosting
from geminga.classification.calibration import balanced_weights
from geminga.classification.class_model import ClassModel, fit_class_model
from geminga.classification.class_training import (
    ClassSamples,
    input_sizes,
    member_ingredients,
    train_member,
)
from geminga.classification.evidence import Evidence, without
from geminga.classification.inputs import class_quantities
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import file_digest
from geminga.networks.build import build_evidence_net
from geminga.networks.checkpoint import load_checkpoint
from geminga.sections import EvidenceNetConfig, TrainingConfig

TRAINING = TrainingConfig(
    epochs=5, batch_size=128, learning_rate=5e-3, plateau_patience=1, stop_patience=3,
    loss="cross_entropy",
)  # fmt: skip
NET = EvidenceNetConfig(width=16, image_width=4, members=2)


@pytest.fixture(scope="module")
def config(config2: Config) -> Config:
    return config2.model_copy(
        update={
            "classes": NAMES[:-1],
            "evidence_net": NET,
            "evidence_net_training": TRAINING,
        }
    )


@pytest.fixture(scope="module")
def config_of(config: Config) -> Any:
    def make(**settings: Any) -> Config:
        return config.model_copy(update={"evidence_net": NET.model_copy(update=settings)})

    return make


@pytest.fixture(scope="module")
def model(config: Config) -> ClassModel:
    train, labels = classed_evidence(1800, 1)
    valid, valid_labels = classed_evidence(400, 2)
    held, held_labels = classed_evidence(1200, 3)
    natural = np.ones(1800, dtype=bool)
    return fit_class_model(
        train, labels, valid, valid_labels, held, held_labels, natural, config, NAMES
    )


@pytest.fixture(scope="module")
def new() -> tuple[Evidence, Int64]:
    return classed_evidence(1500, 4)


def recalls(p: np.ndarray, labels: Int64) -> list[float]:
    best = p.argmax(axis=1)
    return [float((best[labels == k] == k).mean()) for k in range(len(NAMES))]


def bare(evidence: Evidence, branches: str) -> Evidence:
    """Return evidence with nothing for the other branches than those named."""
    n = len(evidence)
    gone: dict[str, Any] = {}
    if "i" not in branches:
        gone |= without(n)
    if "s" not in branches:
        gone |= {k: np.full((n, 2), np.nan) for k in ("band_flux", "band_flux_error")}
    if "y" not in branches:
        gone |= {k: np.zeros((n, 0)) for k in ("year_ratio", "year_ratio_error")}
    return changed(evidence, **gone)


def test_tells_classes_apart(model: ClassModel, new: tuple[Evidence, Int64]) -> None:
    evidence, labels = new
    p = model.probabilities(evidence, "flat")
    assert p.shape == (1500, 4)
    assert p.sum(axis=1) == pytest.approx(1.0)
    assert min(recalls(p, labels)) > 0.8


def test_probabilities_are_calibrated(model: ClassModel, new: tuple[Evidence, Int64]) -> None:
    evidence, labels = new
    natural = model.probabilities(evidence, "natural")
    assert natural.mean(axis=0) == pytest.approx(np.bincount(labels) / 1500, abs=0.02)
    flat = model.probabilities(evidence, "flat")
    weights = balanced_weights(labels, 4)
    assert weights @ flat == pytest.approx(np.full(4, 0.25), abs=0.03)
    right = flat.argmax(axis=1) == labels
    assert abs(float(weights @ (flat.max(axis=1) - right))) < 0.03
    assert np.array_equal(model.probabilities(evidence), natural)


@pytest.mark.parametrize(("branches", "least"), [("sy", 0.7), ("s", 0.55), ("i", 0.4), ("", 0.2)])
def test_any_branch_may_be_missing(
    model: ClassModel, new: tuple[Evidence, Int64], branches: str, least: float
) -> None:
    evidence, labels = new
    p = model.probabilities(bare(evidence, branches), "flat")
    assert np.isfinite(p).all()
    assert np.mean(recalls(p, labels)) > least


def test_any_number_of_years(model: ClassModel, new: tuple[Evidence, Int64]) -> None:
    evidence, labels = new
    more = {k: np.tile(getattr(evidence, k), (1, 2)) for k in ("year_ratio", "year_ratio_error")}
    assert min(recalls(model.probabilities(changed(evidence, **more), "flat"), labels)) > 0.7


def test_a_row_has_the_same_bits_in_any_company(
    model: ClassModel, new: tuple[Evidence, Int64]
) -> None:
    evidence, _ = new
    rows = np.array([1203, 7])
    alone, together = model.logits(evidence.take(rows)), model.logits(evidence)[rows]
    assert np.array_equal(alone, together)
    assert np.array_equal(model.unlike(evidence.take(rows)), model.unlike(evidence)[rows])
    nothing = evidence.take(np.zeros(0, np.int64))
    assert model.probabilities(nothing).shape == (0, 4)
    assert model.unlike(nothing).shape == (0,)


def test_unlike(model: ClassModel, new: tuple[Evidence, Int64]) -> None:
    evidence, _ = new
    usual = model.unlike(evidence)
    assert usual.min() >= 0
    assert usual.max() <= 1
    assert usual.mean() == pytest.approx(0.5, abs=0.04)
    # Very soft, and brighter in one year than in all others together.
    flux, ratio = evidence.band_flux.copy(), np.zeros_like(evidence.year_ratio)
    flux[:, 1] = 0.0
    ratio[:, 0] = 4.0
    assert np.median(model.unlike(changed(evidence, band_flux=flux, year_ratio=ratio))) > 0.9


def test_ambiguous(model: ClassModel) -> None:
    p = np.array([[0.5, 0.3, 0.1, 0.1], [0.9, 0.1, 0.0, 0.0]])
    assert model.ambiguous(p).tolist() == [True, False]
    assert model.ambiguous(p, 0.7).tolist() == [False, False]


def test_training_is_repeatable_and_members_differ(config: Config) -> None:
    evidence, labels = classed_evidence(300, 5)
    samples = ClassSamples.of(evidence, labels, config, NAMES)
    short = config.model_copy(
        update={"evidence_net_training": TRAINING.model_copy(update={"epochs": 1})}
    )
    first, again, other = (train_member(samples, samples, short, NAMES, m) for m in (0, 0, 1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.output.weight, other.output.weight)


def test_workers_share_the_batches_of_an_epoch(config: Config) -> None:
    evidence, labels = classed_evidence(301, 5)
    samples = ClassSamples.of(evidence, labels, config, NAMES)
    alone = member_ingredients(samples, samples, config, NAMES, 0)
    shares = [member_ingredients(samples, samples, config, NAMES, 0, r, 2) for r in range(2)]
    whole = list(alone.train_batches(1))
    for batch, *parts in zip(whole, *(s.train_batches(1) for s in shares), strict=True):
        # Each sample is turned as it would be in one worker.
        joined = torch.cat([p.inputs[4] for p in parts if p.records])
        assert torch.equal(joined, batch.inputs[4])
        assert sum(p.weight for p in parts) == pytest.approx(2.0)
    assert torch.equal(next(iter(alone.train_batches(1, 1))).inputs[4], whole[1].inputs[4])
    assert sum(len(b.target) for s in shares for b in s.valid_batches()) == 301


def test_round_trip(
    model: ClassModel, config: Config, new: tuple[Evidence, Int64], tmp_path: Path
) -> None:
    evidence, _ = new
    model.save(tmp_path / "m", config)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]
    loaded = ClassModel.load(tmp_path / "m", config, NAMES, EDGES)
    for prior in ("natural", "flat", "latitude"):
        assert np.array_equal(
            loaded.probabilities(evidence, prior), model.probabilities(evidence, prior)
        )
    assert np.array_equal(loaded.unlike(evidence), model.unlike(evidence))
    # Classes and channels of the configuration, and another default prior.
    flat = config.model_copy(
        update={"evidence_net": NET.model_copy(update={"prior": "flat", "members": 5})}
    )
    other = ClassModel.load(tmp_path / "m", flat)
    assert np.array_equal(other.probabilities(evidence), model.probabilities(evidence, "flat"))


def test_files_that_do_not_fit(
    model: ClassModel, config: Config, config_of: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    model.save(folder, config)
    fewer = config.model_copy(update={"classes": NAMES[:2]})
    with pytest.raises(
        InputError, match=r"made for classes .*'steady', 'FAKE'.* configuration has"
    ):
        ClassModel.load(folder, fewer)
    with pytest.raises(InputError, match=r"made for channels \[\[1\.0, 3\.0\]"):
        ClassModel.load(folder, config, NAMES, EDGES[:1])
    with pytest.raises(InputError, match=r"made for evidence_net\.width 16.* has 32"):
        ClassModel.load(folder, config_of(width=32))
    with pytest.raises(InputError, match=r"holds a evidence_net.*single network"):
        load_checkpoint(folder, config)
    meta = json.loads((folder / "model.json").read_text())
    meta["extra"]["members"] = 3
    (folder / "model.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="does not hold this network"):
        ClassModel.load(folder, config)
    del meta["extra"]["members"]
    (folder / "model.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="holds no complete classifier"):
        ClassModel.load(folder, config)
    (folder / "weights.safetensors").write_bytes(b"damaged")
    meta["extra"]["members"] = 2
    (folder / "model.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=r"is not the file that model\.json describes"):
        ClassModel.load(folder, config)
    meta["weights_sha256"] = file_digest(folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="does not hold this network"):
        ClassModel.load(folder, config)
    with pytest.raises(InputError, match="cannot be read"):
        ClassModel.load(tmp_path / "none", config)


def test_evidence_that_does_not_fit(
    model: ClassModel, new: tuple[Evidence, Int64], caplog: pytest.LogCaptureFixture
) -> None:
    evidence, _ = new
    with pytest.raises(InputError, match=r"has channels 1-3 GeV, 3-40 GeV, the classifier 1-3"):
        model.probabilities(changed(evidence, edges_gev=np.array([[1.0, 3.0], [3.0, 40.0]])))
    with pytest.raises(InputError, match="use natural, flat"):
        model.probabilities(evidence, "best")  # type: ignore[arg-type]
    other, _ = classed_evidence(3, 1, planes=4)
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(model.probabilities(other)).all()
    assert "branch image: left out" in caplog.text


def test_branches_that_training_never_saw_are_ignored(
    config: Config, new: tuple[Evidence, Int64], caplog: pytest.LogCaptureFixture
) -> None:
    train, labels = classed_evidence(400, 1)
    train = bare(train, "s")
    one = config.model_copy(update={"evidence_net": NET.model_copy(update={"members": 1})})
    fitted = fit_class_model(
        train, labels, train, labels, train, labels, np.ones(400, dtype=bool), one, NAMES
    )
    evidence, _ = new
    with caplog.at_level(logging.WARNING):
        p = fitted.probabilities(evidence)
    assert "branch years: left out" in caplog.text
    assert np.array_equal(p, fitted.probabilities(bare(evidence, "s")))


def test_catalogue_classes_without_fake(config: Config) -> None:
    train, labels = classed_evidence(500, 1)
    kept = labels < 2
    train, labels = bare(train.take(kept), "sy"), labels[kept]
    every = np.ones(len(labels), dtype=bool)
    fitted = fit_class_model(
        train, labels, train, labels, train, labels, every, config, ("soft", "hard")
    )
    p = fitted.probabilities(train, "flat")
    assert p.shape == (len(labels), 2)
    assert (p.argmax(axis=1) == labels).mean() > 0.9


def test_bad_samples(config: Config) -> None:
    evidence, labels = classed_evidence(5, 1)
    with pytest.raises(InputError, match="5 candidates with 4 classes"):
        ClassSamples.of(evidence, labels[:4], config, NAMES)
    with pytest.raises(InputError, match=r"have class numbers .* there are 1 classes"):
        ClassSamples.of(evidence, labels + 1, config, NAMES[:1])
    samples = ClassSamples.of(evidence, labels, config, NAMES)
    with pytest.raises(InputError, match="training samples: 5 for 6 workers"):
        member_ingredients(samples, samples, config, NAMES, 0, 0, 6)
    wrong = config.model_copy(
        update={"evidence_net_training": TRAINING.model_copy(update={"loss": "dice"})}
    )
    with pytest.raises(InputError, match=r"evidence_net_training\.loss.*use one of cross_entropy"):
        member_ingredients(samples, samples, wrong, NAMES, 0)
    none = np.zeros(5, dtype=bool)
    with pytest.raises(InputError, match=r"0 of training skies above the cut"):
        fit_class_model(evidence, labels, evidence, labels, evidence, labels, none, config, NAMES)


def test_start_depends_on_seed_and_member_alone(config: Config) -> None:
    evidence, labels = classed_evidence(5, 1)
    sizes = input_sizes(ClassSamples.of(evidence, labels, config, NAMES).inputs)
    first = build_evidence_net(config, sizes, 4, 0)
    torch.rand(3)
    again = build_evidence_net(config, sizes, 4, 0)
    other = build_evidence_net(config, sizes, 4, 1)
    assert torch.equal(first.output.weight, again.output.weight)
    assert not torch.equal(first.output.weight, other.output.weight)


def test_boosting(new: tuple[Evidence, Int64]) -> None:
    train, labels = classed_evidence(700, 1)
    train, labels = bare(train, "sy"), labels  # columns without a value
    names, quantities = class_quantities(train)
    fitted = fit_boosting(quantities, labels, 1, 5)
    assert not fitted.used[names.index("sqrt_ts")]
    evidence, true = new
    values = class_quantities(bare(evidence, "sy"))[1]
    p = fitted.probabilities(values)
    assert p.shape == (1500, 5)
    assert p[:, 4].max() < 1e-6
    assert np.mean(recalls(p, true)) > 0.65
    full = fitted.calibrated(values, true, quantities, labels, train.lat_deg)
    natural = full.probabilities(values, "natural")
    assert natural[:, :4].mean(axis=0) == pytest.approx(np.bincount(true) / 1500, abs=0.03)
    assert full.probabilities(values[:0]).shape == (0, 5)


def test_boosting_refuses() -> None:
    values = np.random.default_rng(1).normal(size=(30, 2)).astype(np.float32)
    with pytest.raises(InputError, match="30 samples of 1 classes"):
        fit_boosting(values, np.zeros(30, np.int64), 1)
    with pytest.raises(InputError, match="no quantity varies"):
        fit_boosting(np.zeros((30, 2), np.float32), np.arange(30) % 2, 1)
    fitted = fit_boosting(values, np.arange(30) // 25, 1)
    with pytest.raises(InputError, match="calibrate it"):
        fitted.probabilities(values, "natural")
