"""What `bench_classifier.py` trains on and judges by."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from class_levers import Row, chosen

from geminga.arrays import Bool, Float64, Int64
from geminga.classes import with_fake
from geminga.classification.evidence import Evidence
from geminga.config import Config, digest
from geminga.distributed.evidence import TRAIN, EvidenceWriter, evidence_file
from geminga.distributed.simulate import sky_folder
from geminga.errors import InputError
from geminga.evaluation.class_metrics import Classified
from geminga.files import file_digest, read_parquet
from geminga.pipeline.class_model import above_cut
from geminga.pipeline.evidence import Labelled
from geminga.pipeline.runner import Context
from geminga.pipeline.search import primary_search, score_cuts, training_candidates
from geminga.pipeline.simulate import diffuse_path, sky_ids
from geminga.seeds import Split
from geminga.sky.sky_files import SOURCES_FILE

SMALL = {"stamp_pixels": 3, "stamp_widths_r68": (3.0,), "year_weights": "summed"}
"""Settings of the evidence of which only the years are taken."""


@cache
def content(path: Path) -> str:
    """Return the digest of a file, read once."""
    return file_digest(path)


@dataclass(frozen=True, eq=False)
class Part:
    """Candidates of some skies with their true classes.

    Attributes
    ----------
    labelled : Labelled
    summed : Evidence or None
        Of the same candidates, with summed years.
    detected : Bool (n,)
        Which are detections above the cut, measured where they were found.
    """

    labelled: Labelled
    summed: Evidence | None
    detected: Bool

    def take(self, rows: Int64 | Bool) -> Part:
        """Return some of the candidates."""
        summed = None if self.summed is None else self.summed.take(rows)
        return Part(self.labelled.take(rows), summed, self.detected[rows])


@dataclass(frozen=True, eq=False)
class Bench:
    """The skies and the settings that all rows share."""

    context: Context
    evidence: Path
    out: Path
    train: list[int]
    limit: int

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.context.config

    def validation(self) -> tuple[list[int], list[int], list[int]]:
        """Return the skies that choose the epoch, calibrate and judge."""
        skies = sky_ids(self.config, Split.VALID)
        if len(skies) < 3:
            raise InputError("sets.validation", f"{len(skies)}", "name a run with three or more")
        return skies[-2:-1], skies[-1:], skies[:-2]

    def all_skies(self) -> list[int]:
        """Return every sky that is read."""
        return [*self.train, *(sky for part in self.validation() for sky in part)]

    def measure_summed(self) -> None:
        """Measure summed years of every sky that is read."""
        evidence = self.config.evidence.model_copy(update=SMALL)
        config = self.config.model_copy(update={"evidence": evidence})
        least = config.evidence.least_score_ratio * score_cuts(self.context)[primary_search(config)]
        folder = self.out / "summed"
        folder.mkdir(parents=True, exist_ok=True)
        writer = EvidenceWriter(
            config.model_dump_json(), diffuse_path(self.context),
            str(self.context.folder("skies")), str(folder), least,
        )  # fmt: skip
        for sky in self.all_skies():
            start = time.process_time()
            kind = TRAIN if sky in self.train else ""
            listed = str(training_candidates(self.context, sky))
            writer({"sky_id": sky, "candidates": listed, "photons": "", "kind": kind})
            say(f"summed years of sky {sky}: {time.process_time() - start:.0f} s of one core")

    def part(self, skies: list[int]) -> Part:
        """Return the candidates of some skies that count."""
        stored = [Evidence.load(evidence_file(self.evidence, sky)) for sky in skies]
        more = {
            name: np.concatenate([arrays[name] for _, arrays in stored])
            for name in ("row", "source", "label", "counted", "repeated")
        }
        sky = np.repeat(np.asarray(skies, np.int64), [len(one) for one, _ in stored])
        labelled = Labelled(Evidence.join([one for one, _ in stored]), sky, **more)
        files = [evidence_file(self.out / "summed", sky) for sky in skies]
        summed = None
        if all(path.is_file() for path in files):
            summed = Evidence.join([Evidence.load(path)[0] for path in files])
        detected = above_cut(self.context, labelled) & ~labelled.repeated
        return Part(labelled, summed, detected).take(labelled.counted)

    def key(self, row: Row) -> str:
        """Return what the figures of a row depend on."""
        files = [evidence_file(self.evidence, sky) for sky in self.all_skies()]
        if row.years == "summed":
            files += [evidence_file(self.out / "summed", sky) for sky in self.all_skies()]
        words = {k: v for k, v in vars(row).items() if k not in ("prediction", "base")}
        sections = ("evidence_net", "evidence_net_training", "classes", "seed")
        settings = self.config.model_dump(mode="json")
        return digest(
            [words, self.limit, [content(p) for p in files], [settings[k] for k in sections]]
        )


@dataclass(frozen=True, eq=False)
class Parts:
    """What is trained on, what chooses, calibrates and judges."""

    train: Part
    choose: Part
    calibrate: Part
    test: Part
    s1_true: Float64


def parts_of(bench: Bench) -> Parts:
    """Return the candidates of every sky that is read."""
    choose, calibrate, test = (bench.part(skies) for skies in bench.validation())
    train = bench.part(bench.train)
    if bench.limit:
        everything = np.ones(len(train.detected), np.bool_)
        train = train.take(chosen(everything, bench.limit, bench.config.seed))
    test, calibrate = test.take(test.detected), calibrate.take(calibrate.detected)
    s1 = np.full(len(test.labelled), np.nan)
    for sky in dict.fromkeys(test.labelled.sky.tolist()):
        mine = (test.labelled.sky == sky) & (test.labelled.source >= 0)
        path = sky_folder(bench.context.folder("skies"), int(sky)) / SOURCES_FILE
        s1[mine] = read_parquet(path)["s1"].to_numpy()[test.labelled.source[mine]]
    return Parts(train, choose, calibrate, test, s1)


def classified(bench: Bench, parts: Parts, natural: Float64, flat: Float64) -> Classified:
    """Return probabilities of the judged candidates, or of the true sources among them."""
    names, listed = with_fake(bench.config.classes), parts.test.labelled
    everything = Classified(
        names, listed.sky, listed.label, np.eye(len(names))[listed.label],
        np.eye(len(names))[listed.label], parts.s1_true, listed.evidence.lat_deg,
        listed.evidence.lon_deg,
    )  # fmt: skip
    if natural.shape[1] == len(names):
        return replace(everything, probabilities=natural, probabilities_flat=flat)
    # Ceilings list the sources of a sky in the order of the candidates, as here.
    true = everything.take(listed.source >= 0)
    kept = {k: getattr(true, k) for k in ("sky", "label", "s1_true", "lat_deg", "lon_deg")}
    return Classified(names[:-1], probabilities=natural, probabilities_flat=flat, **kept)


def say(line: str) -> None:
    """Print a line at once: the program is long."""
    print(line, flush=True)
