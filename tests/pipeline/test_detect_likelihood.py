"""``geminga detect`` with a packaged model: the likelihood search judged by a ranker."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import healpy as hp
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from tiny_run import TINY, write_list

import geminga.pipeline.detect_likelihood as module
from geminga.catalogue import read_fits
from geminga.catalogue.flags import Flag
from geminga.classes import with_fake
from geminga.cli import USER_ERROR, main
from geminga.config import Config, load_config
from geminga.distributed.search import photon_file
from geminga.distributed.simulate import sky_folder
from geminga.errors import InputError
from geminga.files import read_json, read_parquet, write_json
from geminga.geometry import unit_vectors
from geminga.pipeline.detect_classes import CLASSES_FOLDER
from geminga.pipeline.detect_inputs import run_config
from geminga.pipeline.detect_likelihood import (
    LEAST_TS,
    NOTES,
    RANKER_FOLDER,
    ranker_of,
    search_by_likelihood,
)
from geminga.pipeline.models import load_model
from geminga.pipeline.package import package_model
from geminga.pipeline.ranked import SCORE_CUT
from geminga.response import build_response
from geminga.sky.coverage import NPIX, NSIDE, Coverage, exposure_filled, whole_sky
from geminga.sky.formats.healpix_write import write_counts
from geminga.sky.observation import observation_of
from geminga.sky.photons import Photons
from geminga.sky.sky_files import SOURCES_FILE

SKY = 2_000_000


@pytest.fixture(scope="module")
def run(finished: tuple[Path, str]) -> Config:
    return load_config(TINY, [f"run.output={finished[0]}"])


@pytest.fixture(scope="module")
def folder(run: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's ranker and classifier as a model."""
    return package_model(run, "small", tmp_path_factory.mktemp("models")).folder


@pytest.fixture(scope="module")
def config(folder: Path, run: Config) -> Config:
    update = {"response": run.response, "sky": run.sky}
    return run_config(load_model(str(folder)), [], []).model_copy(update=update)


@pytest.fixture(scope="module")
def photons(run: Config) -> Photons:
    return Photons.load(photon_file(Path(run.run.output) / "tiny" / "observe", SKY))


@pytest.fixture(scope="module")
def truth(run: Config) -> pd.DataFrame:
    return read_parquet(sky_folder(Path(run.run.output) / "tiny" / "skies", SKY) / SOURCES_FILE)


@pytest.fixture(scope="module")
def half() -> Coverage:
    """East of the meridian through the centres of patches: it cuts them in the middle."""
    lon, _ = hp.pix2ang(NSIDE, np.arange(NPIX), nest=True, lonlat=True)
    return Coverage((lon > 45.0) & (lon < 202.5))


@pytest.fixture(scope="module")
def everywhere(photons: Photons, config: Config, folder: Path) -> pd.DataFrame:
    """All that is found in 48 patches, which takes Ray."""
    return search_by_likelihood(photons, whole_sky(), config, folder, everything=True)


@pytest.fixture(scope="module")
def found(photons: Photons, half: Coverage, config: Config, folder: Path) -> pd.DataFrame:
    """All that is found in the half, in this process."""
    seen = photons.select(half.holds(*photons.lon_lat()))
    return search_by_likelihood(seen, half, config, folder, everything=True)


def nearest_deg(table: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    a, b = (unit_vectors(t["lon_deg"].to_numpy(), t["lat_deg"].to_numpy()) for t in (table, others))
    return np.degrees(np.arccos(np.clip(a @ b.T, -1.0, 1.0))).min(axis=1)


def test_few_patches_in_this_process_and_many_in_others_are_the_same(
    photons: Photons,
    config: Config,
    folder: Path,
    everywhere: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FEW_PATCHES", 48)
    here = search_by_likelihood(photons, whole_sky(), config, folder, everything=True)
    pd.testing.assert_frame_equal(here, everywhere, check_exact=True)
    assert here.attrs[NOTES] == everywhere.attrs[NOTES]
    assert here.attrs[NOTES]["patches_searched"] == 48


def test_the_list_is_that_of_the_run(run: Config, everywhere: pd.DataFrame) -> None:
    """The pipeline's own search of the same photons; the model has the same weights."""
    path = Path(run.run.output) / "tiny" / "search" / f"candidates_ranked_{SKY:07d}.parquet"
    own = read_parquet(path)
    pd.testing.assert_frame_equal(everywhere[list(own)], own, check_exact=True)


def test_the_classes_are_those_of_the_run(run: Config, everywhere: pd.DataFrame) -> None:
    catalog = read_fits(Path(run.run.output) / "tiny" / "catalog" / f"catalog_{SKY:07d}.fits")
    sure = everywhere.iloc[: len(catalog)]
    order = np.lexsort((sure["lat_deg"], sure["lon_deg"], -sure["score"]))
    names = ["UNLIKE", "AMBIGUOUS", "LP_Index", "Variability_Index", "Flux_History_3"]
    np.testing.assert_array_equal(catalog["GLON"], sure["lon_deg"].to_numpy()[order])
    for name in names:
        np.testing.assert_array_equal(catalog[name], sure[name].to_numpy()[order])
    for name in catalog.filter(regex="^P_"):
        np.testing.assert_allclose(catalog[name], sure[name].to_numpy()[order], atol=1e-12)


def test_probabilities_and_the_cut(
    photons: Photons, half: Coverage, config: Config, folder: Path, found: pd.DataFrame
) -> None:
    assert found["probability"].between(0.0, 1.0).all()
    assert (np.diff(found["score"]) <= 0).all()
    cut = read_json(folder / RANKER_FOLDER / "model.json")["extra"][SCORE_CUT]
    seen = photons.select(half.holds(*photons.lon_lat()))
    kept = search_by_likelihood(seen, half, config, folder)
    above = found[found["probability"] >= cut].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, above, check_exact=True)
    assert 20 < len(kept) < len(found)
    told = kept.attrs[NOTES]
    assert (told["score_cut"], told["below_the_cut_kept"]) == (cut, False)
    assert (told["score"], told["sources_fitted"]) == ("probability to be real", len(found))


def test_positions_are_those_of_true_sources(found: pd.DataFrame, truth: pd.DataFrame) -> None:
    sure = found[found["probability"] > 0.9]
    assert len(sure) > 20
    apart = nearest_deg(sure, truth)
    assert np.mean(apart < 0.3) > 0.9
    assert np.median(apart) < 0.06


def test_half_covered_patches_make_no_sources_at_the_border(
    found: pd.DataFrame, everywhere: pd.DataFrame, half: Coverage
) -> None:
    """What is found near the border is found with the other half of the photons as well."""
    lon, lat = found["lon_deg"].to_numpy(), found["lat_deg"].to_numpy()
    assert half.holds(lon, lat).all()
    cos = np.cos(np.radians(lat))
    near = np.minimum((lon - 45.0) * cos, (202.5 - lon) * cos) < 1.5
    sure = near & (found["ts"] > 16)
    assert sure.sum() > 3
    also = everywhere[everywhere["ts"] > 6]
    assert nearest_deg(found[sure], also).max() < 0.3
    inside = everywhere[half.holds(everywhere["lon_deg"], everywhere["lat_deg"])]  # type: ignore[arg-type]
    away = inside[np.minimum(inside["lon_deg"] - 45.0, 202.5 - inside["lon_deg"]) > 8.0]
    bright = away[away["ts"] > 40]
    assert len(bright) > 10
    assert nearest_deg(bright, found).max() < 0.05


def test_a_model_without_weights_says_so(
    photons: Photons,
    half: Coverage,
    config: Config,
    folder: Path,
    found: pd.DataFrame,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copy(folder / "config.yaml", tmp_path)
    seen = photons.select(half.holds(*photons.lon_lat()))
    with caplog.at_level(logging.INFO):
        plain = search_by_likelihood(seen, half, config, tmp_path)
    assert f"{tmp_path.name} has no weights: the score is the TS of the fit, from 25" in caplog.text
    assert f"model {tmp_path.name} has no classifier: CLASS stays empty" in caplog.text
    assert not plain.filter(regex="^P_|History").columns.size
    assert plain.attrs[NOTES]["classified"] is False
    assert "probability" not in plain
    assert plain["score"].min() >= LEAST_TS
    assert len(plain) == (found["ts"] >= LEAST_TS).sum()
    assert plain.attrs[NOTES]["score"] == "TS: the model has no weights"


def test_weights_without_a_cut_or_of_other_settings_are_refused(
    folder: Path, config: Config, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / RANKER_FOLDER / "model.json"
    meta = read_json(path)
    del meta["extra"][SCORE_CUT]
    write_json(path, meta)
    with pytest.raises(
        InputError, match=r"has no score_cut in its model\.json; package the model with"
    ):
        ranker_of(copy, config)
    likelihood = config.likelihood.model_copy(update={"search_least_ts": 4.0})
    with pytest.raises(InputError, match=r"likelihood\.search_least_ts"):
        ranker_of(folder, config.model_copy(update={"likelihood": likelihood}))


def test_nothing_covered_finds_nothing(photons: Photons, config: Config, folder: Path) -> None:
    none = Coverage(np.zeros(NPIX, np.bool_))
    empty = search_by_likelihood(photons.select(np.arange(0)), none, config, folder)
    assert len(empty) == 0
    assert {"probability", "ts", "lon_deg", "P_BLL", "UNLIKE", "Flux_History_0"} <= set(empty)


def test_the_command_on_counts_of_part_of_the_sky(
    photons: Photons,
    run: Config,
    half: Coverage,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Maps of the whole sky that are zero where nothing was observed."""
    seen = photons.select(half.holds(*photons.lon_lat()))
    written = write_counts(seen, run.channels, tmp_path / "maps", observation_of(run))
    maps = [str(path) for path in written]
    options = ["--exposure", "builtin", "--model", str(folder)]
    for name, more in (("cut", []), ("all", ["--all"])):
        arguments = ["detect", "--counts", *maps, *options, "--out", str(tmp_path / name), *more]
        assert main(arguments) == 0
    cut, everything = (read_fits(tmp_path / n / "catalog.fits") for n in ("cut", "all"))
    assert 20 < len(cut) < len(everything)
    told = json.loads((tmp_path / "cut" / "provenance.json").read_text())
    assert told["search"]["score"] == "probability to be real"
    assert told["search"]["score_cut"] <= cut["SCORE"].min()
    header = fits.getheader(tmp_path / "cut" / "catalog.fits", 1)
    assert header["SCORECUT"] == told["search"]["score_cut"]
    assert header["SCOREIS"] == "probability to be real"
    assert set(told["model"]["files"]) == {
        "MODEL.md", "config.yaml", "ranker/model.json", "ranker/weights.safetensors",
        "classes/model.json", "classes/weights.safetensors",
    }  # fmt: skip
    assert told["search"]["classified"] is True
    printed = capsys.readouterr().err
    assert " left" in printed
    # Maps know no years: the spectrum and the images are left to judge by.
    assert printed.count("the photons have no times: classified without light curves") == 2
    assert not everything.filter(regex="History|Variab").columns.size
    classes_are_sound(everything, run)


def classes_are_sound(catalog: pd.DataFrame, config: Config) -> None:
    probabilities = catalog[["P_BLL", "P_FSRQ", "P_PSR", "P_PWN_SNR", "P_FAKE"]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-9)
    named = probabilities.to_numpy().argmax(axis=1)
    assert catalog["CLASS"].tolist() == [with_fake(config.classes)[k] for k in named]
    assert catalog["CLASS"].nunique() > 2
    assert catalog["UNLIKE"].between(0, 1).all()


def test_the_command_on_events_fills_classes_and_light_curves(
    photons: Photons,
    run: Config,
    half: Coverage,
    folder: Path,
    everywhere: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = photons.select(half.holds(*photons.lon_lat()))
    write_list(tmp_path / "events.fits", seen)
    options = ["--exposure", "builtin", "--model", str(folder)]
    for name in ("first", "second"):
        arguments = ["--events", str(tmp_path / "events.fits"), "--out", str(tmp_path / name)]
        assert main(["detect", *arguments, *options]) == 0
    for name in ("catalog.fits", "regions.reg", "provenance.json"):
        same = (tmp_path / n / name for n in ("first", "second"))
        assert len({path.read_bytes() for path in same}) == 1, name
    assert "no times" not in capsys.readouterr().err
    catalog = read_fits(tmp_path / "first" / "catalog.fits")
    classes_are_sound(catalog, run)
    history = catalog[[f"Flux_History_{year}" for year in range(run.sky.years)]]
    assert history.notna().all(axis=None)
    assert catalog["Variability_Index"].notna().all()
    # Sources at the edge of the data are flagged, and judged by what there is.
    edge = (catalog["Flags"].to_numpy() & int(Flag.EDGE)) > 0
    lon = catalog["GLON"]
    near = np.minimum(lon - 45.0, 202.5 - lon) * np.cos(np.radians(catalog["GLAT"])) < 0.3
    assert near.sum() > 0
    assert edge[near].all()
    assert catalog.loc[edge, "P_FAKE"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "classes=[BLL, PSR, PWN+SNR]",
            "made for classes ['BLL', 'FSRQ', 'PSR', 'PWN+SNR', 'FAKE']",
        ),
        ("evidence.stamp_pixels=7", "made for evidence.stamp_pixels 9"),
        ("evidence_net.branches=[spectrum]", "made for evidence_net.branches"),
    ],
)
def test_a_classifier_of_other_settings_is_one_line(
    change: str,
    message: str,
    photons: Photons,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_list(tmp_path / "events.fits", photons.select(np.arange(0, len(photons), 5000)))
    arguments = ["--events", str(tmp_path / "events.fits"), "--out", str(tmp_path / "out")]
    options = ["--exposure", "builtin", "--model", str(folder), "--set", change]
    assert main(["detect", *arguments, *options]) == USER_ERROR
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert CLASSES_FOLDER in errors[0]
    assert not (tmp_path / "out").exists()


def test_exposure_is_filled_only_where_there_is_none(config: Config) -> None:
    response = build_response(config)
    assert exposure_filled(response) is response
    first = response.exposures[0]
    maps = first.maps_cm2_s.copy()
    lon, _ = hp.pix2ang(first.nside, np.arange(maps.shape[1]), lonlat=True)
    maps[:, lon > 180] = 0
    broken = replace(first, maps_cm2_s=maps)
    filled = exposure_filled(replace(response, exposures=(broken,) * len(response.exposures)))
    assert filled.exposures[0] is filled.exposures[1]
    values = filled.exposures[0].maps_cm2_s
    np.testing.assert_array_equal(values[:, lon <= 180], maps[:, lon <= 180])
    assert (values > 0).all()
