"""The stage that trains the classifier on evidence, and what reads it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geminga import storage
from geminga.arrays import Bool
from geminga.classes import with_fake
from geminga.classification.class_model import ClassModel, calibrate_members
from geminga.classification.class_training import ClassSamples, input_sizes
from geminga.distributed.evidence import evidence_file
from geminga.distributed.session import ray_session
from geminga.distributed.train import train_network
from geminga.files import read_parquet, write_json
from geminga.networks.build import build_evidence_net
from geminga.networks.evidence_net import EvidenceNet
from geminga.pipeline.evidence import EVIDENCE_TRAINING, Labelled, read_evidence
from geminga.pipeline.logged import log_network
from geminga.pipeline.runner import Context
from geminga.pipeline.search import primary_search, score_cuts, training_candidates
from geminga.pipeline.simulate import sky_ids
from geminga.pipeline.train import CHECKPOINTS
from geminga.seeds import Split

_LOG = logging.getLogger(__name__)

CLASS_MODEL = "class_model"
"""Name of the stage."""
REGISTERED_AS = "classifier"
"""Name of its model in MLflow."""


def run_class_model(context: Context, folder: Path) -> Mapping[str, Any]:
    """Train the networks on training skies; calibrate them on skies nothing was chosen by."""
    config = context.config
    names = with_fake(config.classes)
    training = sky_ids(config, Split.TRAIN)
    choosing, calibrating = held_out(context)
    evidence = context.folder(EVIDENCE_TRAINING)
    shown_files = [evidence_file(evidence, sky) for sky in training]
    held_files = [evidence_file(evidence, sky) for sky in choosing]
    train = read_evidence(context, training)
    train = train.take(train.counted)
    shown = ClassSamples.of(train.evidence, train.label, config, names)
    members: list[EvidenceNet] = []
    histories = []
    for number in range(config.evidence_net.members):
        with ray_session():
            state = train_network(
                "evidence_net",
                config,
                shown_files,
                held_files,
                folder / CHECKPOINTS / str(number),
                number,
            )
        member = build_evidence_net(config, input_sizes(shown.inputs), len(names), number)
        member.load_state_dict(state.best_model)
        members.append(member)
        histories.append(state.history)
    held = read_evidence(context, calibrating)
    held = held.take(held.counted & above_cut(context, held))
    natural = above_cut(context, train) & ~train.repeated
    fitted = calibrate_members(
        members, shown, train.evidence, natural, held.evidence, held.label, config, names
    )
    fitted.save(folder / "model", config)
    write_json(folder / "history.json", histories[0])
    write_json(folder / "histories.json", histories)
    context.tracker.curve(histories[0])
    log_network(context, REGISTERED_AS, folder / "model")
    storage.remove(folder / CHECKPOINTS)
    return {
        "candidates to train on": len(train),
        "measured again off centre": int(train.repeated.sum()),
        "parameters": sum(p.numel() for member in members for p in member.parameters()),
        "temperature": round(fitted.calibration.temperature, 3),
    }


def held_out(context: Context) -> tuple[list[int], list[int]]:
    """Return the validation skies to choose epochs by, and those to calibrate on."""
    skies = sky_ids(context.config, Split.VALID)
    if len(skies) > 1:
        return skies[::2], skies[1::2]
    _LOG.warning(
        "sets.validation is 1: the classifier is calibrated on the sky its epochs are chosen by"
    )
    return skies, skies


def load_class_model(context: Context) -> ClassModel:
    """Return the classifier of a run.

    Raises
    ------
    InputError
        If it is missing, damaged or of another configuration.
    """
    return ClassModel.load(context.folder(CLASS_MODEL) / "model", context.config)


def above_cut(context: Context, candidates: Labelled) -> Bool:
    """Return which candidates (n,) of training and validation skies are above the score cut."""
    cut = score_cuts(context)[primary_search(context.config)]
    above = candidates.repeated.copy()
    for sky in dict.fromkeys(candidates.sky.tolist()):
        score = read_parquet(training_candidates(context, sky))["score"].to_numpy()
        mine = candidates.sky == sky
        above[mine] = score[candidates.row[mine]] >= cut
    return above
