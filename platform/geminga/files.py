"""Reading and writing files: nothing half-written, provenance beside every output."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from geminga.errors import InputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to `path` when the block ends well.

    Works for a file and for a folder (which replaces an older one). After an error the temporary
    is removed and what stood at `path` is untouched.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    aside = temporary.with_suffix(".old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.is_dir():
            # A folder cannot be renamed over a full one: step the old one aside first.
            path.rename(aside)
        try:
            temporary.replace(path)
        except OSError:
            if aside.is_dir():
                aside.rename(path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.parent.is_dir():
            raise
        raise InputError(
            str(path),
            f"cannot be written ({error.strerror or error})",
            "choose a writable folder with space left",
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):  # the parent may not be a folder at all
                temporary.unlink()


def write_json(path: Path, tree: object) -> None:
    """Write a JSON file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        If the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            str(path), f"cannot be read ({error.strerror})", "name a JSON file"
        ) from error
    except ValueError as error:
        raise InputError(str(path), f"is not JSON ({error})", "write it anew") from error


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically."""
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet table.

    Raises
    ------
    InputError
        If the file is missing or not Parquet.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            str(path), f"is not a readable Parquet file ({error})", "write it anew"
        ) from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, shortened."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
