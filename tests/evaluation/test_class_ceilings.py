from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from geminga.classification.evidence import Evidence, without
from geminga.classification.labels import label_candidates
from geminga.errors import InputError
from geminga.evaluation.class_ceilings import (
    NOISE_FREE,
    NOISY,
    measure_ceilings,
    with_measured_fake,
)
from geminga.evaluation.class_metrics import Classified, comparisons_of
from geminga.evaluation.class_parts import PartFigures
from geminga.evaluation.class_truth import (
    FoundSources,
    found_sources,
    noisy_features,
    true_features,
)
from geminga.sky.spectra import photon_flux

EDGES = np.array([[1.0, 3.0], [3.0, 30.0]])
CLASSES = ("HARD", "SOFT", "FAKE")


def found(
    sky: int, n: int, noise: float, years: int = 4, edges: np.ndarray = EDGES
) -> FoundSources:
    """Power laws: hard ones of index 1.8, soft ones of 2.6, scatter 0.1; measured to `noise` of the mean."""
    rng = np.random.default_rng([sky, n])
    soft = rng.random(n) < 0.3
    truth = pd.DataFrame(
        {
            "class_name": np.where(soft, "SOFT", "HARD"),
            "lon_deg": rng.uniform(0, 360, n),
            "lat_deg": rng.uniform(-80, 80, n),
            "form": "log_parabola",
            "norm": 1e-12,
            "pivot_mev": 1000.0,
            "index": np.where(soft, 2.6, 1.8) + 0.1 * rng.standard_normal(n),
            "curvature": 0.0,
            "exp_index": 1.0,
        }
    )
    truth["s1"] = photon_flux(truth, 1e3, 1e6)
    flux = np.stack([photon_flux(truth, *(1e3 * e)) for e in edges], axis=1)
    error = np.broadcast_to(noise * flux.mean(axis=0), flux.shape).copy()
    evidence = Evidence(
        lon_deg=truth["lon_deg"].to_numpy(),
        lat_deg=truth["lat_deg"].to_numpy(),
        edges_gev=edges,
        band_flux=flux,
        band_flux_error=error,
        year_ratio=np.ones((n, years)),
        year_ratio_error=np.full((n, years), 0.1),
        **without(n),
    )
    return FoundSources(sky, truth, rng.lognormal(0, 0.3, (n, years)), evidence)


def accuracy(c: Classified) -> float:
    part = PartFigures(c, np.zeros(len(c), int), 1, comparisons_of(c.class_names))
    return float(part.figures(np.ones(1))["balanced_accuracy/HARD against SOFT"])


def test_ceilings_know_what_can_be_known() -> None:
    """Classes 4 sigma from the border are told apart, ever less so with noise; none beats truth."""
    small = measure_ceilings([found(0, 300, 0.02)], [found(1, 300, 0.02)], CLASSES, 1, 20)
    large = measure_ceilings([found(0, 300, 3.0)], [found(1, 300, 3.0)], CLASSES, 1, 20)
    assert accuracy(small[NOISE_FREE]) > 0.99
    assert accuracy(small[NOISY]) > 0.97
    assert 0.4 < accuracy(large[NOISY]) < 0.75
    assert accuracy(large[NOISE_FREE]) == accuracy(small[NOISE_FREE])
    c = small[NOISY]
    assert c.class_names == ("HARD", "SOFT")
    assert (c.sky == 1).all()
    assert len(c) == 300
    # The natural prior is the mix of the training sources; the flat one has none.
    prior = (found(0, 300, 1.0).truth["class_name"] == "SOFT").mean()
    odds = (c.probabilities[:, 1] / c.probabilities[:, 0]) / (
        c.probabilities_flat[:, 1] / c.probabilities_flat[:, 0]
    )
    np.testing.assert_allclose(odds, prior / (1 - prior))


def test_noise_is_of_the_sky_and_the_draw() -> None:
    one = found(3, 50, 0.3)
    first = noisy_features(one, 7, 0)
    np.testing.assert_array_equal(first, noisy_features(one, 7, 0))
    assert not np.array_equal(first, noisy_features(one, 7, 1))
    assert not np.array_equal(first, noisy_features(one, 8, 0))
    assert not np.array_equal(first, noisy_features(replace(one, sky=4), 7, 0))


def test_noise_has_the_size_of_the_errors() -> None:
    one = found(3, 4000, 0.2)
    # Columns after the nine of the fit: arcsinh(flux / error), log level, its step, log error.
    features = noisy_features(one, 7, 0)
    stated = 10.0 ** features[:, 14:16]
    flux = np.sinh(features[:, 9:11]) * stated
    scatter = (flux - one.evidence.band_flux) / one.evidence.band_flux_error
    assert scatter.mean() == pytest.approx(0.0, abs=0.04)
    assert scatter.std() == pytest.approx(1.0, abs=0.05)
    assert (stated / one.evidence.band_flux_error).mean() == pytest.approx(1.0, abs=0.05)


def test_stated_errors_know_nothing_of_the_first_measurement() -> None:
    """Photons alone, no background: the error is that of the flux it stands beside."""
    one = found(3, 4000, 0.2)
    rng = np.random.default_rng(0)
    photon = one.evidence.band_flux.mean(axis=0) / 20.0
    counts = rng.poisson(one.evidence.band_flux / photon)
    evidence = replace(
        one.evidence, band_flux=counts * photon, band_flux_error=np.sqrt(counts + 0.25) * photon
    )
    features = noisy_features(replace(one, evidence=evidence), 7, 0)
    stated = 10.0 ** features[:, 14:16]
    again = np.sinh(features[:, 9:11]) * stated / photon
    mean = one.evidence.band_flux / photon
    left = (stated / photon) ** 2 - again
    assert np.abs(np.corrcoef(left[:, 0], (counts - mean)[:, 0])[0, 1]) < 0.2
    assert np.std(again - mean) == pytest.approx(np.sqrt(mean.mean()), rel=0.1)


@pytest.mark.parametrize(("years", "bands"), [(0, 1), (1, 2), (0, 2), (4, 1)])
def test_any_bands_and_years(years: int, bands: int) -> None:
    one = found(3, 30, 0.3, years, EDGES[:bands])
    for features in (true_features(one), noisy_features(one, 1, 0)):
        assert len(features) == 30
        assert features.shape == (30, features.shape[1])
    np.testing.assert_allclose(true_features(one)[:, 0], one.truth["index"], atol=1e-9)
    ceilings = measure_ceilings([one], [one], CLASSES, 1, 5)
    assert all(len(ceiling) == 30 for ceiling in ceilings.values())


def test_unmeasured_channels_and_years_are_left_out() -> None:
    one = found(3, 30, 0.3)
    error = one.evidence.band_flux_error.copy()
    error[:, 0] = np.nan
    error[:5] = 0.0
    year_error = one.evidence.year_ratio_error.copy()
    year_error[:, 0] = np.nan
    year_error[3] = np.nan
    evidence = replace(one.evidence, band_flux_error=error, year_ratio_error=year_error)
    features = noisy_features(replace(one, evidence=evidence), 1, 0)
    assert np.isnan(features[:, 9]).all()
    assert np.isfinite(features[5:, 10]).all()
    assert not np.isinf(features).any()
    masked = replace(one, evidence=evidence)
    assert len(measure_ceilings([one], [masked], CLASSES, 1, 20)[NOISY]) == 30


def test_order_is_that_of_the_labels() -> None:
    one = found(3, 60, 0.3)
    rng = np.random.default_rng(0)
    rows = rng.permutation(60)[:40]
    candidates = one.truth.iloc[rows][["lon_deg", "lat_deg"]].reset_index(drop=True)
    candidates.loc[::7, "lat_deg"] += 2.0  # false detections
    kept = found_sources(3, candidates, one.truth, one.yearly, one.evidence.take(rows), 0.3)
    label = label_candidates(candidates, one.truth, CLASSES[:2], 0.3)
    expected = [CLASSES[k] for k in label if k < 2]
    assert list(kept.truth["class_name"]) == expected
    np.testing.assert_allclose(kept.evidence.lat_deg, kept.truth["lat_deg"], atol=0.3)
    ceilings = measure_ceilings([one], [kept], CLASSES, 1, 20)
    p = np.full((40, 3), 1 / 3)
    p[:, 2] = 0.2
    p[:, :2] = 0.4
    classifier = Classified(
        CLASSES, np.full(40, 3), label, p, p, np.ones(40), candidates["lat_deg"].to_numpy()
    )
    joined = with_measured_fake(ceilings[NOISY], classifier)
    np.testing.assert_allclose(joined.probabilities[:, 2], 0.2)
    np.testing.assert_allclose(joined.probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(
        joined.probabilities[label < 2, :2] / 0.8, ceilings[NOISY].probabilities
    )
    np.testing.assert_array_equal(joined.probabilities[label == 2], p[label == 2])
    with pytest.raises(InputError, match="not the classifier's"):
        with_measured_fake(ceilings[NOISY].take(np.arange(3)), classifier)


def test_bad_input() -> None:
    one = found(3, 30, 0.3)
    with pytest.raises(InputError, match="no training source of class ODD"):
        measure_ceilings([one], [one], ("HARD", "SOFT", "ODD"), 1)
    with pytest.raises(InputError, match=r"of class SOFT.*classes are"):
        measure_ceilings([one], [one], ("HARD",), 1)
    short = replace(
        one.evidence,
        year_ratio=one.evidence.year_ratio[:, :2],
        year_ratio_error=one.evidence.year_ratio_error[:, :2],
    )
    with pytest.raises(InputError, match=r"sky 3.*4 true years but 2 measured"):
        FoundSources(3, one.truth, one.yearly, short)
    with pytest.raises(ValueError, match="30 sources"):
        FoundSources(3, one.truth, one.yearly[:4], one.evidence)
