"""The image's recipe, as far as it can be judged without a container engine."""

from __future__ import annotations

import fnmatch
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    """One ``FROM``: what it stands on, and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [text for name, text in self.instructions if name == word]


def read(path: Path) -> tuple[dict[str, str], dict[str, Stage]]:
    """Return the arguments before the first stage, and the stages by name, in order."""
    text = "\n".join(
        line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")
    )
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    current = ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        word = word.upper()
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = name or str(len(stages))
            stages[current] = Stage(base)
        elif not stages:
            assert word == "ARG", f"{word} before the first FROM"
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stages[current].instructions.append((word, rest.strip()))
    return arguments, stages


ARGUMENTS, STAGES = read(ROOT / "Dockerfile")
FINAL = ("cpu", "gpu")


def chain(name: str) -> list[Stage]:
    """Return a stage with all those it stands on, the lowest first."""
    stage = STAGES[name]
    return [*(chain(stage.base) if stage.base in STAGES else []), stage]


def test_there_is_an_image_with_and_without_gpu_and_the_default_is_without() -> None:
    assert set(FINAL) <= set(STAGES)
    assert list(STAGES)[-1] == "cpu"


def test_bases_are_named_by_an_exact_tag() -> None:
    tag = re.compile(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?")
    assert tag.fullmatch(ARGUMENTS["PYTHON"])
    assert {s.base for s in STAGES.values() if s.base not in STAGES} == {"${PYTHON}"}
    assert ":latest" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", STAGES)
def test_every_file_that_is_copied_exists_and_is_let_through(name: str) -> None:
    ignored = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]  # fmt: skip
    assert ignored[0] == "*", ".dockerignore must name what goes in, not what stays out"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    for text in STAGES[name].all("COPY"):
        words = shlex.split(text)
        origin = [w for w in words if w.startswith("--from=")]
        if origin:
            assert origin[0].removeprefix("--from=") in STAGES
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source.rstrip("/"), p) for p in allowed), source


def test_stages_that_are_taken_from_come_earlier() -> None:
    names = list(STAGES)
    for place, (name, stage) in enumerate(STAGES.items()):
        text = " ".join(t for _, t in stage.instructions)
        for origin in re.findall(r"(?:--from=|,from=)([\w-]+)", text):
            assert origin in names[:place], f"{name} takes from {origin}"


@pytest.mark.parametrize("name", STAGES)
def test_nothing_comes_from_an_address_or_without_a_pin(name: str) -> None:
    stage = STAGES[name]
    assert not stage.all("ADD")
    for command in stage.all("RUN"):
        assert not re.search(r"\b(curl|wget) +(-\S+ +)*http", command)
        assert not re.search(r"ray==|rayproject/", command)
        for install in re.findall(r"pip install [^&|]*", command):
            assert "--constraint constraints.txt" in install or "--no-index" in install, install
        for install in re.findall(r"apt-get install [^&|]*", command):
            assert "--no-install-recommends" in install
            assert "rm -rf /var/lib/apt/lists" in command


@pytest.mark.parametrize("name", FINAL)
def test_the_image_runs_as_nobody_in_particular(name: str) -> None:
    instructions = [i for stage in chain(name) for i in stage.instructions]
    users = [place for place, (word, _) in enumerate(instructions) if word == "USER"]
    assert instructions[users[-1]][1] == "1000"
    # A number, so that Kubernetes can see that it is not root; and nothing is changed after it.
    assert [word for word, _ in instructions[users[-1] + 1 :]] == ["CMD"]
    assert not any("chmod 777" in text or "sudo" in text for _, text in instructions)


@pytest.mark.parametrize("name", FINAL)
def test_everything_that_is_written_goes_to_tmp(name: str) -> None:
    settings = dict(
        word.split("=", 1)
        for stage in chain(name)
        for text in stage.all("ENV")
        for word in shlex.split(text)
    )
    for variable in ("HOME", "RAY_TMPDIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        assert Path(settings[variable]).is_relative_to("/tmp"), variable
    assert settings["PYTHONDONTWRITEBYTECODE"] == "1"


@pytest.mark.parametrize("name", FINAL)
def test_the_image_holds_the_code_and_the_jobs(name: str) -> None:
    stage = STAGES[name]
    assert f"--from=dependencies-{name} /venv /venv" in stage.all("COPY")
    assert "jobs jobs" in stage.all("COPY")
    assert "/app" in stage.all("WORKDIR")
    # What changes with the code comes after what does not: the big layer is kept.
    words = [text for _, text in stage.instructions]
    wheel = next(i for i, text in enumerate(words) if "/wheels/*.whl" in text)
    assert words.index(f"--from=dependencies-{name} /venv /venv") < wheel
    for layer in ("dependencies-cpu", "dependencies-gpu"):
        assert not any(text.startswith("platform") for text in STAGES[layer].all("COPY"))


def test_the_variants_differ_in_torch_alone() -> None:
    cpu, gpu = (
        [t for t in STAGES[f"dependencies-{name}"].all("RUN") if not t.endswith(" torch")]
        for name in FINAL
    )
    assert cpu == gpu
    for name in FINAL:
        (torch,) = (t for t in STAGES[f"dependencies-{name}"].all("RUN") if t.endswith(" torch"))
        assert f'--index-url "${{{name.upper()}_INDEX}}"' in torch


@pytest.mark.parametrize("name", FINAL)
def test_a_new_revision_makes_none_of_the_layers_anew(name: str) -> None:
    words = [word for word, _ in STAGES[name].instructions]
    revision = words.index("ARG")
    assert STAGES[name].instructions[revision : revision + 2] == [
        ("ARG", "REVISION"),
        ("ENV", "GEMINGA_REVISION=${REVISION}"),
    ]
    assert not {"RUN", "COPY"} & set(words[revision:])
