"""The yardstick on a run: every search of its simulated test skies against their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from geminga.config import Config
from geminga.distributed.expected_ts import ExpectedTsWriter, expected_ts_file
from geminga.distributed.session import ray_session
from geminga.distributed.work import run_pieces
from geminga.evaluation.compare_draws import Draws, search_draws
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.evaluation.yardstick_results import Yardstick
from geminga.files import read_parquet
from geminga.pipeline.evidence import is_measured
from geminga.pipeline.runner import Context
from geminga.pipeline.search import (
    CLASSIFIED,
    ORACLE,
    SEARCH_NAMES,
    candidate_file,
    extended_of,
    searches_of,
    truth_of,
)
from geminga.pipeline.simulate import diffuse_path, test_sky_ids
from geminga.sky.emission.interstellar import interstellar_of_test_sky, model_words


@dataclass(frozen=True, eq=False)
class RunLists:
    """What the searches of a run found on its test skies, and what is there.

    Attributes
    ----------
    found : dict of list of DataFrame
        By search, not by its name in words: candidates of each sky, at any score.
    truth : list of DataFrame
        True sources of each sky, with their expected ``ts`` where the run knows it.
    extended : list of DataFrame
        Table EXTENDED of each sky.
    """

    found: dict[str, list[pd.DataFrame]]
    truth: list[pd.DataFrame]
    extended: list[pd.DataFrame]


def run_lists(context: Context, folder: Path) -> RunLists:
    """Read candidates and truth of the test skies.

    The expected TS belongs to runs that search by likelihood: they are measured by the photon
    limit. It goes to files in `folder`, computed unless they are there.
    """
    config = context.config
    skies = test_sky_ids(config)
    searches = searches_of(config)
    truth = [truth_of(context, sky) for sky in skies]
    if ORACLE in searches:
        _expect(context, folder, skies)
        truth = [
            with_expected_ts(table, read_parquet(expected_ts_file(folder, sky)))
            for table, sky in zip(truth, skies, strict=True)
        ]
    places = dict.fromkeys(searches, context.folder("search"))
    if is_measured(config):
        places[CLASSIFIED] = context.folder("catalog")
    return RunLists(
        {
            search: [read_parquet(candidate_file(places[search], search, sky)) for sky in skies]
            for search in SEARCH_NAMES
            if search in places
        },
        truth,
        [extended_of(context, sky) for sky in skies],
    )


def with_expected_ts(truth: pd.DataFrame, expected: pd.DataFrame) -> pd.DataFrame:
    """Return sources with the ``ts`` of a table of ``source_id`` and ``ts``.

    Raises
    ------
    KeyError
        If a source is not in the table: it is of another sky.
    """
    ts = expected.set_index("source_id")["ts"].loc[truth["source_id"].to_numpy()]
    return truth.assign(ts=ts.to_numpy())


def measure_run(context: Context, lists: RunLists) -> Yardstick:
    """Measure every search of a run, the oracle as their ceiling."""
    return _measured(context.config, lists, range(len(lists.truth)))


def leading_draws(context: Context, lists: RunLists) -> Draws:
    """Return the resamples of the leading figures of a run's own list, with the oracle's."""
    first = next(iter(lists.found.values()))
    oracle = lists.found.get(ORACLE)
    return search_draws(first, lists.truth, _settings(context.config), oracle, lists.extended)


def measure_by_interstellar(context: Context, lists: RunLists) -> dict[str, Yardstick]:
    """Measure a run by the interstellar model of its test skies; empty if they share one.

    The keys name the models in words, and say which of them no training sky has.
    """
    config = context.config
    groups: dict[str, list[int]] = {}
    for number, sky in enumerate(test_sky_ids(config)):
        groups.setdefault(interstellar_of_test_sky(config, sky), []).append(number)
    if len(groups) < 2:
        return {}
    return {
        model_words(name) + ("" if name in config.sky.interstellar else ", not in training"): (
            _measured(config, lists, numbers)
        )
        for name, numbers in groups.items()
    }


def _measured(config: Config, lists: RunLists, numbers: Sequence[int]) -> Yardstick:
    """Measure the searches of some of a run's skies."""
    count = len(numbers)
    return measure_searches(
        {
            SEARCH_NAMES[search]: [frames[number] for number in numbers]
            for search, frames in lists.found.items()
        },
        [lists.truth[number] for number in numbers],
        _settings(config),
        oracle=SEARCH_NAMES[ORACLE] if ORACLE in lists.found else None,
        extended=[lists.extended[number] for number in numbers],
        title=f"{config.name}: {count} simulated test {'sky' if count == 1 else 'skies'}",
    )


def _settings(config: Config) -> YardstickSettings:
    return YardstickSettings(match_radius_deg=config.evaluation.match_radius_deg, seed=config.seed)


def _expect(context: Context, folder: Path, skies: Sequence[int]) -> None:
    arguments = (
        context.config.model_dump_json(),
        diffuse_path(context),
        str(context.folder("skies").resolve()),
        str(folder.resolve()),
    )
    pieces = [{"sky_id": sky} for sky in skies]
    with ray_session():
        run_pieces(
            ExpectedTsWriter, arguments, pieces, context.config.run.workers, "expected TS", "sky"
        )
