"""Networks kept in MLflow, as functions of arrays: what an MLmodel file names as its loader.

Weights are read from safetensors and everything else from JSON, by the same readers as a run's own:
nothing of a model is unpickled or executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geminga.arrays import Float32, Float64
from geminga.classification.class_model import ClassModel
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.files import read_json
from geminga.networks.checkpoint import FEATURES, META, load_checkpoint
from geminga.networks.miun import Miun, score_maps
from geminga.networks.ranker import Ranker, calibrated, real_logits
from geminga.seeds import Stage, generator

CONFIG_FILE = "config.json"
_CALIBRATION = "calibration"
_EXAMPLES = 2
Arrays = dict[str, np.ndarray]


class MiunModel:
    """MIUN: counts of each channel (n, n_c, n_c) to the chance of a source in each pixel."""

    def __init__(self, folder: Path, config: Config) -> None:
        model, _ = load_checkpoint(folder, config, "miun")
        if not isinstance(model, Miun):
            raise TypeError(f"{folder} holds no MIUN")
        self.model, self.config = model, config
        self.names = [f"counts {channel.label}" for channel in config.channels]

    def predict(self, model_input: Mapping[str, Any], params: Any = None) -> Float32:
        """Return score maps (n, top, top)."""
        images = tuple(np.asarray(model_input[name], np.float32) for name in self.names)
        return score_maps(self.model, images, len(images[0]))

    def example(self) -> Arrays:
        """Return inputs to try it with: one count a pixel."""
        random = generator(self.config.seed, Stage.PHOTONS, 0)
        return {
            name: random.poisson(1.0, (_EXAMPLES, pixels, pixels)).astype(np.float32)
            for name, pixels in zip(self.names, self.model.pixels, strict=True)
        }


class RankerModel:
    """The ranker: features (n, features) of fitted sources to the probability that each is real."""

    def __init__(self, folder: Path, config: Config) -> None:
        model, meta = load_checkpoint(folder, config, "ranker")
        if not isinstance(model, Ranker):
            raise TypeError(f"{folder} holds no ranker")
        self.model = model
        self.features = len(meta["extra"][FEATURES])
        self.slope, self.offset = (float(v) for v in meta["extra"][_CALIBRATION])

    def predict(self, model_input: Mapping[str, Any], params: Any = None) -> Float64:
        """Return probabilities (n,)."""
        features = np.asarray(model_input["features"], np.float32)
        return calibrated(real_logits(self.model, features), self.slope, self.offset)

    def example(self) -> Arrays:
        """Return inputs to try it with: the mean source of the training, and a brighter one."""
        centre, scale = self.model.centre.numpy(), self.model.scale.numpy()
        return {"features": np.stack([centre, centre + scale]).astype(np.float32)}


class ClassifierModel:
    """The classifier: evidence on n candidates to the probability of each class (n, classes)."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.model, self.config = ClassModel.load(folder, config), config

    def predict(self, model_input: Mapping[str, Any], params: Any = None) -> Float64:
        """Return probabilities (n, classes), with the prior of the settings."""
        arrays: dict[str, Any] = {
            name: np.asarray(values, np.float32 if name == "stamps" else np.float64)
            for name, values in model_input.items()
        }
        return self.model.probabilities(Evidence(edges_gev=self.model.edges_gev, **arrays))

    def example(self) -> Arrays:
        """Return inputs to try it with: two steady sources on a flat background."""
        n, channels, settings = _EXAMPLES, len(self.model.edges_gev), self.config.evidence
        planes = channels * len(settings.stamp_widths_r68)
        pixels, years = settings.stamp_pixels, self.config.sky.years
        return {
            "lon_deg": np.array([10.0, 200.0]),
            "lat_deg": np.array([2.0, -50.0]),
            "band_flux": np.full((n, channels), 1e-10),
            "band_flux_error": np.full((n, channels), 1e-11),
            "year_ratio": np.ones((n, years)),
            "year_ratio_error": np.full((n, years), 0.1),
            "detection": np.ones((n, len(DETECTION_NAMES))),
            "stamps": np.ones((n, planes, 2, pixels, pixels), np.float32),
        }


Model = MiunModel | RankerModel | ClassifierModel
_KINDS: dict[str, Callable[[Path, Config], Model]] = {
    "miun": MiunModel,
    "ranker": RankerModel,
    "evidence_net": ClassifierModel,
}


def load(folder: Path) -> Model:
    """Return the network of a folder that holds its checkpoint and the settings of its run.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the network is of another kind.
    """
    config = config_from_tree(read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
    kind = read_json(folder / META).get("kind")
    if kind not in _KINDS:
        raise InputError(str(folder), f"holds a {kind}", f"name one of {', '.join(_KINDS)}")
    return _KINDS[kind](folder, config)


def _load_pyfunc(path: str) -> Model:
    """Return the network of a model's data; MLflow calls it by this name."""
    return load(Path(path))
