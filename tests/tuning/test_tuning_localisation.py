"""The objective of the localisation's tuning, on score maps made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.arrays import Float64
from geminga.config import Config
from geminga.distributed.score_maps import ScoreMaps, read_score_maps
from geminga.errors import InputError
from geminga.files import read_json
from geminga.geometry import lon_lat
from geminga.localisation.choose import score_cut
from geminga.patches.grid import grid_for_sky
from geminga.pipeline import tune_localisation
from geminga.pipeline.tune_localisation import (
    ValidationSky,
    localise,
    measure_localisation,
    purity_floor,
)
from geminga.pipeline.tune_space import with_values
from geminga.seeds import Split, sky_id
from geminga.tables import EXTENDED

SKY = sky_id(Split.VALID, 0)


def disks(config: Config, peaks: dict[int, list[tuple[int, int, float]]]) -> ScoreMaps:
    """Return maps of the patches named, with a disk of 3 px of some height at each (row, column)."""
    grid = grid_for_sky(config, SKY)
    n = config.top_pixels
    row, column = np.indices((n, n))
    maps = np.zeros((len(peaks), n, n), np.float32)
    for number, places in enumerate(peaks.values()):
        for r, c, height in places:
            maps[number][(row - r) ** 2 + (column - c) ** 2 < 9] = height
    ids = np.array(list(peaks), np.int64)
    return ScoreMaps(maps, ids, grid.frames[ids])


def direction(config: Config, patch: int, row: int, column: int) -> tuple[float, float]:
    """Return the direction of the middle of a pixel, as the localisation has it."""
    one = ValidationSky(
        SKY, (disks(config, {patch: [(row, column, 1.0)]}),), pd.DataFrame(), EXTENDED.empty()
    )
    found = localise(config, one)
    assert len(found) == 1
    return float(found["lon_deg"].iloc[0]), float(found["lat_deg"].iloc[0])


@pytest.fixture(scope="module")
def small(config2: Config) -> Config:
    return with_values(
        config2,
        {
            "localisation.kernel_radius_px": 3.0,
            "localisation.threshold": 5,
            "localisation.threshold_step": 3,
            "localisation.purity_floor": 0.6,
        },
        "test",
    )


@pytest.fixture(scope="module")
def sky(small: Config) -> ValidationSky:
    """Three disks on sources, a strong and a weak one on nothing, and a source without a disk."""
    true = [(15, 15), (30, 45), (48, 20)]
    maps = disks(
        small,
        {
            0: [(*true[0], 1.0), (*true[1], 0.8), (32, 8, 0.9)],
            5: [(*true[2], 0.5), (10, 50, 0.4)],
        },
    )
    places = [direction(small, 0, *true[0]), direction(small, 0, *true[1])]
    places += [direction(small, 5, *true[2]), direction(small, 7, 30, 30)]
    lon, lat = np.array(places).T
    truth = pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": np.full(4, 1e-9)})
    parts = (
        ScoreMaps(maps.maps[:1], maps.patch_ids[:1], maps.frames[:1]),
        ScoreMaps(maps.maps[1:], maps.patch_ids[1:], maps.frames[1:]),
    )
    return ValidationSky(SKY, parts, truth, EXTENDED.empty())


def test_completeness_is_that_at_the_loosest_cut_that_keeps_the_purity(
    small: Config, sky: ValidationSky
) -> None:
    found = localise(small, sky)
    assert len(found) == 5
    figures = measure_localisation(small, [sky])
    # By score: true, false, true, true, false: 3 of 4 true at the cut, 3 of 5 below it.
    assert figures["completeness"] == 0.75 == figures["objective"]
    assert figures["purity"] == pytest.approx(0.6)
    assert figures["detections"] == 5
    stricter = with_values(small, {"localisation.purity_floor": 0.7}, "t")
    figures = measure_localisation(stricter, [sky])
    assert (figures["completeness"], figures["purity"], figures["detections"]) == (0.75, 0.75, 4)
    purest = with_values(small, {"localisation.purity_floor": 1.0}, "t")
    figures = measure_localisation(purest, [sky])
    assert (figures["completeness"], figures["detections"]) == (0.25, 1)


def test_the_cut_is_that_of_the_search_stage(small: Config, sky: ValidationSky) -> None:
    stricter = with_values(small, {"localisation.purity_floor": 0.7}, "t")
    scores = localise(stricter, sky)["score"].to_numpy()
    is_true = np.array([True, False, True, True, False])
    cut: float = score_cut(np.sort(scores)[::-1], is_true, 0.7)
    assert measure_localisation(stricter, [sky])["score_cut"] == cut


def test_settings_change_what_is_found(small: Config, sky: ValidationSky) -> None:
    high = with_values(small, {"localisation.threshold": 23}, "t")
    figures = measure_localisation(high, [sky])
    assert figures["completeness"] == 0.25
    none = with_values(small, {"localisation.threshold": 60}, "t")
    figures = measure_localisation(none, [sky])
    assert (figures["completeness"], figures["detections"]) == (0.0, 0.0)
    assert "score_cut" not in figures


def test_skies_count_together(small: Config, sky: ValidationSky) -> None:
    empty = ValidationSky(SKY, (disks(small, {3: []}),), sky.truth, EXTENDED.empty())
    assert measure_localisation(small, [sky, empty])["completeness"] == 3 / 8


def test_detections_on_extended_sources_are_not_false(small: Config, sky: ValidationSky) -> None:
    found = localise(small, sky).sort_values("score", ascending=False)
    false = found.iloc[1]
    extended = pd.DataFrame(
        {"lon_deg": [false["lon_deg"]], "lat_deg": [false["lat_deg"]], "radius_deg": [0.5]}
    )
    masked = ValidationSky(sky.sky_id, sky.parts, sky.truth, extended)
    purest = with_values(small, {"localisation.purity_floor": 1.0}, "t")
    assert measure_localisation(purest, [masked])["completeness"] == 0.75


def test_no_purity_floor_is_refused(small: Config) -> None:
    floorless = with_values(small, {"localisation.purity_floor": None}, "t")  # type: ignore[dict-item]
    with pytest.raises(
        InputError, match=r"localisation\.purity_floor: is null.*for example to 0\.8"
    ):
        purity_floor(floorless)


def test_large_maps_are_mapped_and_damaged_ones_refused(tmp_path: Path) -> None:
    maps = np.random.default_rng(1).random((80, 64, 64), dtype=np.float32)
    frames: Float64 = np.tile(np.eye(3), (80, 1, 1))
    path = tmp_path / "scores.npz"
    np.savez(path, maps=maps, patch_ids=np.arange(80), frames=frames)
    kept = read_score_maps(path)
    assert isinstance(kept.maps.base, np.memmap)
    np.testing.assert_array_equal(kept.maps, maps)
    assert lon_lat(kept.frames[:, 0])[0].shape == (80,)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"scores\.npz: holds no score maps"):
        read_score_maps(path)
    with pytest.raises(InputError, match=r"none\.npz: holds no score maps"):
        read_score_maps(tmp_path / "none.npz")


def test_what_was_measured_is_not_measured_again(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sky: ValidationSky
) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr(tune_localisation, "report", told.append)
    monkeypatch.setattr(tune_localisation, "read_skies", lambda _: [sky])
    values = {"localisation.threshold": 6.0}
    for _ in range(2):
        tune_localisation._trial(values, small.model_dump_json(), "maps", str(tmp_path))
        monkeypatch.setattr(tune_localisation, "measure_localisation", None)
    assert told[0] == told[1]
    (kept,) = tmp_path.iterdir()
    assert read_json(kept) == told[0]
