"""One worker and two give the same bytes, for patches, photons and detections."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from geminga.config import Config
from geminga.distributed.expected_ts import ExpectedTsWriter
from geminga.distributed.search import Observer, Searcher
from geminga.distributed.session import ray_session
from geminga.distributed.simulate import PatchWriter, SkyWriter, patch_file
from geminga.distributed.work import run_pieces
from geminga.errors import InputError
from geminga.networks.build import build_miun
from geminga.networks.checkpoint import save_checkpoint
from geminga.patches.store import group_sizes
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts

pytestmark = pytest.mark.usefixtures("ray_on_two_cores")

SKIES = [sky_id(Split.TRAIN, 0), sky_id(Split.VALID, 0), sky_id(Split.TEST, 0)]


def chain(config: Config, folder: Path, weights: Path, diffuse: str, workers: int) -> None:
    """Simulate, cut, observe and search with a number of workers."""
    text = config.model_dump_json()
    skies, patches = str(folder / "skies"), str(folder / "patches")
    observed, found = str(folder / "observed"), str(folder / "found")
    pieces = [{"sky_id": i} for i in SKIES]
    with ray_session(workers):
        run_pieces(SkyWriter, (text, diffuse, skies), pieces, workers, "skies", "sky")
        run_pieces(PatchWriter, (text, diffuse, skies, patches), pieces, workers, "cut", "sky")
        run_pieces(
            Observer, (text, diffuse, skies, observed, True), pieces, workers, "observe", "sky"
        )
        expected = str(folder / "expected")
        run_pieces(ExpectedTsWriter, (text, diffuse, skies, expected), pieces, workers, "TS", "sky")
        groups = [
            {"path": str(path), "group": group, "sky_id": i}
            for i in SKIES
            for path in [patch_file(folder / "observed", i)]
            for group in range(len(group_sizes(path)))
        ]
        run_pieces(
            Searcher,
            (text, str(weights), found, ("miun", "significance", "wavelet", "kmeans")),
            groups, workers, "search", "group",
        )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_bytes_do_not_depend_on_the_number_of_workers(config2: Config, tmp_path: Path) -> None:
    config = config2.model_copy(
        update={
            "localisation": config2.localisation.model_copy(
                update={"threshold": 2.0, "threshold_step": 1.0, "kmeans_max_clusters": 3}
            )
        }
    )
    weights = tmp_path / "weights"
    save_checkpoint(weights, build_miun(config), "miun", config, {})
    diffuse = tmp_path / "diffuse.npz"
    diffuse_counts(config, build_response(config)).save(diffuse)
    for workers in (1, 2):
        chain(config, tmp_path / str(workers), weights, str(diffuse), workers)
    one, two = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert one == two
    kinds = {Path(name).suffix for name in one}
    assert {".parquet", ".npz", ".json"} <= kinds


class Refuses:
    """A worker that does not like one of its pieces."""

    def __call__(self, piece: dict[str, int]) -> dict[str, int]:
        if piece["number"] == 2:
            raise InputError("piece", f"{piece['number']} is bad", "give a better one")
        return piece


def test_a_refusal_in_a_worker_comes_back_as_the_plain_error() -> None:
    pieces = [{"number": n} for n in range(4)]
    with pytest.raises(InputError, match="piece: 2 is bad; give a better one"), ray_session(2):
        run_pieces(Refuses, (), pieces, 2, "refuse", "piece")


def test_answers_come_in_the_order_of_the_pieces() -> None:
    pieces = [{"number": n} for n in (5, 3, 9, 0, 7)]
    with ray_session(2):
        rows = run_pieces(Echo, (), pieces, 2, "echo", "piece")
    assert [row["number"] for row in rows] == [5, 3, 9, 0, 7]


class Echo:
    """A worker that answers with its piece."""

    def __call__(self, piece: dict[str, int]) -> dict[str, int]:
        return piece
