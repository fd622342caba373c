"""The networks a configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from geminga.bands import pixel_sizes
from geminga.classes import with_fake
from geminga.config import Config
from geminga.networks.evidence_net import EvidenceNet
from geminga.networks.miun import Miun
from geminga.networks.ranker import Ranker
from geminga.networks.source_cnn import SourceCnn
from geminga.seeds import Stage, generator

_MIUN, _CLASSIFIER, _RANKER, _EVIDENCE_NET = 0, 1, 2, 3


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


def build_evidence_net(
    config: Config, sizes: Mapping[str, Any], n_classes: int, member: int
) -> EvidenceNet:
    """Return a network on evidence with starting weights that depend on root seed and member alone.

    Parameters
    ----------
    config : Config
        Root seed and section ``evidence_net``.
    sizes : mapping
        Sizes of its inputs: the arguments of `EvidenceNet` before ``n_classes``.
    n_classes : int
        Number of classes.
    member : int
        Number of the network among those that are averaged.
    """
    settings = config.evidence_net
    with _seeded(config, _EVIDENCE_NET, member):
        return EvidenceNet(
            **sizes,
            n_classes=n_classes,
            width=settings.width,
            image_width=settings.image_width,
            dropout=settings.dropout,
            branch_dropout=settings.branch_dropout,
        )


@contextmanager
def _seeded(config: Config, *network: int) -> Iterator[None]:
    """Seed torch for one network and give its random state back afterwards."""
    seed = int(generator(config.seed, Stage.WEIGHTS, *network).integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
