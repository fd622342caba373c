"""What an object store says when it fails, in words that help."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from geminga.errors import StorageError
from geminga.storage.address import Address

_CREDENTIALS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every node"
_REASONS = (
    (
        "SIGNATURE_DOES_NOT_MATCH",
        "refused the credentials: the secret does not belong to the key",
        _CREDENTIALS,
    ),
    ("INVALID_ACCESS_KEY_ID", "refused the credentials: unknown access key", _CREDENTIALS),
    (
        "ACCESS_DENIED",
        "refused access",
        f"{_CREDENTIALS}, and that they may read, list and write there",
    ),
    ("NO_SUCH_BUCKET", "has no such bucket", "make the bucket, or correct run.storage"),
    (
        "NETWORK_CONNECTION",
        "does not answer",
        "check endpoint_override and scheme in run.storage, and that the server runs; then start "
        "again: finished pieces are kept",
    ),
    (
        "INTERNAL_FAILURE",
        "is full or in trouble",
        "make room and see its log, then start again: finished pieces are kept",
    ),
)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def failure(address: Address) -> Iterator[None]:
    """Turn what goes wrong between a mirror and its object store into one clear line.

    Raises
    ------
    StorageError
        For every OSError inside the block.
    """
    try:
        yield
    except OSError as error:
        raise told(address, error) from error


def told(address: Address, error: OSError) -> StorageError:
    """Return the user's error of a failure."""
    text = " ".join(str(error).split())
    if error.errno in _FULL or "No space left" in text:
        return StorageError(
            str(error.filename or "run.mirror"),
            "the local copy cannot be written (No space left on device)",
            "choose a folder with space left with --set run.mirror=FOLDER",
        )
    for sign, problem, remedy in _REASONS:
        if sign in text:
            return StorageError(address.place, f"{problem}{_detail(text)}", remedy)
    return StorageError(
        address.place,
        f"failed ({text})",
        "check that the store is up, has space left and lets these credentials write",
    )


def _detail(text: str) -> str:
    """Say what was asked and where, from a message of the S3 library."""
    operation = re.search(r"during (\w+) operation", text)
    if not operation:
        return ""
    found = re.search(r"key '([^']+)'", text)
    return f" ({operation[1]} of {found[1]})" if found else f" ({operation[1]})"
