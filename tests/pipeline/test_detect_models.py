"""The packaged models, and which one is chosen for a user's files."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from detect_files import model_folder

from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import unit_vectors
from geminga.pipeline.detect import Request, detect
from geminga.pipeline.detect_inputs import run_config
from geminga.pipeline.detect_likelihood import ranker_of
from geminga.pipeline.models import (
    SHIPPED,
    PhotonFile,
    choose_model,
    files_of_entries,
    load_model,
    shipped_models,
)
from geminga.pipeline.package import CARD_FILE
from geminga.response import build_response
from geminga.response.cube_choice import CubeSummary
from geminga.sky.coverage import Coverage
from geminga.sky.formats.healpix_file import EnergyBin
from geminga.sky.photons import Photons
from geminga.tables import CANDIDATES

SIX = (0.3, 0.5, 1.0, 2.0, 7.0, 20.0, 2000.0)
FRONT, BACK, BOTH = frozenset({0}), frozenset({1}), frozenset({0, 1})


def counts(*edges_gev: float, **told: Any) -> PhotonFile:
    none = np.empty(0, np.int64)
    bins = tuple(
        EnergyBin("m.fits", (0, i), (low * 1e3, high * 1e3), 64, True, none, none)
        for i, (low, high) in enumerate(pairwise(edges_gev))
    )
    return PhotonFile(Path("m.fits"), bins, **told)


def events(low_gev: float, high_gev: float, **told: Any) -> PhotonFile:
    return PhotonFile(Path("e.fits"), (), (low_gev * 1e3, high_gev * 1e3), **told)


def cube(types: frozenset[int] | None, irf: str | None = None) -> CubeSummary:
    return CubeSummary(Path("x.fits"), (50.0, 3e6), irf, types)


def chosen(*files: PhotonFile, cubes: tuple[CubeSummary, ...] = (), **asked: Any) -> str:
    return choose_model(files, cubes, asked.get("model"), asked.get("event_types")).name


def test_packaged_models_are_complete_configurations() -> None:
    models = {model.name: model for model in shipped_models()}
    assert list(models) == ["above_50gev", "front", "front_back"]
    for model in models.values():
        assert model.config.name == model.name
        assert load_model(model.name).config == model.config
        response = build_response(model.config)
        assert len(response.channels) == len(model.config.bands)
    six = [(b.emin_gev, b.emax_gev) for b in models["front"].config.bands]
    assert six == list(pairwise(SIX))
    assert models["front_back"].config.bands == models["front"].config.bands


def test_packaged_models_have_a_ranker_a_cut_and_a_card() -> None:
    """What a card promises is what the weights beside it do."""
    for model in shipped_models():
        ranker = ranker_of(model.folder, model.config)
        assert ranker is not None
        card = (model.folder / CARD_FILE).read_text(encoding="utf-8")
        assert card.startswith(f"# Model {model.name}\n")
        assert ranker.cut is not None
        assert 0.0 < ranker.cut < 1.0
        assert f"probability {ranker.cut:.3f}: chosen for purity" in card
        weights = sum(p.numel() for p in ranker.model.parameters())
        assert f"ranker, {weights} weights" in card
        assert "compl. at purity 0.9" in card
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6


@pytest.mark.parametrize(
    ("files", "cubes", "name"),
    [
        ((counts(*SIX, types=FRONT),), (), "front"),
        ((counts(*SIX, types=BOTH),), (), "front_back"),
        ((counts(*SIX, types=frozenset({2, 3, 4, 5})),), (), "front_back"),
        ((counts(*SIX),), (), "front"),
        ((counts(*SIX),), (cube(BOTH),), "front_back"),
        ((counts(*SIX[:4]), counts(*SIX[3:])), (), "front"),
        # Bins inside a band are added; edges may be rounded as gtbin's single precision does.
        ((counts(0.3, 0.4, *SIX[1:5], 20.0005, 171.0, 2000.0, types=FRONT),), (), "front"),
        ((counts(50, 171, 585, 2000, types=BOTH),), (), "above_50gev"),
        ((counts(50, 171, 585, 2000),), (), "above_50gev"),
        ((events(0.1, 2000, types=BOTH),), (), "front_back"),
        ((events(0.1, 2000, types=BOTH),), (cube(FRONT),), "front"),
        ((events(0.1, 2000, types=FRONT),), (), "front"),
        ((events(0.1, 2000),), (), "front"),
        ((events(10, 2000, types=BOTH),), (), "above_50gev"),
        ((events(50, 1000, types=BOTH),), (), "above_50gev"),
    ],
)
def test_choice(files: tuple[PhotonFile, ...], cubes: tuple[CubeSummary, ...], name: str) -> None:
    assert chosen(*files, cubes=cubes) == name


def test_stated_event_types_choose() -> None:
    assert chosen(counts(*SIX), event_types="FRONT+BACK") == "front_back"
    assert chosen(counts(*SIX), event_types="FRONT") == "front"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (counts(1, 3, 30), "front: no channel holds 0.3 GeV, inside band 0.3-0.5 GeV"),
        (counts(0.3, 0.6, 1, 2, 7, 20, 2000), "front: energies 0.3-0.6 GeV are cut by an edge"),
        (counts(*SIX, types=BACK), "front: holds BACK, not FRONT; front_back: holds BACK, not"),
        (events(1, 30, types=BOTH), "front: events of 1-30 GeV do not fill bands 0.3 to 2000 GeV"),
    ],
)
def test_no_model_fits(file: PhotonFile, message: str) -> None:
    with pytest.raises(InputError, match="fit no packaged model") as caught:
        chosen(file)
    assert message in str(caught.value)
    assert "50-171, 171-585, 585-2000 GeV" in str(caught.value)


def test_a_model_of_channels_takes_the_files_of_each(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, change=("[FRONT]", "[FRONT, BACK]"))
    model = load_model(str(folder))
    edges = (1, 3, 30)
    front, back = counts(*edges, types=FRONT), counts(*edges, types=BACK)
    assert files_of_entries(model, [back, front]) == {"FRONT": [front], "BACK": [back]}
    both = events(1, 30, types=BOTH)
    assert files_of_entries(model, [both]) == {"FRONT": [both], "BACK": [both]}
    with pytest.raises(InputError, match="does not say which of FRONT, BACK it holds"):
        files_of_entries(model, [counts(*edges)])
    with pytest.raises(InputError, match="hold no BACK"):
        files_of_entries(model, [front])


def test_response_of_the_files() -> None:
    model = load_model("front")
    config = run_config(model, [counts(*SIX)], [cube(FRONT, "P8R3_SOURCE_V3")])
    assert config.response.irf == "P8R3_SOURCE_V3"
    assert config.response.exposure_cube == (str(Path("x.fits").resolve()),)
    year = 365.25 * 86400
    config = run_config(model, [counts(*SIX, span_s=(2e8, 2e8 + 3 * year), class_bit=7)], [])
    assert config.response.duration_years == pytest.approx(3.0)
    assert config.response.irf == "P8R2_SOURCE_V6"
    # Events can be cut to the model's class, maps cannot.
    config = run_config(model, [events(0.1, 2000, class_bit=7)], [])
    assert (config.response.irf, config.response.duration_years) == (model.config.response.irf, 10)
    assert config.sky.years == 1
    with pytest.raises(InputError, match="cubes are of A and of B; give one class"):
        run_config(model, [counts(*SIX)], [cube(FRONT, "A"), cube(FRONT, "B")])


def test_light_curves_have_bins_as_long_as_the_model_s() -> None:
    model, year = load_model("front"), 365.25 * 86400
    assert (model.config.sky.years, model.config.response.duration_years) == (10, 10)

    def bins(*spans: float, times: bool = True, cubes: tuple[CubeSummary, ...] = ()) -> Config:
        files = [events(0.1, 2000, span_s=(2e8, 2e8 + s * year), has_time=times) for s in spans]
        return run_config(model, files, cubes)

    assert bins(3.1).sky.years == 3
    assert bins(1.0, 12.4).sky.years == 12
    assert bins(0.2).sky.years == 1
    assert bins(3.0, times=False).sky.years == 1
    assert bins(4000.0).sky.years == 127
    assert run_config(model, [events(0.1, 2000, has_time=True)], []).sky.years == 1
    assert run_config(model, [counts(*SIX, span_s=(2e8, 3e8))], []).sky.years == 1
    # With a cube the time tells the shares of the bins.
    told = bins(4.0, cubes=(cube(FRONT, "P8R2_ULTRACLEANVETO_V6"),))
    assert (told.sky.years, told.response.duration_years) == (4, pytest.approx(4.0))
    response = build_response(bins(3.0))
    assert response.year_share.at(np.zeros(1), np.zeros(1)).shape == (1, 3)


@pytest.mark.data
def test_real_events_above_50_gev(lat_data: Path, tmp_path: Path) -> None:
    request = Request(
        (),
        (lat_data / "events" / "fermi_2fhl_events.fits.gz",),
        (str(lat_data / "exposure" / "fermi_2fhl_exposure_cube_hpx.fits.gz"),),
        tmp_path / "out",
    )

    def crab(photons: Photons, coverage: Coverage, config: Config, folder: Path) -> pd.DataFrame:
        assert (folder.name, coverage.whole) == ("above_50gev", True)
        place = unit_vectors(*map(np.array, (184.557, -5.784)))
        assert np.sum(photons.xyz @ place > np.cos(np.radians(0.3))) > 200
        return CANDIDATES.empty()

    detect(request, crab)
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["model"]["name"] == "above_50gev"
    assert told["response"]["irf"] == "P8R2_SOURCE_V6"
    assert told["response"]["event_types_said_by_the_files"]
    assert told["photons"]["all"] == 60_275


@pytest.mark.data
def test_events_of_the_galactic_centre_alone(lat_data: Path, tmp_path: Path) -> None:
    """Their header says the whole sky: the photons show that it is not."""
    request = Request(
        (),
        (lat_data / "events" / "fermi-3fhl-gc-events.fits.gz",),
        (str(lat_data / "exposure" / "fermi_3fhl_exposure_cube_hpx.fits.gz"),),
        tmp_path / "out",
    )
    detect(request, lambda photons, coverage, config, folder: CANDIDATES.empty())
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert 0.004 < told["sky_covered"] < 0.02
    assert told["patches"]["skipped_without_data"] > 700
