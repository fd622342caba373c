from __future__ import annotations

import numpy as np
import pytest
from evidence_cases import EDGES, changed, classed_evidence, power_law

from geminga.classification.evidence import DETECTION_NAMES, Evidence, without
from geminga.classification.inputs import (
    POSITION_NAMES,
    SPECTRAL_NAMES,
    VARIABILITY_NAMES,
    class_quantities,
    network_inputs,
)
from geminga.sections import EvidenceNetConfig

SETTINGS = EvidenceNetConfig()


def catalogue_like(n: int, years: int = 0, channels: int = 2) -> Evidence:
    edges = EDGES[:channels]
    flux = power_law(np.full(n, 2.2), np.full(n, 1e-9), edges)
    parts = without(n, years=years) if years else without(n)
    years_of = {name: np.zeros((n, 0)) for name in ("year_ratio", "year_ratio_error")}
    return Evidence(
        lon_deg=np.zeros(n),
        lat_deg=np.zeros(n),
        edges_gev=edges,
        band_flux=flux,
        band_flux_error=0.1 * flux,
        **(years_of | parts),
    )


def test_shapes_and_marks() -> None:
    evidence, _ = classed_evidence(7, 1)
    inputs = network_inputs(evidence, SETTINGS)
    assert inputs.spectrum.shape == (7, 2, 6)
    assert inputs.spectral.shape == (7, 2 * len(SPECTRAL_NAMES))
    assert inputs.years.shape == (7, 4, 6)
    assert inputs.variability.shape == (7, 2 * len(VARIABILITY_NAMES))
    assert inputs.image.shape == (7, 4, 5, 5)
    assert inputs.detection.shape == (7, 2 * len(DETECTION_NAMES))
    assert inputs.position.shape == (7, len(POSITION_NAMES))
    assert inputs.present.all()
    assert not inputs.spectrum[:, :, 3:].any()
    for array in inputs.arrays()[:-1]:
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


def test_tokens_of_a_known_spectrum() -> None:
    # A power law of index 2 has E^2 dN/dE the same everywhere: energy flux / ln(30 / 1).
    evidence, _ = classed_evidence(3, 1)
    flux = power_law(np.full(3, 2.0), np.full(3, 1e-9))
    exact = changed(evidence, band_flux=flux, band_flux_error=0.01 * flux)
    inputs = network_inputs(exact, SETTINGS)
    assert inputs.spectrum[:, :, 0] == pytest.approx(np.arcsinh(100.0), rel=1e-5)
    assert inputs.spectrum[:, :, 1] == pytest.approx(np.log10(1 / np.log(30.0)), abs=0.01)
    assert inputs.spectrum[:, :, 2] == pytest.approx(inputs.spectrum[:, :, 1] - 2.0, abs=1e-4)
    assert inputs.spectral[:, SPECTRAL_NAMES.index("pl_index")] == pytest.approx(2.0, abs=0.02)


def test_years_and_planes_of_known_numbers() -> None:
    evidence, _ = classed_evidence(2, 1)
    ratio = np.array([[1.0, 1.2, 0.8, 1.0]] * 2)
    stamps = np.zeros_like(evidence.stamps)
    stamps[:, :, 0], stamps[:, :, 1] = 7.0, 3.0
    inputs = network_inputs(changed(evidence, year_ratio=ratio, stamps=stamps), SETTINGS)
    assert inputs.years[0, :, 2] == pytest.approx(np.arcsinh([0.0, 2.0, -2.0, 0.0]), abs=1e-6)
    # chi2 about the mean is 8 for three degrees of freedom.
    assert inputs.variability[0, 0] == pytest.approx(np.log10(8 / 3), abs=1e-5)
    assert inputs.variability[0, 3] == 4
    assert inputs.image[:, :2] == pytest.approx(np.arcsinh(2.0))
    assert inputs.image[:, 2:] == pytest.approx(np.log(4.0))


def test_missing_parts_are_absent_and_finite() -> None:
    evidence, _ = classed_evidence(6, 2)
    flux, error = evidence.band_flux.copy(), evidence.band_flux_error.copy()
    ratio, detection = evidence.year_ratio.copy(), evidence.detection.copy()
    stamps = evidence.stamps.copy()
    flux[0] = np.nan
    flux[1, 0] = np.nan
    error[2, 1] = 0.0
    ratio[3] = np.nan
    ratio[4, 1:] = np.nan
    detection[5, 2] = np.inf
    stamps[5] = np.nan
    inputs = network_inputs(
        changed(
            evidence, band_flux=flux, band_flux_error=error, year_ratio=ratio,
            detection=detection, stamps=stamps,
        ),
        SETTINGS,
    )  # fmt: skip
    assert inputs.present[:, 1].tolist() == [False, True, True, True, True, True]
    assert inputs.present[:, 2].tolist() == [True, True, True, False, False, True]
    assert inputs.spectrum[1, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert inputs.spectrum[2, 1, 3:].tolist() == [1, 1, 1]
    assert inputs.detection[5, 2] == 0
    assert inputs.detection[5, len(DETECTION_NAMES) + 2] == 1
    for array in inputs.arrays():
        assert np.isfinite(array).all()


@pytest.mark.parametrize("channels", [1, 2])
def test_catalogue_without_years_or_photons(channels: int) -> None:
    inputs = network_inputs(catalogue_like(3, channels=channels), SETTINGS)
    assert inputs.present.tolist() == [[False, True, False]] * 3
    assert inputs.years.shape == (3, 0, 6)
    assert inputs.image.shape[1] == 0


def test_branches_that_are_not_used_are_left_out() -> None:
    evidence, _ = classed_evidence(3, 1)
    inputs = network_inputs(evidence, EvidenceNetConfig(branches=("years",)))
    assert inputs.present.tolist() == [[False, False, True]] * 3
    assert inputs.image.shape == (3, 0, 1, 1)


def test_rows_do_not_depend_on_company() -> None:
    evidence, _ = classed_evidence(9, 3)
    rows = np.array([5, 2])
    alone = network_inputs(evidence.take(rows), SETTINGS).arrays()
    together = network_inputs(evidence, SETTINGS).take(rows).arrays()
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_no_candidates() -> None:
    evidence, _ = classed_evidence(3, 1)
    empty = evidence.take(np.zeros(0, np.int64))
    assert len(network_inputs(empty, SETTINGS)) == 0
    names, values = class_quantities(empty)
    assert values.shape == (0, len(names))


def test_class_quantities() -> None:
    evidence, _ = classed_evidence(5, 1)
    ratio = evidence.year_ratio.copy()
    ratio[0] = np.nan
    names, values = class_quantities(changed(evidence, year_ratio=ratio))
    assert values.shape == (5, len(names))
    assert len(set(names)) == len(names)
    column = names.index("log_variability_per_dof")
    assert np.isnan(values[0, column])
    assert np.isfinite(values[1:]).all()
    assert values[:, names.index("sqrt_ts")] == pytest.approx(evidence.detection[:, 0], rel=1e-6)
    assert values[:, names.index("sin_b")] == pytest.approx(
        np.sin(np.radians(evidence.lat_deg)), abs=1e-6
    )
