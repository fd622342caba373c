"""Section of the likelihood: templates, TS maps, fits, backgrounds, rounds of the search."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from geminga.sections.base import AtLeastOne, Count, Fraction, Positive, Section


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
    background_norm_energy_scale: Positive = Field(5.0, description="the same for the norms")
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

    @model_validator(mode="after")
    def _check(self) -> LikelihoodConfig:
        low, high = self.fit_index_limits
        if not low < self.fit_index_prior[0] < high:
            raise ValueError(
                f"fit_index_limits {low:g} to {high:g} do not hold the mean of fit_index_prior, "
                f"{self.fit_index_prior[0]:g}"
            )
        return self
