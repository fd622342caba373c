"""What the classifier and its evidence say, as columns of the catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from class_cases import made_up, model_of, small

from geminga.catalogue import build_catalogue
from geminga.catalogue.build import probabilities_of, probability_column
from geminga.catalogue.classified import CLASSIFIED, classified_columns
from geminga.classes import with_fake
from geminga.classification.class_model import ClassModel
from geminga.classification.evidence import DETECTION_NAMES, Evidence, without
from geminga.classification.light_curves import variability_index
from geminga.config import Config
from geminga.pipeline.class_columns import class_columns


@pytest.fixture(scope="module")
def config(config2: Config) -> Config:
    return small(config2)


@pytest.fixture(scope="module")
def model(config: Config) -> ClassModel:
    return model_of(config)


def changed(evidence: Evidence, **arrays: Any) -> Evidence:
    names = evidence.__dataclass_fields__
    return Evidence(**{name: arrays.get(name, getattr(evidence, name)) for name in names})


def columns(evidence: Evidence, model: ClassModel, config: Config) -> pd.DataFrame:
    return class_columns(evidence, np.full(len(evidence), 1e-9), model, config)


def test_every_column_says_what_was_measured(config: Config, model: ClassModel) -> None:
    evidence = made_up(config, 9).evidence
    s1 = np.linspace(1e-10, 1e-9, len(evidence))
    frame = class_columns(evidence, s1, model, config)
    assert {c.name for c in CLASSIFIED} <= set(frame)
    # Every column is one of the catalogue's: nothing is lost on the way to the file.
    known = {c.name for c in classified_columns(frame)}
    known |= {probability_column(name) for name in with_fake(config.classes)}
    assert set(frame) == known
    probabilities = probabilities_of(frame, config.classes)
    np.testing.assert_array_equal(probabilities, model.probabilities(evidence))
    np.testing.assert_allclose(frame.filter(regex="^P_").sum(axis=1), 1.0, atol=1e-9)
    assert frame["UNLIKE"].between(0, 1).all()
    assert frame["AMBIGUOUS"].dtype == np.bool_
    assert 0 < frame["AMBIGUOUS"].sum() < len(frame)
    np.testing.assert_array_equal(
        frame["Ext_Signif"], evidence.detection[:, DETECTION_NAMES.index("extension")]
    )
    for year in range(4):
        np.testing.assert_allclose(frame[f"Flux_History_{year}"], evidence.year_ratio[:, year] * s1)
        np.testing.assert_allclose(frame[f"Unc_Flux_History_{year}"], 0.1 * s1)
    index = variability_index(evidence.year_ratio, evidence.year_ratio_error)
    np.testing.assert_array_equal(frame["Variability_Index"], index)
    assert (frame["Frac_Variability"] >= 0).all()
    assert (frame["LP_SigCurv"] >= 0).all()


def test_known_spectra_and_light_curves(config: Config, model: ClassModel) -> None:
    sky = made_up(config, 9)
    frame = columns(sky.evidence, model, config)
    true = sky.source >= 0
    index = sky.truth["index"].to_numpy()[sky.source[true]]
    # Two wide bands: the prior of the curvature leaves the slope free.
    assert np.corrcoef(frame["LP_Index"][true], index)[0, 1] > 0.9
    variable = sky.label == 3
    low = frame["Variability_Index"][true & ~variable].median()
    assert frame["Variability_Index"][variable].median() > 5 * low
    assert frame["Frac_Variability"][variable].median() == pytest.approx(0.6, rel=0.4)


@pytest.mark.parametrize("years", [0, 1])
def test_maps_and_single_years_have_no_columns_of_years(
    config: Config, model: ClassModel, years: int
) -> None:
    evidence = made_up(config, 9).evidence
    few = changed(
        evidence,
        year_ratio=evidence.year_ratio[:, :years],
        year_ratio_error=evidence.year_ratio_error[:, :years],
    )
    frame = columns(few, model, config)
    assert not [name for name in frame if "History" in name or "Variab" in name]
    np.testing.assert_allclose(frame.filter(regex="^P_").sum(axis=1), 1.0, atol=1e-9)


def test_nothing_measured_says_so(config: Config, model: ClassModel) -> None:
    """A candidate outside the data, or without exposure: not a number, and no error."""
    evidence = made_up(config, 9, n=6).evidence
    band, year = evidence.band_flux.copy(), evidence.year_ratio.copy()
    errors, year_errors = evidence.band_flux_error.copy(), evidence.year_ratio_error.copy()
    stamps = evidence.stamps.copy()
    for array in (band, errors, year, year_errors, stamps):
        array[2] = np.nan
    blind = changed(
        evidence,
        band_flux=band,
        band_flux_error=errors,
        year_ratio=year,
        year_ratio_error=year_errors,
        stamps=stamps,
        detection=without(6)["detection"],
    )
    frame = columns(blind, model, config)
    told = ["LP_Index", "LP_beta", "Energy_Flux", "Variability_Index", "Frac_Variability"]
    assert frame.loc[2, told].isna().all()
    assert frame.loc[2, ["Flux_History_0", "Unc_Flux_History_3"]].isna().all()
    assert frame.loc[[0, 1, 3, 4, 5], told].notna().all(axis=None)
    assert frame["Ext_Signif"].isna().all()
    # Position and mix of the classes are left to judge by.
    assert frame.filter(regex="^P_").sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_no_candidates(config: Config, model: ClassModel) -> None:
    evidence = made_up(config, 9).evidence
    frame = columns(evidence.take(np.arange(0)), model, config)
    whole = columns(evidence, model, config)
    assert len(frame) == 0
    assert list(frame) == list(whole)
    assert frame.dtypes.to_list() == whole.dtypes.to_list()


def test_a_row_does_not_depend_on_the_others(config: Config, model: ClassModel) -> None:
    evidence = made_up(config, 9).evidence
    rows = np.array([17, 3, 40])
    alone = columns(evidence.take(rows), model, config)
    whole = columns(evidence, model, config).iloc[rows].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, whole, check_exact=True)


def test_the_class_of_the_catalogue_is_the_most_probable(config: Config, model: ClassModel) -> None:
    sky = made_up(config, 9)
    frame = columns(sky.evidence, model, config)
    n = len(frame)
    given = sky.listed.assign(position_error_deg=0.1, n_patches=1, n_patches_covering=1)
    joined = pd.concat([given, frame], axis=1)
    probabilities = probabilities_of(joined, config.classes)
    assert probabilities is not None
    catalog = build_catalogue(joined, probabilities, config.classes)
    assert len(catalog) == n
    named = catalog.filter(regex="^P_").to_numpy().argmax(axis=1)
    assert catalog["CLASS"].tolist() == [with_fake(config.classes)[k] for k in named]
    assert {"UNLIKE", "AMBIGUOUS", "Flux_History_0"} <= set(catalog)
    assert probabilities_of(joined.drop(columns="P_PWN_SNR"), config.classes) is None
