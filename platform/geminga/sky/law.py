"""What a population file holds: how the sources of each class are distributed."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT_VERSION = 1

LOG_PARABOLA_VARIABLES: tuple[str, ...] = ("log_flux", "index", "curvature", "log_pivot")
"""Variables drawn jointly for a log parabola.

log10 of the photon flux in the reference range (cm-2 s-1), alpha, beta, log10 of E0 in MeV.
"""

PLEC_VARIABLES: tuple[str, ...] = ("log_flux", "index", "log_cutoff", "log_pivot", "exp_index")
"""Variables drawn jointly for a PLEC.

The cutoff energy Ec = a^(-1/b), in MeV, stands for a: unlike a it hardly depends on b, which is
fixed to 2/3 in most rows of DR2 and free in a few.
"""

Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """A part of the file: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Origin(Part):
    """Where the numbers come from: catalogue file, digest of its bytes and number of rows."""

    file: str
    sha256: str
    rows: int


class LatitudeGaussian(Part):
    """One term ``amplitude exp(-b^2 / (2 sigma^2))``: sources per degree of latitude b."""

    amplitude: Positive
    sigma_deg: Positive


class Position(Part):
    """Position law.

    ``isotropic``, or ``latitude``: uniform in longitude, a sum of Gaussians in latitude.
    """

    law: Literal["isotropic", "latitude"]
    gaussians: tuple[LatitudeGaussian, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Position:
        if (self.law == "latitude") != bool(self.gaussians):
            raise ValueError("the law 'latitude' needs gaussians and the law 'isotropic' has none")
        return self


class Variability(Part):
    """Yearly flux over mean flux is log-normal.

    Attributes
    ----------
    sigma : float
        Median over sources of the scatter of ln(flux of a year); 0 is a steady class.
    spread : float
        Scatter of ln(sigma) between the sources of the class.
    """

    sigma: Annotated[float, Field(ge=0)]
    spread: Annotated[float, Field(ge=0)]


class FaintExtension(Part):
    """Sources fainter than the catalogue: ``dN/dS ~ S^-slope`` from `flux_min` to `flux_max`.

    Attributes
    ----------
    flux_min, flux_max : float
        Photon fluxes in the reference range, cm-2 s-1. The class' table of fluxes starts at
        `flux_max`; catalogue sources below it, where the catalogue is not complete, are replaced
        by this law.
    slope : float
        Slope of the differential source counts.
    mean_number : float
        Mean number of these sources on a sky, besides those of the table.
    """

    flux_min: Positive
    flux_max: Positive
    slope: Positive
    mean_number: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _check(self) -> FaintExtension:
        if self.flux_min >= self.flux_max:
            raise ValueError("flux_min must be below flux_max")
        return self


class ClassLaw(Part):
    """The sources of one class.

    Attributes
    ----------
    form : str
        Spectral form.
    members : tuple of str
        Catalogue designations that make up the class.
    fitted_on : int
        Rows that the spectral laws were fitted on.
    mean_number : float
        Mean number of sources on the sky, without the faint extension.
    position, variability, faint_extension
        See there.
    variables : dict of str to tuple of float
        Quantiles at the file's probabilities of each variable of the form; one number for a
        constant.
    correlation : tuple of tuple of float
        Correlation of the normal scores (Gaussian copula), in the order of the form's variables.
    """

    form: Literal["log_parabola", "plec"]
    members: tuple[str, ...]
    fitted_on: int
    mean_number: Positive
    position: Position
    variability: Variability
    faint_extension: FaintExtension | None = None
    variables: dict[str, tuple[float, ...]]
    correlation: tuple[tuple[float, ...], ...]

    @property
    def variable_names(self) -> tuple[str, ...]:
        """Names of the variables, in the order of the correlation matrix."""
        return LOG_PARABOLA_VARIABLES if self.form == "log_parabola" else PLEC_VARIABLES

    @property
    def total_mean_number(self) -> float:
        """Mean number of sources on the sky with the faint extension."""
        extra = 0.0 if self.faint_extension is None else self.faint_extension.mean_number
        return self.mean_number + extra

    @model_validator(mode="after")
    def _check(self) -> ClassLaw:
        names = self.variable_names
        if set(self.variables) != set(names):
            raise ValueError(f"variables are {sorted(self.variables)}; needs {list(names)}")
        for name, values in self.variables.items():
            if not values or any(b < a for a, b in pairwise(values)):
                raise ValueError(f"quantiles of {name} must rise")
        n = len(names)
        if len(self.correlation) != n or any(len(row) != n for row in self.correlation):
            raise ValueError(f"correlation must be {n} x {n}")
        for i, row in enumerate(self.correlation):
            if row[i] != 1 or any(
                abs(c) > 1 or c != self.correlation[j][i] for j, c in enumerate(row)
            ):
                raise ValueError(
                    "correlation must be symmetric, within 1, with ones on its diagonal"
                )
        return self


class Population(Part):
    """Source classes of the gamma-ray sky.

    Attributes
    ----------
    format_version : int
        Version of this layout.
    name : str
        Name of the population.
    origin : Origin
        Catalogue it was fitted from.
    reference_flux_min_mev, reference_flux_max_mev : float
        Energy range of the photon flux that ``log_flux`` is the logarithm of.
    probabilities : tuple of float
        Probabilities of the quantile tables, rising from 0 to 1.
    classes : dict of str to ClassLaw
        The classes by name.
    """

    format_version: Literal[1] = 1
    name: str
    origin: Origin
    reference_flux_min_mev: Positive
    reference_flux_max_mev: Positive
    probabilities: tuple[float, ...]
    classes: dict[str, ClassLaw]

    @model_validator(mode="after")
    def _check(self) -> Population:
        if self.reference_flux_min_mev >= self.reference_flux_max_mev:
            raise ValueError("the reference flux range runs backwards")
        p = self.probabilities
        if len(p) < 2 or p[0] != 0 or p[-1] != 1 or any(b <= a for a, b in pairwise(p)):
            raise ValueError("probabilities must rise from 0 to 1")
        if not self.classes:
            raise ValueError("there is no class")
        for name, law in self.classes.items():
            for variable, values in law.variables.items():
                if len(values) not in (1, len(p)):
                    raise ValueError(
                        f"class {name}: {variable} has {len(values)} quantiles for "
                        f"{len(p)} probabilities"
                    )
        return self
