"""A run whose skies, lists and evidence are made up: four classes that differ in what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.classes import with_fake
from geminga.classification.class_model import ClassModel, channel_edges, fit_class_model
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.config import Config
from geminga.distributed.evidence import evidence_file
from geminga.distributed.simulate import sky_folder
from geminga.files import write_json, write_parquet
from geminga.pipeline.class_model import CLASS_MODEL
from geminga.pipeline.classify import IMAGES, probability_file
from geminga.pipeline.evidence import EVIDENCE, EVIDENCE_TRAINING
from geminga.pipeline.runner import Context
from geminga.pipeline.search import CUTS_FILE, RANKED, candidate_file
from geminga.sections import EvidenceConfig, EvidenceNetConfig, TrainingConfig
from geminga.seeds import Split, sky_id
from geminga.sky.sky_files import COUNTS_FILE, SOURCES_FILE
from geminga.sky.spectra import photon_flux

YEARS = 4
CUT = 0.4
INDEX = (1.8, 2.6, 2.2, 2.2)
SCATTER = (0.05, 0.05, 0.05, 0.6)
NET = EvidenceNetConfig(width=16, image_width=4, members=2)
TRAINING = TrainingConfig(
    epochs=4, batch_size=64, learning_rate=5e-3, plateau_patience=1, loss="cross_entropy"
)


def small(config: Config, **sets: int) -> Config:
    """Return a configuration with a small network and small stamps."""
    return config.model_copy(
        update={
            "evidence": EvidenceConfig(stamp_pixels=3, stamp_widths_r68=(3.0,)),
            "evidence_net": NET,
            "evidence_net_training": TRAINING,
            "sets": config.sets.model_copy(update=sets),
        }
    )


@dataclass(frozen=True, eq=False)
class MadeUp:
    """A sky's true sources and its list: first every source, then false detections, by score."""

    truth: pd.DataFrame
    yearly: Float64
    listed: pd.DataFrame
    evidence: Evidence
    label: Int64
    source: Int64


def made_up(config: Config, sky: int, n: int = 120, years: int = YEARS) -> MadeUp:
    """Return a sky of n candidates, a fifth of them false; years are as many as measured."""
    rng = np.random.default_rng(sky)
    classes = config.classes
    label = np.sort(rng.choice(len(classes) + 1, n))
    true = label < len(classes)
    source = np.where(true, np.cumsum(true) - 1, -1)
    m = int(true.sum())
    kind = label[true] % len(INDEX)
    truth = pd.DataFrame(
        {
            "sky_id": sky,
            "source_id": np.arange(m) + 100,
            "class_name": np.array(classes, dtype=object)[label[true]],
            "lon_deg": rng.uniform(0, 360, m),
            "lat_deg": rng.uniform(-80, 80, m),
            "form": "log_parabola",
            "norm": 1e-12,
            "pivot_mev": 1000.0,
            "index": np.array(INDEX)[kind] + 0.1 * rng.standard_normal(m),
            "curvature": 0.0,
            "exp_index": 1.0,
        }
    )
    truth["s1"] = photon_flux(truth, 1e3, 1e6)
    edges = channel_edges(config)
    flux = np.stack([photon_flux(truth, *(1e3 * e)) for e in edges], axis=1)
    spread = np.array(SCATTER)[kind][:, None]
    yearly = np.exp(spread * rng.standard_normal((m, YEARS)))
    everyone = np.full((n, len(edges)), 1e-11)
    everyone[true] = flux
    error = 0.05 * everyone + 1e-11
    ratio = np.ones((n, YEARS))
    ratio[true] = yearly / yearly.mean(axis=1, keepdims=True)
    ratio = ratio[:, :years]
    detection = rng.normal(size=(n, len(DETECTION_NAMES)))
    detection[:, 1] += np.where(true, 2.0, -2.0)
    planes = len(config.channels) * len(config.evidence.stamp_widths_r68)
    pixels = config.evidence.stamp_pixels
    stamps = np.ones((n, planes, 2, pixels, pixels), np.float32)
    stamps[:, :, 0] = rng.poisson(1.0 + 4.0 * true[:, None, None, None], stamps[:, :, 0].shape)
    lon, lat = rng.uniform(0, 360, n), rng.uniform(-80, 80, n)
    lon[true], lat[true] = truth["lon_deg"], truth["lat_deg"]
    evidence = Evidence(
        lon,
        lat,
        edges,
        everyone + error * rng.standard_normal(everyone.shape),
        error,
        ratio + 0.1 * rng.standard_normal(ratio.shape),
        np.full((n, years), 0.1),
        detection,
        stamps,
    )
    score = np.where(true, rng.uniform(0.3, 1.0, n), rng.uniform(0.1, 0.7, n))
    order = np.argsort(-score)
    listed = pd.DataFrame(
        {"sky_id": sky, "lon_deg": lon, "lat_deg": lat, "score": score, "probability": score}
    ).iloc[order]
    return MadeUp(
        truth, yearly, listed.reset_index(drop=True), evidence.take(order), label[order],
        source[order],
    )  # fmt: skip


def model_of(config: Config, n: int = 400) -> ClassModel:
    """Return a classifier after a few epochs."""
    skies = [made_up(config, sky, n) for sky in (1, 2, 3)]
    given = [part for sky in skies for part in (sky.evidence, sky.label)]
    natural = np.ones(n, np.bool_)
    return fit_class_model(*given, natural, config, with_fake(config.classes))


def context_of(config: Config, root: Path) -> Context:
    """Return the context of a run in a folder."""
    return Context(config, root, None)  # type: ignore[arg-type]


def finished_run(config: Config, root: Path, **of: Any) -> Context:
    """Write what the stages before the evaluation would have left; `of` is for `made_up`."""
    context = context_of(config, root)
    write_json(root / "search_training" / CUTS_FILE, {RANKED: 0.9})
    write_json(root / "ranker" / CUTS_FILE, {RANKED: CUT})
    for split, number in (
        (Split.TRAIN, config.sets.train),
        (Split.VALID, config.sets.validation),
        (Split.TEST, config.sets.test),
    ):
        for sky in (sky_id(split, k) for k in range(number)):
            write_sky(context, made_up(config, sky, **of), sky, split)
    names = with_fake(config.classes)
    prior = np.full(len(names), 1 / len(names))
    meta = {"extra": {"prior": prior.tolist()}}
    write_json(root / "classifier" / "model" / "model.json", meta)
    model_of(config).save(root / CLASS_MODEL / "model", config)
    return context


def write_sky(context: Context, sky: MadeUp, number: int, split: Split) -> None:
    config, n = context.config, len(sky.label)
    folder = sky_folder(context.folder("skies"), number)
    write_parquet(folder / SOURCES_FILE, sky.truth)
    np.savez(folder / COUNTS_FILE, yearly=sky.yearly)
    stage = "search" if split == Split.TEST else "ranker"
    write_parquet(candidate_file(context.folder(stage), RANKED, number), sky.listed)
    repeated = np.zeros(n, np.bool_)
    rows, evidence = np.arange(n), sky.evidence
    label, source = sky.label, sky.source
    if split == Split.TRAIN:
        # The three surest true positives are measured again.
        again = np.flatnonzero(source >= 0)[:3]
        evidence = Evidence.join([evidence, evidence.take(again)])
        rows, label, source = (np.concatenate([v, v[again]]) for v in (rows, label, source))
        repeated = np.concatenate([repeated, np.ones(3, np.bool_)])
    measured = EVIDENCE if split == Split.TEST else EVIDENCE_TRAINING
    evidence.save(
        evidence_file(context.folder(measured), number),
        row=rows,
        source=source,
        label=label,
        counted=np.ones(len(rows), np.bool_),
        repeated=repeated,
    )
    if split == Split.TEST:
        names = with_fake(config.classes)
        rng = np.random.default_rng(number)
        listed = int((sky.listed["score"] >= CUT).sum())
        table = {"classes": list(names), "rows": rng.dirichlet(np.ones(len(names)), listed)}
        table["rows"] = table["rows"].tolist()
        write_json(probability_file(context.folder("catalog"), number, IMAGES), table)
