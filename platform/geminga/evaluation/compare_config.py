"""Settings of runs side by side: what differs, and what that means for their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geminga.evaluation.compare_record import RunRecord

ABSENT = "-"
"""Shown for a key that a run does not have."""

_PLACES = ("name", "run.", "data")
"""Keys that say where a run works, and change no figure."""


def flat_settings(tree: Any, start: str = "") -> dict[str, str]:
    """Return the leaves of a tree of settings under dotted names, lists by number.

    A list of plain values is one leaf; so is an empty list or mapping.
    """
    if isinstance(tree, Mapping) and tree:
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple) and any(
        isinstance(v, Mapping | list | tuple) for v in tree
    ):
        items = [(str(number), value) for number, value in enumerate(tree)]
    else:
        if isinstance(tree, list | tuple):
            return {start: ", ".join(map(str, tree)) or "(none)"}
        return {start: "(none)" if tree is None or tree == {} else str(tree)}
    flat: dict[str, str] = {}
    for key, value in items:
        flat |= flat_settings(value, f"{start}.{key}" if start else key)
    return flat


def settings_table(
    configs: Sequence[Mapping[str, Any]],
) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
    """Return the settings that differ, those of places that differ, and the equal ones.

    Parameters
    ----------
    configs : sequence of mapping
        Resolved settings of each run.

    Returns
    -------
    differing, places : list of list of str
        Dotted key, then the value of each run; ABSENT where a run has no such key. Places (name,
        folders, servers, workers) change no figure.
    equal : list of list of str
        Dotted key and the value of all.
    """
    flat = [flat_settings(config) for config in configs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    differing, places, equal = [], [], []
    for key in keys:
        values = [one.get(key, ABSENT) for one in flat]
        if len(set(values)) == 1:
            equal.append([key, values[0]])
        elif key.startswith(_PLACES):
            places.append([key, *values])
        else:
            differing.append([key, *values])
    return differing, places, equal


def cautions(records: Sequence[RunRecord]) -> list[str]:
    """Return what a reader has to know before comparing these runs, besides their test skies."""
    found = []

    def differ(key: str) -> bool:
        section, _, name = key.partition(".")
        values = [record.config.get(section, {}) for record in records]
        if name:
            values = [v.get(name) if isinstance(v, Mapping) else None for v in values]
        return any(value != values[0] for value in values[1:])

    if differ("evaluation.match_radius_deg"):
        found.append(
            "The match radii differ (evaluation.match_radius_deg): completeness, purity and "
            "positions are counted in other ways and do not compare."
        )
    if differ("bands"):
        found.append(
            "The bands differ: figures of detection compare whole analyses, not one part of them."
        )
    if differ("classes"):
        found.append(
            "The classes differ: means over classes are other figures in each run, so only pairs "
            "of classes that several runs tell apart have differences."
        )
    if differ("seed"):
        found.append("The seeds differ: part of every difference is the luck of the training.")
    for network in dict.fromkeys(name for record in records for name in record.histories):
        losses = {
            record.config.get(_training(network), {}).get("loss")
            for record in records
            if network in record.histories
        }
        if len(losses) > 1:
            found.append(
                f"The losses of {network} are of different kinds ({_training(network)}.loss): "
                "their values do not compare."
            )
    if len({tuple(sorted(record.versions.items())) for record in records}) > 1:
        found.append("The runs are of different versions or machines: see the versions below.")
    return found


def _training(network: str) -> str:
    return "evidence_net_training" if network == "class_model" else f"{network}_training"
