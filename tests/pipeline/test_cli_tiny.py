"""The real command line on the tiny configuration: the whole chain, then what a second run does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY, geminga

from geminga.catalogue import read_fits
from geminga.catalogue.classified import CLASSIFIED
from geminga.config import load_config
from geminga.evaluation.class_ceilings import NOISE_FREE, NOISY
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.class_text import class_text
from geminga.evaluation.class_text import leading_table as leading_class_table
from geminga.evaluation.yardstick_results import Yardstick
from geminga.evaluation.yardstick_text import leading_table, text_table
from geminga.files import read_json, read_parquet
from geminga.pipeline.class_assess import BOOSTING, EVIDENCE_NET, THESIS_CNN
from geminga.pipeline.report import CAPTIONS
from geminga.pipeline.search import SEARCH_NAMES
from geminga.pipeline.stages import STAGES

WANTED = [stage for stage in STAGES if stage.wanted(load_config(TINY))]


def test_the_run_prints_figures_and_where_everything_is(finished: tuple[Path, str]) -> None:
    out, printed = finished
    for text in (*SEARCH_NAMES.values(), "of the oracle's", "true \\ found", "mlflow ui"):
        assert text in printed
    root = out / "tiny"
    assert (root / "report" / "report.html").stat().st_size > 50_000
    assert str(root / "catalog" / "catalog_2000000.fits") in printed


def test_all_searches_are_measured(finished: tuple[Path, str]) -> None:
    out, printed = finished
    folder = out / "tiny" / "evaluate"
    result = Yardstick.from_json(read_json(folder / "yardstick.json"))
    assert list(result.searches) == list(SEARCH_NAMES.values())
    assert leading_table(result) in printed
    assert text_table(result) == (folder / "yardstick.txt").read_text()
    assert result.oracle == "oracle (true background)"
    ranked = result.searches["likelihood and ranker"]
    whole = ranked.parts["all"]
    assert sum(whole.at_purity["0.9"].by["ts"].n) == whole.sources > 300
    assert ranked.score_calibration is not None
    best = max(s.parts["all"].at_purity["0.9"].completeness.value for s in result.searches.values())
    assert 0.5 < whole.at_purity["0.9"].completeness.value <= best
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    # Figures of real skies alone.
    assert drawn == set(CAPTIONS) - {"references", "completeness"}


def test_classifiers_are_measured(finished: tuple[Path, str]) -> None:
    out, printed = finished
    folder = out / "tiny" / "evaluate"
    result = ClassResult.from_json(read_json(folder / "classes.json"))
    assert list(result.classifiers) == [EVIDENCE_NET, BOOSTING, THESIS_CNN]
    assert list(result.ceilings) == [NOISE_FREE, NOISY]
    assert leading_class_table(result) in printed
    assert class_text(result) + "\n" == (folder / "classes.md").read_text(encoding="utf-8")
    catalog = read_fits(out / "tiny" / "catalog" / "catalog_2000000.fits")
    network = result.classifiers[EVIDENCE_NET]
    assert sum(map(sum, network.natural)) == len(catalog), "no extended source in these skies"
    # What spectra and years tell, even with one sky to learn from.
    best = network.figures["auc/AGN against galactic"].value
    assert best > 0.85
    assert best > result.classifiers[THESIS_CNN].figures["auc/AGN against galactic"].value


def test_the_classifier_judges_the_list_again(finished: tuple[Path, str]) -> None:
    root = finished[0] / "tiny"
    again = read_parquet(root / "catalog" / "candidates_classified_2000000.parquet")
    listed = read_parquet(root / "search" / "candidates_ranked_2000000.parquet")
    assert again["score"].is_monotonic_decreasing
    assert again["score"].between(0, 1).all()
    key = ["lon_deg", "lat_deg", "ts"]
    same = again.sort_values(key)[key].to_numpy() == listed.sort_values(key)[key].to_numpy()
    assert same.all()


def test_the_catalogue_has_positions_scores_and_probabilities(
    finished: tuple[Path, str],
) -> None:
    out, _ = finished
    catalog = read_fits(out / "tiny" / "catalog" / "catalog_2000000.fits")
    assert {"GLON", "GLAT", "RAJ2000", "DEJ2000", "SCORE", "Conf_68_Radius"} <= set(catalog.columns)
    probabilities = catalog[["P_BLL", "P_FSRQ", "P_PSR", "P_PWN_SNR", "P_FAKE"]]
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-6)
    named = probabilities.columns[probabilities.to_numpy().argmax(axis=1)]
    assert [f"P_{c.replace('+', '_')}" for c in catalog["CLASS"]] == named.tolist()
    assert {c.name for c in CLASSIFIED} <= set(catalog.columns)
    assert catalog["UNLIKE"].between(0, 1).all()
    assert catalog["AMBIGUOUS"].dtype == bool
    assert 0 < catalog["AMBIGUOUS"].sum() < len(catalog)
    years = load_config(TINY).sky.years
    history = catalog[[f"Flux_History_{year}" for year in range(years)]]
    assert f"Flux_History_{years}" not in catalog
    # Ratios to the mean, times the mean flux above 1 GeV.
    assert (history.mean(axis=1) / catalog["Flux1000"]).median() == pytest.approx(1.0, abs=0.1)
    assert catalog["Variability_Index"].notna().mean() > 0.99
    regions = (out / "tiny" / "catalog" / "catalog_2000000.reg").read_text()
    assert regions.count("text={") == len(catalog)


def test_every_stage_says_where_it_came_from(finished: tuple[Path, str]) -> None:
    out, _ = finished
    notes = sorted((out / "tiny").glob("*/stage.json"))
    assert len(notes) == len(WANTED)
    hashes = {json.loads(path.read_text())["config_hash"] for path in notes}
    assert len(hashes) == 1


# MLflow 3.17 maps its tables with a loader that SQLAlchemy 2.1 has deprecated.
@pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)
def test_mlflow_has_a_parent_and_a_child_for_each_stage(finished: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    out, _ = finished
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("geminga-tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1
    assert len(children) == len(WANTED)
    metrics = parents[0].data.metrics
    by_flux = "likelihood_and_ranker/all/completeness_by_s1_at_0.9_error"
    assert {"searches/MIUN", "ratio_to_oracle_at_purity_0.90", by_flux} <= set(metrics)
    sets = {d.dataset.name for d in parents[0].inputs.dataset_inputs}
    assert sets == {"tiny training skies", "tiny validation skies", "tiny test skies"}
    (evaluated,) = (r for r in children if r.data.tags["stage"] == "evaluate")
    assert "wavelet_search/position_bright/median_deg_error" in evaluated.data.metrics
    for key in ("network_on_evidence/macro_f1", "ceiling/noise-free_truth/macro_f1_true"):
        assert key in evaluated.data.metrics
    assert parents[0].data.params["miun.width"] == "4"
    kept = {f.path for r in children for f in client.list_artifacts(r.info.run_id)}
    files = {
        "confusion.json", "summary.json", "yardstick.json", "yardstick.txt", "report.html",
        "classes.json", "classes.md",
    }  # fmt: skip
    assert {"classifier", "figures", "catalog", *files} <= kept
    models = client.search_logged_models([experiment.experiment_id])
    assert {model.name for model in models} == {"miun", "ranker", "classifier"}
    assert {model.source_run_id for model in models} == {parents[0].info.run_id}
    assert {str(model.status) for model in models} == {"READY"}


def test_a_second_run_skips_everything(finished: tuple[Path, str]) -> None:
    out, _ = finished
    again = geminga("run", "--config", str(TINY), "--set", f"run.output={out}")
    assert again.returncode == 0
    assert again.stderr.count("finished before, skipped") == len(WANTED)
    assert "done in" not in again.stderr


def test_a_changed_setting_reruns_what_depends_on_it_if_that_is_asked_for(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(finished[0] / "tiny", tmp_path / "tiny")
    here = ("--config", str(TINY), "--set", f"run.output={tmp_path}")
    change = ("--set", "evaluation.flux_bins_per_decade=3")
    refused = geminga("report", *here, *change)
    assert refused.returncode == 2
    told = refused.stderr.splitlines()[-1]
    assert "was made with other settings (evaluation.flux_bins_per_decade" in told
    assert (
        "run.replace=true to make again the stages that depend on them (evaluate, report)" in told
    )
    again = geminga("report", *here, *change, "--set", "run.replace=true")
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stderr.count("finished before, skipped") == len(WANTED) - 2
    assert "evaluate: done in" in again.stderr
    assert "report: done in" in again.stderr


def test_one_worker_gives_the_same_bytes_for_the_same_weights(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    first = finished[0] / "tiny"
    second = tmp_path / "tiny"
    for stage in ("miun", "ranker", "classifier", "class_model"):
        shutil.copytree(first / stage, second / stage)
    done = geminga(
        "classify", "--config", str(TINY), "--set", f"run.output={tmp_path}",
        "--set", "run.workers=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for stage in ("classifier", "class_model"):
        assert f"{stage}: finished before, skipped" in done.stderr
    for stage, pattern in (
        ("patches", "*.parquet"), ("observe", "*"), ("evidence", "*.npz"),
        ("evidence_training", "*.npz"), ("catalog", "*"),
    ):  # fmt: skip
        paths = [p for p in sorted((first / stage).glob(pattern)) if p.name != "stage.json"]
        assert paths
        for path in paths:
            assert path.read_bytes() == (second / stage / path.name).read_bytes(), path.name


def test_config_show_prints_the_resolved_tree_and_its_hash() -> None:
    shown = geminga("config", "show", "--config", str(TINY), "--set", "seed=7")
    assert shown.returncode == 0
    assert shown.stdout.startswith("# hash ")
    tree = yaml.safe_load(shown.stdout)
    assert tree["seed"] == 7
    assert tree["patches"]["size_deg"] == 10.0, "defaults are shown too"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("miun.widht=4", "unknown key miun.widht"),
        ("miun.width=0", "miun.width = 0"),
        ("sky.population=nothing", "nothing"),
        ("classes=[BLL, XYZ]", "XYZ"),
        ("evidence.stamp_widths_r68=[]", "evidence.stamp_widths_r68"),
        ("evidence_net.prior=best", "evidence_net.prior"),
        ("evidence_net.branches=[sound]", "evidence_net.branches"),
        ("response.irf=P9R9", "P9R9"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_2(
    change: str, message: str, tmp_path: Path
) -> None:
    done = geminga(
        "simulate", "--config", str(TINY), "--set", change, "--set", f"run.output={tmp_path}"
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr


def test_an_unwritable_output_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = geminga("simulate", "--config", str(TINY), "--set", f"run.output={blocked}")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_configuration_is_one_line_and_exit_code_2() -> None:
    done = geminga("run", "--config", "nowhere.yaml")
    assert done.returncode == 2
    assert "error: nowhere.yaml: cannot be read" in done.stderr
