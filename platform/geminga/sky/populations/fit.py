"""Fitting a population to a LAT catalogue.

Per class: the designations given, plus a share of the rows of uncertain class (``bcu``). Such a row
enters no class whole and none twice: it counts for each class it may belong to with the posterior
probability of that class given its power-law index, so the classes' counts and fluxes include the
faint sources that nobody has classified yet. Spectral laws (index, curvature, pivot, and their
correlations) come from the classified rows alone, so the classes stay as far apart as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from geminga.arrays import Bool, Float64
from geminga.errors import InputError
from geminga.files import file_digest
from geminga.sky.populations.catalogs import FGL, CatalogKind, FaintRule, read_catalog
from geminga.sky.populations.copula import (
    PROBABILITIES,
    quantile_table,
    score_correlation,
    without_noise,
)
from geminga.sky.populations.independent import fit_independent
from geminga.sky.populations.law import (
    LOG_PARABOLA_VARIABLES,
    PLEC_VARIABLES,
    ClassLaw,
    FaintExtension,
    Origin,
    Population,
)
from geminga.sky.populations.parameters import (
    independent_parameters,
    independent_power_law,
    log_parabola_parameters,
    plec_parameters,
    power_law_index,
    power_law_parameters,
)
from geminga.sky.populations.positions import fit_position, published_position
from geminga.sky.populations.variability import STEADY, fit_variability
from geminga.sky.spectra import LOG_PARABOLA, PLEC

SHARED: Mapping[str, tuple[str, ...]] = {"bcu": ("BLL", "FSRQ")}
"""Designations shared between classes when none of them claims them."""

_MIN_ROWS = 10
# Sources brighter than this significance have yearly fluxes to 13 % or better (median).
_BRIGHT_SIGMA = 25.0


def fit_population(
    catalog_path: Path,
    classes: Mapping[str, Sequence[str]] | None = None,
    shared: Mapping[str, Sequence[str]] = SHARED,
) -> Population:
    """Fit the sources of a LAT catalogue.

    Parameters
    ----------
    catalog_path : Path
        4FGL (columns as DR2's) or 2FHL FITS file, recognised by its columns.
    classes : mapping of str to sequence of str, optional
        Designations (column CLASS1 or CLASS, in any case) of each class. Rows without one are
        ``unassociated |b|<=10`` or ``unassociated |b|>10``. By default the reference work's
        classes; unassociated 4FGL rows belong to none (scale with sky.density_factor).
    shared : mapping of str to sequence of str
        Designations to be shared between two or more classes by power-law index.

    Returns
    -------
    Population

    Raises
    ------
    InputError
        If the file cannot be used, or a class has too few sources.

    Notes
    -----
    4FGL: a log parabola has beta of the log-parabola fit and alpha such that its best power law
    is the catalogue's (the index that separates BLL from FSRQ): alpha = PL_Index - c beta with
    the class' own c. Measurement scatter of index, beta and cutoff is taken out
    (`geminga.sky.populations.copula.without_noise`); beta is not negative. A class whose sources are mostly
    PLEC is a PLEC class and its spectral laws come from its PLEC rows. Fluxes are Flux1000
    (1-100 GeV) times the class' median ratio to 1-1000 GeV. 2FHL: power laws.
    """
    kind, rows, histories = read_catalog(catalog_path)
    members = {
        name: tuple(text.lower() for text in texts)
        for name, texts in (kind.classes if classes is None else classes).items()
    }
    if not members:
        raise InputError("classes", "there is none", "name the designations of a class")
    membership = _membership(kind, rows, members, shared)
    laws: dict[str, ClassLaw] = {}
    for name, designations in members.items():
        firm = np.asarray(rows["designation"].isin(designations), dtype=np.bool_)
        if firm.sum() < _MIN_ROWS:
            raise InputError(
                f"classes.{name}",
                f"{', '.join(designations)} has {int(firm.sum())} rows in {catalog_path.name}",
                f"a class needs {_MIN_ROWS}; designations are {sorted(set(rows['designation']))}",
            )
        fed = firm | np.asarray(
            rows["designation"].isin(_fed(kind, name, members, shared)), dtype=np.bool_
        )
        laws[name] = _class_law(kind, rows, histories, designations, firm, fed, membership[name])
    low, high = kind.reference_mev
    return Population(
        name=catalog_path.name.split(".")[0],
        origin=Origin(file=catalog_path.name, sha256=file_digest(catalog_path), rows=len(rows)),
        reference_flux_min_mev=low,
        reference_flux_max_mev=high,
        probabilities=tuple(float(p) for p in PROBABILITIES),
        classes=laws,
    )


def _fed(
    kind: CatalogKind,
    name: str,
    members: Mapping[str, tuple[str, ...]],
    shared: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return the shared designations that a class has a part in."""
    claimed = {text for texts in members.values() for text in texts}
    return [
        designation
        for designation, heirs in shared.items()
        if kind is FGL
        and designation not in claimed
        and name in heirs
        and sum(heir in members for heir in heirs) > 1
    ]


def _membership(
    kind: CatalogKind,
    rows: pd.DataFrame,
    members: Mapping[str, tuple[str, ...]],
    shared: Mapping[str, Sequence[str]],
) -> dict[str, Float64]:
    """Return the weight of every row in every class; the weights of a row add up to 1 or 0."""
    weight = {
        name: np.asarray(rows["designation"].isin(texts), dtype=np.float64)
        for name, texts in members.items()
    }
    for designation, heirs in shared.items():
        names = [
            name
            for name in heirs
            if name in members and designation in _fed(kind, name, members, shared)
        ]
        if not names:
            continue
        uncertain = (rows["designation"] == designation) & rows["PL_Index"].notna()
        index, error = power_law_index(rows[uncertain])
        shape = []
        for name in names:
            own = rows[(weight[name] == 1.0) & rows["PL_Index"].notna()]
            _, mean, tau = without_noise(*power_law_index(own), np.zeros(len(own)))
            shape.append((float(mean[0]), float(tau[0])))
        for name, posterior in zip(names, _posterior(index, error, shape), strict=True):
            weight[name][uncertain.to_numpy()] = posterior
    return weight


def _posterior(index: Float64, error: Float64, shape: list[tuple[float, float]]) -> Float64:
    """Share rows between normal classes whose fractions are fitted too; shape (classes, n)."""
    total = np.stack([np.hypot(tau, error) for _, tau in shape])
    pull = (index - np.array([mean for mean, _ in shape])[:, None]) / total
    density = np.exp(-0.5 * pull**2) / total
    fraction = np.full(len(shape), 1.0 / len(shape))
    for _ in range(200):
        joint = fraction[:, None] * density
        posterior = joint / joint.sum(axis=0)
        fraction = posterior.mean(axis=1)
    return np.asarray(posterior)


def _class_law(
    kind: CatalogKind,
    rows: pd.DataFrame,
    histories: Mapping[str, Float64],
    designations: tuple[str, ...],
    firm: Bool,
    fed: Bool,
    weight: Float64,
) -> ClassLaw:
    own = rows[firm]
    variability = STEADY
    if kind is FGL:
        plec = own["SpectrumType"] == "PLSuperExpCutoff"
        form = PLEC if plec.mean() > 0.5 else LOG_PARABOLA
        if form == PLEC:
            variables = plec_parameters(own[plec])
            alone = independent_parameters(own[plec], plec=True)
        else:
            variables = log_parabola_parameters(own)
            alone = independent_parameters(rows[fed], plec=False)
        # Faint rows of uncertain class take the class' mean ratio of the two flux ranges.
        widening = float(np.median(variables["widening"]))
        log_flux = np.log10(rows["Flux1000"].to_numpy() * widening)
        bright = firm & (rows["Signif_Avg"].to_numpy() > _BRIGHT_SIGMA)
        error = np.abs(histories["Unc_Flux_History"]).reshape(len(rows), -1, 2)
        # The lower error is missing where a year gives an upper limit only.
        sides = np.where(np.isfinite(error[..., 0]), error[..., 0], error[..., 1])
        variability = fit_variability(
            histories["Flux_History"][bright], 0.5 * (sides + error[..., 1])[bright]
        )
    else:
        form = LOG_PARABOLA
        variables = power_law_parameters(own)
        alone = independent_power_law(own)
        log_flux = np.log10(rows["Flux50"].to_numpy())
    names = PLEC_VARIABLES if form == PLEC else LOG_PARABOLA_VARIABLES
    correlation = score_correlation(np.stack([variables[name] for name in names], axis=1))
    counted = (weight > 0) & np.isfinite(log_flux)
    fluxes, weights = log_flux[counted], weight[counted]
    position = fit_position(own["GLON"].to_numpy(), own["GLAT"].to_numpy())
    faint = None
    if position.law == "isotropic" or not kind.faint.isotropic_only:
        faint = _faint_extension(kind.faint, fluxes, weights)
    tables = {name: quantile_table(variables[name]) for name in names}
    tables["log_flux"] = quantile_table(fluxes, weights)
    return ClassLaw(
        form="plec" if form == PLEC else "log_parabola",
        members=designations,
        fitted_on=len(variables["index"]),
        mean_number=_rounded(float(weights.sum())),
        position=position,
        published_position=published_position(position),
        variability=variability.model_copy(
            update={
                "sigma": _rounded(variability.sigma, 3),
                "spread": _rounded(variability.spread, 3),
            }
        ),
        faint_extension=faint,
        extended_share=_rounded(float(own["Source_Name"].str.endswith("e").mean()), 4),
        max_energy_flux=_rounded(float(own["Energy_Flux100"].max())) if kind is FGL else None,
        variables={name: _table(values) for name, values in tables.items()},
        correlation=tuple(tuple(_rounded(float(c), 4) for c in row) for row in correlation),
        independent=fit_independent(form, alone),
    )


def _faint_extension(rule: FaintRule, log_flux: Float64, weights: Float64) -> FaintExtension | None:
    """Continue the counts below the threshold, from the density the catalogue has there.

    Slope and density are those of most likelihood for the weighted sources in the window.
    """
    x = np.log(10.0**log_flux / rule.threshold)
    width = float(np.log(rule.window))
    inside = (x >= 0) & (x < width)
    x, w = x[inside], weights[inside]
    number = float(w.sum())
    if number < _MIN_ROWS:
        return None

    def cost(power: float) -> float:
        cut = np.log1p(-np.exp(-power * width)) if np.isfinite(width) else 0.0
        return float(power * (w * x).sum() - number * (np.log(power) - cut))

    power = float(minimize_scalar(cost, bounds=(1e-3, 10.0), method="bounded").x)
    density = number * power / -np.expm1(-power * width)
    return FaintExtension(
        threshold=rule.threshold,
        slope=_rounded(float(np.clip(1.0 + power, *rule.slopes)), 4),
        density=_rounded(float(density), 5),
        flux_min=rule.flux_min,
    )


def _rounded(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")


def _table(values: Float64) -> tuple[float, ...]:
    if np.ptp(values) == 0:
        return (_rounded(float(values[0])),)
    return tuple(_rounded(float(v)) for v in values)
