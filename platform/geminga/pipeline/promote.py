"""Which registered model is the champion: decided by a rule, never by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geminga.errors import InputError
from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.compare_draws import Draws
from geminga.evaluation.compare_record import RunRecord
from geminga.pipeline.aliases import CANDIDATE, CHAMPION
from geminga.pipeline.run_record import RECORD
from geminga.tracking import read_run_json
from geminga.tracking.registry import Registry, Version

RULES = Path("mlflow") / "registry.yaml"
_WHOLE_SKY = "all"


class Rule(BaseModel):
    """When a version of a model takes the champion's place.

    Attributes
    ----------
    completeness_of : str
        Search of the yardstick whose completeness must be better.
    calibration : tuple of str
        What must not be worse: ``score``, the expected calibration error of the search's own
        probabilities; ``classes``, that of the classifier.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    completeness_of: str
    calibration: tuple[Literal["score", "classes"], ...] = ()


class Rules(BaseModel):
    """The contents of mlflow/registry.yaml.

    Attributes
    ----------
    purity : float
        At which completeness is compared, over the whole sky; one of the yardstick's.
    beyond_errors : float
        Errors of the difference that completeness must gain, and calibration may lose.
    models : dict of Rule
        By registered model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    purity: Annotated[float, Field(gt=0, lt=1)]
    beyond_errors: Annotated[float, Field(ge=0)]
    models: Annotated[dict[str, Rule], Field(min_length=1)]


@dataclass(frozen=True)
class Verdict:
    """What the rule says of a candidate, with the figures that decided."""

    promoted: bool
    reasons: tuple[str, ...]


def read_rules(path: Path) -> Rules:
    """Read the rules of promotion.

    Raises
    ------
    InputError
        If the file is missing, no YAML, or says something else.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Rules.model_validate(tree)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise InputError(str(path), problem, f"name the rules with --rules ({RULES})") from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise InputError(str(path), f"is not YAML ({line})", "correct it") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(str(path), f"{place}: {first['msg']}", "correct it") from error


def judge(rules: Rules, name: str, candidate: RunRecord, champion: RunRecord | None) -> Verdict:
    """Decide whether a candidate takes the champion's place.

    Parameters
    ----------
    rules : Rules
    name : str
        Registered model.
    candidate, champion : RunRecord
        Of the runs they came of; None if there is no champion yet.

    Raises
    ------
    InputError
        If there is no rule for the model.
    """
    if name not in rules.models:
        known = ", ".join(rules.models)
        raise InputError("--name", f"{name!r} has no rule", f"name one of {known}")
    rule = rules.models[name]
    missing = _missing(rules, rule, candidate)
    if missing:
        return Verdict(False, tuple(f"the candidate {text}" for text in missing))
    own = _completeness(rules, rule, candidate)
    if champion is None:
        return Verdict(True, (f"there is no champion; {_told(rules, own)}",))
    if not _is_known(_completeness(rules, rule, champion)):
        return Verdict(True, tuple(f"the champion {t}" for t in _missing(rules, rule, champion)))
    other = _judged_otherwise(candidate, champion)
    if other is not None:
        return Verdict(False, (other,))
    verdicts = [_better(rules, rule, candidate, champion)]
    verdicts += [_no_worse(rules, kind, rule, candidate, champion) for kind in rule.calibration]
    return Verdict(all(v.promoted for v in verdicts), tuple(r for v in verdicts for r in v.reasons))


def promote(
    registry: Registry, rules: Rules, run_id: str | None, names: Sequence[str]
) -> dict[str, Verdict]:
    """Make candidates champions, as far as the rules let them.

    Parameters
    ----------
    registry : Registry
    rules : Rules
    run_id : str or None
        MLflow run whose versions are meant; those of alias ``candidate`` if not given.
    names : sequence of str
        Registered models; all that have a rule and a version, if empty.

    Returns
    -------
    dict of Verdict
        By model. Nothing is changed for those refused.

    Raises
    ------
    InputError
        If a version or its run is missing, or the store cannot be asked.
    """
    verdicts: dict[str, Verdict] = {}
    chosen: list[tuple[Version, Verdict]] = []
    records: dict[str, RunRecord] = {}

    def record_of(version: Version) -> RunRecord:
        if version.run_id not in records:
            tree = read_run_json(version.run_id, RECORD, registry.uri)
            records[version.run_id] = RunRecord.from_json(tree, f"MLflow run {version.run_id}")
        return records[version.run_id]

    for name in names or rules.models:
        version = (
            registry.by_alias(name, CANDIDATE) if run_id is None else registry.of_run(name, run_id)
        )
        if version is None:
            if names:
                raise InputError(
                    name,
                    f"has no version of {'alias candidate' if run_id is None else f'run {run_id}'}",
                    "run the pipeline with --set run.register_models=true",
                )
            continue
        champion = registry.by_alias(name, CHAMPION)
        if champion == version:
            verdicts[name] = Verdict(True, (f"{version.text} is the champion already",))
            continue
        held = None if champion is None else record_of(champion)
        verdict = judge(rules, name, record_of(version), held)
        if verdict.promoted:
            chosen.append((version, verdict))
        verdicts[name] = verdict
    # After all are judged: what cannot be read of one leaves the others as they were.
    for version, verdict in chosen:
        registry.set_alias(version, CHAMPION, {"promoted": "; ".join(verdict.reasons)[:1000]})
    if not verdicts:
        raise InputError(
            "promote",
            "there is no candidate" if run_id is None else f"run {run_id} registered no model",
            "run the pipeline with --set run.register_models=true",
        )
    return verdicts


def _missing(rules: Rules, rule: Rule, record: RunRecord) -> list[str]:
    """Return which figures of the rule a run does not have."""
    lacks = []
    if not _is_known(_completeness(rules, rule, record)):
        lacks.append(
            f"has no completeness at purity {rules.purity:g} of {rule.completeness_of!r} "
            f"({record.no_search if record.yardstick is None else 'not measured'})"
        )
    for kind in rule.calibration:
        if not _is_known(_calibration(kind, rule, record)):
            lacks.append(f"has no calibration of its {kind}")
    return lacks


def _is_known(figure: Estimate | None) -> bool:
    """Return whether a figure can be compared: no comparison with NaN is ever worse."""
    return figure is not None and math.isfinite(figure.value) and math.isfinite(figure.error)


def _completeness(rules: Rules, rule: Rule, record: RunRecord) -> Estimate | None:
    search = (
        None if record.yardstick is None else record.yardstick.searches.get(rule.completeness_of)
    )
    part = None if search is None else search.parts.get(_WHOLE_SKY)
    point = None if part is None else part.at_purity.get(f"{rules.purity:g}")
    if point is None:
        return None
    return Estimate(point.completeness.value, point.completeness.error)


def _calibration(kind: str, rule: Rule, record: RunRecord) -> Estimate | None:
    if kind == "classes":
        judged = None if record.classifier is None else record.classifier.figures.get("ece")
        return None if judged is None else Estimate(judged.value, judged.error)
    search = (
        None if record.yardstick is None else record.yardstick.searches.get(rule.completeness_of)
    )
    score = None if search is None else search.score_calibration
    return None if score is None else score.expected_error


def _difference_error(
    mine: Estimate, its: Estimate, draws: tuple[Draws | None, Draws | None], figure: str
) -> tuple[float, str]:
    """Return the error of a difference, from the same resamples of both where they are kept."""
    if draws[0] is not None and draws[1] is not None:
        paired = draws[0].difference(draws[1], figure)
        if math.isfinite(paired):
            return paired, "in pairs"
    return math.hypot(mine.error, its.error), "errors in quadrature"


def _search_draws(
    rule: Rule, candidate: RunRecord, champion: RunRecord
) -> tuple[Draws | None, Draws | None]:
    """Return the resamples of both, which are kept of a run's own list alone."""
    for record in (candidate, champion):
        if record.search is None or record.search.name != rule.completeness_of:
            return None, None
    return candidate.search_draws, champion.search_draws


def _better(rules: Rules, rule: Rule, candidate: RunRecord, champion: RunRecord) -> Verdict:
    mine, its = (_completeness(rules, rule, record) for record in (candidate, champion))
    assert mine is not None
    assert its is not None
    draws = _search_draws(rule, candidate, champion)
    error, how = _difference_error(mine, its, draws, f"completeness/{_WHOLE_SKY}/{rules.purity:g}")
    gain = mine.value - its.value
    enough = gain > rules.beyond_errors * error
    return Verdict(
        enough,
        (
            f"completeness at purity {rules.purity:g} {mine.value:.4f}, the champion's "
            f"{its.value:.4f}: a gain of {gain:+.4f} ± {error:.4f} ({how}), "
            f"{'more' if enough else 'not more'} than {rules.beyond_errors:g} errors",
        ),
    )


def _no_worse(
    rules: Rules, kind: str, rule: Rule, candidate: RunRecord, champion: RunRecord
) -> Verdict:
    mine, its = (_calibration(kind, rule, record) for record in (candidate, champion))
    assert mine is not None
    if its is None or not _is_known(its):
        return Verdict(True, (f"the champion has no calibration of its {kind}",))
    if kind == "classes":
        draws, figure = (candidate.class_draws, champion.class_draws), "ece"
    else:
        draws, figure = _search_draws(rule, candidate, champion), "calibration_error"
    error, how = _difference_error(mine, its, draws, figure)
    loss = mine.value - its.value
    worse = loss > rules.beyond_errors * error
    return Verdict(
        not worse,
        (
            f"calibration error of the {kind} {mine.value:.4f}, the champion's {its.value:.4f}: "
            f"{loss:+.4f} ± {error:.4f} ({how}), {'worse' if worse else 'no worse'}",
        ),
    )


def _told(rules: Rules, own: Estimate | None) -> str:
    assert own is not None
    return f"completeness at purity {rules.purity:g} {own.value:.4f} ± {own.error:.4f}"


def _judged_otherwise(candidate: RunRecord, champion: RunRecord) -> str | None:
    """Return why the figures of two runs are of different things; None if they are not."""
    skies = candidate.test_skies
    if skies != champion.test_skies:
        return _other_skies(candidate, champion)
    if not skies or not all(sky.truth and sky.photons for sky in skies):
        return "the test skies of both are not there any more: nothing says that they are the same"
    one, other = candidate.yardstick, champion.yardstick
    assert one is not None
    assert other is not None
    if (one.match_radius_deg, one.matching) != (other.match_radius_deg, other.matching):
        return (
            f"measured in another way ({one.matching} within {one.match_radius_deg:g} deg) than the "
            f"champion ({other.matching} within {other.match_radius_deg:g} deg)"
        )
    return None


def _other_skies(candidate: RunRecord, champion: RunRecord) -> str:
    def words(record: RunRecord) -> str:
        first = record.test_skies[0] if record.test_skies else None
        seed: Mapping[str, object] = record.config
        known = "" if first is None else f", first truth {first.truth}, photons {first.photons}"
        return f"{len(record.test_skies)} of seed {seed.get('seed')}{known}"

    return (
        f"other test skies ({words(candidate)}) than the champion's ({words(champion)}): measure "
        "both on the same"
    )
