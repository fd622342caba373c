"""Files of a tuning: what they may say, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from geminga.config import Config
from geminga.distributed.tune import check_cores
from geminga.errors import InputError
from geminga.pipeline import tune_localisation, tune_training
from geminga.pipeline.tune_space import (
    check_space,
    inside,
    is_integer,
    read_tuning,
    setting_of,
    with_values,
)
from geminga.pipeline.tune_training import check_early_stop, check_objective, tunable
from geminga.sections.tuning import LocalisationTuning, Parameter, TrainingTuning, Tuning

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path: Path, text: str) -> Tuning:
    return read_tuning(TrainingTuning, written(tmp_path, text))


SPACE = "space: {miun.width: {low: 4, high: 16}}\n"


def test_a_file_is_named_after_itself_and_keeps_kinds_of_numbers(tmp_path: Path) -> None:
    tuning = read(
        tmp_path,
        "space:\n"
        "  miun.width: {low: 4, high: 16}\n"
        "  miun_training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
        "  miun_training.augment: {values: [true, false]}\n",
    )
    assert tuning.name == "mine"
    assert tuning.space["miun.width"].ends == (4, 16)
    assert isinstance(tuning.space["miun.width"].low, int)
    assert tuning.space["miun_training.learning_rate"].log
    assert tuning.space["miun_training.augment"].ends == (True, False)
    assert read(tmp_path, f"name: other\n{SPACE}").name == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials: 3\n", r"mine\.yaml: space: Field required"),
        ("space: {}\n", r"space.*at least 1 item"),
        (f"trails: 3\n{SPACE}", r"unknown key trails = 3; known keys here are name, space, trials"),
        (f"trials: 0\n{SPACE}", r"trials = 0: Input should be greater than or equal to 1"),
        (f"concurrency: 0\n{SPACE}", r"concurrency = 0"),
        (f"network: unet\n{SPACE}", r"network = 'unet'"),
        (f"reduction: 1\n{SPACE}", r"reduction = 1"),
        (f"name: a/b\n{SPACE}", r"name = 'a/b'"),
        ("space: {miun.width: {low: 4}}\n", r"give low and high, or values"),
        ("space: {miun.width: {low: 4, high: 4}}\n", r"low 4 is not below high 4"),
        ("space: {miun.width: {low: 0, high: 4, log: true}}\n", r"low 0 has no logarithm"),
        ("space: {miun.width: {values: []}}\n", r"values"),
        ("space: {miun.width: {values: [4, 4]}}\n", r"values \[4, 4\] must be distinct"),
        ("space: {miun.width: {values: [4], low: 2}}\n", r"give either values, or low and high"),
        ("space: {miun.width: {values: [[4]]}}\n", r"space\.miun\.width\.values"),
        ("space: [miun.width]\n", r"space"),
        ("space: {a: 1, a: 2}\n", r"key 'a' is given twice"),
        ("- 3\n", r"is not a mapping"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        read_tuning(LocalisationTuning, tmp_path / "none.yaml")


def check_localisation(config: Config, key: str, **parameter: object) -> None:
    space = {key: Parameter.model_validate(parameter)}
    tune = tune_localisation
    check_space(config, space, tune.ALLOWED, tune.WHY_NOT, "mine.yaml")


def test_settings_of_the_localisation_are_accepted(config2: Config) -> None:
    for key in tune_localisation.ALLOWED:
        check_localisation(config2, key, low=0.5, high=3.5)


@pytest.mark.parametrize(
    ("key", "parameter", "message"),
    [
        (
            "localisation.treshold",
            {"low": 3, "high": 60},
            r"mine\.yaml: space: unknown key localisation\.treshold = 3; known keys here are "
            r"detector, kernel_radius_px, threshold, ",
        ),
        (
            "nothing.at.all",
            {"low": 3, "high": 60},
            r"unknown key nothing.*known keys here are name",
        ),
        ("localisation.threshold.low", {"low": 3, "high": 6}, r"threshold is no section"),
        ("localisation.threshold", {"low": -3, "high": 60}, r"threshold = -3: .*greater than 0"),
        ("localisation.threshold", {"values": [3, "much"]}, r"threshold = 'much'"),
        ("localisation.purity_floor", {"low": 0.7, "high": 0.9}, r"the purity at which trials are"),
        ("likelihood.search_least_ts", {"low": 5, "high": 9}, r"which no trial repeats"),
        ("likelihood.search_separation_deg", {"low": 0.1, "high": 0.5}, r"no trial repeats"),
        ("miun.width", {"low": 4, "high": 8}, r"changes the network's output.*use tune-training"),
        ("ranker.width", {"low": 4, "high": 8}, r"use tune-training with network: ranker"),
        (
            "localisation.wavelet_threshold",
            {"low": 2, "high": 5},
            r"changes nothing.*threshold_step",
        ),
        ("localisation.detector", {"values": ["miun"]}, r"changes nothing that is measured here"),
        ("evaluation.match_radius_deg", {"low": 0.1, "high": 1}, r"changes nothing"),
        ("bands", {"values": [1]}, r"bands"),
    ],
)
def test_what_cannot_be_tuned_is_refused_by_name(
    config2: Config, key: str, parameter: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_localisation(config2, key, **parameter)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "parameter", "message"),
    [
        ("miun_training.epochs", {"low": 2, "high": 8}, r"early stop shortens"),
        ("miun_training.workers", {"low": 1, "high": 2}, r"how a training is run"),
        ("miun.width", {"low": 4, "high": 8.5}, r"miun\.width = 8\.5"),
        ("miun.width", {"low": 0, "high": 8}, r"miun\.width = 0"),
        ("miun.bottleneck_pixels", {"values": [8, 64]}, r"bottleneck_pixels 64 is not below"),
        ("miun_training.loss", {"values": ["bce", "hinge"]}, r"loss = 'hinge'"),
        ("miun_training.loss", {"low": 1, "high": 2}, r"loss = 1"),
        ("miun_training.augment", {"low": 0, "high": 1}, r"is no number; give values"),
        ("localisation.threshold", {"low": 3, "high": 60}, r"vary keys of miun, miun_training"),
        ("sky.years", {"low": 3, "high": 6}, r"changes nothing that is measured here"),
    ],
)
def test_what_is_no_setting_of_a_training_is_refused(
    config2: Config, key: str, parameter: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_space(
            config2, {key: Parameter.model_validate(parameter)}, *tunable("miun"), "mine.yaml"
        )


def test_settings_after_a_training_are_refused(config2: Config) -> None:
    space = {"evidence_net.prior": Parameter(values=("natural", "flat"))}
    with pytest.raises(InputError, match=r"prior is applied after the training"):
        check_space(config2, space, *tunable("evidence_net"), "mine.yaml")


def test_losses_of_different_kinds_are_not_compared() -> None:
    space = {"miun_training.loss": Parameter(values=("bce", "dice"))}
    assert (
        check_objective(TrainingTuning(space=space, objective="valid_mask_overlap"), "f") == "max"
    )
    with pytest.raises(
        InputError, match=r"cannot be compared by valid_loss; set objective: valid_m"
    ):
        check_objective(TrainingTuning(space=space), "f")
    other = {"miun.width": Parameter(values=(4, 8))}
    assert check_objective(TrainingTuning(space=other), "f") == "min"
    with pytest.raises(
        InputError, match=r"valid_accuracy is none of the miun's.*valid_mask_overlap"
    ):
        check_objective(TrainingTuning(space=other, objective="valid_accuracy"), "f")


def test_a_grace_beyond_the_last_epoch_is_refused() -> None:
    tuning = TrainingTuning(space={"miun.width": Parameter(values=(4, 8))}, grace_epochs=4)
    check_early_stop(tuning, 4, "f")
    with pytest.raises(
        InputError,
        match=r"f: grace_epochs 4 is more than the 3 epochs .*miun_training\.epochs\); u",
    ):
        check_early_stop(tuning, 3, "f")


def test_more_trials_than_cores_are_refused_where_the_cores_are_known(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there: dict[str, float] = {"CPU": 4.0}
    monkeypatch.setattr("ray.cluster_resources", lambda: there)
    check_cores("f", 2, 2, 0)
    with pytest.raises(InputError, match=r"concurrency: 3 trials of 2 workers on 4 cores; use 2"):
        check_cores("f", 3, 2, 0)
    with pytest.raises(InputError, match=r"1 trials of 1 workers on 0 GPUs; lower the workers"):
        check_cores("f", 1, 1, 1)
    # An autoscaler has taken every worker away, and brings them when trials wait.
    there.clear()
    check_cores("f", 3, 2, 1)
    assert "must be able to bring 6 cores at a time" in caplog.text


def test_values_go_into_a_configuration_and_nothing_else_changes(config2: Config) -> None:
    values = {"localisation.threshold": 7.5, "miun.width": 6}
    changed = with_values(config2, values, "trial")
    assert (changed.localisation.threshold, changed.miun.width) == (7.5, 6)
    assert with_values(changed, {k: setting_of(config2, k) for k in values}, "trial") == config2
    assert with_values(config2, {}, "trial") == config2


def test_whole_numbers_are_known_by_their_setting(config2: Config) -> None:
    assert is_integer(config2, "miun.width")
    assert not is_integer(config2, "localisation.threshold")
    assert not is_integer(config2, "miun_training.augment")
    with pytest.raises(KeyError):
        setting_of(config2, "miun.widht")


def test_the_search_begins_with_the_configuration_where_it_is_in_the_space(config2: Config) -> None:
    space = {
        "localisation.threshold": Parameter(low=3, high=60),
        "miun_training.loss": Parameter(values=("bce", "dice")),
    }
    assert inside(space, config2) == {"localisation.threshold": 30.0, "miun_training.loss": "bce"}
    assert inside({"localisation.threshold": Parameter(low=3, high=20)}, config2) is None
    assert inside({"miun_training.loss": Parameter(values=("dice",))}, config2) is None
    assert inside({"localisation.purity_floor": Parameter(low=0, high=1)}, config2) is not None
    floorless = with_values(config2, {"localisation.purity_floor": None}, "t")  # type: ignore[dict-item]
    assert inside({"localisation.purity_floor": Parameter(low=0, high=1)}, floorless) is None


def test_the_shipped_files_fit_the_shipped_configurations() -> None:
    from geminga.config import load_config

    folder = ROOT / "jobs" / "configs"
    demo = load_config(folder / "demo.yaml")
    path = folder / "tune_localisation.yaml"
    places = read_tuning(LocalisationTuning, path)
    tune = tune_localisation
    check_space(demo, places.space, tune.ALLOWED, tune.WHY_NOT, str(path))
    path = folder / "tune_training.yaml"
    training = read_tuning(TrainingTuning, path)
    check_space(demo, training.space, *tune_training.tunable(training.network), str(path))
    assert check_objective(training, str(path)) == "max"
    assert inside(training.space, demo) is not None
    assert inside(places.space, demo) is not None
