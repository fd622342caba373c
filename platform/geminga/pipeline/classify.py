"""Stages that make source images and turn detections into a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import geminga
from geminga.arrays import Float64
from geminga.catalogue import build_catalogue, write_fits, write_regions
from geminga.catalogue.build import probabilities_of
from geminga.classes import with_fake
from geminga.classification.class_model import ClassModel
from geminga.classification.images import counted_source_images
from geminga.classification.predict import class_probabilities
from geminga.distributed.images import ImageWriter
from geminga.distributed.search import photon_file
from geminga.distributed.session import ray_session
from geminga.distributed.work import Piece, run_pieces
from geminga.files import read_json, read_parquet, write_json, write_parquet
from geminga.networks.checkpoint import load_checkpoint
from geminga.networks.source_cnn import SourceCnn
from geminga.pipeline.class_columns import class_columns
from geminga.pipeline.class_model import CLASS_MODEL, load_class_model
from geminga.pipeline.evidence import Labelled, is_measured, read_evidence
from geminga.pipeline.runner import Context
from geminga.pipeline.search import (
    CLASSIFIED,
    RANKED,
    candidate_file,
    primary_search,
    selected,
    training_candidates,
)
from geminga.pipeline.simulate import diffuse_path, sky_ids, test_sky_ids
from geminga.pipeline.surroundings import surroundings
from geminga.response import build_response
from geminga.seeds import Split
from geminga.sky.photons import Photons

IMAGES = "images"
"""Probabilities of the network of images."""


def catalog_file(folder: Path, sky: int) -> Path:
    """Return the catalogue of a sky."""
    return folder / f"catalog_{sky:07d}.fits"


def probability_file(folder: Path, sky: int, by: str = "") -> Path:
    """Return where the probabilities of a sky's detections are kept; of the catalogue by default."""
    return folder / f"probabilities_{f'{by}_' if by else ''}{sky:07d}.json"


def run_images(context: Context, folder: Path) -> Mapping[str, Any]:
    """Render the source images of the detections on training and validation skies."""
    config = context.config
    pieces: list[Piece] = [
        {"sky_id": sky, "candidates": str(training_candidates(context, sky).resolve())}
        for sky in sky_ids(config, Split.TRAIN, Split.VALID)
    ]
    arguments = (
        config.model_dump_json(),
        diffuse_path(context),
        str(context.folder("skies").resolve()),
        str(folder.resolve()),
    )
    with ray_session():
        rows = run_pieces(ImageWriter, arguments, pieces, config.run.workers, "images", "sky")
    return {"source images": sum(row["images"] for row in rows)}


def run_catalog(context: Context, folder: Path) -> Mapping[str, Any]:
    """Classify the detections of the test skies and write the catalogues.

    By evidence where it is measured, else by images; what the network of images says is kept
    beside it, as the baseline.
    """
    config = context.config
    torch.set_num_threads(1)  # the same bits on any number of cores
    by_images = _image_classifier(context)
    model = load_class_model(context) if is_measured(config) else None
    summary: dict[str, Any] = {}
    primary = primary_search(config)
    around = surroundings(config, build_response(config), extended=config.sky.extended)
    for sky in test_sky_ids(config):
        path = candidate_file(context.folder("search"), primary, sky)
        listed = read_parquet(path)
        candidates = selected(context, primary, listed)
        probabilities = images = by_images(sky, candidates)
        if model is not None:
            measured = read_evidence(context, [sky])
            write_parquet(
                candidate_file(folder, CLASSIFIED, sky), judged_again(listed, measured, model)
            )
            # The evidence goes below the cut; the list is sorted by score, so its rows come first.
            evidence = measured.take(measured.row < len(candidates)).evidence
            s1 = candidates["s1"].to_numpy(np.float64)
            columns = class_columns(evidence, s1, model, config)
            candidates = pd.concat([candidates, columns], axis=1)
            found = probabilities_of(columns, config.classes)
            probabilities = images if found is None else found
        frame = build_catalogue(candidates, probabilities, config.classes, around=around)
        write_catalogue(context, catalog_file(folder, sky), frame)
        for name, rows in ((probability_file(folder, sky), probabilities),
                           (probability_file(folder, sky, IMAGES), images)):  # fmt: skip
            write_json(name, {"classes": list(with_fake(config.classes)), "rows": rows.tolist()})
        summary[catalog_file(folder, sky).name] = f"{len(frame)} sources"
    context.tracker.artifact(folder, "catalog")
    return summary


def judged_again(listed: pd.DataFrame, measured: Labelled, model: ClassModel) -> pd.DataFrame:
    """Return a list with the classifier's probability of being real as score, likeliest first.

    Candidates too weak to be measured stay behind all that were, in their order.
    """
    # Summed, for 1 - P(FAKE) is 0 for all that are surely false: their order would be lost.
    real = np.minimum(model.probabilities(measured.evidence)[:, :-1].sum(axis=1), 1.0)
    score = listed["score"].to_numpy(np.float64) * (real.min() if len(real) else 1.0)
    score[measured.row] = real
    order = np.argsort(-score, kind="stable")
    return listed.assign(score=score, probability=score).iloc[order].reset_index(drop=True)


def _image_classifier(context: Context) -> Callable[[int, pd.DataFrame], Float64]:
    """Return a function from a sky and its candidates to probabilities by the network of images."""
    config = context.config
    weights = context.folder("classifier") / "model"
    model, meta = load_checkpoint(weights, config, "classifier")
    if not isinstance(model, SourceCnn):
        raise TypeError(f"{weights} holds no classifier")
    extra = meta["extra"]
    prior = np.array(extra["prior"], dtype=np.float64)
    before = None if extra["train_prior"] is None else np.array(extra["train_prior"])

    def classify(sky: int, candidates: pd.DataFrame) -> Float64:
        photons = Photons.load(photon_file(context.folder("observe"), sky))
        images = counted_source_images(
            photons, candidates["lon_deg"].to_numpy(), candidates["lat_deg"].to_numpy(), config
        )
        return class_probabilities(model, images, prior, before)

    return classify


def write_catalogue(context: Context, path: Path, frame: pd.DataFrame) -> None:
    """Write a catalogue as FITS and as DS9 regions, with its provenance in the header."""
    config = context.config
    header: dict[str, str | int | float | bool] = {
        "CREATOR": f"geminga {geminga.__version__}",
        "CONFNAME": config.name,
        "CONFHASH": config.hash(),
        "ROOTSEED": config.seed,
        "IRF": config.response.irf,
        "MIUNHASH": _weights_hash(context, "miun"),
    }
    if primary_search(config) == RANKED:
        header["RANKHASH"] = _weights_hash(context, "ranker")
        header["CLASHASH"] = _weights_hash(context, CLASS_MODEL)
    write_fits(path, frame, config.classes, header, config.channels)
    write_regions(path.with_suffix(".reg"), frame)


def _weights_hash(context: Context, network: str) -> str:
    return str(read_json(context.folder(network) / "model" / "model.json")["weights_sha256"])
