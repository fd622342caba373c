"""Taking a run's folder: one driver at a time, no mix of settings by mistake."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geminga.config import Config
from geminga.errors import InputError
from geminga.files import read_json, write_json
from geminga.pipeline.taking import CONFIG_FILE, take_run

KEYS = {"skies": "s1", "miun": "m1", "report": "r1"}


def changed(config: Config, folder: Path, **changes: Any) -> Config:
    tree = config.model_dump(mode="json")
    tree["run"]["output"] = str(folder)
    for key, value in changes.items():
        *sections, name = key.split("__")
        node = tree
        for section in sections:
            node = node[section]
        node[name] = value
    return Config.model_validate(tree)


def take(root: Path, config: Config, keys: dict[str, str]) -> None:
    with take_run(root, config, keys, "stage.json"):
        pass


def finish(root: Path, *stages: str) -> None:
    for name in stages:
        write_json(root / name / "stage.json", {"key": KEYS[name]})


def test_other_settings_are_refused_with_both_values_and_what_they_cost(
    config2: Config, tmp_path: Path
) -> None:
    root = tmp_path / "test"
    take(root, changed(config2, tmp_path, miun__width=8), KEYS)
    finish(root, "skies", "miun")
    other = changed(config2, tmp_path, miun__width=16)
    with pytest.raises(InputError) as refused:
        take(root, other, {**KEYS, "miun": "m2", "report": "r2"})
    assert str(refused.value) == (
        f"run 'test' in {tmp_path}: was made with other settings (miun.width 8, now 16); choose "
        "another name with --set name=NAME, or --set run.replace=true to make again the stages "
        "that depend on them (miun)"
    )
    kept = read_json(root / CONFIG_FILE)
    assert kept["miun"]["width"] == 8, "a refused run leaves the record of the old one"


def test_a_begun_stage_counts_too(config2: Config, tmp_path: Path) -> None:
    root = tmp_path / "test"
    take(root, changed(config2, tmp_path), KEYS)
    (root / ".skies.s1.partial").mkdir()
    take(root, changed(config2, tmp_path), KEYS)
    with pytest.raises(InputError, match=r"seed 2018, now 7.*\(skies\)"):
        take(root, changed(config2, tmp_path, seed=7), dict.fromkeys(KEYS, "other"))


def test_with_nothing_made_yet_settings_are_free(config2: Config, tmp_path: Path) -> None:
    root = tmp_path / "test"
    take(root, changed(config2, tmp_path), KEYS)
    take(root, changed(config2, tmp_path, seed=7), dict.fromkeys(KEYS, "other"))
    assert read_json(root / CONFIG_FILE)["seed"] == 7


def test_a_change_that_costs_nothing_finished_is_no_conflict(
    config2: Config, tmp_path: Path
) -> None:
    root = tmp_path / "test"
    take(root, changed(config2, tmp_path), KEYS)
    finish(root, "skies")
    take(root, changed(config2, tmp_path, miun__width=16), {**KEYS, "miun": "m2"})


@pytest.mark.parametrize(
    "change", [{"run__workers": 7}, {"run__experiment": "other"}, {"name": "other"}]
)
def test_where_and_how_it_runs_is_no_conflict(
    config2: Config, tmp_path: Path, change: dict[str, Any]
) -> None:
    root = tmp_path / "test"
    take(root, changed(config2, tmp_path), KEYS)
    finish(root, "skies", "miun", "report")
    # As after a new version of the program: other keys, the same settings.
    take(root, changed(config2, tmp_path, **change), dict.fromkeys(KEYS, "other"))


def test_replacing_is_said_and_recorded(
    config2: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "test"
    take(root, changed(config2, tmp_path, miun__width=8), KEYS)
    finish(root, "miun")
    asked = changed(config2, tmp_path, miun__width=16, run__replace=True)
    with caplog.at_level("WARNING", "geminga"):
        take(root, asked, {**KEYS, "miun": "m2"})
    assert "miun.width 8, now 16" in caplog.text
    assert read_json(root / CONFIG_FILE)["miun"]["width"] == 16


def test_settings_of_a_version_that_had_fewer(config2: Config, tmp_path: Path) -> None:
    """A key that came later has had its default all along; one that is gone is a difference."""
    root = tmp_path / "test"
    config = changed(config2, tmp_path)
    take(root, config, KEYS)
    finish(root, "skies")
    old = config.model_dump(mode="json")
    del old["evidence"]
    write_json(root / CONFIG_FILE, old)
    other_keys = dict.fromkeys(KEYS, "other")
    take(root, config, other_keys)
    write_json(root / CONFIG_FILE, {**config.model_dump(mode="json"), "antennas": {"number": 3}})
    with pytest.raises(InputError, match=r"antennas.number 3, now not there"):
        take(root, config, other_keys)


HOLD = """
import sys
from geminga.config import load_config
from geminga.pipeline.taking import take_run
from pathlib import Path
config = load_config(sys.argv[1], ["run.output=" + sys.argv[2]])
with take_run(Path(sys.argv[2]) / "tiny", config, {}, "stage.json"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_while_the_first_is_alive(
    config2: Config, tmp_path: Path
) -> None:
    tiny = Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tiny), str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        config = changed(config2, tmp_path)
        with pytest.raises(InputError, match=rf"is being worked on by process {first.pid} on "):
            take(tmp_path / "tiny", config, KEYS)
        take(tmp_path / "other", config, KEYS)
        first.send_signal(signal.SIGKILL)
    take(tmp_path / "tiny", config, KEYS)


def test_the_lock_goes_with_an_error(config2: Config, tmp_path: Path) -> None:
    config = changed(config2, tmp_path)
    with pytest.raises(RuntimeError, match="stage"), take_run(tmp_path, config, KEYS, "stage.json"):
        raise RuntimeError("stage")
    take(tmp_path, config, KEYS)
