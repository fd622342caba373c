"""Sections of the networks, of what is made of their output, and of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from geminga.sections.base import AtLeastOne, Count, Fraction, Positive, Section
from geminga.storage import open_root
from geminga.storage.address import parse


class MiunConfig(Section):
    """MIUN, the multi-input U-Net."""

    width: AtLeastOne = Field(32, description="feature maps at the top level")
    bottleneck_pixels: AtLeastOne = Field(16, description="pixels per side at the bottom")
    input_scaling: Literal["counts", "anscombe"] = Field(
        "counts", description="raw counts (thesis) or 2 sqrt(n + 3/8) before batch normalisation"
    )
    dropout: Fraction = Field(0.0, description="dropout at the bottleneck")


class RankerConfig(Section):
    """The network that judges fitted sources."""

    width: AtLeastOne = 48
    depth: AtLeastOne = 2


class TrainingConfig(Section):
    """Training of one network."""

    epochs: AtLeastOne = 50
    batch_size: AtLeastOne = Field(128, description="records per step, over all workers")
    learning_rate: Positive = 1e-3
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    plateau_patience: Count = 5
    plateau_min_gain: Fraction = Field(
        0.0, description="relative gain in validation loss below which an epoch is on a plateau"
    )
    min_learning_rate: Positive = 1e-5
    stop_patience: AtLeastOne = Field(50, description="epochs without gain before stopping")
    loss: Literal["bce", "dice", "bce_dice", "cross_entropy"] = "bce"
    augment: bool = Field(True, description="random rotations and reflections of the image")
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = Field(False, description="compile the network; needs a C++ compiler")
    workers: AtLeastOne = Field(1, description="processes or GPUs that share each batch")
    min_workers: Count = Field(
        0, description="train on with this many when nodes leave; 0 waits for all `workers`"
    )
    loader_workers: Count = Field(
        0,
        description="cores beside those of the workers that read and draw MIUN's patches; 0 leaves "
        "it to a thread of each worker",
    )
    threads: Count = Field(0, description="torch threads per worker; 0 shares the cores evenly")
    use_gpu: bool = False
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(
        10.0, description="time between checkpoints within an epoch; 0 keeps those at its end"
    )

    @model_validator(mode="after")
    def _check_workers(self) -> TrainingConfig:
        if self.min_workers > self.workers:
            raise ValueError(
                f"min_workers {self.min_workers} is above workers {self.workers}; lower it"
            )
        return self


SHARING = frozenset({"workers", "min_workers", "loader_workers", "threads", "checkpoint_minutes"})
"""Settings of a training that say who does it; they change no result beyond rounding."""


class LocalisationConfig(Section):
    """From network output to source positions."""

    detector: Literal["likelihood", "miun"] = Field(
        "likelihood",
        description="whose detections become the catalogue: the likelihood search judged by the "
        "ranker, or MIUN alone (the likelihood search is not run then)",
    )
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
    significance_threshold: Positive = Field(
        4.0, description="sigma of a peak, and of what is masked when the background is measured"
    )
    significance_min_gev: Positive = 1.0
    wavelet_scales_deg: tuple[Positive, ...] = Field(
        (0.33, 0.5),
        min_length=1,
        description="scales of the Mexican hat in the lowest band used; smaller above, as the PSF",
    )
    wavelet_threshold: Positive = Field(3.0, description="sigma of a peak")
    wavelet_min_gev: Positive = Field(0.5, description="bands from here up are used; else all")
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


class EvidenceConfig(Section):
    """What is measured of each candidate for the classifier."""

    stamp_pixels: AtLeastOne = 9
    stamp_widths_r68: tuple[Positive, ...] = Field(
        (3.0, 9.0),
        min_length=1,
        description="widths of the stamps, in radii that hold 68 % of the channel's PSF",
    )
    stamp_limits_deg: tuple[Positive, Positive] = Field(
        (0.5, 8.0), description="least and greatest width of a stamp"
    )
    jittered_copies: Count = Field(
        2,
        description="times that true positives of rare classes are measured again, moved by their "
        "position error, on training skies",
    )
    least_score_ratio: Fraction = Field(
        0.5, description="candidates are measured from this part of the search's score cut up"
    )
    year_weights: Literal["likelihood", "summed"] = Field(
        "likelihood",
        description="light curves from every photon weighted by the chance that it is the source's, "
        "or from counts summed over all bands (thesis)",
    )


class EvidenceNetConfig(Section):
    """The network on evidence: an image, a spectrum and a light-curve branch."""

    width: AtLeastOne = Field(64, description="size of the dense layers")
    image_width: AtLeastOne = Field(16, description="feature maps of the image branch")
    members: AtLeastOne = Field(
        3, description="networks trained from different starts and averaged"
    )
    branch_dropout: Fraction = Field(
        0.15, description="chance that a branch is left out in training, each by itself"
    )
    dropout: Fraction = 0.1
    branches: tuple[Literal["image", "spectrum", "years"], ...] = Field(
        ("image", "spectrum", "years"), min_length=1, description="branches that are used at all"
    )
    prior: Literal["natural", "flat", "latitude"] = Field(
        "natural", description="mix of classes that probabilities refer to"
    )
    ambiguous_ratio: Fraction = Field(
        0.5, description="a class is ambiguous if the second is more than this part as probable"
    )


class ClassifierConfig(Section):
    """Classifier network."""

    width: AtLeastOne = 64
    input_scaling: Literal["counts", "anscombe"] = Field(
        "counts", description="raw counts (thesis) or 2 sqrt(n + 3/8) before batch normalisation"
    )
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
    wavelet: bool = Field(True, description="run the wavelet search for comparison")
    kmeans: bool = Field(True, description="run the k-means search for comparison")


def _check_storage(uri: str) -> str:
    parse(uri)
    return uri


class RunConfig(Section):
    """Where and how a run works."""

    output: str = Field("out", description="folder of all outputs; each run has its own inside")
    storage: Annotated[str, AfterValidator(_check_storage)] | None = Field(
        None,
        description="address of a folder all nodes share, or of an object store, instead of output: "
        "file:///FOLDER, s3://BUCKET/PREFIX?endpoint_override=HOST:PORT&scheme=http&region=REGION",
    )
    mirror: str | None = Field(
        None,
        description="folder on every node for copies of an object store's files; one in the "
        "temporary folder if not given",
    )
    replace: bool = Field(
        False, description="make finished stages again whose settings changed; else that is refused"
    )
    workers: Count = Field(
        0,
        description="single-core workers of a stage; 0 takes every core there is when it "
        "starts, more than those wait for nodes that an autoscaler brings",
    )
    tracking_uri: str | None = Field(None, description="MLflow server; else a store in the output")
    experiment: str = "geminga"
    register_models: bool = Field(
        False, description="make the models of a finished run candidates in MLflow's registry"
    )

    def folder(self) -> Path:
        """Return the folder below which every run has its own: the storage, or its mirror.

        Raises
        ------
        InputError
            If there are no credentials for an object store, or its mirror cannot be made.
        """
        return open_root(self.storage, self.output, self.mirror)
