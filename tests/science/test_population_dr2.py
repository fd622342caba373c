"""Drawn populations against the 4FGL-DR2 table they were fitted to.

Distances, not p-values: with fixed seeds the bounds are met with room to spare, and the draws
parameter by parameter of the reference work (``sky.draws: independent``) must break them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp, kstest, mannwhitneyu, rankdata

from geminga.sky.populations.catalogs import read_catalog
from geminga.sky.populations.draws import Draws, draw_spectra
from geminga.sky.populations.fit import SHARED, _membership
from geminga.sky.populations.law import Population
from geminga.sky.populations.population import load_population
from geminga.sky.populations.positions import latitude_cdf, longitude_cdf
from geminga.sky.populations.variability import draw_yearly

pytestmark = pytest.mark.data

CLASSES = ("BLL", "FSRQ", "PSR", "PWN+SNR")
FLUX, INDEX, CURVATURE, PIVOT = range(4)
N = 3000


@dataclass(frozen=True)
class Table:
    """Rows of a class: log flux, index, curvature (or log cutoff), log pivot and their errors.

    ``bend`` is how much the best power law of a log parabola is steeper than alpha, per beta.
    """

    values: np.ndarray
    errors: np.ndarray
    bend: float


@dataclass(frozen=True)
class Catalogue:
    rows: pd.DataFrame
    histories: dict[str, np.ndarray]
    membership: dict[str, np.ndarray]

    def of(self, members: tuple[str, ...]) -> pd.DataFrame:
        return self.rows[self.rows["designation"].isin(members)]


@pytest.fixture(scope="module")
def dr2(lat_data: Path) -> Catalogue:
    kind, rows, histories = read_catalog(lat_data / "catalogs" / "gll_psc_v27.fit.gz")
    members = {name: tuple(texts) for name, texts in kind.classes.items()}
    return Catalogue(rows, histories, _membership(kind, rows, members, SHARED))


@pytest.fixture(scope="module")
def population() -> Population:
    return load_population("4fgl_dr2")


def table_of(dr2: Catalogue, population: Population, name: str) -> Table:
    law = population.classes[name]
    own = dr2.of(law.members)
    zero, bend = np.zeros(len(own)), 0.0
    if law.form == "plec":
        own = own[own["SpectrumType"] == "PLSuperExpCutoff"]
        zero = np.zeros(len(own))
        b = own["PLEC_Exp_Index"]
        shape = [own["PLEC_Index"], -np.log10(own["PLEC_Expfactor"]) / b]
        cutoff_error = own["Unc_PLEC_Expfactor"] / (own["PLEC_Expfactor"] * b * np.log(10))
        errors = [zero, own["Unc_PLEC_Index"], cutoff_error, zero]
    else:
        own = own[own["PL_Index"].notna() & (own["LP_beta"] < 0.99) & own["LP_Index"].notna()]
        sharp = own[own["Unc_LP_beta"] < 0.1]
        excess = (sharp["PL_Index"] - sharp["LP_Index"]) * sharp["LP_beta"]
        bend = float(excess.sum() / (sharp["LP_beta"] ** 2).sum())
        zero = np.zeros(len(own))
        shape = [own["PL_Index"], own["LP_beta"]]
        errors = [zero, own["Unc_PL_Index"], own["Unc_LP_beta"], zero]
    values = np.stack([np.log10(own["Flux1000"]), *shape, np.log10(own["Pivot_Energy"])], axis=1)
    stacked = np.stack(errors, axis=1)
    order = np.argsort(values[:, FLUX])
    return Table(values[order], np.nan_to_num(stacked, nan=0.1)[order], bend)


def drawn_like(
    population: Population, name: str, table: Table, draws: Draws, seed: int = 5
) -> np.ndarray:
    """Draw sources as the catalogue would list them.

    A law's fluxes are those of all the class' sources, the table's those of classified ones: they
    are mapped onto each other by rank. Joint draws get the errors of a row of nearly the same
    flux; independent ones were fitted with the scatter and have it.
    """
    rng = np.random.default_rng(seed)
    spectra = draw_spectra(rng, population, name, N, draws)
    curvature = spectra["curvature"].to_numpy()
    if population.classes[name].form == "plec":
        index = spectra["index"].to_numpy()
        curvature = -np.log10(curvature) / spectra["exp_index"].to_numpy()
    else:
        index = spectra["index"].to_numpy() + table.bend * curvature
    place = (rankdata(spectra["flux"]) - 0.5) / N
    n = len(table.values)
    flux = np.interp(place, (np.arange(n) + 0.5) / n, table.values[:, FLUX])
    values = np.stack([flux, index, curvature, np.log10(spectra["pivot_mev"])], axis=1)
    if draws == "independent":
        return values
    near = np.clip((place * n).astype(int) + rng.integers(-10, 11, N), 0, n - 1)
    return values + table.errors[near] * rng.standard_normal(values.shape)


def energy_distance(real: np.ndarray, drawn: np.ndarray) -> float:
    """Szekely and Rizzo's distance of two samples (n, k), in units of the real one's scatter."""
    scale = real.std(axis=0)
    x, y = real / scale, drawn / scale
    return float(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean())


def ranks(sample: np.ndarray) -> np.ndarray:
    return np.apply_along_axis(rankdata, 0, sample) / len(sample)


# Single parameters


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("BLL", (0.05, 0.10, 0.05)),
        ("FSRQ", (0.08, 0.10, 0.05)),
        ("PSR", (0.07, 0.06, 0.07)),
        ("PWN+SNR", (0.09, 0.10, 0.07)),
    ],
)
def test_parameters_are_distributed_as_dr2s(
    dr2: Catalogue, population: Population, name: str, limits: tuple[float, float, float]
) -> None:
    table = table_of(dr2, population, name)
    joint = drawn_like(population, name, table, "joint")
    alone = drawn_like(population, name, table, "independent")
    broken = 0
    for column, limit in zip((INDEX, CURVATURE, PIVOT), limits, strict=True):
        assert ks_2samp(joint[:, column], table.values[:, column]).statistic < limit
        broken += ks_2samp(alone[:, column], table.values[:, column]).statistic > limit
    # Pulsars have no BCU mixed in: only the law of the cutoff misses the table.
    assert broken >= (1 if name == "PSR" else 2)


@pytest.mark.parametrize(
    ("name", "limit"), [("BLL", 0.04), ("FSRQ", 0.04), ("PSR", 0.07), ("PWN+SNR", 0.07)]
)
def test_fluxes_are_distributed_as_dr2s(
    dr2: Catalogue, population: Population, name: str, limit: float
) -> None:
    """With the sources of uncertain class in their share."""
    weight = dr2.membership[name]
    chosen = np.random.default_rng(0).choice(len(weight), 8000, p=weight / weight.sum())
    real = dr2.rows["Flux1000"].to_numpy()[chosen]
    joint = draw_spectra(np.random.default_rng(1), population, name, N, "joint")["flux"]
    alone = draw_spectra(np.random.default_rng(1), population, name, N, "independent")["flux"]
    assert ks_2samp(joint, real).statistic < limit
    assert ks_2samp(alone, real).statistic > 2.5 * limit


# Pairs


@pytest.mark.parametrize(
    ("name", "pair", "limit"),
    [
        ("BLL", (FLUX, INDEX), 0.006),
        ("BLL", (INDEX, CURVATURE), 0.030),
        ("BLL", (FLUX, PIVOT), 0.006),
        ("FSRQ", (FLUX, INDEX), 0.008),
        ("FSRQ", (INDEX, CURVATURE), 0.025),
        ("FSRQ", (FLUX, PIVOT), 0.010),
        ("PSR", (FLUX, INDEX), 0.008),
        ("PSR", (INDEX, CURVATURE), 0.008),
        ("PSR", (FLUX, PIVOT), 0.008),
        ("PWN+SNR", (FLUX, INDEX), 0.020),
        ("PWN+SNR", (INDEX, CURVATURE), 0.030),
        ("PWN+SNR", (FLUX, PIVOT), 0.012),
    ],
)
def test_pairs_are_distributed_as_dr2s(
    dr2: Catalogue, population: Population, name: str, pair: tuple[int, int], limit: float
) -> None:
    table = table_of(dr2, population, name)
    real = table.values[:, pair]
    assert energy_distance(real, drawn_like(population, name, table, "joint")[:, pair]) < limit
    alone = drawn_like(population, name, table, "independent")
    assert energy_distance(real, alone[:, pair]) > 1.3 * limit


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("BLL", (FLUX, PIVOT)),
        ("BLL", (INDEX, PIVOT)),
        ("FSRQ", (FLUX, PIVOT)),
        ("FSRQ", (INDEX, PIVOT)),
        ("PSR", (INDEX, CURVATURE)),
        ("PWN+SNR", (INDEX, CURVATURE)),
        ("PWN+SNR", (INDEX, PIVOT)),
    ],
)
def test_dependence_is_dr2s(
    dr2: Catalogue, population: Population, name: str, pair: tuple[int, int]
) -> None:
    """Ranks have no marginal left: what differs is how the parameters depend on each other."""
    table = table_of(dr2, population, name)
    real = ranks(table.values[:, pair])

    def distance(draws: Draws) -> float:
        return energy_distance(real, ranks(drawn_like(population, name, table, draws)[:, pair]))

    assert distance("joint") < 0.025
    assert distance("independent") > 0.03


# The index that separates BLL from FSRQ


def balanced(bll: np.ndarray, fsrq: np.ndarray) -> float:
    return float(0.5 * ((bll < 2.28).mean() + (fsrq >= 2.28).mean()))


def test_the_index_separates_bll_from_fsrq_as_in_dr2(
    dr2: Catalogue, population: Population
) -> None:
    rows = dr2.rows
    bll, fsrq = (
        rows[(rows["designation"] == name) & rows["PL_Index"].notna()] for name in ("bll", "fsrq")
    )
    assert (len(bll), len(fsrq)) == (1308, 744)
    whole = bll["PL_Index"].to_numpy(), fsrq["PL_Index"].to_numpy()
    assert balanced(*whole) == pytest.approx(0.873, abs=0.001)
    assert mannwhitneyu(whole[1], whole[0]).statistic / (1308 * 744) == pytest.approx(
        0.931, abs=0.001
    )
    # The reference figure of .879 comes from fewer rows; those above 5 sigma give it.
    firm = [r.loc[r["Signif_Avg"] > 5, "PL_Index"].to_numpy() for r in (bll, fsrq)]
    assert balanced(*firm) == pytest.approx(0.879, abs=0.001)

    def simulated(draws: Draws, seed: int) -> float:
        tables = {name: table_of(dr2, population, name) for name in ("BLL", "FSRQ")}
        return balanced(
            *(drawn_like(population, k, t, draws, seed)[:, INDEX] for k, t in tables.items())
        )

    joint = [simulated("joint", seed) for seed in range(4)]
    assert min(joint) > 0.85
    assert max(joint) < 0.90
    assert simulated("independent", 0) < 0.75


# Positions


@pytest.mark.parametrize("name", ["PSR", "PWN+SNR"])
def test_galactic_positions_fit_in_both_coordinates(
    dr2: Catalogue, population: Population, name: str
) -> None:
    law = population.classes[name]
    own = dr2.of(law.members)
    lon, lat = own["GLON"].to_numpy(), own["GLAT"].to_numpy()
    assert kstest(lat, lambda b: latitude_cdf(law.position, b)).pvalue > 0.2
    assert kstest(lon, lambda x: longitude_cdf(law.position, x)).pvalue > 0.2
    # The published law has no longitude structure, and the classes have.
    published = law.published_position
    assert kstest(lon, lambda x: longitude_cdf(published, x)).pvalue < 1e-4


def test_blazars_are_isotropic_away_from_the_plane(dr2: Catalogue, population: Population) -> None:
    """Near it they are harder to identify: the law follows the sources, not the identifications."""
    weight = dr2.membership["BLL"] + dr2.membership["FSRQ"]
    lat = dr2.rows["GLAT"].to_numpy()
    high = np.abs(lat) > 20
    share = weight[high].sum() / weight.sum()
    isotropic = 1 - np.sin(np.radians(20))
    assert isotropic < share < 1.15 * isotropic
    height = np.abs(np.sin(np.radians(lat[high])))
    lowest = np.sin(np.radians(20))
    order = np.argsort(height)
    observed = np.cumsum(weight[high][order]) / weight[high].sum()
    expected = (height[order] - lowest) / (1 - lowest)
    assert np.abs(observed - expected).max() < 0.05


def test_class_totals_are_the_catalogues(dr2: Catalogue, population: Population) -> None:
    """Every BCU counts once in all, every SPP as a nebula."""
    counts = dr2.rows["designation"].value_counts()
    laws = population.classes
    both = laws["BLL"].mean_number + laws["FSRQ"].mean_number
    assert both == pytest.approx(counts[["bll", "fsrq", "bcu"]].sum(), abs=0.1)
    assert laws["PWN+SNR"].mean_number == counts[["pwn", "snr", "spp"]].sum() == 157
    assert laws["PSR"].mean_number == counts["psr"] == 271
    bcu = (dr2.rows["designation"] == "bcu").to_numpy()
    assert dr2.membership["BLL"][bcu] + dr2.membership["FSRQ"][bcu] == pytest.approx(1)
    assert 0.4 < dr2.membership["BLL"][bcu].mean() < 0.6


# Variability


def variability_index(flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Chi-square of constant flux with 2 % systematic error (4FGL, equation 4)."""
    weight = 1 / error**2
    mean = (weight * flux).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    return ((flux - mean) ** 2 / (error**2 + (0.02 * mean) ** 2)).sum(axis=1)


def fractional(flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    excess = flux.var(axis=1, ddof=1) - (error**2).mean(axis=1)
    return np.sqrt(np.maximum(excess, 0)) / flux.mean(axis=1)


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("BLL", (0.07, 0.08)),
        ("FSRQ", (0.11, 0.14)),
        ("PSR", (0.10, 0.14)),
        ("PWN+SNR", (0.15, 0.15)),
    ],
)
def test_variability_is_dr2s(
    lat_data: Path,
    dr2: Catalogue,
    population: Population,
    name: str,
    limits: tuple[float, float],
) -> None:
    """All rows of the class, bright or faint, with drawn factors and errors as the rows have."""
    own = dr2.rows["designation"].isin(population.classes[name].members).to_numpy(copy=True)
    flux = dr2.histories["Flux_History"]
    both = np.abs(dr2.histories["Unc_Flux_History"].reshape(*flux.shape, 2))
    error = 0.5 * (np.where(np.isfinite(both[..., 0]), both[..., 0], both[..., 1]) + both[..., 1])
    own &= np.isfinite(flux).all(axis=1) & np.isfinite(error).all(axis=1)
    flux, error = flux[own], error[own]
    # Our index of the real rows is the catalogue's own.
    with fits.open(lat_data / "catalogs" / "gll_psc_v27.fit.gz", memmap=False) as hdus:
        listed = np.asarray(hdus[1].data["Variability_Index"], dtype=np.float64)[own]
    assert np.corrcoef(np.log(listed), np.log(variability_index(flux, error)))[0, 1] > 0.85
    mean = flux.mean(axis=1, keepdims=True)
    typical = np.median(error, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    distances = []
    for _ in range(4):
        yearly = draw_yearly(rng, population.classes[name].variability, *flux.shape)
        # Half of a median error's square is background, half grows with the source.
        scatter = typical * np.sqrt(0.5 + 0.5 * yearly)
        seen = np.maximum(mean * yearly + scatter * rng.standard_normal(flux.shape), 0)
        distances.append(
            [
                ks_2samp(measure(flux, error), measure(seen, scatter)).statistic
                for measure in (variability_index, fractional)
            ]
        )
    assert (np.mean(distances, axis=0) < limits).all()


def test_blazars_vary_and_sources_of_the_galaxy_do_not(population: Population) -> None:
    laws = {name: law.variability for name, law in population.classes.items()}
    assert laws["PSR"].sigma == laws["PWN+SNR"].sigma == 0
    assert laws["FSRQ"].sigma > 1.8 * laws["BLL"].sigma > 0.5
