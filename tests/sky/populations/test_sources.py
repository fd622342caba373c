from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from scipy.stats import ks_2samp, spearmanr

from geminga.config import Config, SkyConfig
from geminga.errors import InputError
from geminga.sky.populations.catalogs import read_catalog
from geminga.sky.populations.fit import SHARED, _membership
from geminga.sky.populations.parameters import power_law_index
from geminga.sky.populations.population import Population, load_population
from geminga.sky.populations.sources import SourceSet, draw_sources
from geminga.sky.spectra import energy_flux, photon_flux
from geminga.tables import TRUTH


@pytest.fixture(scope="module")
def dr2() -> Population:
    return load_population("4fgl_dr2")


@pytest.fixture(scope="module")
def fhl2() -> Population:
    return load_population("2fhl")


@pytest.fixture(scope="module")
def drawn(dr2: Population, config2: Config) -> pd.DataFrame:
    """The sources of five skies."""
    return pd.concat([draw_sources(dr2, config2, sky).table for sky in range(5)])


def with_sky(config: Config, **sky: object) -> Config:
    return config.model_copy(update={"sky": config.sky.model_copy(update=sky)})


def of_2fhl(config: Config) -> Config:
    tree = config.model_dump()
    bands = [{"emin_gev": 50, "emax_gev": 200, "nside": 64, "pixels": 32}]
    tree.update(bands=bands, classes=("AGN", "GALACTIC"))
    tree["images"]["box_deg"] = (1.0,)
    tree["classifier"]["rotated_classes"] = ()
    return Config.model_validate(tree)


def test_table_is_truth(dr2: Population, config2: Config) -> None:
    sources = draw_sources(dr2, config2, 3)
    table = sources.table
    assert list(table.columns) == TRUTH.names
    pd.testing.assert_frame_equal(TRUTH.check(table, "drawn"), table)
    assert np.array_equal(table["source_id"], np.arange(len(table)))
    assert (table["sky_id"] == 3).all()
    assert (np.diff(table["s_band"]) <= 0).all()
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert (table["curvature"] >= 0).all()
    assert set(table.loc[table["form"] == "plec", "class_name"]) == {"PSR"}
    assert (table.loc[table["form"] == "log_parabola", "exp_index"] == 0).all()


def test_fluxes_are_the_spectras(dr2: Population, config2: Config) -> None:
    table = draw_sources(dr2, config2, 3).table
    assert table["s1"].to_numpy() == pytest.approx(photon_flux(table, 1e3, 1e6), rel=1e-12)
    assert table["s10"].to_numpy() == pytest.approx(photon_flux(table, 1e4, 1e6), rel=1e-12)
    assert table["fe100"].to_numpy() == pytest.approx(energy_flux(table, 1e2, 1e5), rel=1e-12)
    assert table["s_band"].to_numpy() == pytest.approx(photon_flux(table, 1e3, 2e6), rel=1e-12)


def test_a_sky_is_fixed_by_seed_and_number(dr2: Population, config2: Config) -> None:
    first, again = draw_sources(dr2, config2, 7), draw_sources(dr2, config2, 7)
    pd.testing.assert_frame_equal(first.table, again.table)
    assert first.yearly.tobytes() == again.yearly.tobytes()
    other_sky = draw_sources(dr2, config2, 8)
    other_seed = draw_sources(dr2, config2.model_copy(update={"seed": 1}), 7)
    for other in (other_sky, other_seed):
        assert not np.array_equal(other.table["lon_deg"][:50], first.table["lon_deg"][:50])


def test_counts_are_poisson_around_the_mean(dr2: Population, drawn: pd.DataFrame) -> None:
    for name, law in dr2.classes.items():
        mean = 5 * law.mean_number
        assert abs((drawn["class_name"] == name).sum() - mean) < 4 * np.sqrt(mean)


def test_density_factor(dr2: Population, config2: Config) -> None:
    table = draw_sources(dr2, with_sky(config2, density_factor=0.1), 1).table
    assert abs(len(table) - 386.4) < 4 * np.sqrt(386.4)
    empty = draw_sources(dr2, with_sky(config2, density_factor=1e-9), 1)
    assert list(empty.table.columns) == TRUTH.names
    assert len(empty.table) == 0
    assert empty.yearly.shape == (0, config2.sky.years)


@pytest.mark.parametrize("years", [1, 4, 10])
def test_yearly_factors(dr2: Population, config2: Config, years: int) -> None:
    sources = draw_sources(dr2, with_sky(config2, years=years), 1)
    assert sources.yearly.shape == (len(sources.table), years)
    assert np.abs(sources.yearly.mean(axis=1) - 1).max() < 1e-14
    scatter = pd.Series(np.log(sources.yearly).std(axis=1)).groupby(
        sources.table["class_name"].to_numpy()
    )
    median = scatter.median()
    assert median["PSR"] == median["PWN+SNR"] == 0
    if years > 1:
        assert median["FSRQ"] > 1.5 * median["BLL"] > 0


def test_bright_sources_are_drawn_again(dr2: Population, config2: Config) -> None:
    limit = 5e-10
    whole = draw_sources(dr2, config2, 1).table
    table = draw_sources(dr2, with_sky(config2, max_photon_flux=limit), 1).table
    assert whole["s_band"].max() > limit
    assert table["s_band"].max() <= limit
    # Drawn again, not left out: the numbers of the first class do not change.
    assert (table["class_name"] == "BLL").sum() == (whole["class_name"] == "BLL").sum()


def test_impossible_limit(dr2: Population, config2: Config) -> None:
    config = with_sky(config2, max_photon_flux=1e-20, density_factor=0.01)
    with pytest.raises(InputError, match="1e-20 ph/cm2/s leaves no source of class BLL"):
        draw_sources(dr2, config, 1)


def test_missing_class(fhl2: Population, config2: Config) -> None:
    with pytest.raises(InputError, match=r"BLL, FSRQ, PSR, PWN\+SNR not in population 2fhl"):
        draw_sources(fhl2, config2, 1)


def test_classes_of_the_configuration_only(dr2: Population, config2: Config) -> None:
    table = draw_sources(dr2, config2.model_copy(update={"classes": ("PSR",)}), 1).table
    assert set(table["class_name"]) == {"PSR"}


def test_no_source_outshines_the_catalogue(dr2: Population, drawn: pd.DataFrame) -> None:
    for name, part in drawn.groupby("class_name"):
        table = dr2.classes[str(name)].variables["log_flux"]
        log_s1 = np.log10(part["s1"])
        assert log_s1.max() <= table[-1] + 1e-6
        assert log_s1.min() >= table[0] - 1e-6


def test_lengths_must_agree(dr2: Population, config2: Config) -> None:
    table = draw_sources(dr2, config2, 1).table
    with pytest.raises(ValueError, match="yearly"):
        SourceSet(table, np.ones((3, 4)))


def test_a_sky_is_drawn_within_a_second(dr2: Population, config2: Config) -> None:
    start = time.perf_counter()
    draw_sources(dr2, config2, 2)
    assert time.perf_counter() - start < 1.0


def test_2fhl_counts_and_faint_law(fhl2: Population, config2: Config) -> None:
    config = of_2fhl(config2)
    table = pd.concat([draw_sources(fhl2, config, sky).table for sky in range(5)])
    # One band from 50 GeV: s_band is the population's own flux. 200 and 56 rows of the catalogue.
    for (name, law), bright in zip(fhl2.classes.items(), (200, 56), strict=True):
        faint = law.faint_extension
        assert faint is not None
        assert faint.flux_min is not None
        flux = table.loc[table["class_name"] == name, "s_band"].to_numpy()
        above, below = flux[flux >= faint.threshold], flux[flux < faint.threshold]
        assert abs(len(above) / 5 - bright) < 4 * np.sqrt(bright / 5)
        mean = faint.number(faint.flux_min)
        assert abs(len(below) / 5 - mean) < 4 * np.sqrt(mean / 5)
        assert flux.min() >= faint.flux_min * (1 - 1e-9)
        # Share of the faint law below its geometric middle.
        a, b = faint.flux_min, faint.threshold
        middle, power = np.sqrt(a * b), 1 - faint.slope
        share = (a**power - middle**power) / (a**power - b**power)
        assert np.mean(below < middle) == pytest.approx(share, abs=4 * 0.5 / np.sqrt(len(below)))
    assert (table["curvature"] == 0).all()
    galactic = table["class_name"] == "GALACTIC"
    assert np.median(table.loc[galactic, "lat_deg"].abs()) < 5
    assert np.median(table.loc[~galactic, "lat_deg"].abs()) == pytest.approx(30, abs=3)


# Against DR2


@pytest.fixture(scope="module")
def catalogue(lat_data: Path) -> pd.DataFrame:
    kind, rows, _ = read_catalog(lat_data / "catalogs" / "gll_psc_v27.fit.gz")
    members = {name: tuple(texts) for name, texts in kind.classes.items()}
    for name, weight in _membership(kind, rows, members, SHARED).items():
        rows[f"weight {name}"] = weight
    return rows


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "limit"), [("BLL", 0.04), ("FSRQ", 0.04), ("PSR", 0.09), ("PWN+SNR", 0.11)]
)
def test_fluxes_are_distributed_as_dr2s(
    catalogue: pd.DataFrame, drawn: pd.DataFrame, name: str, limit: float
) -> None:
    weight = catalogue[f"weight {name}"].to_numpy()
    rows = np.random.default_rng(0).choice(len(weight), 6000, p=weight / weight.sum())
    flux = drawn.loc[drawn["class_name"] == name, "s1"]
    assert ks_2samp(flux, catalogue["Flux1000"].to_numpy()[rows]).statistic < limit


def power_law_view(
    catalogue: pd.DataFrame, drawn: pd.DataFrame, name: str, members: list[str]
) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Index of the best power law of drawn sources: alpha + c beta with the class' c."""
    own = catalogue[catalogue["designation"].isin(members)]
    own = own[own["PL_Index"].notna() & (own["LP_beta"] < 0.99) & own["LP_Index"].notna()]
    sharp = own[own["Unc_LP_beta"] < 0.1]
    excess = sharp["PL_Index"] - sharp["LP_Index"]
    c = (excess * sharp["LP_beta"]).sum() / (sharp["LP_beta"] ** 2).sum()
    part = drawn[drawn["class_name"] == name]
    return (part["index"] + c * part["curvature"]).to_numpy(), part, own


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "members", "limit", "tolerance"),
    [
        ("BLL", ["bll"], 0.06, 0.08),
        ("FSRQ", ["fsrq"], 0.07, 0.08),
        # 152 rows, and some 780 drawn: rank correlations scatter by 0.04 between draws.
        ("PWN+SNR", ["pwn", "snr", "spp"], 0.12, 0.2),
    ],
)
def test_indices_and_correlations_are_dr2s(
    catalogue: pd.DataFrame,
    drawn: pd.DataFrame,
    name: str,
    members: list[str],
    limit: float,
    tolerance: float,
) -> None:
    index, part, own = power_law_view(catalogue, drawn, name, members)
    error = power_law_index(own)[1]
    rng = np.random.default_rng(0)
    measured = index + rng.choice(error, len(index)) * rng.standard_normal(len(index))
    assert ks_2samp(measured, own["PL_Index"]).statistic < limit
    assert index.std() < own["PL_Index"].std()
    for column, drawn_column in (("Flux1000", "s1"), ("Pivot_Energy", "pivot_mev")):
        real = spearmanr(own[column], own["PL_Index"]).statistic
        assert spearmanr(part[drawn_column], index).statistic == pytest.approx(real, abs=tolerance)


@pytest.mark.data
def test_the_index_separates_bll_from_fsrq_as_in_dr2(
    catalogue: pd.DataFrame, drawn: pd.DataFrame
) -> None:
    bll, _, own_bll = power_law_view(catalogue, drawn, "BLL", ["bll"])
    fsrq, _, own_fsrq = power_law_view(catalogue, drawn, "FSRQ", ["fsrq"])

    def accuracy(b: np.ndarray, f: np.ndarray) -> float:
        return float(0.5 * ((b < 2.28).mean() + (f >= 2.28).mean()))

    real = accuracy(own_bll["PL_Index"].to_numpy(), own_fsrq["PL_Index"].to_numpy())
    assert real == pytest.approx(0.875, abs=0.01)
    rng = np.random.default_rng(0)
    noisy = accuracy(
        bll + rng.choice(power_law_index(own_bll)[1], len(bll)) * rng.standard_normal(len(bll)),
        fsrq + rng.choice(power_law_index(own_fsrq)[1], len(fsrq)) * rng.standard_normal(len(fsrq)),
    )
    assert noisy == pytest.approx(real, abs=0.02)
    assert 0.84 < accuracy(bll, fsrq) < 0.93


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "limit"), [("BLL", 0.1), ("FSRQ", 0.1), ("PSR", 0.1), ("PWN+SNR", 0.15)]
)
def test_energy_fluxes_follow(
    lat_data: Path, catalogue: pd.DataFrame, drawn: pd.DataFrame, name: str, limit: float
) -> None:
    """Nothing was fitted to the energy flux above 100 MeV: it tests the spectra as a whole."""
    with fits.open(lat_data / "catalogs" / "gll_psc_v27.fit.gz", memmap=False) as hdus:
        real = np.asarray(hdus[1].data["Energy_Flux100"], dtype=np.float64)
    weight = catalogue[f"weight {name}"].to_numpy()
    rows = np.random.default_rng(0).choice(len(weight), 6000, p=weight / weight.sum())
    flux = drawn.loc[drawn["class_name"] == name, "fe100"]
    assert ks_2samp(flux, real[rows]).statistic < limit


def test_default_configuration_uses_a_shipped_population() -> None:
    assert set(load_population(SkyConfig().population).classes) == {"BLL", "FSRQ", "PSR", "PWN+SNR"}


def test_extended_sources_are_not_drawn_as_points_too(dr2: Population, config2: Config) -> None:
    listed = with_sky(config2, extended="list.fits")

    def nebulae(config: Config) -> int:
        skies = (draw_sources(dr2, config, sky).table for sky in range(12))
        return sum(int((table["class_name"] == "PWN+SNR").sum()) for table in skies)

    law = dr2.classes["PWN+SNR"]
    mean = 12 * law.mean_number
    assert nebulae(config2) == pytest.approx(mean, abs=4 * mean**0.5)
    fewer = mean * (1 - law.extended_share)
    assert nebulae(listed) == pytest.approx(fewer, abs=4 * fewer**0.5)
    assert fewer < 0.75 * mean
