"""The settings of a run: one typed tree, one section per room.

A configuration file is YAML with the keys declared here; anything it leaves out takes the default.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from geminga.bands import Band, Channel, check_bands, make_channels
from geminga.classes import DEFAULT_CLASSES, DIFFUSE_COMPONENTS, FAKE
from geminga.errors import InputError
from geminga.sections import (
    ClassifierConfig,
    Count,
    EvaluationConfig,
    EvidenceConfig,
    EvidenceNetConfig,
    ImageConfig,
    LikelihoodConfig,
    LocalisationConfig,
    MiunConfig,
    ObservedConfig,
    PatchConfig,
    RankerConfig,
    ResponseConfig,
    RunConfig,
    Section,
    SetsConfig,
    SkyConfig,
    TrainingConfig,
)

__all__ = [
    "ClassifierConfig",
    "Config",
    "EvaluationConfig",
    "EvidenceConfig",
    "EvidenceNetConfig",
    "ImageConfig",
    "LikelihoodConfig",
    "LocalisationConfig",
    "MiunConfig",
    "ObservedConfig",
    "PatchConfig",
    "RankerConfig",
    "ResponseConfig",
    "RunConfig",
    "Section",
    "SetsConfig",
    "SkyConfig",
    "TrainingConfig",
    "config_from_tree",
    "data_folder",
    "data_path",
    "digest",
    "load_config",
    "read_tree",
    "section_from_tree",
]

S = TypeVar("S", bound=Section)


class Config(Section):
    """All settings of a run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9_.-]+$")
    seed: Count = 2018
    data: str | None = Field(
        None, description="folder of LAT files; GEMINGA_DATA, then ../shared/data if not given"
    )
    bands: tuple[Band, ...]
    classes: tuple[str, ...] = DEFAULT_CLASSES
    response: ResponseConfig = ResponseConfig()
    sky: SkyConfig = SkyConfig()
    sets: SetsConfig = SetsConfig()
    observed: ObservedConfig | None = None
    patches: PatchConfig = PatchConfig()
    likelihood: LikelihoodConfig = LikelihoodConfig()
    miun: MiunConfig = MiunConfig()
    miun_training: TrainingConfig = TrainingConfig()
    localisation: LocalisationConfig = LocalisationConfig()
    ranker: RankerConfig = RankerConfig()
    ranker_training: TrainingConfig = TrainingConfig(
        epochs=30,
        batch_size=256,
        learning_rate=2e-3,
        plateau_factor=0.3,
        plateau_patience=2,
        plateau_min_gain=1e-3,
        stop_patience=6,
    )
    images: ImageConfig = ImageConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    classifier_training: TrainingConfig = TrainingConfig(
        plateau_factor=0.25, plateau_patience=1, stop_patience=5, loss="cross_entropy"
    )
    evidence: EvidenceConfig = EvidenceConfig()
    evidence_net: EvidenceNetConfig = EvidenceNetConfig()
    evidence_net_training: TrainingConfig = TrainingConfig(
        epochs=20,
        batch_size=512,
        learning_rate=2e-3,
        plateau_factor=0.3,
        plateau_patience=1,
        plateau_min_gain=1e-3,
        stop_patience=4,
        loss="cross_entropy",
    )
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        check_bands(self.bands)
        top = max(b.pixels for b in self.bands)
        low = min(b.pixels for b in self.bands)
        if low <= self.miun.bottleneck_pixels:
            raise ValueError(
                f"miun.bottleneck_pixels {self.miun.bottleneck_pixels} is not below the coarsest "
                f"band's {low} pixels; use {low // 2} or less"
            )
        if top % self.miun.bottleneck_pixels:
            raise ValueError(
                f"miun.bottleneck_pixels {self.miun.bottleneck_pixels} does not divide {top}; "
                "use a power of two"
            )
        if len(self.images.box_deg) != len(self.bands):
            raise ValueError(
                f"images.box_deg has {len(self.images.box_deg)} widths for {len(self.bands)} bands; "
                "give one per band"
            )
        if all(b.emin_gev < self.images.yearly_min_gev for b in self.bands):
            raise ValueError(
                f"images.yearly_min_gev {self.images.yearly_min_gev} is above every band's start; "
                f"use {self.bands[-1].emin_gev} or less"
            )
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise ValueError(f"classes {list(self.classes)} must be distinct and not empty")
        reserved = {*DIFFUSE_COMPONENTS, FAKE, ""} & set(self.classes)
        if reserved:
            raise ValueError(
                f"classes {sorted(reserved)} are names the platform uses itself; choose others"
            )
        unknown = set(self.classifier.rotated_classes) - set(self.classes)
        if unknown:
            raise ValueError(
                f"classifier.rotated_classes {sorted(unknown)} are not among classes "
                f"{list(self.classes)}"
            )
        return self

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The bands of every entry of ``response.event_types``, in the order of all images."""
        return make_channels(self.bands, self.response.event_types)

    @property
    def image_box_deg(self) -> tuple[float, ...]:
        """Width of the source images of each channel."""
        return tuple(self.images.box_deg[c.band] for c in self.channels)

    @property
    def top_pixels(self) -> int:
        """Pixels per side of the finest band: the size of targets and of MIUN's output."""
        return max(b.pixels for b in self.bands)

    def training_of(self, network: str) -> TrainingConfig:
        """Return the training section of ``miun``, ``ranker``, ``classifier`` or ``evidence_net``."""
        section: TrainingConfig = getattr(self, f"{network}_training")
        return section

    def hash(self) -> str:
        """Return the digest of every setting that can change a result."""
        tree = self.model_dump(mode="json")
        tree.pop("run")
        tree.pop("name")
        return digest(tree)


def digest(tree: object) -> str:
    """Return a short SHA-256 digest of a JSON-like tree."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Loader(yaml.SafeLoader):
    """YAML's safe reader, which also refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is given twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def load_config(path: Path | str, overrides: list[str] | None = None) -> Config:
    """Read a YAML configuration and apply ``section.key=value`` overrides.

    Parameters
    ----------
    path : Path or str
        YAML file.
    overrides : list of str, optional
        Each ``section.key=value``; the value is read as YAML.

    Raises
    ------
    InputError
        If the file cannot be read, is not a YAML mapping, or a key or value is refused.
    """
    tree = read_tree(Path(path))
    for override in overrides or []:
        _apply(tree, override)
    return config_from_tree(tree, str(path))


def read_tree(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and plain values.

    Raises
    ------
    InputError
        If it cannot be read, is not YAML, gives a key twice or is no mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise InputError(
            str(path), f"cannot be read ({error.strerror})", "name a YAML file"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        line = str(error).replace("\n", " ")
        raise InputError(
            str(path), f"is not YAML ({line})", "see jobs/configs for examples"
        ) from error
    if not isinstance(tree, dict):
        raise InputError(str(path), "is not a mapping of keys", "see jobs/configs for examples")
    return tree


_WRONG_KEY = ("extra_forbidden", "invalid_key")


def config_from_tree(tree: dict[str, Any], where: str) -> Config:
    """Check a tree of plain values; `where` names its origin in errors."""
    return section_from_tree(Config, tree, where)


def section_from_tree(section: type[S], tree: dict[str, Any], where: str) -> S:
    """Check a tree of plain values as a section of its own; `where` names its origin in errors.

    Raises
    ------
    InputError
        If a key is unknown or a value refused.
    """
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        errors = error.errors()
        # A misspelt key explains a missing one, so it is named first.
        first = next((e for e in errors if e["type"] in _WRONG_KEY), errors[0])
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            problem = f"unknown key {key} = {first['input']!r}"
            remedy = f"{_known_keys(section, first['loc'])}"
        else:
            message = first["msg"].removeprefix("Value error, ")
            whole_model = first["type"] == "value_error" and isinstance(first["input"], dict)
            whole = whole_model or first["type"] == "missing"
            value = "" if whole else f" = {first['input']!r}"
            problem = f"{key}{value}: {message}" if key else message
            remedy = "mend the value"
            if section is Config:
                remedy += " ('geminga config show' prints every key)"
        raise InputError(where, problem, remedy) from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}", "has no '='", "write --set section.key=value")
    *sections, last = key.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise InputError(
                f"--set {override}", f"{section} is not a section", "name a section's key"
            )
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"--set {override}", f"{text!r} is not YAML", "quote the value") from error


def _known_keys(section: type[BaseModel], location: tuple[int | str, ...]) -> str:
    model: Any = section
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        annotation = None if field is None else field.annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None
        )
        if model is None:
            return "remove it"
    return "known keys here are " + ", ".join(model.model_fields)


def data_folder(config: Config) -> Path | None:
    """Return the folder of LAT files: ``data``, else GEMINGA_DATA, else ../shared/data, else None."""
    if config.data is not None:
        return Path(config.data)
    if "GEMINGA_DATA" in os.environ:
        return Path(os.environ["GEMINGA_DATA"])
    shared = Path("..") / "shared" / "data"
    return shared if shared.is_dir() else None


def data_path(config: Config, name: str) -> Path:
    """Return the path of a LAT file named in the configuration, relative to the data folder.

    Raises
    ------
    InputError
        If there is no such file.
    """
    folder = data_folder(config)
    path = Path(name) if folder is None or Path(name).is_absolute() else folder / name
    if not path.exists():
        raise InputError(
            name,
            f"not found at {path}",
            "set GEMINGA_DATA (or the key 'data') to the folder that holds it",
        )
    return path
