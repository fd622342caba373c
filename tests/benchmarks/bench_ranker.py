"""What each lever of the ranker is worth, on the validation skies of a finished run.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_ranker.py --config jobs/configs/front.yaml
--set run.output=FOLDER --out FOLDER2 [--other-config FILE --other-set run.output=FOLDER3]
[--without-miun] [--only WORD]``. The run must have finished its stages up to ``search_training``
and ``miun``; its ranker, if there is one, is a row as well. Test skies are never read.

Every ranker is trained on training skies and measured on each validation sky by the yardstick.
The number of epochs is fixed (``--epochs``), the learning rate falls by the loss on the training
rows, and the last epoch stands: a validation sky chooses nothing that it is measured by. Slope and
offset of the logits come from the *other* validation skies (from the training rows if there is only
one). Figures are means over trainings (``--trials``) from different starting weights and orders;
with fewer skies than all, each training has others.

Fusion: MIUN's output at the candidate in the patch in which it was fitted. MIUN has seen the
training skies (in other draws of their photons) and may answer more surely there, so two rows train
on the other validation skies instead (twice the epochs), one with and one without its output: a gain
there that is missing above is MIUN's training skies' doing. A third takes the score of MIUN's
candidate within 0.3 deg, which the run has for validation skies: fusion without applying MIUN.

A finished row is a JSON file in the folder; a second start goes on, and takes rows anew whose
settings or run changed. MLflow's store is ``mlflow.db`` there, one run per row.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ranker_levers import FUSED, LATITUDE, LISTED, PURITIES, Row, markdown, metrics, plan
from scipy.spatial import cKDTree
from scipy.special import logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from geminga.arrays import Float32, Float64
from geminga.config import Config, digest, load_config
from geminga.distributed.search import MiunScores
from geminga.distributed.simulate import patch_file
from geminga.errors import InputError
from geminga.evaluation.extended import masked, matched
from geminga.evaluation.summary import slug
from geminga.evaluation.working_points import LATITUDES
from geminga.evaluation.yardstick import YardstickSettings, measure_searches
from geminga.files import atomic, read_json, read_parquet, write_json, write_parquet
from geminga.geometry import pixel_to_plane, plane_to_pixel, unit_vectors
from geminga.localisation.features import feature_names, source_features
from geminga.localisation.scores import disk_area, disk_kernel_scores, score_at
from geminga.networks.build import build_ranker
from geminga.networks.losses import build_loss
from geminga.networks.ranker import calibrated, real_logits
from geminga.patches.store import group_sizes, read_group
from geminga.pipeline.runner import STAGE_FILE, Context, run_folder
from geminga.pipeline.search import (
    LIKELIHOOD,
    MIUN,
    RANKED,
    candidate_file,
    extended_of,
    truth_of,
)
from geminga.pipeline.simulate import sky_ids
from geminga.seeds import Split
from geminga.tracking import Tracker
from geminga.training.loop import fit
from geminga.training.rows import TARGET, RowReader

FUSED_WITHIN_DEG = 0.3


@dataclass(frozen=True, eq=False)
class Skies:
    """Candidates, truth and features of the training and validation skies of a run."""

    context: Context
    out: Path
    tag: str
    fused: bool
    rows: dict[int, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the tables depend on."""
        stages = [read_json(self.context.folder(n) / STAGE_FILE)["key"] for n in needed(self.fused)]
        return digest(stages)

    @lru_cache  # noqa: B019 - lives as long as the program
    def candidates(self, sky: int) -> pd.DataFrame:
        """Return what the likelihood search found, unranked."""
        folder = self.context.folder("search_training")
        return read_parquet(candidate_file(folder, LIKELIHOOD, sky))

    @lru_cache  # noqa: B019
    def features(self, sky: int) -> pd.DataFrame:
        """Return every feature of every candidate."""
        found, channels = self.candidates(sky), len(self.context.config.channels)
        table = pd.DataFrame(
            source_features(found, channels), columns=list(feature_names(channels))
        )
        table[LATITUDE] = np.abs(found["lat_deg"].to_numpy())
        listed = candidate_file(self.context.folder("search_training"), MIUN, sky)
        if listed.is_file():
            table[LISTED] = listed_score(found, read_parquet(listed))
        if self.fused:
            path = self.out / "miun" / f"{self.key}_{sky:07d}.parquet"
            if not path.exists():
                start = time.process_time()
                write_parquet(path, miun_at(self.context, sky, found))
                say(f"MIUN on sky {sky}: {time.process_time() - start:.0f} s of one core")
            table = pd.concat([table, read_parquet(path)], axis=1)
        return table

    def prepare(self, *splits: Split) -> None:
        """Write the labelled rows of the skies, those on extended sources left out."""
        radius = self.context.config.evaluation.match_radius_deg
        for sky in sky_ids(self.context.config, *splits):
            if sky in self.rows:
                continue
            found, (truth, extended) = self.candidates(sky), self.truth(sky)
            true = matched(found, truth, radius)
            counted = ~masked(found, true, extended, radius)
            table = self.features(sky).assign(**{TARGET: true.astype(np.float32)})
            self.rows[sky] = self.out / "rows" / f"{self.tag}_{sky:07d}.parquet"
            write_parquet(self.rows[sky], table[counted].reset_index(drop=True))

    @lru_cache  # noqa: B019
    def truth(self, sky: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the true sources inside the patches, and the extended sources."""
        return truth_of(self.context, sky), extended_of(self.context, sky)

    def of(self, split: Split) -> list[int]:
        """Return the numbers of the skies of a set."""
        return sky_ids(self.context.config, split)


def listed_score(found: pd.DataFrame, listed: pd.DataFrame) -> Float64:
    """Return ln(1 + score) of the best candidate of MIUN near each candidate; 0 without one."""
    mine, theirs = (
        unit_vectors(t["lon_deg"].to_numpy(), t["lat_deg"].to_numpy()) for t in (found, listed)
    )
    chord = 2.0 * np.sin(np.radians(FUSED_WITHIN_DEG) / 2.0)
    score = listed["score"].to_numpy(np.float64)
    near = cKDTree(theirs).query_ball_point(mine, chord) if len(theirs) else [[]] * len(mine)
    return np.log1p([score[rows].max(initial=0.0) for rows in near])


def miun_at(context: Context, sky: int, found: pd.DataFrame) -> pd.DataFrame:
    """Return MIUN's output, in log odds, at each candidate in the patch of its fit."""
    config = context.config
    apply = MiunScores(config, context.folder("miun") / "model")
    path, size = patch_file(context.folder("observe_training"), sky), config.patches.size_deg
    radius = config.localisation.kernel_radius_px
    patch, x, y = (found[n].to_numpy() for n in ("patch_id", "x_deg", "y_deg"))
    values = np.full((len(found), len(FUSED)), np.nan)
    for group in range(len(group_sizes(path))):
        records = read_group(path, group)
        maps = apply(records)
        disks = disk_kernel_scores(maps, radius) / disk_area(radius)
        n = maps.shape[1]
        plane = pixel_to_plane(np.arange(n, dtype=np.float64), n, size)
        for image, disk, number in zip(maps, disks, records["patch_id"], strict=True):
            for row in np.flatnonzero(patch == number):
                here = [plane_to_pixel(v[row : row + 1], n, size) for v in (y, x)]
                inside = np.hypot(*np.meshgrid(plane - x[row], plane - y[row])) <= FUSED_WITHIN_DEG
                at, around = score_at(image, *here)[0], score_at(disk, *here)[0]
                values[row] = at, max(at, image.max(where=inside, initial=0.0)), around
    values = logit(np.clip(values, 1e-4, 1.0 - 1e-4))
    return pd.DataFrame(values.astype(np.float32), columns=list(FUSED))


@dataclass(frozen=True, eq=False)
class Bench:
    """The skies and the settings that all rows share."""

    skies: Skies
    other: Skies | None
    epochs: int
    trials: int

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.skies.context.config

    def key(self, row: Row) -> str:
        """Return what the figures of a row depend on."""
        parts: list[Any] = [asdict(row), self.epochs, self.trials, self.skies.key]
        parts.append(self.config.ranker_training.model_dump(mode="json"))
        parts.append(self.config.ranker.model_dump(mode="json"))
        if row.method == "own":
            parts.append(read_json(self.skies.context.folder("ranker") / STAGE_FILE)["key"])
        if row.source in ("other", "both") and self.other is not None:
            parts.append(self.other.key)
        return digest(parts)

    def training_files(self, row: Row, trial: int, sky: int) -> tuple[Path, ...]:
        """Return the rows to learn from for a validation sky."""
        own = [self.skies.rows[n] for n in self.skies.of(Split.TRAIN)]
        theirs = []
        if self.other is not None:
            theirs = [self.other.rows[n] for n in self.other.of(Split.TRAIN)]
        files = {
            "train": own,
            "other": theirs,
            "both": own + theirs,
            "valid": [self.skies.rows[n] for n in self.skies.of(Split.VALID) if n != sky],
        }[row.source]
        first = trial * row.skies % len(files)
        return tuple((files[first:] + files[:first])[: row.skies or None])

    def trained(
        self, row: Row, trial: int, files: tuple[Path, ...]
    ) -> Callable[[pd.DataFrame], Float64]:
        """Return the logits of a ranker as a function of a table of features."""
        names = list(row.features)

        def matrix(table: pd.DataFrame) -> Float32:
            return table[names].to_numpy(np.float32)

        if row.method in ("ts", "own"):
            return lambda table: table["sqrt_ts"].to_numpy(np.float64)
        config = self.config
        ranker = config.ranker
        ranker = ranker.model_copy(
            update={"width": ranker.width * row.wider, "depth": ranker.depth * row.deeper}
        )
        config = config.model_copy(update={"seed": config.seed + trial, "ranker": ranker})
        epochs = self.epochs * row.longer
        settings = config.ranker_training.model_copy(
            update={"epochs": epochs, "stop_patience": epochs + 1}
        )
        rows = RowReader(files, names, settings.batch_size, config.seed)
        if row.method == "boosting":
            trees = HistGradientBoostingClassifier(random_state=trial)
            trees.fit(rows.features, rows.target > 0)
            return lambda table: np.asarray(trees.decision_function(matrix(table)), np.float64)
        model = build_ranker(config, len(names))
        model.standardise(rows.features)
        # The training rows in place of a validation set: only the learning rate goes by them.
        result = fit(model, rows.train, rows.valid, settings, loss=build_loss(settings.loss))
        model.load_state_dict(result.state.model)
        return lambda table: real_logits(model, matrix(table))

    def ranked(
        self, row: Row, trial: int, sky: int, rank: Callable[[pd.DataFrame], Float64]
    ) -> pd.DataFrame:
        """Return the candidates of a validation sky with calibrated probabilities."""
        if row.method == "own":
            folder = self.skies.context.folder("ranker")
            return read_parquet(candidate_file(folder, RANKED, sky))
        others = [self.skies.rows[n] for n in self.skies.of(Split.VALID) if n != sky]
        files = others or self.training_files(row, trial, sky)
        held = pd.concat([read_parquet(path) for path in files], ignore_index=True)
        line = LogisticRegression(C=np.inf).fit(rank(held)[:, None], held[TARGET] > 0)
        slope, offset = float(line.coef_[0, 0]), float(line.intercept_[0])
        probability = calibrated(rank(self.skies.features(sky)), slope, offset)
        return self.skies.candidates(sky).assign(score=probability, probability=probability)

    def measured(self, frame: pd.DataFrame, sky: int) -> list[float]:
        """Return completeness at the purities, then the expected calibration error."""
        settings = YardstickSettings(
            match_radius_deg=self.config.evaluation.match_radius_deg,
            purities=PURITIES,
            latitudes=LATITUDES[:1],
            resamples=0,
        )
        truth, extended = self.skies.truth(sky)
        result = measure_searches({"ranked": [frame]}, [truth], settings, extended=[extended])
        figures = result.searches["ranked"]
        whole = figures.parts[LATITUDES[0].name].at_purity
        claims = figures.score_calibration
        error = float("nan") if claims is None else claims.expected_error.value
        return [*(whole[f"{p:g}"].completeness.value for p in PURITIES), error]

    def run(self, row: Row) -> dict[str, Any]:
        """Return the figures of a row, [trial][sky][figure], and what it took."""
        start, skies = time.process_time(), self.skies.of(Split.VALID)
        figures = []
        for trial in range(self.trials if row.method in ("dense", "boosting") else 1):
            learnt: dict[tuple[Path, ...], Callable[[pd.DataFrame], Float64]] = {}
            of_sky = []
            for sky in skies:
                files = self.training_files(row, trial, sky)
                if files not in learnt:
                    learnt[files] = self.trained(row, trial, files)
                frame = self.ranked(row, trial, sky, learnt[files])
                of_sky.append(self.measured(frame, sky))
            figures.append(of_sky)
        seconds = round(time.process_time() - start, 1)
        return {"skies": skies, "figures": figures, "seconds": seconds}


def needed(fused: bool) -> tuple[str, ...]:
    """Return the stages of the run that are read."""
    return ("skies", "search_training", *(("observe_training", "miun") if fused else ()))


def opened(
    path: Path, overrides: list[str], out: Path, tracker: Tracker, fused: bool, tag: str = "own"
) -> Skies:
    """Return the skies of a run, refused unless its stages are finished with these settings."""
    config = load_config(path, overrides)
    root = run_folder(config)
    for stage in needed(fused):
        if not (root / stage / STAGE_FILE).is_file():
            raise InputError(str(root), f"stage {stage} is not finished", "finish the run first")
    made, tree = read_json(root / "config.json"), config.model_dump(mode="json")
    for key in ("seed", "bands", "sky", "sets", "patches", "likelihood", "miun"):
        if made.get(key) != tree[key]:
            raise InputError(str(root), f"was made with another {key}", "name its configuration")
    return Skies(Context(config, root, tracker), out, f"{tag}_fused" if fused else tag, fused)


def say(line: str) -> None:
    """Print a line at once: the program is long."""
    print(line, flush=True)


def run(options: argparse.Namespace) -> None:
    """Measure the rows that are not finished, and print the table."""
    out, fused = options.out, not options.without_miun
    config = load_config(options.config, options.set)
    place = {"output": str(out), "tracking_uri": None, "experiment": "geminga-ranker-levers"}
    tracked = config.model_copy(update={"run": config.run.model_copy(update=place)})
    out.mkdir(parents=True, exist_ok=True)
    with Tracker.open(tracked, out) as tracker:
        told = [False, True] if fused else [False]
        skies = [opened(options.config, options.set, out, tracker, f) for f in told]
        other = None
        if options.other_config is not None:
            other = opened(options.other_config, options.other_set, out, tracker, False, "other")
            if other.context.config.channels != config.channels:
                raise InputError(str(options.other_config), "has other channels", "name another")
            other.prepare(Split.TRAIN)
        own = (skies[0].context.folder("ranker") / STAGE_FILE).is_file()
        rows = plan(config, fused, own, other is not None)
        results: dict[str, dict[str, Any]] = {}
        for row in rows:
            bench = Bench(skies[row.fused], other, options.epochs, options.trials)
            key, path = bench.key(row), out / "results" / f"{slug(row.name)}.json"
            found = read_json(path) if path.is_file() else {}
            if found.get("key") == key:
                results[row.name] = found
            elif any(word in row.name for word in options.only or [""]):
                bench.skies.prepare(Split.TRAIN, Split.VALID)
                found = {"key": key, "row": asdict(row), **bench.run(row)}
                with tracker.stage(row.name):
                    tracker.metrics(metrics(found))
                    tracker.tree(found, "row.json")
                write_json(path, found)
                results[row.name] = found
                say(f"{row.name}: {metrics(found)['completeness_at_0.9']:.4f} at 0.9")
        table = markdown(rows, results, skies[0].of(Split.VALID))
        with atomic(out / "table.md") as temporary:
            temporary.write_text(f"{table}\n", encoding="utf-8")
        say(table)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="section.key=value")
    parser.add_argument("--other-config", type=Path, help="a finished run of another depth")
    parser.add_argument("--other-set", action="append", default=[], help="section.key=value")
    parser.add_argument("--out", type=Path, required=True, help="results, rows and mlflow.db")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--trials", type=int, default=3, help="trainings per row")
    parser.add_argument("--without-miun", action="store_true", help="leave the fusion out")
    parser.add_argument("--only", action="append", help="rows whose name holds this")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        run(parser.parse_args())
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
