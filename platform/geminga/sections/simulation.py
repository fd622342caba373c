"""Sections of what is simulated or observed: response, sky, patches, sets, photons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from geminga.sections.base import AtLeastOne, Bit, Fraction, Names, Nside, Positive, Section


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
    test_interstellar: Names = Field(
        (),
        description="models of the test skies, in turn; the first of interstellar if not given",
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
