"""The yardstick on a run: what it reads, with and without a likelihood search."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config
from geminga.distributed.expected_ts import ExpectedTsWriter, expected_ts_file
from geminga.distributed.simulate import SkyWriter, sky_folder
from geminga.evaluation.yardstick_text import rows_by_model
from geminga.files import read_parquet, write_parquet
from geminga.likelihood.expected_ts import expected_ts
from geminga.patches.grid import grid_for_sky
from geminga.pipeline import measured
from geminga.pipeline.measured import (
    RunLists,
    measure_by_interstellar,
    measure_run,
    run_lists,
    with_expected_ts,
)
from geminga.pipeline.runner import Context
from geminga.pipeline.search import CLASSIFIED, ORACLE, SEARCH_NAMES, candidate_file, searches_of
from geminga.pipeline.yardstick import read_by_model, write_by_model
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.sky_files import EXTENDED_FILE, SOURCES_FILE
from geminga.tables import CANDIDATES, EXTENDED, TRUTH

SKY = sky_id(Split.TEST, 0)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        measured, "YardstickSettings", partial(measured.YardstickSettings, resamples=3)
    )


def with_detector(config: Config, detector: str) -> Config:
    section = config.localisation.model_copy(update={"detector": detector})
    return config.model_copy(update={"localisation": section})


def finished(config: Config, root: Path) -> Context:
    """Return a run with a sky of sources at the patch centres, half of which every search finds."""
    lon, lat = grid_for_sky(config, SKY).centres()
    n = len(lon)
    columns: dict[str, Any] = {name: np.ones(n) for name in TRUTH.names}
    columns |= {"sky_id": np.full(n, SKY), "source_id": np.arange(n)[::-1] + 7}
    columns |= {"class_name": ["BLL"] * n, "form": ["log_parabola"] * n}
    columns |= {"lon_deg": lon, "lat_deg": lat, "s1": np.linspace(1e-9, 2e-9, n)}
    folder = sky_folder(root / "skies", SKY)
    write_parquet(folder / SOURCES_FILE, TRUTH.frame(columns))
    write_parquet(folder / EXTENDED_FILE, EXTENDED.empty())
    found: dict[str, Any] = {name: np.full(n, 0.1) for name in CANDIDATES.names}
    found |= {"sky_id": np.full(n, SKY), "lon_deg": lon, "lat_deg": lat}
    found |= {"n_patches": np.ones(n, np.int64), "n_patches_covering": np.ones(n, np.int64)}
    for search in searches_of(config):
        frame = CANDIDATES.frame(found)[::2]
        write_parquet(candidate_file(root / "search", search, SKY), frame)
    # What the classifier judged again, with the catalogue.
    write_parquet(candidate_file(root / "catalog", CLASSIFIED, SKY), frame)
    return Context(config, root, None)  # type: ignore[arg-type]


def test_every_search_stands_beside_the_oracle(config2: Config, tmp_path: Path) -> None:
    context = finished(with_detector(config2, "likelihood"), tmp_path)
    n = len(grid_for_sky(config2, SKY).frames)
    # As the workers of an earlier try left it, with sources in an order of its own.
    ts = pd.DataFrame({"source_id": np.arange(n) + 7, "ts": np.arange(n) + 20.0})
    write_parquet(expected_ts_file(tmp_path / "work", SKY), ts)
    context_used: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "_expect", lambda _, folder, __: context_used.append(folder))
        lists = run_lists(context, tmp_path / "work")
    assert context_used == [tmp_path / "work"]
    assert set(lists.found) == {*searches_of(context.config), CLASSIFIED}
    assert list(lists.found) == [name for name in SEARCH_NAMES if name in lists.found]
    np.testing.assert_array_equal(lists.truth[0]["ts"], np.arange(n)[::-1] + 20.0)
    result = measure_run(context, lists)
    assert result.oracle == SEARCH_NAMES[ORACLE] == list(result.searches)[-1]
    assert result.title == "test: 1 simulated test sky"
    for search in result.searches.values():
        figure = search.parts["all"].at_purity["0.9"]
        assert figure.completeness.value == 0.5
        assert figure.completeness.ratio is not None
        assert figure.by["ts"].n


def test_skies_of_two_interstellar_models_stand_apart(config2: Config, tmp_path: Path) -> None:
    context = finished(with_detector(config2, "miun"), tmp_path)
    lists = run_lists(context, tmp_path / "work")
    assert measure_by_interstellar(context, lists) == {}, "one model needs no second table"
    # A second sky in which nothing is found, a third like the first.
    nothing = {name: frames[0].iloc[:0] for name, frames in lists.found.items()}
    three = RunLists(
        {name: [frames[0], nothing[name], frames[0]] for name, frames in lists.found.items()},
        lists.truth * 3,
        lists.extended * 3,
    )
    sky = config2.sky.model_copy(
        update={"test_interstellar": ("builtin", "a/one.gz@b/x.gz+a/two.gz@b/x.gz")}
    )
    sets = config2.sets.model_copy(update={"test": 3})
    config = context.config.model_copy(update={"sky": sky, "sets": sets})
    context = Context(config, tmp_path, None)  # type: ignore[arg-type]
    results = measure_by_interstellar(context, three)
    assert list(results) == ["builtin", "one.gz+two.gz, not in training"]
    first, second = (r.searches["MIUN"].parts["all"].at_purity["0.9"] for r in results.values())
    assert [r.skies for r in results.values()] == [2, 1]
    assert (first.completeness.value, second.completeness.value) == (0.5, 0.0)
    rows = rows_by_model(results)
    assert rows[0][:3] == ["interstellar model", "search", "skies"]
    assert [row[:3] for row in rows[1:]].count(["builtin", "MIUN", "2"]) == 1
    table = write_by_model(results, tmp_path)
    assert "one.gz+two.gz, not in training" in table
    assert rows_by_model(read_by_model(tmp_path)) == rows
    assert read_by_model(tmp_path / "elsewhere") == {}


def test_a_run_with_miun_alone_needs_no_expected_ts(config2: Config, tmp_path: Path) -> None:
    context = finished(with_detector(config2, "miun"), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "run_pieces", None)  # no worker is asked
        lists = run_lists(context, tmp_path / "work")
    assert not (tmp_path / "work").exists()
    assert "ts" not in lists.truth[0]
    assert CLASSIFIED not in lists.found
    result = measure_run(context, lists)
    assert result.oracle is None
    assert SEARCH_NAMES[ORACLE] not in result.searches
    assert not result.searches["MIUN"].parts["all"].at_purity["0.9"].by["ts"].n


def test_expected_ts_belongs_to_its_source() -> None:
    truth = pd.DataFrame({"source_id": [5, 2], "s1": [1.0, 2.0]}, index=[8, 9])
    table = pd.DataFrame({"source_id": [2, 3, 5], "ts": [20.0, 30.0, 50.0]})
    assert with_expected_ts(truth, table)["ts"].tolist() == [50.0, 20.0]
    assert with_expected_ts(truth.iloc[:0], table).empty
    with pytest.raises(KeyError, match="5"):
        with_expected_ts(truth, table.iloc[:2])


def test_the_worker_writes_the_expected_ts_of_a_stored_sky(config2: Config, tmp_path: Path) -> None:
    response = build_response(config2)
    diffuse = tmp_path / "diffuse.npz"
    diffuse_counts(config2, response).save(diffuse)
    text, skies = config2.model_dump_json(), str(tmp_path / "skies")
    SkyWriter(text, str(diffuse), skies)({"sky_id": SKY})
    worker = ExpectedTsWriter(text, str(diffuse), skies, str(tmp_path / "ts"))
    assert worker({"sky_id": SKY}) == {"sky_id": SKY, "kept": False}
    table = read_parquet(expected_ts_file(tmp_path / "ts", SKY))
    sky = worker.skies.load(SKY)
    np.testing.assert_array_equal(table["source_id"], sky.sources.table["source_id"])
    np.testing.assert_array_equal(table["ts"], expected_ts(sky, grid_for_sky(config2, SKY)))
    assert worker({"sky_id": SKY})["kept"] is True
