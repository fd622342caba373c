"""What a population file holds: how the sources of each class are distributed."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT_VERSION = 2

LOG_PARABOLA_VARIABLES: tuple[str, ...] = ("log_flux", "index", "curvature", "log_pivot")
"""Variables drawn jointly for a log parabola.

log10 of the photon flux in the reference range (cm-2 s-1), alpha, beta, log10 of E0 in MeV.
"""

PLEC_VARIABLES: tuple[str, ...] = ("log_flux", "index", "log_cutoff", "log_pivot", "exp_index")
"""Variables drawn jointly for a PLEC.

The cutoff energy Ec = a^(-1/b), in MeV, stands for a: unlike a it hardly depends on b, which is
fixed to 2/3 in most rows of DR2 and free in a few.
"""

INDEPENDENT_LOG_PARABOLA: tuple[str, ...] = ("log_norm", "log_pivot", "index", "curvature")
"""Parameters of a log parabola drawn one by one.

log10 of F0 (cm-2 s-1 MeV-1, normal), log10 of E0 in MeV (normal), alpha (normal), beta (Gumbel).
"""

INDEPENDENT_PLEC: tuple[str, ...] = (
    *("log_norm", "log_pivot", "index", "log_expfactor", "exp_index"),
)
"""Parameters of a PLEC drawn one by one: also Gamma (normal), log10 of a (normal), b (Cauchy)."""

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


class DiskComponent(Part):
    """A share of a class: Gaussian in latitude, von Mises in longitude.

    Attributes
    ----------
    weight : float
        Share of the class.
    lat_deg, sigma_deg : float
        Mean latitude (the Sun lies above the plane) and scatter.
    lon_deg : float
        Longitude that the sources crowd around.
    kappa : float
        How closely: density ``exp(kappa cos(l - lon_deg))``; 0 is uniform in longitude.
    """

    weight: Positive
    lat_deg: Annotated[float, Field(ge=-90, le=90)]
    sigma_deg: Positive
    lon_deg: Annotated[float, Field(ge=0, lt=360)]
    kappa: Annotated[float, Field(ge=0)]


class Position(Part):
    """Position law.

    ``isotropic``; ``latitude``: uniform in longitude, a sum of Gaussians in latitude; ``disk``: a
    mixture of `DiskComponent`, so that latitude and longitude depend on each other.
    """

    law: Literal["isotropic", "latitude", "disk"]
    gaussians: tuple[LatitudeGaussian, ...] = ()
    components: tuple[DiskComponent, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Position:
        if (self.law == "latitude") != bool(self.gaussians):
            raise ValueError("the law 'latitude' needs gaussians and the other laws have none")
        if (self.law == "disk") != bool(self.components):
            raise ValueError("the law 'disk' needs components and the other laws have none")
        if self.components and abs(sum(c.weight for c in self.components) - 1.0) > 1e-3:
            raise ValueError("the weights of the components must add up to 1")
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
    """Sources fainter than the catalogue is complete to: ``dN/dS = K S^-slope``.

    Attributes
    ----------
    threshold : float
        Photon flux in the reference range (cm-2 s-1) where the law takes over. Where it is in use,
        catalogue sources below it, of which the catalogue misses some, are replaced by the law.
    slope : float
        Slope of the differential source counts below the threshold.
    density : float
        Sources per unit of ln S on the whole sky that the catalogue has at the threshold.
    flux_min : float or None
        Flux that the law goes down to where the configuration gives no ``sky.depth``; None: it is
        in use with ``sky.depth`` alone.
    """

    threshold: Positive
    slope: Positive
    density: Positive
    flux_min: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> FaintExtension:
        if self.flux_min is not None and self.flux_min >= self.threshold:
            raise ValueError("flux_min must be below threshold")
        return self

    def number(self, depth: float) -> float:
        """Return the mean number of sources on the sky between `depth` and the threshold."""
        return self.density * _power_integral(1.0 - self.slope, depth / self.threshold)

    def flux(self, depth: float) -> float:
        """Return their mean summed flux in cm-2 s-1."""
        whole = _power_integral(2.0 - self.slope, depth / self.threshold)
        return self.density * self.threshold * whole

    @property
    def diverges(self) -> bool:
        """Whether the summed flux grows without bound towards faint sources."""
        return self.slope >= 2.0


def _power_integral(power: float, low: float) -> float:
    """Return the integral of x^power d ln x from low to 1."""
    log_low = math.log(low)
    return -log_low if abs(power) < 1e-9 else -math.expm1(power * log_low) / power


class PublishedLaw(Part):
    """Law of one parameter drawn by itself, as in the reference work.

    Attributes
    ----------
    law : str
        ``normal``, ``gumbel`` (of maxima), ``cauchy`` or ``constant``.
    location, scale : float
        Of the law; the scale of a constant is 0.
    low, high : float
        Draws stay between them: the values the law was fitted on, without unphysical ones. So no
        tail gives a spectrum that nobody has measured.
    """

    law: Literal["normal", "gumbel", "cauchy", "constant"]
    location: float
    scale: Annotated[float, Field(ge=0)]
    low: float
    high: float

    @model_validator(mode="after")
    def _check(self) -> PublishedLaw:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        if (self.law == "constant") != (self.scale == 0):
            raise ValueError("a constant has scale 0 and no other law has")
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
    position, published_position : Position
        Refitted, and as published.
    variability, faint_extension
        See there.
    extended_share : float
        Part of the catalogue's sources that are extended; they are not drawn as points where
        ``sky.extended`` has them.
    max_energy_flux : float or None
        Energy flux 0.1-100 GeV, erg cm-2 s-1, of the brightest catalogue source: what is drawn
        above it is drawn again. Independent errors of flux and shape would else make, once in a
        thousand draws, a source that outshines the whole sky at the lowest energies.
    variables : dict of str to tuple of float
        Quantiles at the file's probabilities of each variable of the form; one number for a
        constant.
    correlation : tuple of tuple of float
        Correlation of the normal scores (Gaussian copula), in the order of the form's variables.
    independent : dict of str to PublishedLaw
        Laws of the parameters drawn one by one, by name: `independent_names`.
    """

    form: Literal["log_parabola", "plec"]
    members: tuple[str, ...]
    fitted_on: int
    mean_number: Positive
    position: Position
    published_position: Position
    variability: Variability
    faint_extension: FaintExtension | None = None
    extended_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_energy_flux: Positive | None = None
    variables: dict[str, tuple[float, ...]]
    correlation: tuple[tuple[float, ...], ...]
    independent: dict[str, PublishedLaw]

    @property
    def variable_names(self) -> tuple[str, ...]:
        """Names of the variables, in the order of the correlation matrix."""
        return LOG_PARABOLA_VARIABLES if self.form == "log_parabola" else PLEC_VARIABLES

    @property
    def independent_names(self) -> tuple[str, ...]:
        """Names of the parameters drawn one by one."""
        if self.form == "log_parabola":
            return INDEPENDENT_LOG_PARABOLA
        return INDEPENDENT_PLEC

    @model_validator(mode="after")
    def _check(self) -> ClassLaw:
        names = self.variable_names
        if set(self.variables) != set(names):
            raise ValueError(f"variables are {sorted(self.variables)}; needs {list(names)}")
        if set(self.independent) != set(self.independent_names):
            raise ValueError(
                f"independent are {sorted(self.independent)}; needs {list(self.independent_names)}"
            )
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

    format_version: Literal[2] = 2
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
