from __future__ import annotations

import math

import pytest
import torch

from geminga.errors import InputError
from geminga.networks import build_loss
from geminga.networks.losses import accuracy, balanced_cross_entropy, mask_overlap

MASK = torch.tensor([[[1, 0], [0, 0]]], dtype=torch.uint8)


def test_known_values() -> None:
    zero = torch.zeros(1, 2, 2)
    assert float(build_loss("bce")(zero, MASK)) == pytest.approx(math.log(2))
    # Probability 1/2 everywhere: overlap (2 x 1/2 + 1) / (2 + 1 + 1).
    assert float(build_loss("dice")(zero, MASK)) == pytest.approx(0.5)
    assert float(build_loss("bce_dice")(zero, MASK)) == pytest.approx(math.log(2) + 0.5)
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert float(build_loss("cross_entropy")(logits, torch.tensor([1]))) == pytest.approx(
        -math.log(0.75)
    )


@pytest.mark.parametrize("name", ["bce", "dice", "bce_dice"])
def test_the_right_mask_has_no_loss_and_a_slope_leads_there(name: str) -> None:
    loss = build_loss(name, "miun")
    right = (MASK.float() * 2 - 1) * 30
    assert float(loss(right, MASK)) == pytest.approx(0.0, abs=1e-5)
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    loss(logits, MASK).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad < 0, MASK.bool())


def test_metrics() -> None:
    right = (MASK.float() * 2 - 1) * 30
    assert float(mask_overlap(right, MASK)) == 1
    assert float(mask_overlap(-right, MASK)) == 0
    assert float(mask_overlap(torch.full((1, 2, 2), -1.0), torch.zeros(1, 2, 2))) == 1
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(accuracy(logits, torch.tensor([0, 0]))) == 0.5


def test_a_loss_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"miun_training.loss: 'cross_entropy' does not fit"):
        build_loss("cross_entropy", "miun")
    with pytest.raises(InputError, match="'bce' does not fit; use one of cross_entropy"):
        build_loss("bce", "classifier")
    with pytest.raises(InputError, match="'mse'"):
        build_loss("mse")


def test_balanced_cross_entropy_answers_for_an_equal_mix() -> None:
    # Two classes, 90 and 10 samples, nothing known of them: the best answer is a half each.
    target = torch.tensor([0] * 90 + [1] * 10)
    loss = balanced_cross_entropy([90, 10])
    even = float(loss(torch.zeros(100, 2), target))
    for shift in (-0.5, 0.5):
        assert float(loss(torch.tensor([[shift, 0.0]]).expand(100, 2), target)) > even
    # Weights are 1 on average over the samples.
    sure = torch.nn.functional.one_hot(target, 2) * 50.0
    assert float(loss(sure, target)) == pytest.approx(0.0, abs=1e-6)
    equal = balanced_cross_entropy([50, 50])
    assert float(equal(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))) == pytest.approx(math.log(2))


def test_balanced_cross_entropy_without_samples_of_a_class() -> None:
    loss = balanced_cross_entropy([5, 0])
    assert math.isfinite(float(loss(torch.zeros(1, 2), torch.tensor([1]))))
