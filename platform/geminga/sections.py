"""The sections of the configuration: one frozen model per room of the package."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from geminga.bands import is_power_of_two


def _check_nside(nside: int) -> int:
    if not is_power_of_two(nside):
        raise ValueError("a HEALPix nside is a power of two; use for example 64")
    return nside


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Nside = Annotated[int, AfterValidator(_check_nside)]
Bit = Annotated[int, Field(ge=0, le=31)]


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Section(BaseModel):
    """A part of the tree: unknown keys are refused and values cannot be changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ResponseConfig(Section):
    """Instrument response."""

    irf: str = Field("P8R2_ULTRACLEANVETO_V6", description="CALDB response class")
    event_types: tuple[str, ...] = Field(
        ("FRONT",),
        min_length=1,
        description="event types; every entry has channels of its own, types joined by '+' are "
        "added together ([FRONT+BACK], [FRONT, BACK], [PSF0, PSF1, PSF2, PSF3])",
    )
    caldb: str | None = Field(
        None, description="folder with CALDB psf_*, aeff_*, edisp_* files; else built in"
    )
    energy_dispersion: bool = Field(
        False, description="photons are measured at other energies than they have"
    )
    dispersion_irf: str | None = Field(
        None, description="class whose energy dispersion stands in where irf has none"
    )
    exposure_cube: str | tuple[str, ...] | dict[str, str] | None = Field(
        None,
        description="gtexpcube2 HEALPix cube; or one for each entry of event_types; or a list, of "
        "which each channel takes that of its event types, energies and zenith cut; else built in",
    )
    yearly_exposure: tuple[str, ...] = Field(
        (),
        description="a gtexpcube2 cube of each time bin, for the share each has at every place; "
        "else the rocking history of the survey",
    )
    duration_years: Positive = Field(10.0, description="observing time of the built-in exposure")
    exposure_nside: Nside = Field(32, description="resolution of the exposure maps")


class SkyConfig(Section):
    """Simulated skies."""

    population: str = Field(
        "4fgl_dr2", description="shipped population or path of a population file"
    )
    draws: Literal["joint", "independent"] = Field(
        "joint",
        description="spectral parameters with their correlations, or one by one as in the thesis",
    )
    depth: Positive | None = Field(
        None,
        description="photon flux (ph/cm2/s; 1-1000 GeV, or the range of the population) down to "
        "which isotropic classes go on below the catalogue; the isotropic emission is lowered by "
        "as much",
    )
    positions: Literal["fitted", "published"] = Field(
        "fitted",
        description="laws of Galactic classes: refitted with longitude structure, or the thesis' "
        "double Gaussian in latitude",
    )
    labelled_flux: Positive | None = Field(
        None,
        description="photon flux 1-1000 GeV (ph/cm2/s) from which a source is a target and part of "
        "the truth; if not given, 1e-10 where depth is set without least_ts, else all sources",
    )
    least_ts: Positive | None = Field(
        None,
        description="sources whose expected TS on the diffuse emission is below this are no "
        "sources of their own: a catalogue could not hold them, they stay in the isotropic emission",
    )
    density_factor: Positive = Field(1.0, description="multiplies the mean number of sources")
    max_photon_flux: Positive | None = Field(
        None, description="sources above this photon flux (first band up, ph/cm2/s) are redrawn"
    )
    years: AtLeastOne = Field(10, le=127, description="number of equal time bins")
    interstellar: Names = Field(
        ("builtin",),
        min_length=1,
        description="models: 'builtin', a FITS mapcube, or HEALPix templates joined by '+'; "
        "each training and validation sky draws one",
    )
    test_interstellar: str | None = Field(
        None, description="model of the test skies; else the first of interstellar"
    )
    fine_structure: str | None = Field(
        None, description="HEALPix template whose structure fills the coarse cells of mapcubes"
    )
    interstellar_distortion: Fraction = Field(
        0.05,
        description="scatter of ln of a smooth distortion of the interstellar emission between "
        "training skies",
    )
    distortion_scale_deg: Annotated[float, Field(ge=5, le=180)] = Field(
        30.0, description="angle over which the distortion changes"
    )
    interstellar_texture: Annotated[float, Field(ge=0, le=3)] = Field(
        0.0,
        description="random fine structure (0.15 to 3 deg) of the interstellar emission of "
        "training skies, in units of the amplitude measured; 0 is none",
    )
    extended: str | None = Field(
        None, description="FITS list of extended sources (4FGL layout) put into every sky"
    )
    interstellar_norm_scatter: Fraction = Field(
        0.1, description="scatter of ln(norm) of the diffuse components between training skies"
    )
    isotropic: str | dict[str, str] = Field(
        "builtin",
        description="'builtin' or path of an isotropic text file, or one for each entry of "
        "event_types",
    )
    diffuse_nside: Nside = Field(256, description="resolution of the diffuse counts maps")

    @model_validator(mode="after")
    def _check(self) -> SkyConfig:
        if self.interstellar_texture > 0 and self.diffuse_nside < 32:
            raise ValueError(
                f"interstellar_texture is finer than maps of diffuse_nside {self.diffuse_nside}; "
                "use 32 or more"
            )
        return self


class PatchConfig(Section):
    """Patches cut from the sky."""

    grid_nside: Nside = Field(8, description="patch centres are the HEALPix pixels of this nside")
    size_deg: Annotated[float, Field(gt=0, le=90)] = Field(
        10.0, description="width of a patch on the tangent plane"
    )
    target_radius_px: Positive = Field(5.0, description="target disk radius in top-level pixels")


class LikelihoodConfig(Section):
    """Poisson statistics of point sources in patches."""

    reference: str = Field(
        "builtin",
        description="interstellar model that backgrounds are estimated from; as sky.interstellar",
    )
    indices: tuple[Positive, ...] = Field(
        (1.7, 2.2, 2.7), min_length=1, description="photon indices of the spectral templates"
    )
    containment: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.98, description="share of the PSF that a template holds"
    )
    max_radius_deg: Positive = Field(3.0, description="no template reaches farther than this")
    map_top_ts: Positive = Field(
        100.0, description="TS up to which TS maps are computed in full; brighter is bright enough"
    )
    fit_index_prior: tuple[float, Positive] = Field(
        (2.3, 0.4), description="mean and width of the Gaussian prior of fitted photon indices"
    )
    fit_index_limits: tuple[float, float] = Field(
        (1.0, 5.0), description="no fitted photon index lies beyond these"
    )
    fit_max_shift_deg: Positive = Field(
        0.4, description="how far a fit may move a source from where it was found"
    )
    fit_iterations: AtLeastOne = Field(30, description="steps of a local fit at most")
    background_scatter: Positive = Field(
        0.08, description="scatter of a mode of 20 deg of ln(true / reference interstellar model)"
    )
    background_slope: Positive = Field(
        1.2, description="the scatter of a mode falls with this power of its wavelength"
    )
    background_scale_deg: Positive = Field(
        0.75, description="half the wavelength of the finest structure corrected"
    )
    background_norm_scatter: Positive = Field(
        0.25, description="scatter of ln(norm) of the diffuse components of a patch"
    )
    background_energy_scale: Positive = Field(
        10.0, description="ln of the ratio of energies over which the correction changes"
    )
    background_norm_energy_scale: Positive = Field(
        5.0, description="the same for the norms"
    )
    background_scale_rounds: Count = Field(
        1, description="how often the scatter of a patch is measured and the fit repeated"
    )
    background_mask_sigma: Positive = Field(
        3.0, description="pixels with an excess this significant are no background"
    )
    background_mask_excess: Fraction = Field(
        0.05, description="and this large a share of the background"
    )
    background_mask_widths: tuple[Positive, ...] = Field(
        (0.5, 2.0),
        min_length=1,
        description="widths of the Gaussians that excesses are sought with, in units of r68",
    )
    background_first_excess: Fraction = Field(
        0.2, description="least share of an excess over the first fit, of norms alone"
    )
    background_mask_rounds: Count = Field(
        2, description="how often excesses are left out and the background is fitted again"
    )

    search_thresholds: tuple[Positive, ...] = Field(
        (25.0, 12.0, 8.0),
        min_length=2,
        description="least TS of new sources in the rounds of the search; the last round starts "
        "from the list of the whole sky",
    )
    search_least_ts: Positive = Field(6.0, description="fitted sources below are given up")
    search_separation_deg: Positive = Field(
        0.2, description="a peak of a TS map is the highest within this radius"
    )
    search_mask_rounds: Count = Field(
        1, description="background_mask_rounds once sources are known"
    )

    @model_validator(mode="after")
    def _check(self) -> LikelihoodConfig:
        low, high = self.fit_index_limits
        if not low < self.fit_index_prior[0] < high:
            raise ValueError(
                f"fit_index_limits {low:g} to {high:g} do not hold the mean of fit_index_prior, "
                f"{self.fit_index_prior[0]:g}"
            )
        return self


class MiunConfig(Section):
    """MIUN, the multi-input U-Net."""

    width: AtLeastOne = Field(32, description="feature maps at the top level")
    bottleneck_pixels: AtLeastOne = Field(16, description="pixels per side at the bottom")
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
    plateau_min_gain: Fraction = Field(
        0.0, description="relative gain in validation loss below which an epoch is on a plateau"
    )
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
    likelihood: bool = Field(
        True, description="run the likelihood search, on simulated skies also with true background"
    )


class SetsConfig(Section):
    """How many simulated skies each set has."""

    train: AtLeastOne = 4
    validation: AtLeastOne = 1
    test: AtLeastOne = 1


class ObservedConfig(Section):
    """Real photons instead of simulated test skies."""

    events: tuple[str, ...] = Field((), description="FT1 event lists")
    counts: Names | dict[str, Names] = Field(
        (),
        description="gtbin HEALPix counts files, or those of each entry of response.event_types",
    )
    event_class_bits: tuple[Bit, ...] = Field((), description="EVENT_CLASS bits that must be set")
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
