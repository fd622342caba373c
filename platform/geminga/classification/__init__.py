"""Classification: images of detections, their labels, training samples, class probabilities."""

from __future__ import annotations

from geminga.classification.images import (
    SourceImages,
    counted_source_images,
    expected_source_images,
)
from geminga.classification.labels import label_candidates
from geminga.classification.predict import class_probabilities, natural_prior
from geminga.classification.samples import SourceSamples

__all__ = [
    "SourceImages",
    "SourceSamples",
    "class_probabilities",
    "counted_source_images",
    "expected_source_images",
    "label_candidates",
    "natural_prior",
]
