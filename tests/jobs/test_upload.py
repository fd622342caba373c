"""What ``ray job submit --working-dir .`` sends, built as Ray builds it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).parents[2]
LIMIT_BYTES = 5_000_000


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upload") / "upload.zip"
    create_package(str(ROOT), path, include_gitignore=True, excludes=[])
    return path


def names(upload: Path) -> set[str]:
    with zipfile.ZipFile(upload) as package:
        return {name for name in package.namelist() if not name.endswith("/")}


def test_it_is_small(upload: Path) -> None:
    assert upload.stat().st_size < LIMIT_BYTES


def test_it_holds_the_package_and_the_jobs_alone(upload: Path) -> None:
    sent = names(upload)
    assert {name.split("/")[0] for name in sent} == {"jobs", "platform"}
    # Cards of packaged models are part of the package; there is no other text in it.
    documents = {name for name in sent if name.endswith((".md", ".rst", ".ipynb", ".png"))}
    assert all(name.startswith("platform/geminga/models/") for name in documents)
    data = (".fits", ".gz", ".parquet", ".db", ".npy", ".log", ".pyc", ".nbc", ".nbi")
    assert not {name for name in sent if name.endswith(data)}
    assert not {name for name in sent if "test" in Path(name).name}


def test_it_lacks_nothing_that_jobs_need(upload: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "jobs", "platform"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    wanted = {name for name in tracked.split("\0") if name and (ROOT / name).is_file()}
    assert wanted <= names(upload)


def test_a_job_imports_the_package_it_came_with(upload: Path, tmp_path: Path) -> None:
    """Also where another one, or none, is installed."""
    with zipfile.ZipFile(upload) as package:
        package.extractall(tmp_path)
    code = "import upload, geminga; print(geminga.__file__)"
    found = subprocess.run(
        # Neither the current folder nor the user's environment says where to look.
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, 'jobs'); {code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(found.strip()).is_relative_to(tmp_path)


def test_every_job_takes_the_package_it_came_with() -> None:
    scripts = sorted((ROOT / "jobs").glob("*.py"))
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        if path.name != "upload.py":
            assert text.index("\nimport upload") < text.index("\nfrom geminga"), path.name
            assert "--entrypoint-num-cpus" in text, f"{path.name} does not say what it asks for"
    assert len(scripts) > 9


def test_the_upload_knows_its_version() -> None:
    """Without being installed it has no metadata to read."""
    import tomllib

    import geminga

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert geminga.__version__ == project["version"]
