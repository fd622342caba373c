"""Where runs are kept: a folder that all nodes share, or an object store with a mirror on each node.

Code of the pipeline uses paths below the run's folder. It writes through `files.atomic`, which
calls `publish`; it reads after `here`, and asks `exists`. For a folder these are what they are
called; below the mirror of an object store they fetch and compare.

Which mirrors there are is in the environment variable `VARIABLE`, which `distributed.session` hands
to the workers. Credentials stay in each node's own environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyarrow import fs

from geminga.errors import InputError
from geminga.storage.address import KEY, S3, Address, parse
from geminga.storage.failures import failure, told
from geminga.storage.mirror import Mirror, check_owner, is_temporary

__all__ = [
    "VARIABLE",
    "check",
    "environment",
    "exists",
    "finish",
    "here",
    "is_mirrored",
    "is_temporary",
    "names",
    "open_root",
    "parse",
    "place",
    "publish",
    "remove",
    "train_storage",
]

VARIABLE = "GEMINGA_STORAGE"
_ATTEMPTS = 8
"""Tries of a request, with waits that grow: a server may be away for half a minute."""
_FIRST_ATTEMPTS = 2
"""Tries of the first request of a run, which finds typing errors."""
_OTHER_CREDENTIALS = (
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def open_root(uri: str | None, output: str, mirror: str | None = None) -> Path:
    """Return the folder below which runs are kept; one of an object store is a mirror from now on.

    Parameters
    ----------
    uri : str or None
        Address of the storage; None takes the folder `output`.
    output : str
        Folder for runs without an address.
    mirror : str, optional
        Folder on each node for copies of an object store's files.

    Raises
    ------
    InputError
        If the address is wrong, or credentials are missing.
    """
    if uri is None:
        return Path(output)
    address = parse(uri)
    if address.scheme != S3:
        return Path(address.path)
    _check_credentials()
    digest = hashlib.blake2b(uri.encode(), digest_size=6).hexdigest()
    base = Path(mirror).absolute() if mirror else _own_folder()
    root = base / f"{address.bucket}-{digest}"
    _check_mirror(root)
    root = root.resolve()
    os.environ[VARIABLE] = json.dumps({**_roots(), str(root): uri}, sort_keys=True)
    return root


def check(root: Path) -> None:
    """Ask an object store once whether it lets this run in.

    Raises
    ------
    InputError
        If it does not answer, refuses the credentials or has no such bucket.
    """
    mirror = _mirror_of(root)
    if mirror is None:
        return
    address = mirror.address
    filesystem = _connect(address, _FIRST_ATTEMPTS)
    try:
        found = filesystem.get_file_info(address.bucket).type
    except OSError as error:
        if "ACCESS_DENIED" in str(error):
            # The answer to a question about a bucket has no words; that to a list has.
            with failure(address):
                filesystem.get_file_info(fs.FileSelector(address.path, allow_not_found=True))
        raise told(address, error) from error
    if found == fs.FileType.NotFound:
        raise InputError(
            address.place, "has no such bucket", f"make {address.bucket}, or correct {KEY}"
        )


def environment() -> dict[str, str]:
    """Return the environment variables that a worker needs to find the same storage."""
    return {VARIABLE: os.environ[VARIABLE]} if os.environ.get(VARIABLE) else {}


def is_mirrored(path: Path) -> bool:
    """Return whether a path is a copy of something in an object store."""
    return _mirror_of(path) is not None


def here(path: Path) -> Path:
    """Return a path whose file (or folder, with all in it) can be read on this machine.

    A missing file is no error here: reading it will be.
    """
    mirror = _mirror_of(path)
    return path if mirror is None else mirror.here(_absolute(path))


def exists(path: Path) -> bool:
    """Return whether a file, or a folder that was written whole, is in the storage."""
    mirror = _mirror_of(path)
    return path.exists() if mirror is None else mirror.exists(_absolute(path))


def publish(source: Path, path: Path) -> None:
    """Put what was written at `source` into the object store as `path`.

    Nothing is done below a plain folder, or inside a folder that is itself not finished.
    """
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.publish(_absolute(source), _absolute(path))


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there, from the storage."""
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.remove(_absolute(path))
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def names(folder: Path) -> list[str]:
    """Return the names of what is in a folder of the storage, sorted; none if it is not there."""
    mirror = _mirror_of(folder)
    if mirror is not None:
        return mirror.names(_absolute(folder))
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def finish(work: Path, final: Path, last: str) -> None:
    """Give a finished folder its final name, in place of an older one.

    Parameters
    ----------
    work, final : Path
        The folder as it is and as it will be called.
    last : str
        The file in it that says that it is finished.
    """
    mirror = _mirror_of(final)
    if mirror is not None:
        mirror.finish(_absolute(work), _absolute(final), last)
        return
    if final.exists():
        # Killed in between, what is left of the old folder must not be taken for finished.
        (final / last).unlink(missing_ok=True)
        shutil.rmtree(final)
    work.rename(final)


def place(path: Path) -> str:
    """Return where something is for people: a path, or an address in an object store."""
    mirror = _mirror_of(path)
    if mirror is None:
        return str(path)
    return f"{mirror.address.scheme}://{mirror.key(_absolute(path))}"


def train_storage(folder: Path) -> tuple[str, Any]:
    """Return Ray Train's ``storage_path`` and ``storage_filesystem`` for a folder of a run.

    The second is None for a folder; that of an object store carries no credentials.
    """
    mirror = _mirror_of(folder)
    if mirror is None:
        return str(folder.resolve()), None
    return mirror.key(_absolute(folder)), mirror.filesystem


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _roots() -> dict[str, str]:
    text = os.environ.get(VARIABLE)
    return dict(json.loads(text)) if text else {}


def _mirror_of(path: Path) -> Mirror | None:
    if not os.environ.get(VARIABLE):
        return None
    whole = _absolute(path)
    if is_temporary(whole):
        return None
    for root, uri in _roots().items():
        if whole.is_relative_to(root):
            return _open_mirror(root, uri)
    return None


@lru_cache(maxsize=8)
def _open_mirror(root: str, uri: str) -> Mirror:
    _check_credentials()
    _check_mirror(Path(root))
    address = parse(uri)
    return Mirror(Path(root), address, _connect(address, _ATTEMPTS), address.path)


def _own_folder() -> Path:
    """Return the folder of mirrors whose place was not chosen."""
    return Path(tempfile.gettempdir()).resolve() / f"geminga-{os.getuid()}"


def _check_mirror(root: Path) -> None:
    """Make a mirror's folder for this user alone.

    Everybody writes into the temporary folder and can guess the name: who owns the folder around
    the mirror could put another in its place.
    """
    if root.parent == _own_folder():
        check_owner(root.parent)
    check_owner(root)


def _connect(address: Address, attempts: int) -> Any:
    # Keys are left to the library, which finds them in the environment: an object that carries
    # them could travel to other machines.
    with failure(address):
        return fs.S3FileSystem(
            endpoint_override=address.endpoint or None,
            scheme=address.transport,
            region=address.region or None,
            connect_timeout=5,
            request_timeout=60,
            allow_delayed_open=True,
            # A file of any size is sent in parts, and no more than one is in memory.
            background_writes=False,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        )


def _check_credentials() -> None:
    if any(os.environ.get(name) for name in _OTHER_CREDENTIALS):
        return
    missing = [n for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not os.environ.get(n)]
    if missing:
        raise InputError(
            KEY,
            f"no credentials: {' and '.join(missing)} not set",
            "set them in the environment of every node, never in a file of the run",
        )
