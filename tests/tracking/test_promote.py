"""The rule of promotion on records of runs, and the registry of a local store."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from geminga.errors import InputError
from geminga.evaluation.compare_draws import Draws
from geminga.evaluation.compare_record import RunRecord, TestSky
from geminga.pipeline import promote as promotion
from geminga.pipeline.promote import Rules, Verdict, judge, promote, read_rules
from geminga.pipeline.registered import given_model, is_registered
from geminga.tracking.models import DIGEST, folder_digest, folder_model
from geminga.tracking.registry import Registry, Version

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

RULES = Path(__file__).parents[2] / "mlflow" / "registry.yaml"
SEARCH = "likelihood and ranker"


def estimate(value: float, error: float) -> dict[str, float]:
    return {"value": value, "error": error}


class Part(dict[str, Any]):
    """A tree whose keys are attributes: what the rule reads of a record, and no more."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def record(
    completeness: float, error: float = 0.02, calibration: float = 0.05, truth: str = "t",
    draws: Draws | None = None, ece: float = 0.1, photons: str = "p", radius: float = 0.3,
) -> RunRecord:  # fmt: skip
    def search(name: str) -> Part:
        point = Part(completeness=Part(estimate(completeness, error)))
        return Part(
            name=name,
            parts={"all": Part(at_purity={"0.9": point})},
            score_calibration=Part(expected_error=Part(estimate(calibration, 0.01))),
        )

    names = ("likelihood and ranker", "likelihood, ranker and classifier")
    classifier = Part(figures={"ece": Part(estimate(ece, 0.01))})
    made: Any = RunRecord(
        "r", "o", {"seed": 1}, "h", None, (TestSky("2000000", 5, truth, photons),), 1, {}, {}, {},  # type: ignore[arg-type]
        Part(  # type: ignore[arg-type]
            searches={name: search(name) for name in names}, match_radius_deg=radius,
            matching="one-to-one",
        ),
        Part(classifiers={"network": classifier}),  # type: ignore[arg-type]
        None, draws,
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def rules() -> Rules:
    return read_rules(RULES)


def test_the_rules_in_the_repository_name_every_registered_model(rules: Rules) -> None:
    assert set(rules.models) == {"miun", "ranker", "classifier", "detector"}
    assert rules.purity == 0.9


@pytest.mark.parametrize(
    ("own", "champion", "promoted", "words"),
    [
        (record(0.70), record(0.60), True, r"a gain of \+0.1000 ± 0.0283 \(errors in quadrature\)"),
        (record(0.62), record(0.60), False, "not more than 1 errors"),
        (record(0.60), record(0.70), False, "not more than 1 errors"),
        (record(0.70, calibration=0.09), record(0.60), False, "calibration error of the score .* worse"),
        (record(0.70, calibration=0.06), record(0.60), True, "no worse"),
        (record(0.70, truth="other"), record(0.60), False, "other test skies .* measure both on"),
        (record(math.nan), record(0.60), False, "the candidate has no completeness at purity 0.9"),
        (record(0.10), None, True, "there is no champion; completeness at purity 0.9 0.1000"),
        (record(0.10), record(math.nan), True, "the champion has no completeness"),
        # NaN is never worse than anything.
        (record(0.70, calibration=math.nan), record(0.60), False, "the candidate has no calibration"),
        (record(0.70), record(0.60, calibration=math.nan), True, "the champion has no calibration"),
        (record(0.50), record(0.60, calibration=math.nan), False, "not more than 1 errors"),
        (record(0.70, photons=""), record(0.60, photons=""), False, "nothing says that they are the"),
        (record(0.70, radius=1.0), record(0.60), False, "one-to-one within 1 deg.* within 0.3 deg"),
    ],
)  # fmt: skip
def test_the_rule(
    rules: Rules, own: RunRecord, champion: RunRecord | None, promoted: bool, words: str
) -> None:
    verdict = judge(rules, "ranker", own, champion)
    assert verdict.promoted is promoted
    assert re.search(words, "; ".join(verdict.reasons))


def test_errors_in_pairs_decide_where_both_keep_their_resamples(rules: Rules) -> None:
    """Two lists on the same luck of the skies: a small gain is sure."""

    def draws(shift: float) -> Draws:
        values = tuple(0.6 + shift + 0.02 * k + 1e-3 * shift * k for k in range(-10, 11))
        flat = tuple([0.05] * 21)
        figures = {"completeness/all/0.9": values, "calibration_error": flat}
        return Draws(1, 5, 0, 1.0, figures)

    own, champion = record(0.62, draws=draws(0.02)), record(0.60, draws=draws(0.0))
    verdict = judge(rules, "ranker", own, champion)
    assert verdict.promoted
    assert "(in pairs), more than 1 errors" in verdict.reasons[0]
    # The classifier's list is not the run's own, whose resamples are kept.
    assert not judge(rules, "classifier", own, champion).promoted


def test_a_worse_classifier_is_refused_though_it_finds_more(rules: Rules) -> None:
    verdict = judge(rules, "classifier", record(0.7, ece=0.2), record(0.6, ece=0.1))
    assert not verdict.promoted
    assert "calibration error of the classes 0.2000" in verdict.reasons[1]


def test_a_model_without_a_rule_is_named(rules: Rules) -> None:
    with pytest.raises(InputError, match="--name: 'yolo' has no rule; name one of miun, ranker"):
        judge(rules, "yolo", record(0.5), None)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("purity: 2\nbeyond_errors: 1\nmodels: {a: {completeness_of: x}}", "purity: Input should"),
        ("purity: 0.9\nbeyond_errors: 1\nmodels: {a: {completeness: x}}", "models.a.completeness"),
        ("purity: [", "is not YAML"),
    ],
)
def test_unsound_rules_are_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        read_rules(path)
    with pytest.raises(InputError, match="name the rules with --rules"):
        read_rules(tmp_path / "none.yaml")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A local store with three versions of a detector, the files of each in a folder."""
    root = tmp_path_factory.mktemp("registry")
    registry = Registry(f"sqlite:///{root / 'mlflow.db'}")
    client = mlflow.MlflowClient(registry.uri, registry.uri)
    # A local registry asks the store of the process for the model.
    mlflow.set_tracking_uri(registry.uri)
    experiment = client.create_experiment("e", (root / "artifacts").as_uri())
    client.create_registered_model("detector")
    for number in (1, 2, 3):
        data = root / str(number)
        (data / "ranker").mkdir(parents=True)
        (data / "config.yaml").write_text(f"name: detector{number}\n")
        run = client.create_run(experiment).info.run_id
        model = client.create_logged_model(experiment, "detector", run)
        with folder_model(data, {"name": "x"}) as (target, digest):
            assert digest == folder_digest(data)
            client.log_model_artifacts(model.model_id, str(target))
        client.finalize_logged_model(model.model_id, "READY")
        source = f"models:/{model.model_id}"
        client.create_model_version(
            "detector", source, run, {DIGEST: digest}, model_id=model.model_id
        )
    client.set_registered_model_alias("detector", "candidate", "1")
    return registry


def test_what_a_store_refuses_is_one_line_and_no_lack_of_a_champion(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="this cannot be asked of it"):
        registry.of_run("detector", "it's no run")

    def troubled(name: str, alias: str) -> None:
        raise MlflowException("(psycopg2.InterfaceError) closed", BAD_REQUEST)

    monkeypatch.setattr(registry._client, "get_model_version_by_alias", troubled)
    with pytest.raises(InputError, match="InterfaceError"):
        registry.by_alias("detector", "champion")


def named(registry: Registry, alias: str) -> Version:
    version = registry.by_alias("detector", alias)
    assert version is not None
    return version


def test_champions_follow_the_rule(
    registry: Registry, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {named(registry, "candidate").run_id: 0.6}
    monkeypatch.setattr(promotion, "read_run_json", lambda run, name, uri: run)
    monkeypatch.setattr(promotion.RunRecord, "from_json", lambda run, where: record(found[run]))
    assert registry.by_alias("detector", "champion") is None
    assert promote(registry, rules, None, ())["detector"].promoted
    first = named(registry, "champion")
    assert first.number == "1"
    assert promote(registry, rules, None, ["detector"])["detector"].reasons == (
        "detector version 1 is the champion already",
    )
    second = registry.numbered("detector", "2")
    assert second is not None
    found[second.run_id] = 0.61
    verdict: Verdict = promote(registry, rules, second.run_id, ())["detector"]
    assert not verdict.promoted
    assert named(registry, "champion") == first
    found[second.run_id] = 0.7
    assert promote(registry, rules, second.run_id, ())["detector"].promoted
    assert named(registry, "champion") == second
    with pytest.raises(InputError, match="miun: has no version of alias candidate"):
        promote(registry, rules, None, ["miun"])
    with pytest.raises(InputError, match="run 0000 registered no model"):
        promote(registry, rules, "0000", ())


def test_detect_is_given_the_files_of_a_version(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [is_registered(m) for m in ("champion", "models:/detector/3", "front", None)] == [
        True, True, False, False,
    ]  # fmt: skip
    with given_model("models:/detector/3", registry.uri) as folder:
        assert folder is not None
        assert Path(folder).name == "detector-3"
        assert (Path(folder) / "config.yaml").read_text() == "name: detector3\n"
    with given_model("front", None) as name:
        assert name == "front"
    with (
        pytest.raises(InputError, match="has no detector 'models:/detector/9'"),
        given_model("models:/detector/9", registry.uri),
    ):
        pass
    with (
        pytest.raises(InputError, match="--tracking-uri: has no meaning without"),
        given_model("front", registry.uri),
    ):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="set MLFLOW_TRACKING_URI"), given_model("champion", None):
        pass


def test_files_that_are_not_those_registered_are_refused(registry: Registry) -> None:
    version = registry.numbered("detector", "3")
    assert version is not None
    kept = Path(registry.uri.removeprefix("sqlite:///")).parent / "artifacts"
    (changed,) = (p for p in kept.rglob("config.yaml") if "detector3" in p.read_text())
    changed.write_text("name: evil\n")
    with (
        pytest.raises(InputError, match=r"detector version 3: its files are not those .* SHA-256"),
        registry.files(version),
    ):
        pass
