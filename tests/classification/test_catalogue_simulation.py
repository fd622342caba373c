from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogue_cases import made_up, write

from geminga.classification.catalogue_file import Fluxes, read_catalogue
from geminga.classification.catalogue_measurement import Measurement, learn_measurement, measure
from geminga.classification.catalogue_simulation import simulate_catalogue
from geminga.errors import InputError
from geminga.sky.populations.population import load_population


@pytest.fixture(scope="module")
def measurement(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    columns, bounds = made_up(800, years=4)
    path = write(tmp_path_factory.mktemp("cat") / "cat.fits", columns, bounds)
    return learn_measurement(read_catalogue(path))


def test_exposure_and_background_are_found(measurement: Measurement) -> None:
    low = 1e3 * measurement.edges_gev[:, 0]
    np.testing.assert_allclose(measurement.exposure[:2], 3e11, rtol=0.35)
    expected = 5000.0 / (1.0 + low / 1e2) ** 1.5
    found = np.nanmedian(measurement.background, axis=0) * (3e11 / measurement.exposure) ** 2
    np.testing.assert_allclose(found[:3], expected[:3], rtol=0.2)
    assert measurement.year_error.shape[1] == 4
    assert np.nanmedian(measurement.year_error) == pytest.approx(0.2, rel=0.1)


def test_pulls_have_unit_scatter(measurement: Measurement) -> None:
    n = 4000
    rng = np.random.default_rng(3)
    sources = pd.DataFrame(
        {
            "form": np.full(n, "log_parabola", dtype=object),
            "norm": 1e-12,
            "pivot_mev": 1e3,
            "index": 2.0,
            "curvature": 0.0,
            "exp_index": 0.0,
            "lon_deg": rng.uniform(0, 360, n),
            "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        }
    )
    evidence = measure(rng, measurement, sources, np.ones((n, 4)))
    assert len(evidence) == n  # so bright that none is missed
    low, high = 1e3 * measurement.edges_gev.T
    true = 1e-12 * 1e6 * (1 / low - 1 / high)
    pull = (evidence.band_flux - true) / evidence.band_flux_error
    assert np.abs(pull.mean(axis=0)).max() < 0.25
    np.testing.assert_allclose(pull[:, :3].std(axis=0), 1.0, atol=0.2)
    years = (evidence.year_ratio - 1.0) / evidence.year_ratio_error
    assert years.std() == pytest.approx(np.sqrt(3 / 4), abs=0.15)


def test_catalogue_of_known_classes(measurement: Measurement) -> None:
    population = load_population("4fgl_dr2")
    classes = ("BLL", "FSRQ", "PSR")
    made = simulate_catalogue(population, classes, measurement, 60, seed=1)
    assert made.labels.tolist() == [0] * 60 + [1] * 60 + [2] * 60
    assert (made.expected > 0).all()
    assert made.expected[0] > made.expected[2]
    again = simulate_catalogue(population, classes, measurement, 60, seed=1)
    np.testing.assert_array_equal(made.evidence.band_flux, again.evidence.band_flux)
    other = simulate_catalogue(population, classes, measurement, 60, seed=1, part=1)
    assert not np.array_equal(made.evidence.band_flux, other.evidence.band_flux)
    soft = made.evidence.band_flux[:, 0] / made.evidence.band_flux[:, 2]
    assert np.median(soft[60:120]) > np.median(soft[:60])
    alone = simulate_catalogue(population, classes, measurement, 60, seed=1, draws="independent")
    assert not np.array_equal(made.evidence.band_flux, alone.evidence.band_flux)
    # None is fainter than what the file has.
    fluxes = Fluxes(
        made.evidence.band_flux, made.evidence.band_flux_error, np.zeros((180, 4), np.bool_)
    )
    assert fluxes.significance().min() > 0.5 * measurement.least_significance[1].min()


def test_bands_and_years_that_were_never_measured(tmp_path: Path) -> None:
    columns, bounds = made_up(150)
    columns["Flux_Band"][:, 3] = np.nan
    found = learn_measurement(read_catalogue(write(tmp_path / "cat.fits", columns, bounds)))
    made = simulate_catalogue(load_population("4fgl_dr2"), ("BLL",), found, 20, seed=1)
    assert np.isnan(made.evidence.band_flux[:, 3]).all()
    assert np.isfinite(made.evidence.band_flux[:, :3]).all()
    assert made.evidence.year_ratio.shape == (20, 0)


def test_few_rows_limits_alone_and_dark_years(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns, bounds = made_up(3, years=2)
    columns["Flux_Band"][:, 3] = 0.0
    columns["Unc_Flux_Band"][:, 3, 0] = np.nan
    columns["Flux_History"][:] = 0.0
    found = learn_measurement(read_catalogue(write(tmp_path / "cat.fits", columns, bounds)))
    assert "3 rows tell little" in caplog.text
    assert "not one light curve" in caplog.text
    assert (found.exposure > 0).all()
    made = simulate_catalogue(load_population("4fgl_dr2"), ("BLL", "PSR"), found, 10, seed=1)
    assert np.isfinite(made.evidence.band_flux).all()


def test_refused(tmp_path: Path, measurement: Measurement) -> None:
    columns, bounds = made_up(4)
    columns["Flux_Band"][:] = np.nan
    with pytest.raises(InputError, match="has no row with a position"):
        learn_measurement(read_catalogue(write(tmp_path / "cat.fits", columns, bounds)))
    population = load_population("4fgl_dr2")
    with pytest.raises(InputError, match="QUASAR not in population"):
        simulate_catalogue(population, ("BLL", "QUASAR"), measurement, 10, seed=1)
