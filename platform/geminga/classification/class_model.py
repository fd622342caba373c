"""The classifier of candidates: several networks on evidence, calibrated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from geminga.arrays import Bool, Float64, Int64
from geminga.classes import with_fake
from geminga.classification.calibration import Calibration, Prior, ambiguous, fit_calibration
from geminga.classification.class_training import ClassSamples, train_member
from geminga.classification.evidence import Evidence
from geminga.classification.inputs import BRANCHES, Inputs, network_inputs
from geminga.classification.unlike import UnlikeReference, fit_unlike, mean_score
from geminga.config import Config
from geminga.errors import InputError
from geminga.networks.build import build_evidence_net
from geminga.networks.checkpoint import fill_network, read_tensors, write_tensors
from geminga.networks.evidence_net import EvidenceNet
from geminga.networks.losses import Kind
from geminga.sections import EvidenceNetConfig

logger = logging.getLogger(__name__)

_ROWS = 512
_KIND: Kind = "evidence_net"
_CALIBRATION = ("bias", "natural", "band_deg", "band_log_mix")
_MEASURED_BY = ("stamp_pixels", "stamp_widths_r68", "stamp_limits_deg", "year_weights")


@dataclass(frozen=True, eq=False)
class ClassModel:
    """Networks whose answers are averaged, and how their answers become probabilities.

    Attributes
    ----------
    members : tuple of EvidenceNet
        In evaluation mode.
    class_names : tuple of str
        Names of the K classes, in the order of every class axis; FAKE last where there is one.
    edges_gev : Float64 (C, 2)
        Channels it was trained on.
    calibration : Calibration
        Temperature and priors.
    unlike_references : tuple of UnlikeReference
        One per member.
    settings : EvidenceNetConfig
        Branches, and the default prior.
    """

    members: tuple[EvidenceNet, ...]
    class_names: tuple[str, ...]
    edges_gev: Float64
    calibration: Calibration
    unlike_references: tuple[UnlikeReference, ...]
    settings: EvidenceNetConfig

    def probabilities(self, evidence: Evidence, prior: Prior | Float64 | None = None) -> Float64:
        """Return the probability of each class (n, K), rows adding up to 1.

        Parameters
        ----------
        evidence : Evidence
            Candidates; branches that find nothing are left out.
        prior : str or Float64 (K,), optional
            Mix of the classes among the candidates, see `Calibration.probabilities`;
            ``evidence_net.prior`` if not given.

        Raises
        ------
        InputError
            If the evidence has other channels, or the prior is not one.
        """
        logits = self.logits(evidence)
        wanted: Prior | Float64 = self.settings.prior if prior is None else prior
        return self.calibration.probabilities(logits, wanted, evidence.lat_deg)

    def logits(self, evidence: Evidence) -> Float64:
        """Return log probabilities (n, K) for an equal mix of classes, not calibrated."""
        return mean_logits(self.members, self._inputs(evidence))

    def unlike(self, evidence: Evidence) -> Float64:
        """Return how unlike every class each candidate is (n,).

        The part of held-out detections of simulated skies that are nearer to a class: 0.99 is
        reached by one detection in a hundred.
        """
        inputs = self._inputs(evidence)
        features = [member_features(member, inputs) for member in self.members]
        return mean_score(self.unlike_references, features)

    def ambiguous(self, probabilities: Float64, ratio: float | None = None) -> Bool:
        """Return which rows (n,) have a second class close to the first.

        `ratio` is that of their probabilities; ``evidence_net.ambiguous_ratio`` if not given.
        """
        return ambiguous(probabilities, self.settings.ambiguous_ratio if ratio is None else ratio)

    def save(self, folder: Path, config: Config) -> None:
        """Write weights and ``model.json`` to a folder, which appears complete or not at all.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        state: dict[str, Tensor] = {}
        for number, (member, unlike) in enumerate(
            zip(self.members, self.unlike_references, strict=True)
        ):
            for name, tensor in member.state_dict().items():
                state[f"member.{number}.{name}"] = tensor
            for name in UnlikeReference.__dataclass_fields__:
                state[f"unlike.{number}.{name}"] = torch.from_numpy(getattr(unlike, name))
        for name in _CALIBRATION:
            state[f"calibration.{name}"] = torch.from_numpy(getattr(self.calibration, name))
        extra = {
            "sizes": self.members[0].sizes,
            "members": len(self.members),
            "temperature": self.calibration.temperature,
        }
        needs = class_needs(config, self.class_names, self.edges_gev)
        write_tensors(folder, state, _KIND, config, needs, extra)

    @classmethod
    def load(
        cls,
        folder: Path,
        config: Config,
        class_names: Sequence[str] | None = None,
        edges_gev: Float64 | None = None,
    ) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        folder : Path
            Folder of the classifier.
        config : Config
            Its classes (and FAKE), channels and network settings must be those of the training.
        class_names, edges_gev : sequence of str, Float64 (C, 2), optional
            Classes and channels in place of those of the configuration.

        Raises
        ------
        InputError
            If a file is missing or damaged, or made for other classes, channels or settings.
        """
        names = with_fake(config.classes) if class_names is None else tuple(class_names)
        edges = channel_edges(config) if edges_gev is None else edges_gev
        tensors, meta = read_tensors(folder, _KIND, class_needs(config, names, edges))
        extra = meta["extra"]
        members, references = [], []
        try:
            for number in range(extra["members"]):
                member = build_evidence_net(config, extra["sizes"], len(names), number)
                fill_network(member, _under(tensors, f"member.{number}."), folder)
                members.append(member)
                stored = _under(tensors, f"unlike.{number}.")
                references.append(UnlikeReference(**{k: v.numpy() for k, v in stored.items()}))
            arrays = {name: tensors[f"calibration.{name}"].numpy() for name in _CALIBRATION}
            calibration = Calibration(temperature=float(extra["temperature"]), **arrays)
        except (KeyError, TypeError) as error:
            raise InputError(
                str(folder), f"holds no complete classifier ({error})", "train it again"
            ) from error
        return cls(
            tuple(members),
            names,
            np.asarray(edges, dtype=np.float64),
            calibration,
            tuple(references),
            config.evidence_net,
        )

    def _inputs(self, evidence: Evidence) -> Inputs:
        edges = evidence.edges_gev
        if edges.shape != self.edges_gev.shape or not np.allclose(edges, self.edges_gev, rtol=1e-6):
            raise InputError(
                "evidence",
                f"has channels {_text(edges)}, the classifier {_text(self.edges_gev)}",
                "classify with the bands it was trained on, or train it on these",
            )
        inputs = network_inputs(evidence, self.settings)
        unknown = inputs.present.any(axis=0) & ~self.members[0].seen.numpy()
        if self.members[0].planes != inputs.image.shape[1] > 0:
            unknown[BRANCHES.index("image")] = True
        for number in np.flatnonzero(unknown):
            logger.warning(
                "classifier: was not trained with such evidence of branch %s: left out",
                BRANCHES[number],
            )
        return inputs


def fit_class_model(
    train: Evidence,
    train_labels: Int64,
    valid: Evidence,
    valid_labels: Int64,
    calibrate: Evidence,
    calibrate_labels: Int64,
    natural: Bool,
    config: Config,
    class_names: Sequence[str],
    train_one: Callable[[ClassSamples, ClassSamples, int], EvidenceNet] | None = None,
) -> ClassModel:
    """Train the networks, calibrate them and note how their features lie.

    Parameters
    ----------
    train, train_labels : Evidence, Int64 (n,)
        Candidates of training skies (also those below the cut, and true positions moved by their
        error) and their classes.
    valid, valid_labels : Evidence, Int64
        Candidates to choose the best epoch by.
    calibrate, calibrate_labels : Evidence, Int64
        Detections as they will be classified (above the cut) of skies used for nothing else.
    natural : Bool (n,)
        Training candidates that are detections (above the cut): their mix is the natural one.
    config : Config
        Root seed, sections ``evidence_net`` and ``evidence_net_training``.
    class_names : sequence of str
        Names of the classes.
    train_one : callable, optional
        Trains the member of a number in place of `train_member`, for example on a cluster.

    Raises
    ------
    InputError
        If there are no candidates, or none to calibrate on.
    """
    names = tuple(class_names)
    shown = ClassSamples.of(train, train_labels, config, names)
    held = ClassSamples.of(valid, valid_labels, config, names)
    members = []
    for number in range(config.evidence_net.members):
        if train_one is None:
            members.append(train_member(shown, held, config, names, number))
        else:
            members.append(train_one(shown, held, number))
    return calibrate_members(
        members, shown, train, natural, calibrate, calibrate_labels, config, names
    )


def calibrate_members(
    members: Sequence[EvidenceNet],
    shown: ClassSamples,
    train: Evidence,
    natural: Bool,
    calibrate: Evidence,
    calibrate_labels: Int64,
    config: Config,
    class_names: tuple[str, ...],
) -> ClassModel:
    """Return the classifier of trained networks; arguments as `fit_class_model`.

    `shown` are the training samples of the evidence `train`.

    Raises
    ------
    InputError
        If there is nothing to calibrate on.
    """
    for member in members:
        member.eval()
    if len(calibrate) == 0 or not natural.any():
        raise InputError(
            "classifier",
            f"{len(calibrate)} detections of calibration skies, {int(natural.sum())} of training "
            "skies above the cut",
            "simulate more skies, or lower the cut",
        )
    held = ClassSamples.of(calibrate, calibrate_labels, config, class_names)
    detected = shown.inputs.take(natural)
    labels = shown.labels[natural]
    calibration = fit_calibration(
        mean_logits(members, held.inputs),
        held.labels,
        mean_logits(members, detected),
        labels,
        train.lat_deg[natural],
    )
    logger.info("classifier: temperature %.3f", calibration.temperature)
    references = tuple(
        fit_unlike(
            member_features(member, detected),
            labels,
            len(class_names),
            member_features(member, held.inputs),
        )
        for member in members
    )
    return ClassModel(
        tuple(members), class_names, train.edges_gev, calibration, references, config.evidence_net
    )


def mean_logits(members: Sequence[EvidenceNet], inputs: Inputs) -> Float64:
    """Return the log of the members' mean probabilities (n, K)."""
    total = np.zeros((len(inputs), members[0].n_classes))
    for member in members:
        logits = _run(member, member.forward, inputs, member.n_classes)
        top = logits.max(axis=1, keepdims=True, initial=-np.inf)
        p = np.exp(logits - top)
        total += p / p.sum(axis=1, keepdims=True)
    return np.asarray(np.log(np.maximum(total / len(members), 1e-30)))


def member_features(member: EvidenceNet, inputs: Inputs) -> Float64:
    """Return the features (n, width) that the last layer of a network decides by."""
    return _run(member, member.features, inputs, member.output.in_features)


def _run(member: EvidenceNet, call: Callable[..., Tensor], inputs: Inputs, width: int) -> Float64:
    """Return what a network's function says of each row, (n, width), in evaluation mode."""
    member.eval()
    device = next(member.parameters()).device
    result = np.empty((len(inputs), width))
    with torch.inference_mode():
        for start in range(0, len(inputs), _ROWS):
            n = min(_ROWS, len(inputs) - start)
            block = []
            for array in inputs.arrays():
                # Always full batches: a row has the same bits in any company.
                full = np.zeros((_ROWS, *array.shape[1:]), array.dtype)
                full[:n] = array[start : start + n]
                block.append(torch.from_numpy(full).to(device))
            result[start : start + n] = call(*block)[:n].double().cpu().numpy()
    return result


def channel_edges(config: Config) -> Float64:
    """Return the energies between which each channel lies (C, 2), GeV."""
    return np.array([[c.emin_gev, c.emax_gev] for c in config.channels], dtype=np.float64)


def class_needs(config: Config, class_names: Sequence[str], edges_gev: Float64) -> dict[str, Any]:
    """Return what a classifier cannot do without, by its name in the configuration."""
    net, measured = config.evidence_net, config.evidence.model_dump(mode="json")
    return {
        "classes": list(class_names),
        "channels": [[float(f"{e:.7g}") for e in edges] for edges in edges_gev],
        "evidence_net.width": net.width,
        "evidence_net.image_width": net.image_width,
        "evidence_net.branches": list(net.branches),
        **{f"evidence.{key}": measured[key] for key in _MEASURED_BY},
    }


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _text(edges: Float64) -> str:
    return ", ".join(f"{low:g}-{high:g} GeV" for low, high in edges)
