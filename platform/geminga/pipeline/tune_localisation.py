"""Tuning of MIUN's localisation: the network runs once, every trial reads what it said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from geminga import storage
from geminga.config import Config, digest
from geminga.distributed.score_maps import ScoreMapper, ScoreMaps, map_file, read_score_maps
from geminga.distributed.session import ray_session
from geminga.distributed.simulate import patch_pieces
from geminga.distributed.tune import EPOCH, OBJECTIVE, Study, check_cores, report
from geminga.distributed.work import run_pieces
from geminga.errors import InputError
from geminga.evaluation.ranked import ranked_list
from geminga.files import read_json, read_parquet, write_json, write_parquet
from geminga.localisation.choose import completeness_at_purity
from geminga.localisation.cluster import find_sources
from geminga.localisation.stitch import stitch
from geminga.patches.grid import grid_for_sky
from geminga.pipeline.runner import STAGE_FILE, Context
from geminga.pipeline.search import extended_of, truth_of
from geminga.pipeline.simulate import sky_ids
from geminga.pipeline.stages import run_pipeline
from geminga.pipeline.tune import Goal, Outcome, check_same, run_tuning, tuning_folder
from geminga.pipeline.tune_space import check_space, inside, is_integer, read_tuning, with_values
from geminga.sections.tuning import LocalisationTuning, Value
from geminga.seeds import Split

ALLOWED = tuple(
    f"localisation.{name}"
    for name in (
        "threshold",
        "threshold_step",
        "max_group_radius_px",
        "kernel_radius_px",
        "merge_radius_deg",
        "edge_margin_deg",
    )
)
_OTHER_MAPS = "changes the network's output, which all trials share; use tune-training"
WHY_NOT = {
    "localisation.purity_floor": "is the purity at which trials are compared; set it in the "
    "configuration. The score cut is not varied either: each trial has the lowest that keeps it",
    "likelihood": "is used while patches are searched by likelihood, which no trial repeats; the "
    "score cut of that search follows from localisation.purity_floor",
    "patches": _OTHER_MAPS,
    "miun": _OTHER_MAPS,
    "miun_training": _OTHER_MAPS,
    "ranker": "is a setting of a network; use tune-training with network: ranker",
    "ranker_training": "is a setting of a network; use tune-training with network: ranker",
}

_MAPS = "maps"
DONE = "measured"
"""Folder with what each trial measured."""
_LIST = "skies.json"


@dataclass(frozen=True)
class ValidationSky:
    """What a trial reads of a sky: MIUN's output, a part per row group, and the truth."""

    sky_id: int
    parts: tuple[ScoreMaps, ...]
    truth: pd.DataFrame
    extended: pd.DataFrame


def localise(config: Config, sky: ValidationSky) -> pd.DataFrame:
    """Return the candidates of a sky as the search stage finds them in the same maps."""
    settings, size = config.localisation, config.patches.size_deg
    found = [
        find_sources(part.maps, sky.sky_id, part.patch_ids, part.frames, size, settings)
        for part in sky.parts
    ]
    grid = grid_for_sky(config, sky.sky_id)
    return stitch(pd.concat(found, ignore_index=True), grid, settings, size / config.top_pixels)


def measure_localisation(config: Config, skies: Sequence[ValidationSky]) -> dict[str, float]:
    """Return completeness at the purity floor over all skies together, and what belongs to it.

    Completeness is that of the evaluation: at the lowest score at which the purity is reached.

    Parameters
    ----------
    config : Config
        ``localisation`` (the floor included) and ``evaluation.match_radius_deg`` are used.
    skies : sequence of ValidationSky

    Returns
    -------
    dict
        ``objective`` and ``completeness`` (0 where no cut reaches the floor), ``detections`` at
        that cut, and, where there is one, its ``purity`` and ``score_cut``; ``epoch``, which is 1.

    Raises
    ------
    InputError
        If there is no floor.
    """
    floor = purity_floor(config)
    ranked = ranked_list(
        [localise(config, sky) for sky in skies],
        [sky.truth for sky in skies],
        config.evaluation.match_radius_deg,
        extended=[sky.extended for sky in skies],
    )
    score = ranked.detections["score"].to_numpy(np.float64)
    true = ranked.detections["is_true"].to_numpy(np.bool_)
    completeness, cut = completeness_at_purity(score, true, len(ranked.sources), floor)
    above = score >= cut
    figures = {
        OBJECTIVE: completeness,
        EPOCH: 1.0,
        "completeness": completeness,
        "detections": float(above.sum()),
    }
    if above.any():
        figures |= {"purity": float(true[above].mean()), "score_cut": cut}
    return figures


def purity_floor(config: Config) -> float:
    """Return the purity at which trials are compared.

    Raises
    ------
    InputError
        If the configuration has none.
    """
    floor = config.localisation.purity_floor
    if floor is None:
        raise InputError(
            "localisation.purity_floor",
            "is null: completeness without a purity is that of the lowest threshold",
            "set it, for example to 0.8",
        )
    return floor


def tune_localisation(config: Config, path: Path) -> Outcome:
    """Search for the localisation settings with the highest completeness at the purity floor.

    Stages up to MIUN and the observation of validation skies run first, or are reused. Test skies
    are not looked at.

    Raises
    ------
    InputError
        If the tuning file, an input or the output folder cannot be used.
    """
    tuning = read_tuning(LocalisationTuning, path)
    check_space(config, tuning.space, ALLOWED, WHY_NOT, str(path))
    floor = purity_floor(config)
    check_same(config, tuning, path)
    run_pipeline(config, until="miun")
    context = run_pipeline(config, until="observe_training")
    skies = "a validation sky"
    if config.sets.validation > 1:
        skies = f"{config.sets.validation} validation skies"
    goal = Goal("completeness", f"completeness at purity {floor:g} on {skies}")
    made_of = [
        read_json(context.folder(s) / STAGE_FILE)["key"] for s in ("miun", "observe_training")
    ]

    def study(folder: Path) -> Study:
        check_cores(str(path), tuning.concurrency, 1, 0)
        return Study(
            folder=folder,
            space=tuning.space,
            integers=frozenset(k for k in tuning.space if is_integer(config, k)),
            mode="max",
            trials=tuning.trials,
            concurrency=tuning.concurrency,
            seed=tuning.seed,
            minutes=tuning.time_budget_minutes,
            first=inside(tuning.space, config),
        )

    with ray_session():
        maps = keep_maps(context)
        trial = partial(
            _trial,
            config_json=config.model_dump_json(),
            maps=str(maps.resolve()),
            folder=str((tuning_folder(config, tuning.name) / DONE).resolve()),
        )
        return run_tuning(config, tuning, path, goal, made_of, study, trial)


def keep_maps(context: Context) -> Path:
    """Write MIUN's output on the validation skies and their truth, once; return the folder."""
    config = context.config
    skies = sky_ids(config, Split.VALID)
    made_of = [
        read_json(context.folder(name) / STAGE_FILE)["key"] for name in ("miun", "observe_training")
    ]
    key = digest([*made_of, config.localisation.batch_size, config.miun_training.precision])
    folder = tuning_folder(config, f".{_MAPS}") / key
    pieces = patch_pieces(context.folder("observe_training"), skies)
    weights = str((context.folder("miun") / "model").resolve())
    run_pieces(
        ScoreMapper,
        (config.model_dump_json(), weights, str(folder.resolve())),
        pieces,
        config.run.workers,
        "score maps",
        "group",
    )
    for sky in skies:
        write_parquet(_table(folder, "truth", sky), truth_of(context, sky))
        write_parquet(_table(folder, "extended", sky), extended_of(context, sky))
    files = [
        {"sky_id": sky, "files": [map_file(folder, p).name for p in pieces if p["sky_id"] == sky]}
        for sky in skies
    ]
    write_json(folder / _LIST, files)
    return folder


def read_skies(folder: Path) -> list[ValidationSky]:
    """Read what `keep_maps` wrote; the maps stay on the disk until they are touched.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    return [
        ValidationSky(
            int(row["sky_id"]),
            tuple(read_score_maps(folder / name) for name in row["files"]),
            read_parquet(_table(folder, "truth", row["sky_id"])),
            read_parquet(_table(folder, "extended", row["sky_id"])),
        )
        for row in read_json(folder / _LIST)
    ]


def _table(folder: Path, name: str, sky: int) -> Path:
    return folder / f"{name}_{sky:07d}.parquet"


def _trial(values: Mapping[str, Value], config_json: str, maps: str, folder: str) -> None:
    """Measure settings; what was measured before a kill is kept by its values."""
    done = Path(folder) / f"{digest(dict(values))}.json"
    if not storage.exists(done):
        config = with_values(Config.model_validate_json(config_json), values, "trial")
        write_json(done, measure_localisation(config, read_skies(Path(maps))))
    report(read_json(done))
