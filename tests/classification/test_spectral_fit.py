from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.arrays import Float64
from geminga.classification.spectral_fit import ALPHA_PRIOR, BETA_PRIOR, fit_spectra
from geminga.errors import InputError
from geminga.sky.spectra import energy_flux, photon_flux

EDGES = np.array([[0.3, 0.5], [0.5, 1], [1, 2], [2, 7], [7, 20], [20, 2000]])
PIVOT_GEV = np.sqrt(0.3 * 20)


def laws(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "form": "log_parabola",
            "norm": 10 ** rng.uniform(-13.5, -12, n),
            "pivot_mev": PIVOT_GEV * 1e3,
            "index": rng.normal(*ALPHA_PRIOR, n).clip(1.3, 3.3),
            "curvature": rng.normal(*BETA_PRIOR, n).clip(-0.1, 0.8),
            "exp_index": 1.0,
        }
    )


def fluxes(table: pd.DataFrame, edges: Float64 = EDGES) -> Float64:
    return np.stack([photon_flux(table, a * 1e3, b * 1e3) for a, b in edges], axis=1)


def test_noiseless_spectra_are_recovered() -> None:
    table = laws(200)
    flux = fluxes(table)
    fit = fit_spectra(flux, 1e-4 * flux, EDGES)
    assert fit.pivot_gev == pytest.approx(PIVOT_GEV)
    assert fit.index == pytest.approx(table["index"].to_numpy(), abs=1e-3)
    assert fit.curvature == pytest.approx(table["curvature"].to_numpy(), abs=1e-3)
    assert fit.energy_flux == pytest.approx(energy_flux(table, 300.0, 2e6), rel=1e-3)
    assert fit.model_flux == pytest.approx(flux, rel=1e-3)
    assert (fit.n_bands == 6).all()


def test_errors_are_the_scatter() -> None:
    table = laws(2000)
    flux = fluxes(table)
    error = 0.05 * flux + 2e-12
    fit = fit_spectra(flux + error * np.random.default_rng(1).normal(size=flux.shape), error, EDGES)
    truth = {"index": table["index"], "curvature": table["curvature"]}
    truth["energy_flux"] = energy_flux(table, 300.0, 2e6)
    for name, values in truth.items():
        pull = (getattr(fit, name) - np.asarray(values)) / getattr(fit, f"{name}_error")
        assert abs(pull.mean()) < 0.15, name
        assert 0.85 < np.sqrt((pull**2).mean()) < 1.15, name
    # Six points, three parameters that the priors hardly hold.
    assert 2.6 < fit.chi2.mean() < 3.6


def test_curvature_of_a_power_law_is_not_significant() -> None:
    table = laws(1000).assign(curvature=0.0)
    flux = fluxes(table)
    error = 0.05 * flux
    fit = fit_spectra(flux + error * np.random.default_rng(2).normal(size=flux.shape), error, EDGES)
    assert 0.7 < fit.ts_curve.mean() < 1.3
    bent = laws(1000).assign(curvature=0.4)
    strong = fit_spectra(fluxes(bent), 0.05 * fluxes(bent), EDGES)
    assert (strong.ts_curve > 20).all()


def test_channels_of_the_same_energies_are_more_data() -> None:
    flux = fluxes(laws(5))
    once = fit_spectra(flux, 0.1 * flux, EDGES)
    twice = fit_spectra(
        np.tile(flux, 2), 0.1 * np.tile(flux, 2) * np.sqrt(2), np.tile(EDGES.T, 2).T
    )
    assert twice.index == pytest.approx(once.index, abs=1e-5)
    assert twice.index_error == pytest.approx(once.index_error, rel=1e-4)
    assert twice.energy_flux == pytest.approx(once.energy_flux, rel=1e-5)


def test_unmeasured_bands_count_as_little_as_missing_ones() -> None:
    flux = fluxes(laws(5))
    error = 0.1 * flux
    flux[:, 2], error[:, 4] = np.nan, 0.0
    kept = [0, 1, 3, 5]
    fit = fit_spectra(flux, error, EDGES)
    rest = fit_spectra(flux[:, kept], error[:, kept], EDGES[kept])
    assert fit.index == pytest.approx(rest.index, abs=1e-6)
    assert (fit.n_bands == 4).all()
    assert np.isfinite(fit.model_flux).all()


def test_a_single_band_leaves_the_priors() -> None:
    fit = fit_spectra(np.array([[1e-10], [0.0], [-1e-11]]), np.full((3, 1), 1e-11), EDGES[:1])
    assert fit.index == pytest.approx(ALPHA_PRIOR[0], abs=0.05)
    assert fit.index_error == pytest.approx(ALPHA_PRIOR[1], rel=0.05)
    assert np.isfinite(fit.energy_flux).all()
    assert (fit.energy_flux > 0).all()
    # 1e-10 ph/cm2/s between 0.3 and 0.5 GeV carry about 0.38 GeV each.
    assert fit.energy_flux[0] == pytest.approx(1e-10 * 0.38 * 1.602e-3, rel=0.02)


def test_nothing_measured_is_not_a_number() -> None:
    fit = fit_spectra(np.full((2, 6), np.nan), np.ones((2, 6)), EDGES)
    assert np.isnan(fit.index).all()
    assert np.isnan(fit.energy_flux).all()
    assert (fit.n_bands == 0).all()
    assert len(fit_spectra(np.zeros((0, 6)), np.zeros((0, 6)), EDGES).index) == 0
    assert np.isnan(fit_spectra(np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((0, 2))).index).all()


def test_a_source_does_not_depend_on_the_others() -> None:
    flux = fluxes(laws(9))
    whole = fit_spectra(flux, 0.3 * flux, EDGES)
    for n in range(9):
        alone = fit_spectra(flux[n : n + 1], 0.3 * flux[n : n + 1], EDGES)
        assert alone.index[0] == whole.index[n]
        assert alone.curvature_error[0] == whole.curvature_error[n]


@pytest.mark.parametrize(
    ("shape", "edges", "match"),
    [
        ((3, 6), EDGES[:5], "give one flux"),
        ((3, 6), EDGES[:, ::-1], "edges that rise"),
        ((3, 1), np.array([[1.0, np.inf]]), "finite edges"),
        ((3, 1), np.array([[0.0, 1.0]]), "rise from 0"),
    ],
)
def test_bad_edges(shape: tuple[int, int], edges: Float64, match: str) -> None:
    with pytest.raises(InputError, match=match):
        fit_spectra(np.ones(shape), np.ones(shape), edges)
