"""Populations of sources: fitted from a catalogue, kept as a small versioned JSON file.

Shipped by name: ``4fgl_dr2`` (BLL, FSRQ, PSR, PWN+SNR; photon flux 1-1000 GeV) and ``2fhl`` (AGN,
GALACTIC; photon flux 50 GeV-2 TeV). ``scripts/make_populations.py`` makes them anew.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from geminga.errors import InputError
from geminga.files import read_json, write_json
from geminga.sky.populations.fit import fit_population
from geminga.sky.populations.law import FORMAT_VERSION, ClassLaw, Population

__all__ = [
    "FORMAT_VERSION",
    "ClassLaw",
    "Population",
    "fit_population",
    "load_population",
    "save_population",
    "shipped_populations",
]


def shipped_populations() -> tuple[str, ...]:
    """Return the names of the populations that come with the package."""
    folder = resources.files("geminga.sky.populations")
    return tuple(
        sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json"))
    )


def load_population(name_or_path: str) -> Population:
    """Read a population.

    Parameters
    ----------
    name_or_path : str
        Name of a shipped population, or path of a file made by `save_population`.

    Raises
    ------
    InputError
        If there is no such file, it is of another version, or a field is wrong.
    """
    shipped = shipped_populations()
    if name_or_path in shipped:
        resource = resources.files("geminga.sky.populations") / f"{name_or_path}.json"
        with resources.as_file(resource) as path:
            return _parse(path)
    if not Path(name_or_path).is_file():
        raise InputError(
            name_or_path,
            "is no population",
            f"name a file, or one of those shipped: {', '.join(shipped)}",
        )
    return _parse(Path(name_or_path))


def save_population(population: Population, path: Path) -> None:
    """Write a population file.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    write_json(path, population.model_dump(mode="json"))


def _parse(path: Path) -> Population:
    tree = read_json(path)
    remedy = "make the file with 'geminga fit-population'"
    if not isinstance(tree, dict) or "format_version" not in tree:
        raise InputError(str(path), "is not a population file (no format_version)", remedy)
    version = tree["format_version"]
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise InputError(
            str(path),
            f"has format version {version}; this program reads version {FORMAT_VERSION}",
            remedy,
        )
    try:
        return Population.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(str(path), f"{key}: {message}" if key else message, remedy) from error
