"""Verbs of the command line, a module for each group; `register` adds them all."""

from __future__ import annotations

import typer

from geminga.commands import compare, ingest, products, registry, tuning

GROUPS = (products, compare, tuning, ingest, registry)
"""Modules with a ``register(app)``; what a verb needs is imported when it is called."""


def register(app: typer.Typer) -> None:
    """Add the verbs of every module to the command line."""
    for group in GROUPS:
        group.register(app)
