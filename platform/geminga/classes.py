"""Source classes and sky components, and the order of every class and component axis."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_CLASSES: tuple[str, ...] = ("BLL", "FSRQ", "PSR", "PWN+SNR")
"""Astrophysical classes of the default configuration."""

FAKE = "FAKE"
"""Class of a detection that matches no true source."""

INTERSTELLAR = "interstellar"
ISOTROPIC = "isotropic"
EXTENDED = "extended"
DIFFUSE_COMPONENTS: tuple[str, ...] = (INTERSTELLAR, ISOTROPIC, EXTENDED)
"""Components that are maps; the last holds the catalogued extended sources."""


def with_fake(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes a classifier tells apart: the true ones, then FAKE."""
    return (*classes, FAKE)


def components(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the components of a simulated sky: source classes, then diffuse emission."""
    return (*classes, *DIFFUSE_COMPONENTS)
