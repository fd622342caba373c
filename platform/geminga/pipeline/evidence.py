"""The stages that measure what is known of every candidate, and what they wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geminga.arrays import Bool, Int64
from geminga.classification.evidence import Evidence
from geminga.config import Config
from geminga.distributed.evidence import REAL, TRAIN, EvidenceWriter, evidence_file
from geminga.distributed.search import photon_file
from geminga.distributed.session import ray_session
from geminga.distributed.work import Piece, run_pieces
from geminga.pipeline.runner import Context
from geminga.pipeline.search import (
    RANKED,
    candidate_file,
    primary_search,
    score_cuts,
    training_candidates,
)
from geminga.pipeline.simulate import diffuse_path, sky_ids, test_sky_ids
from geminga.seeds import Split

EVIDENCE = "evidence"
"""Name of the stage that measures the candidates of test skies."""

EVIDENCE_TRAINING = "evidence_training"
"""Name of the stage that measures those of training and validation skies: another observed sky
measures its own candidates only, and the classifier stays."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Evidence on n candidates and what they truly are; see `EvidenceWriter`.

    Attributes
    ----------
    evidence : Evidence
    sky, row, source, label : Int64 (n,)
    counted, repeated : Bool (n,)
    """

    evidence: Evidence
    sky: Int64
    row: Int64
    source: Int64
    label: Int64
    counted: Bool
    repeated: Bool

    def __len__(self) -> int:
        return len(self.evidence)

    def take(self, rows: Int64 | Bool) -> Labelled:
        """Return some of the candidates."""
        names = ("sky", "row", "source", "label", "counted", "repeated")
        return Labelled(self.evidence.take(rows), *(getattr(self, name)[rows] for name in names))


def is_measured(config: Config) -> bool:
    """Return whether a run measures evidence: only the likelihood search says enough."""
    return primary_search(config) == RANKED


def run_evidence_training(context: Context, folder: Path) -> Mapping[str, Any]:
    """Measure the candidates of training and validation skies."""
    config = context.config
    train, valid = sky_ids(config, Split.TRAIN), sky_ids(config, Split.VALID)
    pieces: list[Piece] = [
        {
            "sky_id": sky,
            "candidates": str(training_candidates(context, sky).resolve()),
            "photons": "",
            "kind": TRAIN if sky in train else "",
        }
        for sky in (*train, *valid)
    ]
    return _measure(context, folder, pieces)


def run_evidence(context: Context, folder: Path) -> Mapping[str, Any]:
    """Measure the candidates of the test skies, or of the real one."""
    config = context.config
    searched, observed = context.folder("search"), context.folder("observe")
    pieces: list[Piece] = [
        {
            "sky_id": sky,
            "candidates": str(candidate_file(searched, primary_search(config), sky).resolve()),
            "photons": str(photon_file(observed, sky).resolve()),
            "kind": "" if config.observed is None else REAL,
        }
        for sky in test_sky_ids(config)
    ]
    return _measure(context, folder, pieces)


def _measure(context: Context, folder: Path, pieces: Sequence[Piece]) -> Mapping[str, Any]:
    config = context.config
    arguments = (
        config.model_dump_json(),
        diffuse_path(context),
        str(context.folder("skies").resolve()),
        str(folder.resolve()),
        config.evidence.least_score_ratio * score_cuts(context)[primary_search(config)],
    )
    with ray_session():
        rows = run_pieces(EvidenceWriter, arguments, pieces, config.run.workers, "evidence", "sky")
    return {"candidates measured": sum(row["candidates"] for row in rows)}


def read_evidence(context: Context, skies: Sequence[int]) -> Labelled:
    """Return the evidence on the candidates of some skies, in their order.

    Raises
    ------
    InputError
        If there is no sky, or a file is missing or damaged.
    """
    tests = test_sky_ids(context.config)
    stages = [EVIDENCE if sky in tests else EVIDENCE_TRAINING for sky in skies]
    stored = [
        Evidence.load(evidence_file(context.folder(stage), sky))
        for stage, sky in zip(stages, skies, strict=True)
    ]
    kept = {
        name: np.concatenate([more[name] for _, more in stored])
        for name in ("row", "source", "label", "counted", "repeated")
        if stored
    }
    evidence = Evidence.join([part for part, _ in stored])
    sky = np.repeat(np.asarray(skies, np.int64), [len(part) for part, _ in stored])
    return Labelled(evidence, sky, **kept)
