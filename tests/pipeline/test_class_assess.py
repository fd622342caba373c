"""The yardstick of classes on a run whose evidence is made up."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from class_cases import CUT, context_of, finished_run, made_up, small, write_sky

from geminga.config import Config
from geminga.errors import InputError
from geminga.evaluation.class_ceilings import NOISE_FREE, NOISY
from geminga.evaluation.class_results import ClassResult
from geminga.files import read_json, read_parquet, write_json
from geminga.pipeline import class_assess
from geminga.pipeline.class_assess import (
    BOOSTING,
    EVIDENCE_NET,
    THESIS_CNN,
    found_sources,
    measure_run_classes,
    write_classes,
)
from geminga.pipeline.classify import IMAGES, probability_file
from geminga.pipeline.evidence import read_evidence
from geminga.pipeline.runner import Context
from geminga.pipeline.search import RANKED, candidate_file
from geminga.seeds import Split, sky_id
from geminga.sky.sky_files import SOURCES_FILE

TEST = sky_id(Split.TEST, 0)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = partial(class_assess.ClassSettings, resamples=3)
    monkeypatch.setattr(class_assess, "ClassSettings", settings)


@pytest.fixture(scope="module")
def config(config2: Config) -> Config:
    return small(config2, test=2)


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return finished_run(config, tmp_path_factory.mktemp("run"), n=260)


@pytest.fixture(scope="module")
def result(run: Context) -> ClassResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            class_assess, "ClassSettings", partial(class_assess.ClassSettings, resamples=3)
        )
        return measure_run_classes(run)


def test_classifiers_and_ceilings_stand_side_by_side(run: Context, result: ClassResult) -> None:
    assert list(result.classifiers) == [EVIDENCE_NET, BOOSTING, THESIS_CNN]
    assert list(result.ceilings) == [NOISE_FREE, NOISY]
    assert result.title == "test: detections of 2 simulated test skies"
    assert result.skies == 2
    # The catalogue's detections: those above the cut.
    kept = 0
    for sky in (TEST, TEST + 1):
        listed = read_parquet(candidate_file(run.folder("search"), RANKED, sky))
        kept += int((listed["score"] >= CUT).sum())
    for one in result.classifiers.values():
        assert int(np.sum(one.natural)) == kept
    true = sum(row.n for name, row in result.classifiers[BOOSTING].rows.items() if name != "FAKE")
    assert int(np.sum(result.ceilings[NOISE_FREE].natural)) == true


def test_what_can_be_told_is_told(result: ClassResult) -> None:
    """Index and variability tell the classes; images that are noise do not."""
    f1 = {n: c.figures["macro_f1"].value for n, c in result.classifiers.items()}
    assert f1[BOOSTING] > 0.8
    assert f1[THESIS_CNN] < 0.4
    best = result.ceilings[NOISE_FREE].figures["macro_f1_true"].value
    assert best > 0.9
    # The flags are those of the network alone.
    assert np.isfinite(result.classifiers[EVIDENCE_NET].flags.ambiguous)
    assert np.isnan(result.classifiers[BOOSTING].flags.ambiguous)
    ratio = result.classifiers[BOOSTING].figures["macro_f1_true"].ratios[NOISE_FREE]
    assert 0.8 < ratio.value < 1.1


def test_the_result_is_written(result: ClassResult, tmp_path: Path) -> None:
    table = write_classes(result, tmp_path, tmp_path / "figures")
    assert ClassResult.from_json(read_json(tmp_path / "classes.json")).to_json() == result.to_json()
    text = (tmp_path / "classes.md").read_text(encoding="utf-8")
    assert table in text
    for name in (EVIDENCE_NET, BOOSTING, THESIS_CNN, NOISE_FREE, NOISY):
        assert name in table
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"confusion_network_on_evidence.png", "class_reliability.png"} <= drawn


def test_true_sources_of_the_candidates(run: Context) -> None:
    candidates = read_evidence(run, [TEST + 1, TEST])
    found = found_sources(run, candidates)
    assert [one.sky for one in found] == [TEST + 1, TEST]
    for one in found:
        mine = (candidates.sky == one.sky) & (candidates.source >= 0)
        assert len(one.truth) == mine.sum()
        # A source lies where its candidate was measured, and its years are those it was drawn with.
        np.testing.assert_array_equal(one.truth["lon_deg"], one.evidence.lon_deg)
        folder = run.folder("skies") / f"sky_{one.sky:07d}"
        truth = read_parquet(folder / SOURCES_FILE)
        place = truth.set_index("source_id").index.get_indexer(one.truth["source_id"])
        yearly = np.load(folder / "counts.npz")["yearly"]
        np.testing.assert_array_equal(one.yearly, yearly[place])
    assert found_sources(run, candidates.take(np.arange(0))) == []


def test_maps_have_no_true_years(config: Config, tmp_path: Path) -> None:
    """Without measured years the ceilings are not told of them either."""
    context = context_of(config, tmp_path)
    write_sky(context, made_up(config, TEST, 20, years=0), TEST, Split.TEST)
    (one,) = found_sources(context, read_evidence(context, [TEST]))
    assert len(one.truth) > 5
    assert one.yearly.shape == (len(one.truth), 0)


def test_another_number_of_years_is_refused(run: Context, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    path = tmp_path / "run" / "skies" / f"sky_{TEST:07d}" / "counts.npz"
    n = len(np.load(path)["yearly"])
    np.savez(path, yearly=np.ones((n, 7)))
    context = context_of(run.config, tmp_path / "run")
    with pytest.raises(InputError, match=r"sky 2000000: 7 true years but 4 measured"):
        found_sources(context, read_evidence(context, [TEST]))


def test_probabilities_of_another_list_are_refused(run: Context, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    path = probability_file(tmp_path / "run" / "catalog", TEST, IMAGES)
    tree = read_json(path)
    write_json(path, tree | {"rows": tree["rows"][:-5]})
    with pytest.raises(InputError, match=r"catalog: is of other candidates; run the stage anew"):
        measure_run_classes(context_of(run.config, tmp_path / "run"))


def test_a_class_that_was_never_found_is_named(run: Context, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    path = tmp_path / "run" / "skies" / "sky_0000000" / SOURCES_FILE
    truth = read_parquet(path)
    truth.assign(class_name=truth["class_name"].replace("PSR", "BLL")).to_parquet(path)
    with pytest.raises(InputError, match="no training source of class PSR; simulate more skies"):
        measure_run_classes(context_of(run.config, tmp_path / "run"))
