from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, spearmanr

from geminga.config import Config
from geminga.errors import InputError
from geminga.response import Response, build_response
from geminga.sky.populations.depth import (
    faint_counts,
    faint_depths,
    isotropic_left,
    mean_sky_counts,
)
from geminga.sky.populations.draws import draw_faint, draw_faint_fluxes, draw_spectra
from geminga.sky.populations.law import FaintExtension, Population, PublishedLaw
from geminga.sky.populations.population import load_population
from geminga.sky.populations.positions import THESIS_LATITUDE
from geminga.sky.populations.sources import draw_sources
from geminga.sky.spectra import photon_flux
from geminga.tables import TRUTH

DEPTH = 1e-11


@pytest.fixture(scope="module")
def dr2() -> Population:
    return load_population("4fgl_dr2")


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


def with_sky(config: Config, **sky: object) -> Config:
    return config.model_copy(update={"sky": config.sky.model_copy(update=sky)})


def with_law(population: Population, **law: object) -> Population:
    """The population with another law of BLL."""
    bll = population.classes["BLL"].model_copy(update=law)
    return population.model_copy(update={"classes": {**population.classes, "BLL": bll}})


def with_faint(population: Population, **faint: object) -> Population:
    old = population.classes["BLL"].faint_extension
    assert old is not None
    return with_law(population, faint_extension=old.model_copy(update=faint))


@pytest.fixture(scope="module")
def deep(dr2: Population, config2: Config) -> pd.DataFrame:
    return draw_sources(dr2, with_sky(config2, depth=DEPTH), 1).table


# Which laws are in use


def test_isotropic_classes_go_down_to_the_depth(dr2: Population, config2: Config) -> None:
    assert faint_depths(dr2, config2) == {}
    assert faint_depths(dr2, with_sky(config2, depth=DEPTH)) == {"BLL": DEPTH, "FSRQ": DEPTH}


def test_a_population_may_have_its_own_depth(config2: Config) -> None:
    population = load_population("2fhl")
    config = config2.model_copy(update={"classes": ("AGN", "GALACTIC")})
    assert faint_depths(population, config) == {"AGN": 3e-12, "GALACTIC": 3e-12}
    # The depth is for isotropic classes.
    assert faint_depths(population, with_sky(config, depth=1e-12)) == {
        "AGN": 1e-12,
        "GALACTIC": 3e-12,
    }


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (0.0, r"sky\.depth: 0 is not positive"),
        (-1e-11, r"sky\.depth: -1e-11 is not positive"),
        (float("nan"), r"sky\.depth: nan is not positive"),
        (5e-10, r"sky\.depth: 5e-10 ph/cm2/s is not below 5e-10"),
        (1e-9, r"sky\.depth: 1e-09 ph/cm2/s is not below 5e-10.*class BLL"),
    ],
)
def test_impossible_depths(dr2: Population, config2: Config, depth: float, message: str) -> None:
    for call in (faint_depths, lambda p, c: draw_sources(p, c, 1)):
        with pytest.raises(InputError, match=message):
            call(dr2, with_sky(config2, depth=depth))


@pytest.mark.parametrize("slope", [2.0, 2.4])
def test_a_law_that_diverges(dr2: Population, config2: Config, slope: float) -> None:
    config = with_sky(config2, depth=DEPTH)
    message = rf"sky\.depth: 1e-11 ph/cm2/s: the law of class BLL has slope {slope:g}.*diverges"
    with pytest.raises(InputError, match=message):
        faint_depths(with_faint(dr2, slope=slope), config)
    assert faint_depths(with_faint(dr2, slope=slope), config2) == {}


def test_no_class_can_use_the_depth(dr2: Population, config2: Config) -> None:
    config = with_sky(config2, depth=DEPTH).model_copy(update={"classes": ("PSR",)})
    with pytest.raises(InputError, match=r"sky\.depth: 1e-11 .* no class of PSR .* isotropic"):
        faint_depths(dr2, config)


# Numbers and fluxes


def test_numbers_are_the_laws(dr2: Population, deep: pd.DataFrame) -> None:
    for name in ("BLL", "FSRQ"):
        faint = dr2.classes[name].faint_extension
        assert faint is not None
        flux = deep.loc[deep["class_name"] == name, "s1"]
        mean = faint.number(DEPTH)
        assert abs((flux < faint.threshold).sum() - mean) < 4 * np.sqrt(mean)
        assert flux.min() >= DEPTH * (1 - 1e-9)
    assert list(deep.columns) == TRUTH.names
    assert np.isfinite(deep.select_dtypes("number").to_numpy()).all()
    assert (np.diff(deep["s_band"]) <= 0).all()


def test_the_number_is_poisson(dr2: Population, config2: Config) -> None:
    config = with_sky(config2, depth=1e-10, density_factor=0.1)
    n = np.array([len(draw_sources(dr2, config, sky).table) for sky in range(40)])
    assert n.var() / n.mean() == pytest.approx(1.0, abs=0.7)


@pytest.mark.parametrize("slope", [1.0, 1.8, 1.97, 2.3])
def test_fluxes_follow_the_power_law(slope: float) -> None:
    law = FaintExtension(threshold=5e-10, slope=slope, density=1.0)
    flux = draw_faint_fluxes(np.random.default_rng(0), law, DEPTH, 40_000)
    assert flux.min() >= DEPTH * (1 - 1e-9)
    assert flux.max() <= 5e-10
    for cut in (2e-11, 1e-10):
        share = (law.number(DEPTH) - law.number(cut)) / law.number(DEPTH)
        assert np.mean(flux < cut) == pytest.approx(share, abs=0.011)


@pytest.mark.parametrize("name", ["BLL", "FSRQ"])
def test_counts_are_continuous_at_the_threshold(
    dr2: Population, config2: Config, name: str
) -> None:
    """Per unit of ln S, just above from the catalogue, just below from the law."""
    config = with_sky(config2, depth=2e-10)
    tables = [draw_sources(dr2, config, sky).table for sky in range(8)]
    x = np.concatenate([np.log(t.loc[t["class_name"] == name, "s1"] / 5e-10) for t in tables])
    above = ((x >= 0) & (x < 0.3)).sum()
    below = ((x < 0) & (x >= -0.3)).sum()
    faint = dr2.classes[name].faint_extension
    assert faint is not None
    expected = np.exp(0.3 * (faint.slope - 1))
    assert below / above == pytest.approx(expected, rel=0.15)


def test_bright_sources_are_the_same_with_any_depth(
    dr2: Population, config2: Config, deep: pd.DataFrame
) -> None:
    shallow = draw_sources(dr2, config2, 1).table
    other = draw_sources(dr2, with_sky(config2, depth=1e-10), 1).table
    for name in ("BLL", "FSRQ", "PSR", "PWN+SNR"):
        bright = [
            t.loc[(t["class_name"] == name) & (t["s1"] >= 5e-10)].drop(columns="source_id")
            for t in (shallow, other, deep)
        ]
        for table in bright[1:]:
            pd.testing.assert_frame_equal(
                table.reset_index(drop=True), bright[0].reset_index(drop=True)
            )


def test_faint_shapes_are_those_at_the_threshold(dr2: Population) -> None:
    rng = np.random.default_rng(1)
    near = draw_spectra(rng, dr2, "FSRQ", 200_000)
    near = near[(near["flux"] > 4.5e-10) & (near["flux"] < 5.5e-10)]
    faint = draw_faint(rng, dr2, "FSRQ", np.full(8000, 2e-11))
    assert photon_flux(faint, 1e3, 1e6) == pytest.approx(2e-11, rel=1e-12)
    for column in ("index", "curvature", "pivot_mev"):
        assert ks_2samp(near[column], faint[column]).statistic < 0.03
    real, drawn = (spearmanr(t["index"], t["pivot_mev"]).statistic for t in (near, faint))
    assert drawn == pytest.approx(real, abs=0.04)


def test_a_class_without_the_law_has_no_faint_sources(dr2: Population) -> None:
    with pytest.raises(ValueError, match="PSR has no faint extension"):
        draw_faint(np.random.default_rng(0), dr2, "PSR", np.ones(3))


# What they add


@pytest.mark.parametrize("draws", ["joint", "independent"])
def test_added_counts_are_what_skies_have_more(
    dr2: Population, config2: Config, response: Response, draws: str
) -> None:
    config = with_sky(config2, draws=draws)
    deep_config = with_sky(config, depth=1e-10)
    predicted = faint_counts(dr2, deep_config, response)
    assert np.array_equal(predicted, faint_counts(dr2, deep_config, response))
    more = []
    for sky in range(6):
        deep, shallow = (draw_sources(dr2, c, sky).table for c in (deep_config, config))
        more.append(mean_sky_counts(deep, response) - mean_sky_counts(shallow, response))
    error = np.std(more, axis=0, ddof=1) / np.sqrt(len(more))
    assert (np.abs(np.mean(more, axis=0) - predicted) < 5 * error + 0.01 * predicted).all()


def test_nothing_is_added_without_a_law(
    dr2: Population, config2: Config, response: Response
) -> None:
    assert np.array_equal(faint_counts(dr2, config2, response), [0.0, 0.0])
    left = isotropic_left(dr2, config2, response, np.array([1e4, 0.0]))
    assert np.array_equal(left, [1.0, 1.0])


def test_counts_scale_with_the_density(
    dr2: Population, config2: Config, response: Response
) -> None:
    one = faint_counts(dr2, with_sky(config2, depth=DEPTH), response)
    more = faint_counts(dr2, with_sky(config2, depth=3e-12, density_factor=0.5), response)
    assert (more < one).all()
    assert (more > 0.5 * one).all()


def test_the_total_stays(dr2: Population, config2: Config, response: Response) -> None:
    config = with_sky(config2, depth=DEPTH)
    added = faint_counts(dr2, config, response)
    isotropic = 4.0 * added
    left = isotropic_left(dr2, config, response, isotropic)
    assert left * isotropic + added == pytest.approx(isotropic)


def test_sources_may_not_outshine_the_isotropic_emission(
    dr2: Population, config2: Config, response: Response
) -> None:
    config = with_sky(config2, depth=DEPTH)
    isotropic = faint_counts(dr2, config, response) * np.array([1.1, 0.9])
    message = r"sky\.depth: 1e-11 ph/cm2/s: the faint sources add .* from 3 to 30 GeV, more than"
    with pytest.raises(InputError, match=message):
        isotropic_left(dr2, config, response, isotropic)


# Draws one by one


def test_independent_draws_forget_correlations(dr2: Population) -> None:
    alone = draw_spectra(np.random.default_rng(0), dr2, "FSRQ", 4000, "independent")
    joint = draw_spectra(np.random.default_rng(0), dr2, "FSRQ", 4000, "joint")
    assert abs(spearmanr(alone["index"], alone["pivot_mev"]).statistic) < 0.06
    assert spearmanr(joint["index"], joint["pivot_mev"]).statistic < -0.4


@pytest.mark.parametrize("name", ["BLL", "FSRQ", "PSR", "PWN+SNR"])
def test_independent_draws_stay_physical(dr2: Population, name: str) -> None:
    law = dr2.classes[name]
    table = draw_spectra(np.random.default_rng(0), dr2, name, 20_000, "independent")
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert (table["flux"] > 0).all()
    assert table["flux"].max() <= 10.0 ** law.variables["log_flux"][-1]
    assert (table["curvature"] >= 0).all()
    assert table["index"].between(law.independent["index"].low, law.independent["index"].high).all()
    if law.form == "plec":
        b = law.independent["exp_index"]
        assert b.law == "cauchy"
        assert table["exp_index"].between(b.low, b.high).all()
        assert table["exp_index"].median() == pytest.approx(b.location, abs=0.02)
    else:
        assert law.independent["curvature"].law == "gumbel"


def test_published_laws_of_bll_and_fsrq_are_alike(dr2: Population) -> None:
    """Rows of uncertain class in both: the fault of the reference work that joint draws mend."""
    bll, fsrq = (dr2.classes[name].independent["index"] for name in ("BLL", "FSRQ"))
    assert abs(bll.location - fsrq.location) < 0.6 * bll.scale
    middle = [np.median(dr2.classes[n].variables["index"]) for n in ("BLL", "FSRQ")]
    assert middle[1] - middle[0] > 0.35


def test_laws_that_give_no_spectrum(dr2: Population) -> None:
    high = PublishedLaw(law="constant", location=3.0, scale=0.0, low=3.0, high=3.0)
    bright = {**dr2.classes["BLL"].independent, "log_norm": high}
    with pytest.raises(InputError, match="independent laws of class BLL give no spectrum"):
        draw_spectra(
            np.random.default_rng(0), with_law(dr2, independent=bright), "BLL", 10, "independent"
        )


def test_a_sky_of_independent_draws(dr2: Population, config2: Config) -> None:
    table = draw_sources(dr2, with_sky(config2, draws="independent", depth=1e-10), 1).table
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert table["s1"].to_numpy() == pytest.approx(photon_flux(table, 1e3, 1e6), rel=1e-12)
    faint = table[(table["class_name"] == "BLL") & (table["s1"] < 5e-10)]
    law = dr2.classes["BLL"].faint_extension
    assert law is not None
    assert abs(len(faint) - law.number(1e-10)) < 4 * np.sqrt(law.number(1e-10))


def test_published_positions(dr2: Population, config2: Config) -> None:
    def pulsars(positions: str) -> pd.DataFrame:
        config = with_sky(config2, positions=positions, density_factor=10.0)
        table = draw_sources(dr2, config.model_copy(update={"classes": ("PSR",)}), 1).table
        return table

    assert dr2.classes["PSR"].published_position == THESIS_LATITUDE
    inner = [
        np.mean(np.cos(np.radians(pulsars(p)["lon_deg"])) > 0) for p in ("fitted", "published")
    ]
    assert inner[0] > 0.65
    assert inner[1] == pytest.approx(0.5, abs=0.04)


# Files and speed


@pytest.mark.parametrize("draws", ["joint", "independent"])
def test_a_deep_sky_is_drawn_in_seconds(dr2: Population, config2: Config, draws: str) -> None:
    config = with_sky(config2, depth=DEPTH, draws=draws, years=10)
    start = time.perf_counter()
    assert len(draw_sources(dr2, config, 3).table) > 30_000
    assert time.perf_counter() - start < 2.0


def test_old_populations_are_named(tmp_path: Path) -> None:
    write: Callable[[str], int] = (tmp_path / "old.json").write_text
    write('{"format_version": 1, "name": "old"}')
    with pytest.raises(InputError, match="has format version 1; this program reads version 2"):
        load_population(str(tmp_path / "old.json"))
