"""Workers that measure the evidence on the candidates of a sky."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geminga.classification.evidence import Evidence
from geminga.classification.labels import partners
from geminga.classification.measure_evidence import measure_evidence
from geminga.classification.recentred import recentred
from geminga.distributed.simulate import StoredSkies, response_of
from geminga.distributed.work import Piece
from geminga.evaluation.extended import masked
from geminga.files import is_whole, read_parquet
from geminga.sky.labelled import labelled
from geminga.sky.observe import draw_photons
from geminga.sky.photons import Photons

REAL = "real"
"""Kind of a piece whose sky nobody simulated: it has no labels."""
TRAIN = "train"
"""Kind of a piece whose rare classes are measured again at jittered positions."""


def evidence_file(folder: Path, sky_id: int) -> Path:
    """Return where the evidence on the candidates of a sky is kept."""
    return folder / f"evidence_{sky_id:07d}.npz"


class EvidenceWriter:
    """Measures the candidates of a sky from a score up, and says what they truly are.

    Kept with the evidence, each (n,): ``row`` in the list of candidates; ``source``, the matched
    source's row in the sky's table, -1 for none; ``label`` into ``with_fake(classes)``, -1 on a
    real sky; ``counted``, false of a detection on an extended source that matches no point source;
    ``repeated``, true of a true positive that is measured again at its true position, jittered by
    the position error.

    Parameters
    ----------
    config_json, diffuse_path, skies : str
        See `StoredSkies`.
    folder : str
        Where the evidence goes, a file per sky.
    least : float
        Least score of the candidates.
    """

    def __init__(
        self, config_json: str, diffuse_path: str, skies: str, folder: str, least: float
    ) -> None:
        self.skies = StoredSkies(config_json, diffuse_path, skies)
        self.response = response_of(config_json)
        self.folder, self.least = Path(folder), least

    def __call__(self, piece: Piece) -> Piece:
        """Measure the list ``candidates`` of ``sky_id``; ``kind`` says what sky it is.

        The photons are those of the file ``photons``, or drawn again if it is empty.
        """
        sky_id = int(piece["sky_id"])
        target = evidence_file(self.folder, sky_id)
        if not is_whole(target, Evidence.load):
            self._write(target, piece, sky_id)
        stored, _ = Evidence.load(target)
        return {"sky_id": sky_id, "candidates": len(stored)}

    def _write(self, target: Path, piece: Piece, sky_id: int) -> None:
        config, kind = self.skies.config, str(piece["kind"])
        candidates = read_parquet(Path(str(piece["candidates"])))
        rows = np.flatnonzero(candidates["score"].to_numpy() >= self.least)
        n = len(rows)
        if kind == REAL:
            photons = Photons.load(Path(str(piece["photons"])))
            evidence = measure_evidence(photons, candidates, self.response, config, rows)
            nothing = np.full(n, -1, np.int64)
            evidence.save(
                target,
                row=rows,
                source=nothing,
                label=nothing,
                counted=np.ones(n, np.bool_),
                repeated=np.zeros(n, np.bool_),
            )
            return
        sky = self.skies.load(sky_id)
        stored = str(piece["photons"])
        photons = Photons.load(Path(stored)) if stored else draw_photons(sky, config.seed)
        evidence = measure_evidence(photons, candidates, self.response, config, rows)
        table = sky.sources.table
        truth = labelled(table, config.sky)
        radius = config.evaluation.match_radius_deg
        # Matched among all candidates: whether one is a duplicate does not depend on the score.
        label, partner = partners(candidates, truth, config.classes, radius)
        source, matched = np.full(len(partner), -1, np.int64), partner >= 0
        source[matched] = truth.index.to_numpy()[partner[matched]]
        on_extended = masked(candidates, label < len(config.classes), sky.extended_sources, radius)
        label, source, counted = label[rows], source[rows], ~on_extended[rows]
        again = recentred(evidence, label, source, table, config, sky_id) if kind == TRAIN else None
        repeated = np.zeros(n, np.bool_)
        if again is not None and len(again.rows):
            more = measure_evidence(
                photons, candidates, self.response, config, rows[again.rows], at=again.at
            )
            evidence = Evidence.join([evidence, more])
            label, source, counted = (
                np.concatenate([values, values[again.rows]]) for values in (label, source, counted)
            )
            repeated = np.concatenate([repeated, np.ones(len(again.rows), np.bool_)])
            rows = np.concatenate([rows, rows[again.rows]])
        evidence.save(
            target, row=rows, source=source, label=label, counted=counted, repeated=repeated
        )
