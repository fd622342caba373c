"""Made-up runs to compare: lists of detections and classified candidates of made-up skies."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geminga.distributed.search import photon_file
from geminga.distributed.simulate import sky_folder
from geminga.evaluation.class_metrics import Classified
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.class_yardstick import ClassSettings, measure_classes
from geminga.evaluation.compare_draws import Draws, class_draws, search_draws
from geminga.evaluation.compare_record import RunRecord, TestSky
from geminga.evaluation.confusion import count_confusion
from geminga.evaluation.counts import LATITUDES as REGIONS
from geminga.evaluation.summary import RegionSummary, RunSummary, SearchSummary
from geminga.evaluation.working_points import LATITUDES
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.evaluation.yardstick_results import Yardstick
from geminga.files import write_json, write_parquet
from geminga.pipeline.run_record import CLASS_DRAWS, SEARCH_DRAWS
from geminga.seeds import Split, sky_id
from geminga.sky.sky_files import SOURCES_FILE

SKIES = 6
# As little as shows everything: most of the time of these tests goes into resamples.
SETTINGS = YardstickSettings(
    resamples=20,
    latitudes=LATITUDES[:2],
    s1_edges=(1e-10, 1e-9, 1e-8),
    s10_edges=(1e-10, 1e-9),
    ts_edges=(1.0, 30.0, 1e4),
    position_s1=(0.0, 1e-9, np.inf),
)
CLASS_SETTINGS = ClassSettings(resamples=20, s1_edges=(1e-10, 1e-9, 1e-8), latitudes=())
NAMES = ("BLL", "FSRQ", "FAKE")
CONFIG: dict[str, Any] = {
    "name": "made up",
    "seed": 1,
    "bands": [{"emin_gev": 1.0, "nside": 64}],
    "classes": ["BLL", "FSRQ"],
    "sets": {"test": SKIES},
    "localisation": {"detector": "likelihood"},
    "evaluation": {"match_radius_deg": 0.3},
    "miun_training": {"loss": "bce", "epochs": 3},
    "observed": None,
    "run": {"output": "out"},
}


def truth_of(sky: int, seed: int = 0, n: int = 60) -> pd.DataFrame:
    """Return true sources on a grid, too far from each other to be confused."""
    rng = np.random.default_rng([seed, sky])
    return pd.DataFrame(
        {
            "lon_deg": np.arange(n) * 6.0,
            "lat_deg": np.arcsin(rng.uniform(-1, 1, n)) * 57.3,
            "s1": 10 ** rng.uniform(-10, -8, n),
            "ts": 10 ** rng.uniform(0, 3, n),
        }
    )


def photons_of(sky: int) -> pd.DataFrame:
    """Return photons of a sky, as the observation keeps them."""
    rng = np.random.default_rng([6, sky])
    names = ("channel", "pixel", "year")
    return pd.DataFrame({name: rng.integers(0, 9, 30, dtype=np.int64) for name in names})


def found_of(truth: pd.DataFrame, sky: int, share: float, noise: int = 0) -> pd.DataFrame:
    """Return detections: sources of the greatest luck, which is the sky's own, and false ones."""
    luck = np.random.default_rng([7, sky]).uniform(size=len(truth))
    other = np.random.default_rng([8, sky, noise]).normal(0.0, 0.02, len(truth))
    seen = truth[luck + other < share]
    rng = np.random.default_rng([9, sky])
    true = seen.assign(
        lat_deg=seen["lat_deg"] + 0.02 * np.random.default_rng([3, sky]).normal(size=len(seen)),
        score=np.random.default_rng([4, sky]).uniform(0.5, 1.0, len(seen)),
    )
    false = pd.DataFrame(
        {
            "lon_deg": rng.uniform(0, 360, 12),
            "lat_deg": np.append(rng.uniform(-89, 89, 10), [88.0, -88.0]),
            "score": rng.uniform(0.0, 0.8, 12),
        }
    )
    both = pd.concat([true, false], ignore_index=True)
    return both.drop(columns=["s1", "ts"]).assign(position_error_deg=0.02)


@lru_cache
def searched(
    share: float, noise: int = 0, seed: int = 0, n: int = SKIES
) -> tuple[Yardstick, Draws]:
    """Return what the yardstick measures of a search that finds a share of the sources."""
    truth = [truth_of(sky, seed) for sky in range(n)]
    found = [found_of(t, sky, share, noise) for sky, t in enumerate(truth)]
    oracle = [found_of(t, sky, 0.95) for sky, t in enumerate(truth)]
    settings = replace(SETTINGS, seed=seed)
    result = measure_searches(
        {"ours": found, "other": found, "oracle": oracle}, truth, settings, oracle="oracle"
    )
    return result, search_draws(found, truth, settings, oracle)


def classified(skill: float, names: tuple[str, ...] = NAMES, n: int = 240) -> Classified:
    """Return candidates whose classes are known the better, the greater the skill (0 to 1)."""
    rng = np.random.default_rng(5)
    k = len(names)
    label = np.arange(n) % k
    claims = (1 - skill) * rng.dirichlet(np.ones(k), n) + skill * np.eye(k)[label]
    s1 = np.where(label < k - 1, 10 ** rng.uniform(-10, -8, n), np.nan)
    lon, lat = rng.uniform(0, 360, n), rng.uniform(-80, 80, n)
    return Classified(names, np.arange(n) * SKIES // n, label, claims, claims, s1, lat, lon)


@lru_cache
def classes_of(skill: float, names: tuple[str, ...] = NAMES) -> tuple[ClassResult, Draws]:
    """Return what is measured of such a classifier."""
    one = classified(skill, names)
    return measure_classes({"net": one}, settings=CLASS_SETTINGS), class_draws(one, CLASS_SETTINGS)


def summary_of() -> RunSummary:
    """Return the figures at the score cut."""
    region = RegionSummary(40, 30, 0.625, 0.05, 0.9, 0.04, {}, {})
    search = SearchSummary("ours", dict.fromkeys(REGIONS, region), 0.1, 0.2, 0.0, 0.0, 0.01)
    return RunSummary("made up", (search,))


def record(
    name: str, share: float = 0.6, skill: float | None = 0.5, noise: int = 0, seed: int = 0,
    **config: Any,
) -> RunRecord:  # fmt: skip
    """Return a finished run; without skill it has no classifier."""
    yardstick, draws = searched(share, noise, seed)
    classes, class_resamples = (None, None) if skill is None else classes_of(skill)
    skies = tuple(TestSky(str(k), 60, f"truth {seed} {k}", f"photons {k}") for k in range(SKIES))
    return RunRecord(
        name, f"/runs/{name}", {**CONFIG, "name": name, **config}, f"hash {name}", summary_of(),
        skies, 1234567, {"miun": 20.0, "skies": 5.0},
        {"miun": [{"epoch": 1.0, "train_loss": 0.5, "valid_loss": 0.4 + share},
                  {"epoch": 2.0, "train_loss": 0.3, "valid_loss": share}]},
        {"version": "0.1.0", "python": "3.11"},
        yardstick, classes, count_confusion(np.array([0]), np.array([0]), ("BLL", "FSRQ")), draws,
        class_resamples,
    )  # fmt: skip


def run_folder(root: Path, one: RunRecord, seed: int = 0) -> Path:
    """Write what the stages of a run would have left of a record."""
    folder = root / one.name
    evaluated = folder / "evaluate"
    write_json(folder / "config.json", one.config)
    for name, part in (
        ("yardstick.json", one.yardstick),
        ("classes.json", one.classes),
        ("confusion.json", one.confusion),
        (SEARCH_DRAWS, one.search_draws),
        (CLASS_DRAWS, one.class_draws),
        ("summary.json", one.summary),
    ):
        if part is not None:
            write_json(evaluated / name, part.to_json())
    for sky in range(SKIES):
        number = sky_id(Split.TEST, sky)
        write_parquet(sky_folder(folder / "skies", number) / SOURCES_FILE, truth_of(sky, seed))
        photons = photon_file(folder / "observe", number)
        write_parquet(photons, photons_of(sky))
    for network, history in one.histories.items():
        write_json(folder / network / "history.json", history)
    for stage in ("skies", "observe", "miun", "evaluate", "report"):
        note = {"stage": stage, "seconds": one.seconds.get(stage, 1.0), **one.versions}
        if stage == "observe":
            note["summary"] = {"photons": one.photons}
        write_json(folder / stage / "stage.json", note)
    return folder
