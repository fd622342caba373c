"""What a finished run leaves for comparisons: one tree, the same in its folder and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geminga.errors import InputError
from geminga.evaluation.class_results import ClassFigures, ClassResult
from geminga.evaluation.compare_draws import Draws
from geminga.evaluation.confusion import ConfusionCounts
from geminga.evaluation.summary import RunSummary, plain
from geminga.evaluation.yardstick_results import SearchFigures, Yardstick

FORMAT = 1
"""Number of the layout of the tree."""

NO_TRUTH = "a real sky has no truth"


@dataclass(frozen=True)
class TestSky:
    """A sky that a run was judged on.

    Attributes
    ----------
    name : str
        Number of a simulated sky, or files of the real one.
    sources : int
        True sources; 0 of a real sky.
    truth, photons : str
        Digests of the true sources and of the photons; empty if they are not there any more.
    """

    __test__ = False  # no test case, whatever its name

    name: str
    sources: int
    truth: str
    photons: str


@dataclass(frozen=True)
class RunRecord:
    """Figures of a finished run, and what made them.

    Attributes
    ----------
    name, origin : str
        The run's name; where it was read from.
    config : dict
        The resolved settings, as plain values.
    config_hash : str
    summary : RunSummary
        Figures at the score cuts.
    test_skies : tuple of TestSky
    photons : int
        On all test skies; 0 if not known.
    seconds : dict of float
        Wall time by stage, in order.
    histories : dict of list of dict
        Rows of the epochs by network.
    versions : dict of str
        Of the program and of Python, the machine.
    yardstick, classes, confusion, search_draws, class_draws
        None where the run has no such part.
    """

    name: str
    origin: str
    config: dict[str, Any]
    config_hash: str
    summary: RunSummary
    test_skies: tuple[TestSky, ...]
    photons: int
    seconds: dict[str, float]
    histories: dict[str, list[dict[str, float]]]
    versions: dict[str, str]
    yardstick: Yardstick | None = None
    classes: ClassResult | None = None
    confusion: ConfusionCounts | None = None
    search_draws: Draws | None = None
    class_draws: Draws | None = None

    @property
    def search(self) -> SearchFigures | None:
        """Figures of the list that the run's catalogue is made of: the first search."""
        searches = {} if self.yardstick is None else self.yardstick.searches
        return next(iter(searches.values()), None)

    @property
    def classifier(self) -> ClassFigures | None:
        """Figures of the classifier that the run ships: the first."""
        classifiers = {} if self.classes is None else self.classes.classifiers
        return next(iter(classifiers.values()), None)

    @property
    def no_search(self) -> str:
        """Why there is no yardstick, in words."""
        return NO_TRUTH if self.config.get("observed") else "was not measured against a truth"

    @property
    def no_classifier(self) -> str:
        """Why no classifier was measured, in words."""
        if self.config.get("observed"):
            return NO_TRUTH
        detector = self.config.get("localisation", {}).get("detector")
        if detector == "miun":
            return "localisation.detector is miun: no class model"
        return "no classifier was measured"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""

        def tree(part: Any) -> Any:
            return None if part is None else part.to_json()

        values: dict[str, Any] = plain(
            {
                "format": FORMAT,
                "name": self.name,
                "config": self.config,
                "config_hash": self.config_hash,
                "test_skies": [vars(sky) for sky in self.test_skies],
                "photons": self.photons,
                "seconds": self.seconds,
                "stages": list(self.seconds),
                "histories": self.histories,
                "networks": list(self.histories),
                "versions": self.versions,
                "summary": self.summary.to_json(),
            }
        )
        parts = ("yardstick", "classes", "confusion", "search_draws", "class_draws")
        return values | {name: tree(getattr(self, name)) for name in parts}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], origin: str) -> RunRecord:
        """Rebuild a record from `to_json`'s values, read from `origin`.

        Raises
        ------
        InputError
            If it is of another format, or a part is missing or damaged.
        """
        found = tree.get("format") if isinstance(tree, Mapping) else None
        if found != FORMAT:
            raise InputError(
                origin,
                f"its record for comparisons is of format {found}, not {FORMAT}",
                "report the run anew with this version",
            )

        def part(kind: Any, name: str) -> Any:
            value = tree[name]
            return None if value is None else kind.from_json(value, f"{origin}: {name}")

        try:
            return cls(
                str(tree["name"]),
                origin,
                dict(tree["config"]),
                str(tree["config_hash"]),
                RunSummary.from_json(tree["summary"], f"{origin}: summary"),
                tuple(TestSky(**sky) for sky in tree["test_skies"]),
                int(tree["photons"]),
                {name: float(tree["seconds"][name]) for name in tree["stages"]},
                {name: _rows(tree["histories"][name]) for name in tree["networks"]},
                dict(tree["versions"]),
                part(Yardstick, "yardstick"),
                part(ClassResult, "classes"),
                part(ConfusionCounts, "confusion"),
                part(Draws, "search_draws"),
                part(Draws, "class_draws"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"its record for comparisons is damaged ({error!r})"
            raise InputError(origin, problem, "report the run anew") from error


def _rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in history]


@dataclass(frozen=True)
class TestSets:
    """Whether runs were judged on the same skies.

    Attributes
    ----------
    same_truth : bool
        The same true sources, sky by sky: what errors in pairs need.
    same_photons : bool
        And the same photons.
    text : str
        In words.
    warning : bool
        Whether the figures are not comparable.
    """

    __test__ = False

    same_truth: bool
    same_photons: bool
    text: str
    warning: bool


def compare_test_sets(records: Sequence[RunRecord]) -> TestSets:
    """Return whether the runs share their test skies."""
    first = records[0].test_skies
    names = {bool(r.config.get("observed")) for r in records}
    if len(names) > 1:
        text = "NOT COMPARABLE: some runs are of simulated skies, others of a real one"
        return TestSets(False, False, text, True)
    real = names == {True}
    digests = [[(s.photons if real else s.truth) for s in r.test_skies] for r in records]
    if any(not digest for one in digests for digest in one) or not first:
        text = "NOT KNOWN TO BE COMPARABLE: the test skies of a run are not there any more"
        return TestSets(False, False, text, True)
    if any(one != digests[0] for one in digests[1:]):
        counts = ", ".join(f"{r.name} {len(r.test_skies)}" for r in records)
        text = (
            f"NOT COMPARABLE: the runs were judged on different test skies ({counts}); "
            "differences are not given, and no figure is called best"
        )
        return TestSets(False, False, text, True)
    photons = [[s.photons for s in r.test_skies] for r in records]
    count = f"{len(first)} {'sky' if len(first) == 1 else 'skies'}"
    if all(one == photons[0] and all(one) for one in photons):
        text = f"the same {count} with the same photons: errors of differences are paired"
        return TestSets(True, True, text, False)
    text = (
        f"the same {count} (true sources), seen in other photons: errors of differences are paired, "
        "and hold the scatter of the photons"
    )
    return TestSets(True, False, text, False)
