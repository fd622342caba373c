"""What each lever does for MIUN: one change at a time, measured on one validation sky.

Run ``OMP_NUM_THREADS=2 python tests/benchmarks/bench_miun.py --out FOLDER [--variants base,counts]``.
Each variant changes one thing of `base`, the network of the configuration: its input, target,
loss or training skies; or, without a training of its own, what is made of base's response. Every
variant is measured on the same photons of the same sky, by the package's yardstick. Sources count
that are deepest in the patches used; errors, and those of the ratio to base, are bootstrapped over
parts of the sky. Best epochs are chosen on that sky too, alike for all. Validation losses compare
only between variants of the same target and loss.

FOLDER gets a JSON file and the list of detections of each finished variant, which another start
skips, and an MLflow store (``mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db``).
Needs the LAT files for the interstellar models of the default configuration.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import torch
from levers_store import open_store
from miun_material import (
    Amount,
    Material,
    Records,
    Target,
    network,
    on_one_grid,
    start_at_mean,
    training_batches,
)
from miun_material import validation_batches as held_out
from miun_reading import (
    PURITIES,
    Respond,
    detect,
    everything,
    figures,
    focal,
    plain,
    rotations,
    shifted,
    sphere,
)

from geminga.config import Config, load_config
from geminga.errors import InputError
from geminga.files import read_json, read_parquet, write_json, write_parquet
from geminga.networks.losses import Measure, build_loss
from geminga.networks.miun import Miun
from geminga.training.loop import EpochReport, fit


@dataclass(frozen=True)
class Variant:
    """One change.

    Attributes
    ----------
    change : str
        In words.
    overrides : tuple of str
        Changes of the configuration.
    common : bool
        Every band's image has as many pixels as the finest.
    background : bool
        (n - b) / sqrt(b + 1) as further images, b the reference model's diffuse counts.
    target : str
        See `miun_material.Target`.
    loss : callable, optional
        Instead of the configuration's.
    peaks : bool
        Sources are peaks of the response instead of groups of pixels.
    trained : str, optional
        The variant whose network it uses; none trains its own.
    respond : callable
        From network and patches to responses.
    """

    change: str
    overrides: tuple[str, ...] = ()
    common: bool = False
    background: bool = False
    target: Target = "disk"
    loss: Measure | None = None
    peaks: bool = False
    trained: str | None = None
    respond: Respond = plain


# The groups of a disk scale with its radius: kernel, largest group, and thresholds as its area.
_SMALL = (
    "patches.target_radius_px=2",
    "localisation.kernel_radius_px=2",
    "localisation.max_group_radius_px=2",
    "localisation.threshold=0.4",
    "localisation.threshold_step=0.65",
)
# Most of the cross-entropy of a Gaussian is its own entropy: the gain of an epoch looks small.
_HEATMAP = ("miun_training.plateau_min_gain=0.002",)
VARIANTS: dict[str, Variant] = {
    "base": Variant("scaled counts, bands at their own resolution, disks of 5 px, BCE"),
    "rotations": Variant("mean response over 8 turns", trained="base", respond=rotations),
    "sphere": Variant("mean response of overlapping patches", trained="base", respond=sphere),
    "shifted": Variant("the same with a second, shifted grid", trained="base", respond=shifted),
    "everything": Variant("both grids and the 8 turns", trained="base", respond=everything),
    "counts": Variant("raw counts", ("miun.input_scaling=counts",)),
    "bce_dice": Variant("BCE + soft Dice", ("miun_training.loss=bce_dice",)),
    "common": Variant("one grid of the finest pixels for all bands", common=True),
    "background": Variant("(n-b)/sqrt(b+1) beside the scaled counts", background=True),
    "small": Variant("disks of 2 px", _SMALL),
    "heatmap": Variant("Gaussians of 1.5 px, BCE, peaks", _HEATMAP, target="heatmap", peaks=True),
    "heatmap_focal": Variant(
        "Gaussians of 1.5 px, focal loss, peaks", target="marked", loss=focal, peaks=True
    ),
    "population": Variant(
        "trained on sources of any TS down to the depth, all of them targets",
        ("sky.least_ts=null", "sky.labelled_flux=3.0e-11"),
    ),
    "shallow": Variant(
        "trained on the plain catalogue classes",
        ("sky.least_ts=null", "sky.depth=null", "sky.density_factor=1"),
    ),
}


@dataclass(frozen=True)
class Trained:
    """A network, what it was trained by, and the patches it is measured on."""

    model: Miun
    config: Config
    valid: Records
    seconds: float
    cpu_seconds: float
    loss: float
    history: list[dict[str, float]]


class Bench:
    """The variants of one configuration, and the folder that keeps their results."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.out: Path = arguments.out
        self.path: Path = arguments.config
        self.overrides = [*arguments.overrides, "sky.test_interstellar=[]"]
        for key, value in (
            ("seed", arguments.seed),
            ("miun.width", arguments.width),
            ("miun_training.epochs", arguments.epochs),
        ):
            self.overrides += [] if value is None else [f"{key}={value}"]
        self.base = load_config(self.path, self.overrides)
        self.amount = Amount(arguments.skies, arguments.patches_per_sky, arguments.valid_patches)
        self.device = torch.device(arguments.device)
        self.settings = {
            "config": self.base.hash(),
            "skies": self.amount.skies,
            "patches_per_sky": self.amount.patches_per_sky,
            "valid_patches": self.amount.valid_patches,
        }
        self._material: Material | None = None
        self._trained: dict[str, Trained] = {}
        self._records: tuple[object, Records] = (None, {})
        self._start, self._epochs_done, self._epochs = time.perf_counter(), 0, 0

    @property
    def material(self) -> Material:
        """Skies and patches, made when they are first needed."""
        if self._material is None:
            say("response, diffuse emission, validation sky")
            self._material = Material(self.base, self.amount)
        return self._material

    def run(self, names: Sequence[str]) -> None:
        """Train and measure the variants that are not finished yet."""
        waiting = [name for name in names if self.finished(name) is None]
        trainings = dict.fromkeys(VARIANTS[name].trained or name for name in waiting)
        self._epochs = len(trainings) * self.base.miun_training.epochs
        self._start = time.perf_counter()
        for place, name in enumerate(waiting):
            say(f"{name} ({place + 1} of {len(waiting)}): {VARIANTS[name].change}")
            self.measure(name)
            later = {VARIANTS[n].trained or n for n in waiting[place + 1 :]}
            self._trained = {n: t for n, t in self._trained.items() if n in later}

    def finished(self, name: str) -> dict[str, Any] | None:
        """Return the result of an earlier start, if there is one."""
        path = self.out / f"{name}.json"
        if not path.exists():
            return None
        result: dict[str, Any] = read_json(path)
        if result["settings"] != self.settings:
            raise InputError(str(path), "is of other settings", "use another --out")
        return result

    def measure(self, name: str) -> None:
        """Search the validation patches as a variant does, and keep what came of it."""
        variant = VARIANTS[name]
        trained = self.trained(variant.trained or name)
        start = time.perf_counter()
        maps = variant.respond(trained.model, trained.config, self.material, trained.valid)
        found = detect(maps, trained.config, self.material, variant.peaks)
        seconds = time.perf_counter() - start
        lists = {name: found}
        if name != "base" and self.finished("base") is not None:
            lists["base"] = read_parquet(self.out / "base.parquet")
        metrics = {
            **figures(lists, self.material.truth)[name],
            "validation_loss": trained.loss,
            "search_seconds": seconds,
        }
        if variant.trained is None:
            metrics["training_seconds"] = trained.seconds
            metrics["training_cpu_seconds"] = trained.cpu_seconds
        result = {"settings": self.settings, "variant": name, "change": variant.change}
        history = trained.history if variant.trained is None else []
        track(self.out, result, self.base, variant, metrics, history)
        write_parquet(self.out / f"{name}.parquet", found)
        write_parquet(self.out / "truth.parquet", self.material.truth)
        write_json(self.out / f"{name}.json", result | {"metrics": metrics, "history": history})
        whole = ", ".join(
            f"{metrics[f'completeness_at_purity_{p}']:.3f}" for p in PURITIES.values()
        )
        say(f"{name}: completeness {whole} at purity 0.8, 0.9, 0.95; searched in {seconds:.0f} s")

    def trained(self, name: str) -> Trained:
        """Return the network of a variant, trained at its first call."""
        if name not in self._trained:
            self._trained[name] = self.train(name)
        return self._trained[name]

    def train(self, name: str) -> Trained:
        """Train one variant."""
        variant = VARIANTS[name]
        config = load_config(self.path, [*self.overrides, *variant.overrides])
        if variant.common:
            config = on_one_grid(config)
        kind = (variant.target, variant.background)
        key = (config.sky, config.bands, config.patches, kind)
        if key != self._records[0]:
            self._records = (None, {})
            self._records = (key, self.material.training(config, *kind))
        train, valid = self._records[1], self.material.validation(config, *kind)
        model = network(config, variant.background)
        if variant.target == "heatmap":
            start_at_mean(model, train["target"])
        start, cpu = time.perf_counter(), time.process_time()
        result = fit(
            model,
            training_batches(train, config),
            held_out(valid, config),
            config.miun_training,
            loss=variant.loss or build_loss(config.miun_training.loss, "miun"),
            on_epoch=self._reporter(name, config.miun_training.epochs),
            device=self.device,
            seed=config.seed,
        )
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return Trained(model, config, valid, seconds, cpu, result.best_loss, result.history)

    def _reporter(self, name: str, epochs: int) -> Callable[[EpochReport], None]:
        def report(epoch: EpochReport) -> None:
            self._epochs_done += 1
            elapsed = time.perf_counter() - self._start
            left = elapsed / self._epochs_done * (self._epochs - self._epochs_done)
            say(
                f"{name}, epoch {epoch.epoch}/{epochs}: loss {epoch.train_loss:.5f}, validation "
                f"{epoch.valid_loss:.5f}, {epoch.seconds:.0f} s; about {left / 60:.1f} min left"
            )

        return report


def track(
    out: Path,
    result: dict[str, Any],
    base: Config,
    variant: Variant,
    metrics: dict[str, float],
    history: Sequence[dict[str, float]],
) -> None:
    """Make a finished variant a run in MLflow."""
    with mlflow.start_run(run_name=result["variant"]):
        mlflow.log_params(
            {k: result[k] for k in ("variant", "change")}
            | result["settings"]
            | {
                "overrides": " ".join(variant.overrides),
                "common": variant.common,
                "background": variant.background,
                "target": variant.target,
                "peaks": variant.peaks,
                "trained": variant.trained or result["variant"],
                "response": getattr(variant.respond, "__name__", "other"),
                "configuration": base.name,
                "width": base.miun.width,
                "epochs": base.miun_training.epochs,
                "seed": base.seed,
            }
        )
        mlflow.log_metrics({k: v for k, v in metrics.items() if v == v})
        for row in history:
            epoch = int(row["epoch"])
            mlflow.log_metrics({k: v for k, v in row.items() if k != "epoch"}, step=epoch)
    say(f"{result['variant']}: run kept in {out / 'mlflow.db'}")


def table(bench: Bench, names: Sequence[str]) -> str:
    """Return the finished variants as Markdown."""
    results = {name: r for name in names if (r := bench.finished(name)) is not None}
    lists = {name: read_parquet(bench.out / f"{name}.parquet") for name in results}
    rows = figures(lists, read_parquet(bench.out / "truth.parquet"))
    lines = [
        "| variant | change | completeness at purity 0.8 / 0.9 / 0.95 | error at 0.9 "
        "| ratio to base at 0.9 | median error, deg: all, bright | training, s | validation loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        metrics = results[name]["metrics"]
        whole = " / ".join(f"{row[f'completeness_at_purity_{p}']:.3f}" for p in PURITIES.values())
        ratio = f"{row['ratio_90']:.3f} ± {row['ratio_90_error']:.3f}" if "ratio_90" in row else "-"
        seconds = metrics.get("training_seconds")
        lines.append(
            f"| {name} | {results[name]['change']} | {whole} "
            f"| {row['completeness_at_purity_90_error']:.3f} | {ratio} "
            f"| {row['median_error_deg']:.3f}, {row['median_error_bright_deg']:.3f} "
            f"| {'-' if seconds is None else f'{seconds:.0f}'} "
            f"| {metrics['validation_loss']:.5f} |"
        )
    first = next(iter(rows.values()))
    return "\n".join([f"{first['sources']:.0f} true sources count.", "", *lines])


def say(text: str) -> None:
    """Write a line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure variants and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/front.yaml"))
    parser.add_argument("--out", type=Path, required=True, help="results and MLflow store")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="which; default all")
    parser.add_argument("--skies", type=int, default=4, help="training skies")
    parser.add_argument("--patches-per-sky", type=int, default=256)
    parser.add_argument("--valid-patches", type=int, default=384, help="768 is the whole sky")
    parser.add_argument("--epochs", type=int, help="default: the configuration's")
    parser.add_argument("--width", type=int, help="default: the configuration's")
    parser.add_argument("--seed", type=int, help="default: the configuration's")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("overrides", nargs="*", help="section.key=value of the configuration")
    arguments = parser.parse_args()
    names = arguments.variants.split(",")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        parser.error(f"no variant {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    open_store(arguments.out, "levers of MIUN")
    try:
        bench = Bench(arguments)
        bench.run(names)
        print(table(bench, names))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
