from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from geminga.classes import FAKE, with_fake
from geminga.classification import (
    SourceImages,
    class_probabilities,
    label_candidates,
    natural_prior,
)
from geminga.classification.labels import partners
from geminga.config import Config
from geminga.errors import InputError
from geminga.networks import build_classifier
from geminga.tables import CANDIDATES, TRUTH

CLASSES = ("BLL", "FSRQ", "PSR")


def truth(*rows: tuple[str, float, float]) -> pd.DataFrame:
    names = [row[0] for row in rows]
    return pd.DataFrame(
        {
            "sky_id": 0,
            "class_name": names,
            "lon_deg": [row[1] for row in rows],
            "lat_deg": 0.0,
            "s1": [row[2] for row in rows],
        }
    )


def candidates(*lon: float) -> pd.DataFrame:
    return pd.DataFrame({"sky_id": 0, "lon_deg": list(lon), "lat_deg": 0.0})


def test_labels_follow_the_matching() -> None:
    sources = truth(("PSR", 10, 1e-9), ("BLL", 10.2, 1e-10), ("FSRQ", 50, 1e-9))
    labels = label_candidates(candidates(49.9, 10.1, 10.4, 80, 50.2), sources, CLASSES, 0.3)
    names = [with_fake(CLASSES)[label] for label in labels]
    assert names == ["FSRQ", "PSR", "BLL", FAKE, FAKE]
    assert labels.dtype == np.int64


def test_partners_are_rows_of_the_truth() -> None:
    sources = truth(("PSR", 10, 1e-9), ("BLL", 10.2, 1e-10), ("FSRQ", 50, 1e-9))
    found = candidates(49.9, 10.1, 10.4, 80, 50.2)
    labels, partner = partners(found, sources, CLASSES, 0.3)
    assert partner.tolist() == [2, 0, 1, -1, -1]
    assert partner.dtype == np.int64
    np.testing.assert_array_equal(labels, label_candidates(found, sources, CLASSES, 0.3))
    # Positions, not labels of the index.
    moved = partners(found, sources.set_axis([7, 8, 9]), CLASSES, 0.3)[1]
    np.testing.assert_array_equal(moved, partner)


def test_partners_of_empty_tables() -> None:
    for found, sources in (
        (candidates(1.0), TRUTH.empty()),
        (CANDIDATES.empty(), truth(("PSR", 1, 1))),
    ):
        labels, partner = partners(found, sources, CLASSES, 0.3)
        assert (partner == -1).all()
        assert len(labels) == len(partner) == len(found)
    with pytest.raises(InputError, match="sources of class SNR; classes are"):
        partners(candidates(1.0), truth(("SNR", 1, 1)), CLASSES, 0.3)


def test_labels_of_empty_tables() -> None:
    assert label_candidates(CANDIDATES.empty(), TRUTH.empty(), CLASSES, 0.3).shape == (0,)
    assert label_candidates(candidates(1.0), TRUTH.empty(), CLASSES, 0.3).tolist() == [3]
    assert label_candidates(CANDIDATES.empty(), truth(("PSR", 1, 1)), CLASSES, 0.3).shape == (0,)


def test_a_class_the_configuration_lacks() -> None:
    with pytest.raises(InputError, match="sources of class SNR; classes are"):
        label_candidates(candidates(1.0), truth(("SNR", 1, 1)), CLASSES, 0.3)


def images_of(config: Config, n: int) -> SourceImages:
    rng = np.random.default_rng(0)
    return SourceImages(
        rng.poisson(3.0, (n, len(config.bands), 7, 7)).astype(np.float32),
        rng.poisson(1.0, (n, config.sky.years, 7, 7)).astype(np.float32),
        rng.uniform(-90, 90, n),
    )


def test_probabilities_are_the_softmax(config2: Config) -> None:
    model, images = build_classifier(config2), images_of(config2, 10)
    torch.manual_seed(0)
    nn.init.normal_(model.output.weight)
    result = class_probabilities(model, images, None, batch_size=3)
    assert result.dtype == np.float64
    assert result.sum(axis=1) == pytest.approx(1)
    assert model.training
    with torch.no_grad():
        latitude = torch.from_numpy(images.lat_deg.astype(np.float32))
        logits = model.eval()(torch.from_numpy(images.stack()), latitude)
    assert result == pytest.approx(torch.softmax(logits.double(), dim=1).numpy(), abs=1e-4)
    # Classes equally common before and after: nothing changes.
    equal = class_probabilities(model.train(), images, np.ones(5), batch_size=3)
    assert equal == pytest.approx(result, abs=1e-12)


def test_the_prior_moves_the_odds(config2: Config) -> None:
    model, images = build_classifier(config2), images_of(config2, 4)
    torch.manual_seed(0)
    nn.init.normal_(model.output.weight)
    plain = class_probabilities(model, images, None)
    prior = np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    moved = class_probabilities(model, images, prior)
    assert moved / moved[:, :1] == pytest.approx(plain / plain[:, :1] * prior / prior[0], rel=1e-5)
    same = class_probabilities(model, images, prior, train_prior=prior * 7)
    assert same == pytest.approx(plain, abs=1e-12)
    without = class_probabilities(model, images, np.array([1.0, 1, 1, 1, 0]))
    assert not without[:, 4].any()
    assert without.sum(axis=1) == pytest.approx(1)


def test_a_detection_does_not_depend_on_the_others(config2: Config) -> None:
    model, images = build_classifier(config2), images_of(config2, 9)
    torch.manual_seed(0)
    nn.init.normal_(model.output.weight)
    whole = class_probabilities(model, images, None, batch_size=4)
    part = SourceImages(images.channels[6:], images.yearly[6:], images.lat_deg[6:])
    assert class_probabilities(model, part, None, batch_size=4).tobytes() == whole[6:].tobytes()


def test_no_detections(config2: Config) -> None:
    result = class_probabilities(build_classifier(config2), images_of(config2, 0), np.ones(5))
    assert result.shape == (0, 5)


@pytest.mark.parametrize("prior", [[1.0, 1.0], [1, 1, 1, 1, -1.0], [0.0] * 5, [1, 1, 1, 1, np.nan]])
def test_a_bad_prior(prior: list[float], config2: Config) -> None:
    model, images = build_classifier(config2), images_of(config2, 2)
    with pytest.raises(InputError, match="class prior of the detections: is"):
        class_probabilities(model, images, np.array(prior))


def test_a_class_that_training_did_not_have(config2: Config) -> None:
    model, images = build_classifier(config2), images_of(config2, 2)
    with pytest.raises(InputError, match="lacks a class that the detections have"):
        class_probabilities(model, images, np.ones(5), np.array([1.0, 1, 1, 1, 0]))


def test_the_natural_prior() -> None:
    prior = natural_prior(np.array([0, 0, 0, 2]), 4)
    assert prior == pytest.approx([3.5 / 6, 0.5 / 6, 1.5 / 6, 0.5 / 6])
    assert natural_prior(np.empty(0, dtype=np.int64), 2) == pytest.approx([0.5, 0.5])
