"""Options that many verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="YAML configuration")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="override: section.key=value (repeatable)")
]
SkyOption = Annotated[int | None, typer.Option("--sky", help="number of the test sky, from 0")]
