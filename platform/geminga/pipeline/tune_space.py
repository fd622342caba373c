"""Settings that a tuning varies: read from its file, checked, put into a configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from geminga.config import Config, config_from_tree, read_tree, section_from_tree
from geminga.errors import InputError
from geminga.sections.tuning import Parameter, Tuning, Value

T = TypeVar("T", bound=Tuning)


def read_tuning(section: type[T], path: Path) -> T:
    """Read the file of a tuning; it is named after the file unless it says otherwise.

    Raises
    ------
    InputError
        If the file cannot be read, or a key or value is refused.
    """
    tree = read_tree(path)
    tree.setdefault("name", path.stem)
    return section_from_tree(section, tree, str(path))


def setting_of(config: Config, key: str) -> Any:
    """Return the plain value of a setting by its dotted key.

    Raises
    ------
    KeyError
        If there is none.
    """
    node: Any = config.model_dump(mode="json")
    for part in key.split("."):
        if not isinstance(node, dict):
            raise KeyError(key)
        node = node[part]
    return node


def with_values(config: Config, values: Mapping[str, Value], where: str) -> Config:
    """Return a configuration with other values of some settings, by their dotted keys.

    Raises
    ------
    InputError
        If a key is no setting, or a value is not allowed, alone or together with others; `where`
        names their origin.
    """
    tree = copy.deepcopy(config.model_dump(mode="json"))
    for key, value in values.items():
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            child = node.setdefault(section, {})
            if not isinstance(child, dict):
                raise InputError(where, f"{key}: {section} is no section", "name a section's key")
            node = child
        node[last] = value
    return config_from_tree(tree, where)


def is_integer(config: Config, key: str) -> bool:
    """Return whether a setting takes whole numbers alone."""
    value = setting_of(config, key)
    return isinstance(value, int) and not isinstance(value, bool)


def check_space(
    config: Config,
    space: Mapping[str, Parameter],
    allowed: Sequence[str],
    why_not: Mapping[str, str],
    where: str,
) -> None:
    """Refuse a space that names no setting, one that cannot be tuned here, or impossible values.

    Parameters
    ----------
    config : Config
        The settings that are not varied.
    space : mapping
        Parameters by the dotted key of their setting.
    allowed : sequence of str
        Keys that can be varied, sections (``miun``) or single ones.
    why_not : mapping
        Keys, sections or single ones, that cannot, with the reason; the longest that fits counts.
    where : str
        The file, for errors.

    Raises
    ------
    InputError
    """
    for key, parameter in space.items():
        place = f"{where}: space"
        # Ends one by one: an error then names the key that is at fault. Any value will tell whether
        # there is such a key at all.
        for end in parameter.ends:
            with_values(config, {key: end}, place)
        if isinstance(setting_of(config, key), dict | list):
            raise InputError(place, f"{key} is no single value", "name one of its keys")
        _check_allowed(key, allowed, why_not, place)
        if parameter.values is not None:
            continue
        if isinstance(setting_of(config, key), bool | str):
            raise InputError(place, f"{key} is no number", "give values: [...] to choose among")


def _check_allowed(
    key: str, allowed: Sequence[str], why_not: Mapping[str, str], where: str
) -> None:
    reasons = [name for name in why_not if _within(key, name)]
    choice = "vary keys of " + ", ".join(allowed)
    if reasons:
        raise InputError(where, f"{key} {why_not[max(reasons, key=len)]}", choice)
    if not any(_within(key, name) for name in allowed):
        raise InputError(where, f"{key} changes nothing that is measured here", choice)


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def inside(space: Mapping[str, Parameter], config: Config) -> dict[str, Value] | None:
    """Return the values of a configuration where they lie in the space, else None."""
    values: dict[str, Value] = {}
    for key, parameter in space.items():
        value = setting_of(config, key)
        if value is None:
            return None
        if parameter.values is not None:
            if value not in parameter.values:
                return None
        elif not (parameter.ends[0] <= value <= parameter.ends[1]):
            return None
        values[key] = value
    return values
