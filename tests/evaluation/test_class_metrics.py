from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from geminga.errors import InputError
from geminga.evaluation.class_metrics import Classified, Comparison, comparisons_of
from geminga.evaluation.class_parts import CalibrationFigures, PartFigures, f1_scores

NAMES = ("BLL", "FSRQ", "PSR", "PWN+SNR", "FAKE")


def made(n: int, names: tuple[str, ...] = NAMES, seed: int = 0, sharp: float = 2.0) -> Classified:
    """Candidates whose claims are exact by construction: labels are drawn from them."""
    rng = np.random.default_rng(seed)
    prior = np.linspace(2.0, 0.5, len(names))
    claim = np.exp(sharp * rng.standard_normal((n, len(names)))) * prior
    claim /= claim.sum(axis=1, keepdims=True)
    label = (rng.random((n, 1)) > np.cumsum(claim, axis=1)).sum(axis=1).clip(0, len(names) - 1)
    flat = claim / np.bincount(label, minlength=len(names))
    s1 = 10.0 ** rng.uniform(-10.5, -8.0, n)
    if names[-1] == "FAKE":
        s1[label == len(names) - 1] = np.nan
    return Classified(
        names,
        rng.integers(0, 6, n) * 7,
        label,
        claim,
        flat / flat.sum(axis=1, keepdims=True),
        s1,
        np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        rng.uniform(0, 360, n),
        rng.random(n),
        rng.random(n) < 0.1,
    )


def whole(c: Classified, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    part = PartFigures(c, c.sky // 7, 6, comparisons_of(c.class_names))
    return part.figures(np.ones(6) if weights is None else weights)


def test_comparisons_follow_the_classes() -> None:
    names = [c.name for c in comparisons_of(NAMES)]
    assert names[:2] == ["BLL against FSRQ, S1 > 5e-10", "BLL against FSRQ"]
    assert "AGN against galactic" in names
    assert len(names) == len(set(names))
    assert "FAKE" not in " ".join(names)
    pairs = [
        c for c in comparisons_of(NAMES) if len(c.first) == len(c.second) == 1 and not c.s1_cut
    ]
    assert len(pairs) == 6
    assert [c.name for c in comparisons_of(("AGN", "DARK", "FAKE"))] == ["AGN against DARK"]
    assert comparisons_of(("ONE", "FAKE")) == ()


def test_figures_agree_with_scikit_learn() -> None:
    c = made(3000)
    found = whole(c)
    assert found["macro_f1_natural"] == pytest.approx(
        f1_score(c.label, c.probabilities.argmax(1), average="macro")
    )
    share = 1.0 / np.bincount(c.label)
    assert found["macro_f1"] == pytest.approx(
        f1_score(
            c.label, c.probabilities_flat.argmax(1), average="macro", sample_weight=share[c.label]
        )
    )
    pair = c.label < 2
    score = np.log(c.probabilities_flat[pair, 0] / c.probabilities_flat[pair, 1])
    assert found["auc/BLL against FSRQ"] == pytest.approx(roc_auc_score(c.label[pair] == 0, score))
    first = c.label[pair] == 0
    expected = ((score[first] > 0).mean() + (score[~first] < 0).mean()) / 2
    assert found["balanced_accuracy/BLL against FSRQ"] == pytest.approx(expected)
    assert found["confusion_natural"].sum() == 3000
    np.testing.assert_allclose(found["confusion"].sum(axis=1), 1.0)


def test_flux_cut_asks_bright_sources_alone() -> None:
    c = made(2000)
    bright = c.take((c.s1_true > 5e-10) | (c.label == 4))
    key = "balanced_accuracy/BLL against FSRQ"
    assert whole(c)[f"{key}, S1 > 5e-10"] == pytest.approx(whole(bright)[key])


def test_weights_are_copies() -> None:
    """A sky drawn twice counts as two skies with the same candidates."""
    c = made(600)
    weights = np.array([2.0, 0, 1, 1, 0, 3])
    rows = np.repeat(np.arange(600), weights[c.sky // 7].astype(int))
    weighted, copied = whole(c, weights), whole(c.take(rows))
    for name, value in weighted.items():
        np.testing.assert_allclose(value, copied[name], err_msg=name)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_perfect_wrong_and_blind(sign: float) -> None:
    label = np.tile(np.arange(3), 20)
    right = np.where(np.eye(3)[label] == (sign > 0), 0.98, 0.01)
    right /= right.sum(axis=1, keepdims=True)
    c = Classified(
        ("A", "B", "FAKE"), np.zeros(60, int), label, right, right, np.ones(60), np.zeros(60)
    )
    found = PartFigures(c, c.sky, 1, comparisons_of(c.class_names)).figures(np.ones(1))
    best = 1.0 if sign > 0 else 0.0
    for name in ("macro_f1", "fake_recall", "balanced_accuracy/A against B", "auc/A against B"):
        assert found[name] == (pytest.approx(best) if name != "macro_f1" or best else found[name])
    blind = np.full((60, 3), 1 / 3)
    c = Classified(
        ("A", "B", "FAKE"), np.zeros(60, int), label, blind, blind, np.ones(60), np.zeros(60)
    )
    found = PartFigures(c, c.sky, 1, comparisons_of(c.class_names)).figures(np.ones(1))
    assert found["balanced_accuracy/A against B"] == 0.5
    assert found["auc/A against B"] == 0.5
    assert found["fake_recall"] == 0.0  # all are kept together, FAKE too


def test_fake_recall_by_hand() -> None:
    """Of 100 true sources with P(FAKE) 0.00 to 0.99, 95 stay at or below 0.94."""
    claim = np.concatenate([np.arange(100) / 100, [0.93, 0.94, 0.945, 0.96]])
    label = np.array([0] * 100 + [1] * 4)
    p = np.stack([1 - claim, claim], axis=1)
    c = Classified(("A", "FAKE"), np.zeros(104, int), label, p, p, np.ones(104), np.zeros(104))
    found = PartFigures(c, c.sky, 1, ()).figures(np.ones(1))
    assert found["fake_recall"] == pytest.approx(0.5)
    assert (np.diff(found["fake_curve"]) <= 0).all()


def test_groups_of_different_size_weigh_the_same() -> None:
    p = np.full((2, 3), 1 / 3)
    c = Classified(
        ("A", "B", "C"), np.zeros(2, int), np.array([0, 2]), p, p, np.ones(2), np.zeros(2)
    )
    one = Comparison("A, B against C", ("A", "B"), ("C",))
    found = PartFigures(c, c.sky, 1, [one]).figures(np.ones(1))
    assert found["balanced_accuracy/A, B against C"] == 0.5
    assert "macro_f1" not in found  # no FAKE
    assert "fake_recall" not in found


def test_f1_of_absent_classes() -> None:
    np.testing.assert_allclose(f1_scores(np.array([[8.0, 2.0], [0.0, 0.0]])), [16 / 18, np.nan])
    empty = made(0)
    found = whole(empty)
    assert np.isnan(found["macro_f1"])
    assert np.isnan(found["balanced_accuracy/BLL against FSRQ"])
    assert np.isnan(CalibrationFigures(empty, empty.sky, 6).figures(np.ones(6))["ece"])


def test_calibration_of_exact_claims() -> None:
    c = made(60_000)
    found = CalibrationFigures(c, c.sky // 7, 6).figures(np.ones(6))
    assert found["ece"] < 0.01
    assert (found["ece_class"] < 0.01).all()
    hit = np.eye(5)[c.label]
    np.testing.assert_allclose(found["brier"], ((c.probabilities - hit) ** 2).mean(axis=0))
    held = found["reliability/n"] > 1000
    gap = np.abs(found["reliability/claim"] - found["reliability/share"])
    assert gap[held].max() < 0.05
    assert found["reliability/n"].sum(axis=1) == pytest.approx(60_000)


def test_calibration_error_of_overconfidence() -> None:
    """Claims of 0.9 of which 0.6 come true are wrong by 0.3."""
    p = np.tile([0.9, 0.1], (1000, 1))
    label = np.array([0] * 600 + [1] * 400)
    c = Classified(("A", "B"), np.zeros(1000, int), label, p, p, np.ones(1000), np.zeros(1000))
    found = CalibrationFigures(c, c.sky, 1).figures(np.ones(1))
    assert found["ece"] == pytest.approx(0.3)
    np.testing.assert_allclose(found["brier"], 0.6 * 0.01 + 0.4 * 0.81)


def test_bad_input() -> None:
    good = {
        "class_names": ("A", "B"), "sky": np.zeros(2, int), "label": np.array([0, 1]),
        "probabilities": np.full((2, 2), 0.5), "probabilities_flat": np.full((2, 2), 0.5),
        "s1_true": np.ones(2), "lat_deg": np.zeros(2),
    }  # fmt: skip
    Classified(**good)
    with pytest.raises(InputError, match=r"candidate 1.*no shares of one"):
        Classified(**{**good, "probabilities": np.array([[0.5, 0.5], [0.9, 0.9]])})
    with pytest.raises(InputError, match="no shares of one"):
        Classified(**{**good, "probabilities_flat": np.full((2, 2), np.nan)})
    with pytest.raises(InputError, match="true classes: 0 to 2 for 2 classes"):
        Classified(**{**good, "label": np.array([0, 2])})
    with pytest.raises(ValueError, match="probabilities"):
        Classified(**{**good, "probabilities": np.full((2, 3), 1 / 3)})
    with pytest.raises(ValueError, match="lat_deg"):
        Classified(**{**good, "lat_deg": np.zeros(3)})
    with pytest.raises(ValueError, match="classes"):
        Classified(**{**good, "class_names": ("FAKE", "B")})
