"""The networks a configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from geminga.bands import pixel_sizes
from geminga.classes import with_fake
from geminga.config import Config
from geminga.networks.miun import Miun
from geminga.networks.ranker import Ranker
from geminga.networks.source_cnn import SourceCnn
from geminga.seeds import Stage, generator

_MIUN, _CLASSIFIER, _RANKER = 0, 1, 2


def image_channels(config: Config) -> int:
    """Return the number of images per source: one per band, one per year."""
    return len(config.channels) + config.sky.years


def build_miun(config: Config) -> Miun:
    """Return MIUN with starting weights that depend on the root seed alone."""
    settings = config.miun
    with _seeded(config, _MIUN):
        model = Miun(
            pixel_sizes(config.channels),
            settings.width,
            settings.bottleneck_pixels,
            settings.input_scaling,
            settings.dropout,
        )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build_classifier(config: Config) -> SourceCnn:
    """Return the classifier with starting weights that depend on the root seed alone."""
    settings = config.classifier
    with _seeded(config, _CLASSIFIER):
        model = SourceCnn(
            image_channels(config),
            config.images.pixels,
            len(with_fake(config.classes)),
            settings.width,
            settings.dense,
            settings.input_scaling,
        )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build_ranker(config: Config, features: int) -> Ranker:
    """Return the ranker with starting weights that depend on the root seed alone.

    `features` is their number.
    """
    with _seeded(config, _RANKER):
        return Ranker(features, config.ranker.width, config.ranker.depth)


@contextmanager
def _seeded(config: Config, network: int) -> Iterator[None]:
    """Seed torch for one network and give its random state back afterwards."""
    seed = int(generator(config.seed, Stage.WEIGHTS, network).integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
