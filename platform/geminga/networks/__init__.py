"""Networks: MIUN, the source classifier, their losses and checkpoints; torch alone."""

from __future__ import annotations

from geminga.networks.build import build_classifier, build_miun, image_channels
from geminga.networks.checkpoint import load_checkpoint, save_checkpoint
from geminga.networks.losses import build_loss
from geminga.networks.miun import Miun, score_maps
from geminga.networks.source_cnn import SourceCnn

__all__ = [
    "Miun",
    "SourceCnn",
    "build_classifier",
    "build_loss",
    "build_miun",
    "image_channels",
    "load_checkpoint",
    "save_checkpoint",
    "score_maps",
]
