"""The stage that measures what is known of every candidate, and what it wrote."""

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
"""Name of the stage."""


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


def run_evidence(context: Context, folder: Path) -> Mapping[str, Any]:
    """Measure the candidates of all skies, test skies included."""
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
    primary = primary_search(config)
    for sky in test_sky_ids(config):
        listed = candidate_file(context.folder("search"), primary, sky)
        pieces.append(
            {
                "sky_id": sky,
                "candidates": str(listed.resolve()),
                "photons": str(photon_file(context.folder("observe"), sky).resolve()),
                "kind": "" if config.observed is None else REAL,
            }
        )
    least = config.evidence.least_score_ratio * score_cuts(context)[primary]
    arguments = (
        config.model_dump_json(),
        diffuse_path(context),
        str(context.folder("skies").resolve()),
        str(folder.resolve()),
        least,
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
    stored = [Evidence.load(evidence_file(context.folder(EVIDENCE), sky)) for sky in skies]
    kept = {
        name: np.concatenate([more[name] for _, more in stored])
        for name in ("row", "source", "label", "counted", "repeated")
        if stored
    }
    evidence = Evidence.join([part for part, _ in stored])
    sky = np.repeat(np.asarray(skies, np.int64), [len(part) for part, _ in stored])
    return Labelled(evidence, sky, **kept)
