"""Networks as MLflow keeps them: signature, example, loader, nothing pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geminga.config import Config
from geminga.errors import InputError
from geminga.networks.build import build_miun, build_ranker
from geminga.networks.checkpoint import save_checkpoint
from geminga.networks.miun import score_maps
from geminga.networks.ranker import Ranker, calibrated, real_logits
from geminga.tracking.flavour import load
from geminga.tracking.models import DATA, NETWORK, folder_digest, network_model


def loaded(folder: Path) -> Any:
    """Return what MLflow itself makes of a model's folder."""
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder))


def test_miun_answers_through_mlflow_as_by_itself(config2: Config, tmp_path: Path) -> None:
    model = build_miun(config2)
    save_checkpoint(tmp_path / "miun", model, "miun", config2, {})
    with network_model(tmp_path / "miun", config2) as (folder, digest):
        assert digest == folder_digest(folder / DATA / NETWORK)
        files = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert files <= {"", ".safetensors", ".json", ".yaml", ".txt"}
        through = loaded(folder)
        example = through.input_example
        names = [f"counts {channel.label}" for channel in config2.channels]
        assert through.metadata.signature.inputs.input_names() == names
        answer = through.predict(example)
    images = [np.asarray(example[name], np.float32) for name in names]
    np.testing.assert_array_equal(answer, score_maps(model, images, len(images[0])))


def test_the_ranker_answers_with_calibrated_probabilities(config2: Config, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    model = build_ranker(config2, len(names))
    assert isinstance(model, Ranker)
    extra = {"features": names, "calibration": [2.0, -1.0]}
    save_checkpoint(tmp_path / "ranker", model, "ranker", config2, extra)
    features = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], np.float32)
    with network_model(tmp_path / "ranker", config2) as (folder, _):
        answer = loaded(folder).predict({"features": features})
    np.testing.assert_array_equal(answer, calibrated(real_logits(model, features), 2.0, -1.0))


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = folder_digest(tmp_path)
    (tmp_path / "a" / "x").write_text("2")
    second = folder_digest(tmp_path)
    (tmp_path / "a" / "x").rename(tmp_path / "x")
    assert len({first, second, folder_digest(tmp_path)}) == 3


def test_a_damaged_network_is_refused(config2: Config, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "miun", build_miun(config2), "miun", config2, {})
    with network_model(tmp_path / "miun", config2) as (folder, _):
        weights = folder / DATA / NETWORK / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        with pytest.raises(InputError, match=r"is not the file that model\.json describes"):
            load(folder / DATA / NETWORK)
