"""The sections of the configuration: one frozen model per room of the package."""

from geminga.sections.base import AtLeastOne, Count, Fraction, Positive, Section
from geminga.sections.learning import (
    ClassifierConfig,
    EvaluationConfig,
    EvidenceConfig,
    EvidenceNetConfig,
    ImageConfig,
    LocalisationConfig,
    MiunConfig,
    RankerConfig,
    RunConfig,
    TrainingConfig,
)
from geminga.sections.likelihood import LikelihoodConfig
from geminga.sections.simulation import (
    ObservedConfig,
    PatchConfig,
    ResponseConfig,
    SetsConfig,
    SkyConfig,
)

__all__ = [
    "AtLeastOne",
    "ClassifierConfig",
    "Count",
    "EvaluationConfig",
    "EvidenceConfig",
    "EvidenceNetConfig",
    "Fraction",
    "ImageConfig",
    "LikelihoodConfig",
    "LocalisationConfig",
    "MiunConfig",
    "ObservedConfig",
    "PatchConfig",
    "Positive",
    "RankerConfig",
    "ResponseConfig",
    "RunConfig",
    "Section",
    "SetsConfig",
    "SkyConfig",
    "TrainingConfig",
]
