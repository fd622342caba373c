"""The worker that measures the candidates of a stored sky and says what they truly are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from photon_cases import fitted_list, natural_counts

from geminga.classes import with_fake
from geminga.classification.evidence import Evidence
from geminga.classification.labels import label_candidates
from geminga.config import Config
from geminga.distributed.evidence import REAL, TRAIN, EvidenceWriter, evidence_file
from geminga.distributed.simulate import SkyWriter, StoredSkies
from geminga.files import write_parquet
from geminga.geometry import separation_deg, unit_vectors
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.observe import draw_photons

SKY = sky_id(Split.TRAIN, 0)
PLACES = {"BLL": 10, "FSRQ": 4, "PSR": 2}
"""True sources among the candidates; five more are false."""
LEAST = 0.3
Kept = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stored:
    config: Config
    folder: Path
    candidates: pd.DataFrame
    truth: pd.DataFrame

    def piece(self, kind: str, photons: str = "") -> dict[str, object]:
        listed = str(self.folder / "list.parquet")
        return {"sky_id": SKY, "candidates": listed, "photons": photons, "kind": kind}

    def write(self, to: Path, kind: str, photons: str = "", **sky: object) -> tuple[Evidence, Kept]:
        """Measure; `sky` changes settings of the section."""
        config = self.config.model_copy(
            update={"sky": self.config.sky.model_copy(update=sky)} if sky else {}
        )
        diffuse, skies = str(self.folder / "diffuse.npz"), str(self.folder / "skies")
        worker = EvidenceWriter(config.model_dump_json(), diffuse, skies, str(to), LEAST)
        row = worker(self.piece(kind, photons))  # type: ignore[arg-type]
        evidence, kept = Evidence.load(evidence_file(to, SKY))
        assert row == {"sky_id": SKY, "candidates": len(evidence)}
        return evidence, kept


@pytest.fixture(scope="module")
def stored(config2: Config, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("sky")
    response = build_response(config2)
    diffuse_counts(config2, response).save(folder / "diffuse.npz")
    text, diffuse, skies = (
        config2.model_dump_json(), str(folder / "diffuse.npz"), str(folder / "skies"),
    )  # fmt: skip
    SkyWriter(text, diffuse, skies)({"sky_id": SKY})
    truth = StoredSkies(text, diffuse, skies).load(SKY).sources.table
    brightest = truth.sort_values("s1", ascending=False)
    rows = [brightest.index[brightest["class_name"] == c][:n] for c, n in PLACES.items()]
    chosen = truth.loc[np.concatenate(rows)]
    lon = np.concatenate([chosen["lon_deg"], np.arange(5) * 60.0])
    lat = np.concatenate([chosen["lat_deg"], np.full(5, 88.0)])
    counts = natural_counts(response, 100.0, len(lon))
    listed = fitted_list(response, counts, np.array([20.0, 2.0]), lon, lat)
    # The second to last false detection is too weak to be measured, as is the faintest pulsar.
    score = np.linspace(0.9, 0.5, len(lon))
    score[[-2, -6]] = 0.1
    listed = listed.assign(sky_id=SKY, score=score)
    write_parquet(folder / "list.parquet", listed)
    return Stored(config2, folder, listed, truth)


@pytest.fixture(scope="module")
def training(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Kept]:
    return stored.write(tmp_path_factory.mktemp("evidence"), TRAIN)


def test_rows_labels_and_sources(stored: Stored, training: tuple[Evidence, Kept]) -> None:
    evidence, kept = training
    own = ~kept["repeated"]
    rows = np.flatnonzero(stored.candidates["score"] >= LEAST)
    assert kept["row"][own].tolist() == rows.tolist()
    assert len(rows) == len(stored.candidates) - 2
    radius = stored.config.evaluation.match_radius_deg
    label = label_candidates(stored.candidates, stored.truth, stored.config.classes, radius)
    np.testing.assert_array_equal(kept["label"][own], label[rows])
    names = np.array(with_fake(stored.config.classes))[kept["label"]]
    found = kept["source"] >= 0
    assert (names == "FAKE").tolist() == (~found).tolist()
    assert stored.truth["class_name"].to_numpy()[kept["source"][found]].tolist() == (
        names[found].tolist()
    )
    assert kept["counted"].all(), "no extended source in these skies"
    np.testing.assert_array_equal(evidence.lon_deg[own], stored.candidates["lon_deg"][rows])


def test_rare_classes_are_measured_again(stored: Stored, training: tuple[Evidence, Kept]) -> None:
    evidence, kept = training
    again = np.flatnonzero(kept["repeated"])
    # Copies come last: 10 BLL, 4 FSRQ (one copy each), 1 PSR measured (two copies).
    names = np.array(with_fake(stored.config.classes))[kept["label"][again]]
    assert sorted(names) == ["FSRQ"] * 4 + ["PSR"] * 2
    assert again.tolist() == list(range(len(evidence) - 6, len(evidence)))
    true = stored.truth.iloc[kept["source"][again]]
    place = unit_vectors(true["lon_deg"].to_numpy(), true["lat_deg"].to_numpy())
    away = separation_deg(unit_vectors(evidence.lon_deg[again], evidence.lat_deg[again]), place)
    assert (away > 0).all()
    assert away.max() < 0.05, "errors are 0.01 deg"
    first = [int(np.flatnonzero(kept["row"] == row)[0]) for row in kept["row"][again]]
    np.testing.assert_array_equal(evidence.band_flux[again], evidence.band_flux[first])
    assert not np.array_equal(evidence.stamps[again], evidence.stamps[first])


def test_other_skies_have_no_copies_and_real_ones_no_labels(
    stored: Stored, training: tuple[Evidence, Kept], tmp_path: Path
) -> None:
    evidence, kept = training
    plain, told = stored.write(tmp_path / "plain", "")
    own = ~kept["repeated"]
    assert not told["repeated"].any()
    for name in ("row", "source", "label", "counted"):
        np.testing.assert_array_equal(told[name], kept[name][own])
    np.testing.assert_array_equal(plain.stamps, evidence.stamps[own])
    diffuse, skies = str(stored.folder / "diffuse.npz"), str(stored.folder / "skies")
    sky = StoredSkies(stored.config.model_dump_json(), diffuse, skies).load(SKY)
    draw_photons(sky, stored.config.seed).save(tmp_path / "photons.parquet")
    real, nothing = stored.write(tmp_path / "real", REAL, str(tmp_path / "photons.parquet"))
    assert (nothing["label"] == -1).all()
    assert (nothing["source"] == -1).all()
    assert nothing["counted"].all()
    assert not nothing["repeated"].any()
    # The photons that were kept are those that are drawn again.
    np.testing.assert_array_equal(real.stamps, plain.stamps)
    np.testing.assert_array_equal(real.year_ratio, plain.year_ratio)


def test_same_bytes_again_and_what_is_finished_is_kept(
    stored: Stored, training: tuple[Evidence, Kept], tmp_path: Path
) -> None:
    stored.write(tmp_path, TRAIN)
    path = evidence_file(tmp_path, SKY)
    first, when = path.read_bytes(), path.stat().st_mtime_ns
    stored.write(tmp_path, TRAIN)
    assert path.stat().st_mtime_ns == when
    path.unlink()
    stored.write(tmp_path, TRAIN)
    assert path.read_bytes() == first
    np.testing.assert_array_equal(Evidence.load(path)[0].stamps, training[0].stamps)


def test_a_sky_without_a_labelled_source(stored: Stored, tmp_path: Path) -> None:
    evidence, kept = stored.write(tmp_path, TRAIN, labelled_flux=1.0)
    assert len(evidence) == len(stored.candidates) - 2
    assert (kept["label"] == len(stored.config.classes)).all()
    assert (kept["source"] == -1).all()
    assert not kept["repeated"].any()


def test_damaged_evidence_of_an_earlier_try_is_made_anew(
    stored: Stored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored.write(tmp_path, "")
    path = evidence_file(tmp_path, SKY)
    whole = path.read_bytes()
    path.write_bytes(b"PK\x03\x04 half")
    stored.write(tmp_path, "")
    assert re.search(r"evidence_0000000\.npz: holds no evidence .*; made anew", caplog.text)
    assert path.read_bytes() == whole
