"""What must hold for the repository as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from geminga.config import config_from_tree, load_config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "geminga"
TUNINGS = sorted((ROOT / "jobs" / "configs").glob("tune_*.yaml"))
CONFIGS = sorted(set((ROOT / "jobs" / "configs").glob("*.yaml")) - set(TUNINGS))
# Names that only exist where the project is developed; spelt so that this file does not hold them.
DEVELOPMENT_PATHS = re.compile(r"/(?:work/main|work/shared|Users/|root/|home/(?!geminga\b)\w)")


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def importers(library: str) -> set[str]:
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == library for name in imports(path))
    }


def test_folders_never_shadow_the_libraries_of_their_name() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not list((ROOT / "mlflow").glob("*.py"))
    import mlflow

    assert mlflow.__version__, "mlflow is this repository's folder, not the library"
    import platform

    assert platform.python_version()


def test_ray_only_in_distributed_and_mlflow_only_in_tracking() -> None:
    assert {name.split("/")[0] for name in importers("ray")} <= {"distributed"}
    assert {name.split("/")[0] for name in importers("mlflow")} <= {"tracking"}


def test_torch_only_in_the_rooms_of_networks() -> None:
    rooms = {name.split("/")[0] for name in importers("torch")}
    assert rooms <= {"networks", "training", "classification", "distributed", "pipeline"}


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked()
        if path.suffix == ".py"
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long, "split these files"


def test_every_room_has_an_init() -> None:
    rooms = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((room / "__init__.py").is_file() for room in rooms)


def test_tests_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem, "a run is found by the name of its configuration"


def test_nothing_unfinished_and_no_development_paths() -> None:
    marks = re.compile("TO" + "DO|FIX" + r"ME|\bXX" + r"X\b|raise NotImplemented" + "Error")
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if marks.search(line) or DEVELOPMENT_PATHS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found


def test_tracked_files_are_small() -> None:
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked()}
    assert {name: size for name, size in large.items() if size > 5_000_000} == {}


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    pins = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", pin) for pin in pins)

    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>!~; ]", name, maxsplit=1)[0]).lower()

    wanted += project["optional-dependencies"]["server"]
    # An extra of the project itself stands for what it lists.
    names = {canonical(name) for name in wanted} - {project["name"]}
    assert names <= {canonical(pin) for pin in pins}


def test_pre_commit_runs_the_pinned_tools_only() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for repository in hooks["repos"]:
        assert repository["repo"] == "local"
        assert all(hook["entry"].startswith(".venv/bin/") for hook in repository["hooks"])


def test_readme_names_files_and_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md", "k8s/README.md", "mlflow/README.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
        for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
            assert (ROOT / document).parent.joinpath(link).exists(), f"{document} links to {link}"


def test_example_settings_of_the_readme_are_accepted() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    config = config_from_tree(yaml.safe_load(example), "README.md")
    assert config.observed is not None
