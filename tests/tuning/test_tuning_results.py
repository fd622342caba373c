"""What a tuning leaves: the table, the picture, the best configuration."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from geminga.config import Config, load_config
from geminga.distributed.tune import OBJECTIVE, TrialResult, distributions
from geminga.errors import InputError
from geminga.evaluation.style import save_figure
from geminga.evaluation.tuning_figures import objective_by_setting
from geminga.files import read_json, write_json
from geminga.pipeline import tune
from geminga.pipeline.tune import (
    Goal,
    Outcome,
    check_same,
    run_tuning,
    trial_table,
    why_none,
    write_tuned,
)
from geminga.sections.tuning import Parameter, Tuning, Value

SPACE = {
    "localisation.threshold": Parameter(low=3, high=60, log=True),
    "miun.width": Parameter(low=4, high=16),
    "miun_training.loss": Parameter(values=("bce", "dice")),
}
TUNING = Tuning(name="mine", space=SPACE, trials=4)


def result(number: int, objective: float, **more: float) -> TrialResult:
    values: dict[str, Value] = {
        "localisation.threshold": 3.5 * (number + 1),
        "miun.width": 4 + number,
        "miun_training.loss": ("bce", "dice")[number % 2],
    }
    if math.isnan(objective):
        return TrialResult(number, values, "failed", {}, "loss is nan")
    return TrialResult(number, values, "finished", {OBJECTIVE: objective, "epoch": 3.0, **more})


RESULTS = [result(0, 0.4), result(1, 0.7, purity=0.8), result(2, math.nan), result(3, 0.7)]


def test_the_first_of_equally_good_trials_is_best() -> None:
    best = Goal("completeness", "words", "max").best(RESULTS)
    assert best is not None
    assert best.number == 1
    best = Goal("loss", "words", "min").best(RESULTS)
    assert best is not None
    assert best.number == 0
    assert Goal("loss", "words").best([RESULTS[2]]) is None


def test_why_no_trial_came_to_an_end_is_said() -> None:
    cut = TrialResult(0, {"miun.width": 4}, "stopped early")
    assert why_none([cut, RESULTS[2]]) == "loss is nan"
    # The time may end while trials go on: they have no error.
    assert why_none([cut]) == why_none([]) == "the time budget ended before the first"


def test_the_table_has_a_row_for_every_trial() -> None:
    table = trial_table(RESULTS)
    assert table["trial"].tolist() == [0, 1, 2, 3]
    assert table["status"].tolist() == ["finished", "finished", "failed", "finished"]
    assert table["error"].tolist() == ["", "", "loss is nan", ""]
    assert table["miun.width"].tolist() == [4, 5, 6, 7]
    assert math.isnan(table[OBJECTIVE][2])
    assert table["purity"][1] == 0.8


def test_optuna_seeks_in_the_whole_space() -> None:
    made = distributions(SPACE, frozenset({"miun.width"}))
    assert {key: str(d) for key, d in made.items()} == {
        "localisation.threshold": "FloatDistribution(high=60.0, log=True, low=3.0, step=None)",
        "miun.width": "IntDistribution(high=16, log=False, low=4, step=1)",
        "miun_training.loss": "CategoricalDistribution(choices=('bce', 'dice'))",
    }


def test_the_best_configuration_is_complete_and_says_where_it_comes_from(
    config2: Config, tmp_path: Path
) -> None:
    path = tmp_path / "test_mine.yaml"
    outcome = Outcome(path, "completeness at purity 0.8", 0.7, 0.4, 1, 4)
    write_tuned(path, config2, TUNING, RESULTS[1], outcome)
    tuned = load_config(path)
    assert tuned.name == "test_mine"
    assert tuned.localisation.threshold == 7.0
    assert tuned.miun.width == 5
    assert tuned.miun_training.loss == "dice"
    same = tuned.model_dump()
    before = config2.model_dump()
    for section, key in (k.split(".") for k in SPACE):
        same[section][key] = before[section][key]
    assert same | {"name": "test"} == before
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert header[0] == f"# Configuration test ({config2.hash()}) with the best values of mine."
    assert "0.7000 (trial 1; before: 0.4000; 4 trials)" in header[1]
    assert "# localisation.threshold = 7.0" in header


def test_an_outcome_says_what_was_not_in_the_space() -> None:
    text = Outcome(Path("x"), "words", 0.7, math.nan, 1, 4).text()
    assert text == "words: 0.7000 (trial 1; before: not in the space; 4 trials)"


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_picture_is_drawn_of_any_trials(tmp_path: Path, mode: str) -> None:
    for number, results in enumerate((RESULTS, RESULTS[:1], [RESULTS[2]])):
        table = trial_table(results)
        figure = objective_by_setting(table, list(SPACE), SPACE, "completeness", mode)  # type: ignore[arg-type]
        axes = [a for a in figure.axes if a.get_visible()]
        assert [a.get_xlabel() for a in axes] == ["trial", *SPACE]
        low, high = axes[1].get_xlim()
        assert low < 3 < 60 < high
        path = tmp_path / f"{number}.png"
        save_figure(figure, path)
        assert path.stat().st_size > 5000


def test_values_of_two_kinds_of_numbers_have_their_places() -> None:
    """A table holds 3 and 4.5 as 3.0 and 4.5."""
    key = "localisation.threshold"
    space = {key: Parameter(values=(3, 4.5))}
    results = [
        TrialResult(n, {key: value}, "finished", {OBJECTIVE: 0.1 * n, "epoch": 1.0})
        for n, value in enumerate((3, 4.5, 3))
    ]
    figure = objective_by_setting(trial_table(results), [key], space, "completeness", "max")
    drawn = [c.get_offsets()[:, 0].tolist() for c in figure.axes[1].collections]
    assert [0.0, 1.0, 0.0] in drawn


def never(*_: object) -> object:
    raise AssertionError("nothing is started")


def test_the_trials_of_another_search_are_not_mixed_in(config2: Config, tmp_path: Path) -> None:
    config = config2.model_copy(
        update={"run": config2.run.model_copy(update={"output": str(tmp_path)})}
    )
    folder = tune.tuning_folder(config, TUNING.name)
    goal = Goal("completeness", "words")
    write_json(
        folder / tune.RESULT_FILE,
        {"number": 1, "trials": 4, "best": 0.7, "before": None, "goal": "words", "values": {}},
    )

    write_json(folder / tune.ORIGIN_FILE, tune._origin(config, TUNING, ["a"]))

    def again(config: Config, tuning: Tuning, made_of: str) -> Outcome:
        return run_tuning(config, tuning, Path("mine.yaml"), goal, [made_of], never, never)  # type: ignore[arg-type]

    first = again(config, TUNING, "a")
    assert (first.best, first.number, first.config.name) == (0.7, 1, "test_mine.yaml")
    assert again(config, TUNING, "a") == first
    other = Tuning(name="mine", space=SPACE, trials=5)
    with pytest.raises(
        InputError, match=r"mine\.yaml: .*holds trials of another tuning file; give"
    ):
        again(config, other, "a")
    with pytest.raises(InputError, match=r"trials of another data; give this search another name"):
        again(config, TUNING, "b")
    with pytest.raises(InputError, match=r"trials of another configuration"):
        again(config.model_copy(update={"seed": 5}), TUNING, "a")
    assert read_json(folder / tune.ORIGIN_FILE)["tuning"]["trials"] == 4
    # Before any stage is run the data are not known yet.
    check_same(config, TUNING, Path("mine.yaml"))
    with pytest.raises(InputError, match=r"trials of another tuning file"):
        check_same(config, other, Path("mine.yaml"))


class Tracked:
    """Stands for the tracker and for its children: notes what is said."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.name = ""

    def child(self, name: str, params: dict[str, Value]) -> Tracked:
        mine = Tracked()
        mine.said, mine.name = self.said, name
        self.said.append((name, "begins", params["miun.width"]))
        return mine

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.said.append((self.name, step, values[OBJECTIVE]))

    def end(self, failed: bool) -> None:
        self.said.append((self.name, "failed" if failed else "ends"))


def test_what_was_not_said_of_trials_before_a_kill_is_said_at_the_end() -> None:
    tracked = Tracked()
    following = tune._Following(tracked, 4, Goal("completeness", "words"))  # type: ignore[arg-type]
    row = {OBJECTIVE: 0.4, "epoch": 3.0}
    following.reported(0, RESULTS[0].values, row)
    following.ended(0, RESULTS[0].values, "")
    assert tracked.said == [
        ("trial_0000", "begins", 4),
        ("trial_0000", 3, 0.4),
        ("trial_0000", "ends"),
    ]
    tracked.said.clear()
    following.settle(RESULTS[:3])
    assert tracked.said == [
        ("trial_0001", "begins", 5),
        ("trial_0001", 3, 0.7),
        ("trial_0001", "ends"),
        ("trial_0002", "begins", 6),
        ("trial_0002", "failed"),
    ]
