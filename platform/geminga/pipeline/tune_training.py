"""Tuning of a network and of its training, on the training and validation skies of a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from filelock import FileLock

from geminga.config import Config, digest
from geminga.distributed.evidence import evidence_file
from geminga.distributed.images import image_file
from geminga.distributed.session import ray_session
from geminga.distributed.simulate import patch_file
from geminga.distributed.tune import EarlyStop, Study, check_cores
from geminga.distributed.tune_training import train_and_report
from geminga.errors import InputError
from geminga.files import read_json
from geminga.networks.losses import METRICS, Kind
from geminga.pipeline.class_model import held_out
from geminga.pipeline.evidence import EVIDENCE_TRAINING, is_measured
from geminga.pipeline.ranking import rows_file
from geminga.pipeline.runner import STAGE_FILE, Context
from geminga.pipeline.simulate import sky_ids
from geminga.pipeline.stages import run_pipeline
from geminga.pipeline.tune import Goal, Outcome, check_same, run_tuning, tuning_folder
from geminga.pipeline.tune_space import check_space, inside, is_integer, read_tuning, with_values
from geminga.sections.tuning import TrainingTuning, Value
from geminga.seeds import Split

LOSS = "valid_loss"
_READS: dict[Kind, str] = {
    "miun": "patches",
    "ranker": "ranker",
    "classifier": "images",
    "evidence_net": EVIDENCE_TRAINING,
}
"""Stage whose files a training reads; the ranker's own stage writes its rows."""

_NOT_TRAINING = {
    "epochs": "is what the early stop shortens; set it in the configuration",
    **dict.fromkeys(
        (
            "workers",
            "min_workers",
            "threads",
            "loader_workers",
            "use_gpu",
            "compile",
            "checkpoint_minutes",
        ),
        "says how a training is run, not what it learns",
    ),
    "stop_patience": "only ends a training, which the early stop does",
}
_NOT_NETWORK = {
    "evidence_net.members": "has no part in the training of one network",
    "evidence_net.prior": "is applied after the training",
    "evidence_net.ambiguous_ratio": "is applied after the training",
}


def tunable(network: Kind) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the sections that can be varied for a network, and keys that cannot, with why."""
    training = f"{network}_training"
    not_here = {f"{training}.{key}": why for key, why in _NOT_TRAINING.items()}
    return (network, training), {**not_here, **_NOT_NETWORK}


def check_objective(tuning: TrainingTuning, where: str) -> Literal["min", "max"]:
    """Return whether the objective should be low or high.

    Raises
    ------
    InputError
        If the training reports no such figure, or losses of different kinds would be compared.
    """
    names = [LOSS, *(f"valid_{name}" for name in METRICS[tuning.network])]
    if tuning.objective not in names:
        raise InputError(
            where,
            f"objective {tuning.objective} is none of the {tuning.network}'s",
            f"use one of {', '.join(names)}",
        )
    if tuning.objective != LOSS:
        return "max"
    if f"{tuning.network}_training.loss" in tuning.space:
        raise InputError(
            where,
            f"space varies {tuning.network}_training.loss, and losses of different kinds cannot be "
            f"compared by {LOSS}",
            f"set objective: {names[-1]}",
        )
    return "min"


def check_early_stop(tuning: TrainingTuning, epochs: int, where: str) -> None:
    """Refuse an early stop that would come after the last epoch.

    Raises
    ------
    InputError
    """
    if tuning.grace_epochs > epochs:
        raise InputError(
            where,
            f"grace_epochs {tuning.grace_epochs} is more than the {epochs} epochs of a trial "
            f"({tuning.network}_training.epochs)",
            f"use {epochs} or less",
        )


def tune_training(config: Config, path: Path) -> Outcome:
    """Search for the settings with which a network does best on the validation set.

    The stages whose files the training reads run first, or are reused.

    Raises
    ------
    InputError
        If the tuning file, an input or the output folder cannot be used.
    """
    tuning = read_tuning(TrainingTuning, path)
    network, where = tuning.network, str(path)
    mode = check_objective(tuning, where)
    allowed, why_not = tunable(network)
    check_space(config, tuning.space, allowed, why_not, where)
    settings = config.training_of(network)
    check_early_stop(tuning, settings.epochs, where)
    if network in ("ranker", "evidence_net") and not is_measured(config):
        raise InputError(
            where,
            f"network {network} has nothing to learn from with localisation.detector "
            f"{config.localisation.detector}",
            "set localisation.detector to likelihood",
        )
    check_same(config, tuning, path)
    context = run_pipeline(config, until=_READS[network])
    train, valid = _files(context, network)
    goal = Goal(
        tuning.objective, f"{tuning.objective.replace('_', ' ')} of {network}, best epoch", mode
    )
    trial = partial(
        _trial,
        network=network,
        config_json=config.model_dump_json(),
        train=tuple(str(p.resolve()) for p in train),
        valid=tuple(str(p.resolve()) for p in valid),
        folder=str((tuning_folder(config, tuning.name) / "states").resolve()),
        objective=tuning.objective,
        mode=mode,
    )

    def study(folder: Path) -> Study:
        check_cores(where, tuning.concurrency, settings.workers, int(settings.use_gpu))
        alone = settings.workers == 1
        return Study(
            folder=folder,
            space=tuning.space,
            integers=frozenset(k for k in tuning.space if is_integer(config, k)),
            mode=mode,
            trials=tuning.trials,
            concurrency=tuning.concurrency,
            seed=tuning.seed,
            minutes=tuning.time_budget_minutes,
            first=inside(tuning.space, config),
            early_stop=EarlyStop(tuning.grace_epochs, settings.epochs, tuning.reduction),
            # Several workers hold their cores themselves: the trial only waits for them.
            cores=max(settings.threads, 1) if alone else 0,
            gpus=float(settings.use_gpu) if alone else 0.0,
        )

    made_of = [read_json(context.folder(_READS[network]) / STAGE_FILE)["key"]]
    with ray_session():
        return run_tuning(config, tuning, path, goal, made_of, study, trial)


def _files(context: Context, network: Kind) -> tuple[list[Path], list[Path]]:
    """Return the files of the training and of the validation set, one per sky."""
    config, folder = context.config, context.folder(_READS[network])
    train, valid = sky_ids(config, Split.TRAIN), sky_ids(config, Split.VALID)
    if network == "evidence_net":
        valid, _ = held_out(context)
    place = {
        "miun": patch_file,
        "ranker": rows_file,
        "classifier": image_file,
        "evidence_net": evidence_file,
    }[network]
    return [place(folder, sky) for sky in train], [place(folder, sky) for sky in valid]


def _trial(
    values: Mapping[str, Value],
    network: Kind,
    config_json: str,
    train: tuple[str, ...],
    valid: tuple[str, ...],
    folder: str,
    objective: str,
    mode: Literal["min", "max"],
) -> None:
    config = with_values(Config.model_validate_json(config_json), values, "trial")
    # Named after its values: whoever asks for the same again finds what was done.
    own = Path(folder) / digest(dict(values))
    own.mkdir(parents=True, exist_ok=True)
    # Among few values the same may be suggested twice at a time: the second waits for the first.
    with FileLock(own.with_name(f"{own.name}.lock")):
        train_and_report(
            network,
            config,
            [Path(p) for p in train],
            [Path(p) for p in valid],
            own,
            objective,
            mode,
        )
