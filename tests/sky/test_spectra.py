from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from scipy.integrate import quad

from geminga.sky.spectra import (
    ERG_PER_MEV,
    LOG_PARABOLA,
    PLEC,
    differential,
    energy_flux,
    local_index,
    photon_flux,
)


def frame(**columns: object) -> pd.DataFrame:
    defaults: dict[str, object] = {
        "form": LOG_PARABOLA,
        "norm": 1e-12,
        "pivot_mev": 1000.0,
        "index": 2.2,
        "curvature": 0.0,
        "exp_index": 0.0,
    }
    n = max(np.size(v) for v in columns.values()) if columns else 1
    return pd.DataFrame({k: np.broadcast_to(v, n) for k, v in {**defaults, **columns}.items()})


MIXED = frame(
    form=np.array([LOG_PARABOLA, PLEC, LOG_PARABOLA, PLEC], dtype=object),
    index=np.array([1.7, 1.0, 2.4, 0.1]),
    curvature=np.array([0.3, 0.012, -0.03, 0.002]),
    exp_index=np.array([0.0, 2 / 3, 0.0, 0.88]),
    pivot_mev=np.array([3000.0, 1500.0, 700.0, 900.0]),
)


@pytest.mark.parametrize("index", [0.5, 1.5, 2.0001, 3.5, 6.0])
def test_power_law_photon_flux_is_analytic(index: float) -> None:
    low, high, e0, f0 = 300.0, 2e6, 1000.0, 1e-12
    expected = f0 * e0 / (index - 1) * ((low / e0) ** (1 - index) - (high / e0) ** (1 - index))
    assert photon_flux(frame(index=index), low, high)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("index", [1.2, 2.5, 4.0])
def test_power_law_energy_flux_is_analytic(index: float) -> None:
    low, high, e0, f0 = 100.0, 1e5, 1000.0, 1e-12
    power = 2 - index
    expected = f0 * e0**2 / power * ((high / e0) ** power - (low / e0) ** power) * ERG_PER_MEV
    assert energy_flux(frame(index=index), low, high)[0] == pytest.approx(expected, rel=1e-10)


def test_curved_spectra_agree_with_adaptive_quadrature() -> None:
    fluxes = photon_flux(MIXED, 100.0, 1e6)
    for row, flux in zip(MIXED.itertuples(index=False), fluxes, strict=True):

        def integrand(log_energy: float, row: tuple[object, ...] = tuple(row)) -> float:
            energy = np.exp(log_energy)
            return float(differential(*row, energy)[0, 0] * energy)

        expected, _ = quad(integrand, np.log(100.0), np.log(1e6), epsabs=0, epsrel=1e-10, limit=400)
        assert flux == pytest.approx(expected, rel=1e-7)


def test_differential_is_the_norm_at_the_pivot() -> None:
    for row in MIXED.itertuples(index=False):
        assert differential(*row, row.pivot_mev)[0, 0] == pytest.approx(row.norm, rel=1e-14)


def test_differential_takes_scalars_and_arrays() -> None:
    energies = np.array([500.0, 1000.0, 2000.0])
    one = differential(LOG_PARABOLA, 1.0, 1000.0, 2.0, 0.0, 0.0, energies)
    assert one == pytest.approx(np.array([[4.0, 1.0, 0.25]]))
    many = differential(LOG_PARABOLA, np.ones(5), 1000.0, 2.0, 0.0, 0.0, energies)
    assert many.shape == (5, 3)


def test_local_index_is_the_logarithmic_slope() -> None:
    step = 1e-5
    columns = [MIXED[c].to_numpy() for c in MIXED.columns]
    for energy in (300.0, 5000.0):
        f = differential(*columns, energy * np.exp(np.array([-step, step])))
        slope = -np.log(f[:, 1] / f[:, 0]) / (2 * step)
        assert local_index(MIXED, energy) == pytest.approx(slope, rel=1e-6)


def test_ranges_add_up() -> None:
    whole = photon_flux(MIXED, 1e3, 1e6)
    assert photon_flux(MIXED, 1e3, 1e4) + photon_flux(MIXED, 1e4, 1e6) == pytest.approx(
        whole, rel=1e-7
    )


def test_a_source_does_not_depend_on_the_others() -> None:
    together = photon_flux(MIXED, 300.0, 2e6)
    alone = np.concatenate([photon_flux(MIXED.iloc[[i]], 300.0, 2e6) for i in range(len(MIXED))])
    assert np.array_equal(together, alone)


def test_no_sources() -> None:
    assert photon_flux(MIXED.iloc[:0], 1e3, 1e6).shape == (0,)
    assert local_index(MIXED.iloc[:0], 1e3).shape == (0,)


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="band_function"):
        photon_flux(frame(form="band_function"), 1e3, 1e6)


def test_backward_range_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot integrate"):
        photon_flux(MIXED, 1e6, 1e3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("form", "kind"), [(LOG_PARABOLA, "LogParabola"), (PLEC, "PLSuperExpCutoff")]
)
def test_dr2_fluxes(lat_data: Path, form: str, kind: str) -> None:
    with fits.open(lat_data / "catalogs" / "gll_psc_v27.fit.gz", memmap=False) as hdus:
        d = hdus[1].data
        d = d[np.char.strip(d["SpectrumType"].astype(str)) == kind]
        prefix = "LP" if form == LOG_PARABOLA else "PLEC"
        bend = "LP_beta" if form == LOG_PARABOLA else "PLEC_Expfactor"
        table = frame(
            form=np.full(len(d), form, dtype=object),
            norm=d[f"{prefix}_Flux_Density"].astype(float),
            pivot_mev=d["Pivot_Energy"].astype(float),
            index=d[f"{prefix}_Index"].astype(float),
            curvature=d[bend].astype(float),
            exp_index=d["PLEC_Exp_Index"].astype(float),
        )
        # Flux1000 is the photon flux in 1-100 GeV.
        photons = photon_flux(table, 1e3, 1e5) / d["Flux1000"]
        energy = energy_flux(table, 1e2, 1e5) / d["Energy_Flux100"]
    assert len(d) == (1572 if form == LOG_PARABOLA else 230)
    assert np.abs(photons - 1).max() < 0.006
    assert np.abs(energy - 1).max() < 0.006
    assert np.abs(np.median(energy) - 1) < 3e-4
