"""The stages around the classifier: what they read, in which order, and above which score."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from class_cases import CUT, context_of, finished_run, made_up, model_of, small

from geminga.classification.class_model import ClassModel
from geminga.config import Config
from geminga.distributed.evidence import evidence_file
from geminga.errors import InputError
from geminga.files import read_json, read_parquet, write_json
from geminga.pipeline.class_model import CLASS_MODEL, above_cut, held_out, load_class_model
from geminga.pipeline.classify import judged_again
from geminga.pipeline.detect_classes import CLASSES_FOLDER, classifier_of
from geminga.pipeline.evidence import (
    EVIDENCE,
    EVIDENCE_TRAINING,
    Labelled,
    is_measured,
    read_evidence,
)
from geminga.pipeline.runner import Context
from geminga.pipeline.search import training_candidates
from geminga.pipeline.stages import STAGES
from geminga.seeds import Split, sky_id


@pytest.fixture(scope="module")
def config(config2: Config) -> Config:
    return small(config2, train=2)


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Context:
    return finished_run(config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(config: Config) -> ClassModel:
    return model_of(config)


def measured(config: Config, rows: np.ndarray, n: int = 120) -> tuple[pd.DataFrame, Labelled]:
    """Return a list, and the evidence on some of its rows."""
    sky = made_up(config, 9, n)
    none = np.zeros(len(rows), np.bool_)
    numbers = np.full(len(rows), 9), rows, sky.source[rows], sky.label[rows]
    return sky.listed, Labelled(sky.evidence.take(rows), *numbers, ~none, none)


def test_the_list_is_judged_again(config: Config, model: ClassModel) -> None:
    listed, strong = measured(config, np.arange(80))
    again = judged_again(listed, strong, model)
    probabilities = model.probabilities(strong.evidence)
    real = probabilities[:, :-1].sum(axis=1)
    np.testing.assert_allclose(real, 1.0 - probabilities[:, -1], atol=1e-12)
    assert again.index.tolist() == list(range(120))
    assert (np.diff(again["score"]) <= 0).all()
    np.testing.assert_array_equal(again["score"], again["probability"])
    np.testing.assert_allclose(again["score"][:80], np.sort(real)[::-1])
    assert set(again["lon_deg"][:80]) == set(listed["lon_deg"][:80])
    # Those that were too weak to be measured stay behind, in their order.
    assert again["lon_deg"][80:].tolist() == listed["lon_deg"][80:].tolist()
    assert again["score"][80:].max() < real.min()
    false = again["score"][again["score"] < 1e-3]
    assert len(false) > 40
    assert false.is_unique, "those that are surely false keep an order"
    # A row keeps its own columns.
    first = listed.index[listed["lon_deg"] == again["lon_deg"][0]][0]
    assert again["score"][0] == real[first]


def test_the_list_is_judged_again_in_any_order_of_the_evidence(
    config: Config, model: ClassModel
) -> None:
    listed, some = measured(config, np.array([40, 2, 77]))
    again = judged_again(listed, some, model)
    expected = judged_again(listed, measured(config, np.array([2, 40, 77]))[1], model)
    pd.testing.assert_frame_equal(again, expected, check_exact=True)
    assert set(again["lon_deg"][:3]) == set(listed["lon_deg"].iloc[[2, 40, 77]])


def test_nothing_measured_leaves_the_list(config: Config, model: ClassModel) -> None:
    listed, nothing = measured(config, np.zeros(0, np.int64))
    pd.testing.assert_frame_equal(judged_again(listed, nothing, model), listed, check_exact=True)
    empty = judged_again(listed.iloc[:0], nothing, model)
    assert len(empty) == 0
    assert list(empty) == list(listed)


def test_skies_to_choose_by_and_to_calibrate_on(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def of(number: int) -> tuple[list[int], list[int]]:
        sets = config.sets.model_copy(update={"validation": number})
        return held_out(context_of(config.model_copy(update={"sets": sets}), tmp_path))

    first = sky_id(Split.VALID, 0)
    assert of(2) == ([first], [first + 1])
    assert of(5) == ([first, first + 2, first + 4], [first + 1, first + 3])
    assert not caplog.records
    assert of(1) == ([first], [first])
    assert "calibrated on the sky its epochs are chosen by" in caplog.text


def test_candidates_above_the_cut(run: Context) -> None:
    skies = [sky_id(Split.TRAIN, 1), sky_id(Split.TRAIN, 0), sky_id(Split.VALID, 0)]
    candidates = read_evidence(run, skies)
    assert candidates.sky[[0, -1]].tolist() == [skies[0], skies[-1]]
    above = above_cut(run, candidates)
    score = np.array(
        [
            read_parquet(training_candidates(run, sky))["score"].iloc[row]
            for sky, row in zip(candidates.sky.tolist(), candidates.row.tolist(), strict=True)
        ]
    )
    np.testing.assert_array_equal(above, score >= CUT)
    assert 0 < above.sum() < len(above)
    # A repeated row is as far above the cut as the detection it repeats.
    assert candidates.repeated.sum() == 6
    assert above[candidates.repeated].all()
    mixed = np.random.default_rng(0).permutation(len(candidates))
    np.testing.assert_array_equal(above_cut(run, candidates.take(mixed)), above[mixed])
    assert above_cut(run, candidates.take(np.arange(0))).shape == (0,)


def test_evidence_of_skies_is_read_in_their_order(run: Context, tmp_path: Path) -> None:
    both = [sky_id(Split.TRAIN, 1), sky_id(Split.TRAIN, 0)]
    one, two = (read_evidence(run, [sky]) for sky in both)
    joined = read_evidence(run, both)
    assert len(joined) == len(one) + len(two)
    np.testing.assert_array_equal(joined.label, np.concatenate([one.label, two.label]))
    np.testing.assert_array_equal(joined.evidence.lon_deg[: len(one)], one.evidence.lon_deg)
    with pytest.raises(InputError, match="none given"):
        read_evidence(run, [])
    with pytest.raises(InputError, match=r"evidence_0000000\.npz: holds no evidence"):
        read_evidence(context_of(run.config, tmp_path), [0])


def test_evidence_of_skies_with_other_channels_is_refused(run: Context, tmp_path: Path) -> None:
    shutil.copytree(run.folder(EVIDENCE_TRAINING), tmp_path / EVIDENCE_TRAINING)
    bands = run.config.bands[1:]
    other = made_up(run.config.model_copy(update={"bands": bands}), 1)
    nothing = np.zeros(len(other.label), np.bool_)
    other.evidence.save(
        evidence_file(tmp_path / EVIDENCE_TRAINING, 1), row=other.label, source=other.source,
        label=other.label, counted=~nothing, repeated=nothing,
    )  # fmt: skip
    with pytest.raises(InputError, match="of different channels, years or stamps"):
        read_evidence(context_of(run.config, tmp_path), [0, 1])


def test_a_run_of_miun_alone_has_no_evidence(config: Config) -> None:
    section = config.localisation.model_copy(update={"detector": "miun"})
    alone = config.model_copy(update={"localisation": section})
    assert (is_measured(config), is_measured(alone)) == (True, False)
    names = {s.name for s in STAGES if s.wanted(config)} - {
        s.name for s in STAGES if s.wanted(alone)
    }
    assert names >= {EVIDENCE, EVIDENCE_TRAINING, CLASS_MODEL}


def test_the_classifier_of_another_configuration_is_refused(run: Context, tmp_path: Path) -> None:
    loaded = load_class_model(run)
    assert loaded.class_names[-1] == "FAKE"

    def refused(match: str, **update: object) -> None:
        other = run.config.model_copy(update=update)
        with pytest.raises(InputError, match=match):
            load_class_model(Context(other, run.root, run.tracker))

    refused(r"made for classes .*'FSRQ'.* configuration has .*'BLL', 'PSR', 'FAKE'",
            classes=("BLL", "PSR"))  # fmt: skip
    # The same names in another order would exchange the answers.
    refused("made for classes", classes=run.config.classes[::-1])
    refused("made for channels", bands=run.config.bands[:1])
    stamps = run.config.evidence.model_copy(update={"stamp_pixels": 5})
    refused(r"made for evidence\.stamp_pixels 3.* has 5", evidence=stamps)
    weights = run.config.evidence.model_copy(update={"year_weights": "summed"})
    refused(r"made for evidence\.year_weights", evidence=weights)
    with pytest.raises(InputError, match=r"model\.json"):
        load_class_model(context_of(run.config, tmp_path))


def packaged(run: Context, folder: Path) -> Path:
    """Return the folder of a model with the run's classifier."""
    shutil.copytree(run.folder(CLASS_MODEL) / "model", folder / CLASSES_FOLDER)
    return folder


def test_a_model_without_a_classifier_says_so(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert classifier_of(tmp_path / "plain", config) is None
    assert "model plain has no classifier: CLASS stays empty" in caplog.text


def test_packaged_weights_that_do_not_fit_are_refused(run: Context, tmp_path: Path) -> None:
    model = packaged(run, tmp_path / "model")
    assert classifier_of(model, run.config) is not None
    with pytest.raises(InputError, match="made for classes"):
        classifier_of(model, run.config.model_copy(update={"classes": ("BLL", "FSRQ")}))
    weights = model / CLASSES_FOLDER / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(InputError, match=r"is not the file that model\.json describes"):
        classifier_of(model, run.config)
    weights.unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        classifier_of(model, run.config)
    weights.write_bytes(whole)
    meta = read_json(model / CLASSES_FOLDER / "model.json")
    del meta["extra"]["temperature"]
    write_json(model / CLASSES_FOLDER / "model.json", meta)
    with pytest.raises(InputError, match=r"holds no complete classifier .*temperature"):
        classifier_of(model, run.config)
