"""The settings of a run: one typed tree, one section per room.

A configuration file is YAML with the keys declared here; anything it leaves out takes the default.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geminga.bands import Band, check_bands
from geminga.classes import DEFAULT_CLASSES
from geminga.errors import InputError

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the tree: unknown keys are refused and values cannot be changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ResponseConfig(Section):
    """Instrument response."""

    irf: str = Field("P8R2_ULTRACLEANVETO_V6", description="CALDB response class")
    event_types: tuple[str, ...] = Field(("FRONT",), description="event types, added together")
    caldb: str | None = Field(
        None, description="folder with CALDB psf_*, aeff_* files; else built in"
    )
    exposure_cube: str | None = Field(None, description="gtexpcube2 HEALPix cube; else built in")
    duration_years: Positive = Field(10.0, description="observing time of the built-in exposure")
    exposure_nside: int = Field(32, description="resolution of the exposure maps")


class SkyConfig(Section):
    """Simulated skies."""

    population: str = Field(
        "4fgl_dr2", description="shipped population or path of a population file"
    )
    density_factor: Positive = Field(1.0, description="multiplies the mean number of sources")
    max_photon_flux: Positive | None = Field(
        None, description="sources above this photon flux (first band up, ph/cm2/s) are redrawn"
    )
    years: AtLeastOne = Field(10, description="number of equal time bins")
    interstellar: str = Field("builtin", description="'builtin' or path of a FITS mapcube")
    interstellar_norm_scatter: Fraction = Field(
        0.1, description="scatter of ln(norm) of the diffuse components between training skies"
    )
    isotropic: str = Field("builtin", description="'builtin' or path of an isotropic text file")
    diffuse_nside: int = Field(256, description="resolution of the diffuse counts maps")


class PatchConfig(Section):
    """Patches cut from the sky."""

    grid_nside: int = Field(8, description="patch centres are the HEALPix pixels of this nside")
    size_deg: Positive = Field(10.0, description="width of a patch")
    target_radius_px: Positive = Field(5.0, description="target disk radius in top-level pixels")


class MiunConfig(Section):
    """MIUN, the multi-input U-Net."""

    width: AtLeastOne = Field(32, description="feature maps at the top level")
    bottleneck_pixels: int = Field(16, description="pixels per side at the bottom")
    input_scaling: Literal["counts", "anscombe"] = Field(
        "counts", description="raw counts (thesis) or 2 sqrt(n + 3/8) before batch normalisation"
    )
    dropout: Fraction = Field(0.0, description="dropout at the bottleneck")


class TrainingConfig(Section):
    """Training of one network."""

    epochs: AtLeastOne = 50
    batch_size: AtLeastOne = Field(128, description="records per step, over all workers")
    learning_rate: Positive = 1e-3
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    plateau_patience: Count = 5
    min_learning_rate: Positive = 1e-5
    stop_patience: AtLeastOne = Field(50, description="epochs without gain before stopping")
    loss: Literal["bce", "dice", "bce_dice", "cross_entropy"] = "bce"
    augment: bool = Field(True, description="random rotations and reflections of the image")
    precision: Literal["float32", "bfloat16"] = "float32"
    workers: AtLeastOne = 1
    threads: Count = Field(0, description="torch threads per worker; 0 shares the cores evenly")
    use_gpu: bool = False


class LocalisationConfig(Section):
    """From network output to source positions."""

    kernel_radius_px: Positive = Field(5.0, description="radius of the disk kernel (thesis: 69 px)")
    threshold: Positive = Field(30.0, description="lowest kernel score of a group of pixels")
    threshold_step: Positive = 10.0
    max_group_radius_px: Positive = Field(5.0, description="larger groups are re-thresholded")
    merge_radius_deg: Positive = Field(
        0.3, description="patch detections this close are one source"
    )
    edge_margin_deg: Annotated[float, Field(ge=0)] = Field(
        0.3, description="detections this close to the edge of a patch are left to its neighbour"
    )
    purity_floor: Fraction | None = Field(
        0.8, description="score cut chosen on validation skies for this purity; null keeps all"
    )
    kmeans_max_clusters: AtLeastOne = 40
    kmeans_pixel_threshold: Fraction = 0.5
    significance_smoothing_deg: Positive = 0.25
    significance_threshold: Positive = 4.0
    significance_min_gev: Positive = 1.0
    batch_size: AtLeastOne = 32


class ImageConfig(Section):
    """Source images for the classifier."""

    pixels: AtLeastOne = 7
    box_deg: tuple[Positive, ...] = Field(
        (4.0, 4.0, 2.0, 1.0, 0.5, 0.5), description="width of each band's image"
    )
    yearly_box_deg: Positive = 1.0
    yearly_min_gev: Annotated[float, Field(ge=0)] = Field(
        0.0, description="bands that start below this do not enter the yearly images"
    )


class ClassifierConfig(Section):
    """Classifier network."""

    width: AtLeastOne = 64
    dense: tuple[AtLeastOne, ...] = (256, 128, 64, 32)
    balance: bool = Field(True, description="draw classes equally often; restore the prior later")
    rotated_classes: tuple[str, ...] = Field(
        ("PSR", "PWN+SNR"), description="classes shown in four rotations"
    )


class EvaluationConfig(Section):
    """Comparison with the truth."""

    match_radius_deg: Positive = 0.3
    latitude_split_deg: Positive = 20.0
    flux_bins_per_decade: AtLeastOne = 4
    kmeans: bool = Field(True, description="run the k-means search for comparison")


class SetsConfig(Section):
    """How many simulated skies each set has."""

    train: AtLeastOne = 4
    validation: AtLeastOne = 1
    test: AtLeastOne = 1


class ObservedConfig(Section):
    """Real photons instead of simulated test skies."""

    events: tuple[str, ...] = Field((), description="FT1 event lists")
    counts: tuple[str, ...] = Field((), description="gtbin HEALPix counts files")
    event_class_bits: tuple[int, ...] = Field((), description="EVENT_CLASS bits that must be set")
    event_type_bits: tuple[int, ...] = Field((), description="EVENT_TYPE bits, any of which is set")
    max_zenith_deg: Positive | None = None
    time_range_met_s: tuple[float, float] | None = None
    reference_catalogs: dict[str, str] = Field(
        default_factory=dict, description="name: path of FITS catalogues to compare with"
    )
    truth_catalog: str | None = Field(None, description="which of them completeness is against")

    @model_validator(mode="after")
    def _check(self) -> ObservedConfig:
        if bool(self.events) == bool(self.counts):
            raise ValueError("give either events or counts, not both and not neither")
        if self.truth_catalog is not None and self.truth_catalog not in self.reference_catalogs:
            raise ValueError(
                f"truth_catalog {self.truth_catalog!r} is not one of reference_catalogs "
                f"{sorted(self.reference_catalogs)}"
            )
        if (
            self.time_range_met_s is not None
            and self.time_range_met_s[0] >= self.time_range_met_s[1]
        ):
            raise ValueError("time_range_met_s runs backwards; give start, stop")
        return self


class RunConfig(Section):
    """Where and how a run works."""

    output: str = Field("out", description="folder of all outputs; each run has its own inside")
    workers: Count = Field(0, description="Ray Data workers; 0 takes every core")
    tracking_uri: str | None = Field(None, description="MLflow server; else a store in the output")
    experiment: str = "geminga"


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
    miun: MiunConfig = MiunConfig()
    miun_training: TrainingConfig = TrainingConfig()
    localisation: LocalisationConfig = LocalisationConfig()
    images: ImageConfig = ImageConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    classifier_training: TrainingConfig = TrainingConfig(
        plateau_factor=0.25, plateau_patience=1, stop_patience=5, loss="cross_entropy"
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
        if top % self.miun.bottleneck_pixels or self.miun.bottleneck_pixels < 1:
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
        unknown = set(self.classifier.rotated_classes) - set(self.classes)
        if unknown:
            raise ValueError(
                f"classifier.rotated_classes {sorted(unknown)} are not among classes "
                f"{list(self.classes)}"
            )
        return self

    @property
    def top_pixels(self) -> int:
        """Pixels per side of the finest band: the size of targets and of MIUN's output."""
        return max(b.pixels for b in self.bands)

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
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            str(path), f"cannot be read ({error.strerror})", "name a YAML file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).replace("\n", " ")
        raise InputError(
            str(path), f"is not YAML ({line})", "see jobs/configs for examples"
        ) from error
    if not isinstance(tree, dict):
        raise InputError(str(path), "is not a mapping of keys", "see jobs/configs for examples")
    for override in overrides or []:
        _apply(tree, override)
    return config_from_tree(tree, str(path))


def config_from_tree(tree: dict[str, Any], where: str) -> Config:
    """Check a tree of plain values; `where` names its origin in errors."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            problem = f"unknown key {key} = {first['input']!r}"
            remedy = f"{_known_keys(first['loc'])}"
        else:
            message = first["msg"].removeprefix("Value error, ")
            value = "" if first["type"] == "value_error" else f" = {first['input']!r}"
            problem = f"{key}{value}: {message}" if key else message
            remedy = "mend the value ('geminga config show' prints every key)"
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
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}", f"{text!r} is not YAML", "quote the value") from error


def _known_keys(location: tuple[int | str, ...]) -> str:
    model: Any = Config
    for part in location[:-1]:
        field = model.model_fields.get(part) if isinstance(part, str) else None
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
