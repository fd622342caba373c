"""Reading and writing files: nothing half-written, provenance beside every output."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import struct
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geminga import storage
from geminga.errors import InputError, StorageError

logger = logging.getLogger(__name__)

REMAKE = "remove the folder of its stage and run again"
"""What to do about a damaged file of a run."""
_MAPPED_BYTES = 2**20


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to `path` when the block ends well.

    Works for a file and for a folder (which replaces an older one). After an error the temporary
    is removed and what stood at `path` is untouched. Below the mirror of an object store it is put
    there too, before it takes its name here.

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
        storage.publish(temporary, path)
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


def remove_temporaries(folder: Path) -> int:
    """Remove what `atomic` left in a folder when its process was killed; return how many.

    Only for a folder that nobody writes into.
    """
    # Outermost first: a temporary folder may hold another.
    left = sorted(p for p in folder.rglob(".*") if storage.is_temporary(Path(p.name)))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)


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
        return json.loads(storage.here(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            str(path), f"cannot be read ({error.strerror})", "name a JSON file"
        ) from error
    except ValueError as error:
        raise InputError(str(path), f"is not JSON ({error})", f"write it anew: {REMAKE}") from error


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically, with checksums."""
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd", write_page_checksum=True)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet table.

    Raises
    ------
    InputError
        If the file is missing or not Parquet.
    """
    try:
        return pd.read_parquet(storage.here(path), page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise InputError(
            str(path), f"is not a readable Parquet file ({error})", f"write it anew: {REMAKE}"
        ) from error


def is_whole(path: Path, read: Callable[[Path], object]) -> bool:
    """Return whether a piece of an unfinished stage is there and can be read.

    A damaged one is removed, with a line in the log, so that it is made anew.

    Parameters
    ----------
    path : Path
        File or folder.
    read : callable
        Reads it; raises InputError if it is damaged.

    Raises
    ------
    StorageError
        If the object store does not answer: that is no damage.
    """
    if not storage.exists(path):
        return False
    try:
        read(path)
    except StorageError:
        raise
    except InputError as error:
        logger.warning("%s: %s; made anew", error.where, error.problem)
        storage.remove(path)
        return False
    return True


def map_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of an uncompressed npz file; large ones are mapped into memory, read only.

    Processes of a machine that map the same file share its pages.

    Raises
    ------
    OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile
        If the file is missing or damaged, as `numpy.load`.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with storage.here(path).open("rb") as stream, np.load(stream, allow_pickle=False) as content:
        for name in names:
            member = content.zip.getinfo(f"{name}.npy")
            if member.file_size < _MAPPED_BYTES or member.compress_type != zipfile.ZIP_STORED:
                arrays[name] = content[name]
            else:
                arrays[name] = _map_array(path, member.header_offset)
    return arrays


def _map_array(path: Path, offset: int) -> NDArray[Any]:
    """Map an array stored as npy in a zip file; `offset` is that of its local header."""
    with path.open("rb") as stream:
        # Lengths of name and extra field (PKWARE APPNOTE 4.3.7); the data follow them.
        stream.seek(offset + 26)
        name, extra = struct.unpack("<HH", stream.read(4))
        stream.seek(name + extra, 1)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        order: Literal["F", "C"] = "F" if fortran else "C"
        return np.asarray(np.memmap(path, dtype, "r", stream.tell(), shape, order))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, shortened."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
