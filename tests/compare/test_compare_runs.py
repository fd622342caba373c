"""The command line on folders of runs and on MLflow runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from compare_cases import SKIES, photons_of, record, run_folder, truth_of

from geminga.cli import main
from geminga.errors import InputError
from geminga.evaluation.compare_record import compare_test_sets
from geminga.files import read_json, write_json, write_parquet
from geminga.pipeline.compare_runs import compare_runs, labels_of, read_run
from geminga.pipeline.run_record import RECORD, gather_record, truth_digest

# SQLAlchemy of what MLflow's own models declare.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two finished runs on the same skies, the second without a classifier."""
    root = tmp_path_factory.mktemp("runs")
    a = run_folder(root, record("a", 0.4))
    b = run_folder(root, record("b", 0.8, skill=None, miun={"width": 8}))
    return a, b


@pytest.fixture
def copies(runs: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same two, to be spoilt."""
    a, b = (Path(shutil.copytree(run, tmp_path / run.name)) for run in runs)
    return a, b


def test_the_command_line_compares_two_folders(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    done = subprocess.run(
        [sys.executable, "-m", "geminga", "compare", *map(str, runs), "--out", str(out)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"test skies: the same {SKIES} skies with the same photons" in done.stdout
    assert "- Classes: B: no classifier was measured" in done.stdout
    assert "miun.width  -  8" in done.stdout
    assert done.stdout.splitlines()[-1] == f"page: {out / 'compare.html'}"
    assert (out / "compare.txt").read_text("utf-8") in done.stdout
    assert "<title>Runs compared: a, b</title>" in (out / "compare.html").read_text("utf-8")
    assert sorted(path.name for path in out.iterdir()) == ["compare.html", "compare.txt"]


def test_a_record_survives_its_file(runs: tuple[Path, Path]) -> None:
    folder = runs[0]
    one = gather_record(folder, read_json(folder / "config.json"))
    assert one.photons == record("a", 0.4).photons
    assert [sky.name for sky in one.test_skies] == [str(2_000_000 + k) for k in range(SKIES)]
    assert one.test_skies[0].truth == truth_digest(truth_of(0))
    assert list(one.seconds)[:2] == ["miun", "skies"], "the slowest first, without the report"
    assert "report" not in one.seconds
    write_json(folder / "report" / RECORD, one.to_json())
    again = read_run(str(folder))
    assert again.to_json() == one.to_json()
    assert list(again.seconds) == list(one.seconds)
    (folder / "report" / RECORD).unlink()


def test_other_photons_and_other_skies_are_seen(copies: tuple[Path, Path]) -> None:
    a, b = copies

    def text() -> str:
        return compare_test_sets([read_run(str(a)), read_run(str(b))]).text

    photons = sorted((b / "observe").glob("photons_*"))[0]
    # Other encoding, same photons.
    photons_of(0).to_parquet(photons, index=False, row_group_size=7, compression=None)
    assert "with the same photons" in text()
    write_parquet(photons, photons_of(0).assign(year=0))
    assert "seen in other photons" in text()
    write_parquet(next((b / "skies").rglob("sources.parquet")), truth_of(0, seed=3))
    assert text().startswith("NOT COMPARABLE")
    shutil.rmtree(b / "skies")
    write_json(b / "skies" / "stage.json", {"seconds": 1.0})
    assert text().startswith("NOT KNOWN TO BE COMPARABLE")


def test_runs_of_one_name_are_told_apart(copies: tuple[Path, Path]) -> None:
    a, b = copies
    twin = Path(shutil.copytree(a, a.parent / "elsewhere" / "a"))
    records = [read_run(str(path)) for path in (a, b, twin)]
    places = [str(a), f"{b}/", str(twin)]
    assert labels_of(places, records) == [f"a ({a.parent.name})", "b", "a (elsewhere)"]
    run = "0123456789abcdef" * 2
    assert labels_of([run, str(a)], [records[0]] * 2) == ["a (01234567)", f"a ({a.parent.name})"]


def spoil(folder: Path, what: str) -> None:
    if what == "no report":
        (folder / "report" / "stage.json").unlink()
    elif what == "begun anew":
        (folder / ".miun.0123.partial").mkdir()
    elif what == "torn":
        (folder / "evaluate" / "yardstick.json").write_text("{", encoding="utf-8")
    elif what == "no photons":
        next((folder / "observe").glob("photons_*")).write_bytes(b"PAR1 torn")
    elif what == "format":
        write_json(folder / "report" / RECORD, {"format": 99})
    elif what == "damaged":
        write_json(folder / "report" / RECORD, {"format": 1, "name": "b"})


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("no report", r"b: is not finished: it has no report; finish it with geminga run"),
        ("begun anew", r"b: is not finished: stage miun was begun; finish it"),
        ("torn", r"yardstick.json: is not JSON"),
        ("no photons", r"parquet: is not a readable Parquet file .*; observe the sky anew"),
        ("format", r"b: its record for comparisons is of format 99, not 1; report the run anew"),
        ("damaged", r"b: its record for comparisons is damaged \(KeyError\('config'\)\)"),
    ],
)
def test_a_run_that_cannot_be_compared_is_named(
    copies: tuple[Path, Path], what: str, problem: str
) -> None:
    spoil(copies[1], what)
    out = copies[0].parent / "out"
    with pytest.raises(InputError, match=problem):
        compare_runs(list(map(str, copies)), out)
    assert not out.exists()


def test_what_is_no_run_is_named(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    a = str(runs[0])
    for given, problem in (
        ([], "compare: no run is named; name two runs or more"),
        ([a], f"compare: {a} alone; name two runs or more"),
        ([a, a], f"{a}: is named twice; name different runs"),
        ([a, "nonsense"], "nonsense: is neither a folder nor an MLflow run id; name the folder"),
        ([a, str(tmp_path / "file")], "file: is a file; name the folder of a run"),
        ([a, str(runs[0].parent)], f"(no config.json); name one of those in it: {a}, {runs[1]}"),
        ([a, str(tmp_path)], "(no config.json); name the folder of one run"),
    ):
        assert main(["compare", *given, "--out", str(tmp_path / "out")]) == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        assert problem in line
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def store(
    runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, str]]:
    """A store with runs in every state, by name."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("compare", (folder / "artifacts").as_uri())
    ids = {}
    for name in ("whole", "running", "failed", "old", "gone", "stage"):
        tags = {"mlflow.parentRunId": ids["whole"]} if name == "stage" else {}
        run = client.create_run(experiment, run_name=name, tags=tags)
        ids[name] = run.info.run_id
        if name != "old":
            one = gather_record(runs[0], read_json(runs[0] / "config.json"))
            write_json(folder / RECORD, one.to_json())
            client.log_artifact(run.info.run_id, str(folder / RECORD))
        status = {"running": "RUNNING", "failed": "FAILED"}.get(name, "FINISHED")
        if status != "RUNNING":
            client.set_terminated(run.info.run_id, status)
    client.delete_run(ids["gone"])
    return uri, ids


def test_a_run_is_read_from_mlflow(
    runs: tuple[Path, Path], store: tuple[str, dict[str, str]]
) -> None:
    uri, ids = store
    one = read_run(ids["whole"], uri)
    assert one.origin == f"MLflow run {ids['whole']}"
    assert one.to_json() == read_run(str(runs[0])).to_json()


def test_mlflow_runs_that_cannot_be_compared_are_named(
    store: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri, ids = store
    for name, problem in (
        ("running", r"is not finished \(RUNNING\); finish it with geminga run"),
        ("failed", r"is not finished \(FAILED\)"),
        ("old", r"kept no comparison.json: it has no report, or an older version's"),
        ("gone", r"was deleted; run: mlflow runs restore --run-id"),
        ("stage", f"is the part stage of a run; name the whole run: {ids['whole']}"),
    ):
        with pytest.raises(InputError, match=f"MLflow run {ids[name]}: {problem}"):
            read_run(ids[name], uri)
    unknown = "0" * 32
    with pytest.raises(InputError, match=f"{unknown}: is not in sqlite:.*; name the store"):
        read_run(unknown, uri)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="is of no named store; give --tracking-uri, or set"):
        read_run(ids["whole"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert read_run(ids["whole"]).name == "a"
    missing = tmp_path / "none.db"
    with pytest.raises(InputError, match=r"--tracking-uri: .*none.db is not there"):
        read_run(ids["whole"], f"sqlite:///{missing}")
    assert not missing.exists()


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(InputError, match=f"--tracking-uri: the MLflow store {uri} cannot be"):
            read_run("0" * 32, uri)
