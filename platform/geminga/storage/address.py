"""Addresses of storage: ``file:///folder`` and ``s3://bucket/prefix?endpoint_override=...``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from geminga.errors import InputError

KEY = "run.storage"
"""The setting that holds an address, for messages."""
FILE, S3 = "file", "s3"
_OPTIONS = ("endpoint_override", "scheme", "region")
_FORMS = "use file:///folder or s3://bucket/prefix?endpoint_override=HOST:PORT&scheme=http"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?")


@dataclass(frozen=True)
class Address:
    """Where runs are kept.

    Attributes
    ----------
    uri : str
        As it was given.
    scheme : str
        ``file`` or ``s3``.
    path : str
        Absolute folder, or ``bucket/prefix`` without a slash at the end.
    endpoint, transport, region : str
        Of an S3 server: host and port, ``http`` or ``https``, region; empty takes AWS's own.
    """

    uri: str
    scheme: str
    path: str
    endpoint: str = ""
    transport: str = "https"
    region: str = ""

    @property
    def bucket(self) -> str:
        """Return the bucket of an object store."""
        return self.path.partition("/")[0]

    @property
    def place(self) -> str:
        """Return the address without options, for messages and summaries."""
        return f"{self.scheme}://{self.path}"


def parse(uri: str) -> Address:
    """Read an address.

    Raises
    ------
    InputError
        If it has a typo, is relative, or carries credentials.
    """
    # What follows a '?' is not quoted either: people put credentials there too.
    shown = uri.partition("?")[0]
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InputError(KEY, f"{shown!r} is no address ({error})", _FORMS) from error
    if "@" in parts.netloc or (":" in parts.netloc and "@" in parts.path):
        # Not quoted: it would be in the log. A secret with a slash in it ends in the path.
        raise InputError(
            KEY,
            "the address carries credentials",
            "leave them out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if parts.scheme not in (FILE, S3):
        found = f"scheme {parts.scheme!r}" if "://" in uri else "no scheme"
        raise InputError(KEY, f"{shown!r} has {found}", _FORMS)
    if not uri.lower().startswith(f"{parts.scheme}://"):
        raise InputError(KEY, f"{shown!r} has no '//' after {parts.scheme}:", _FORMS)
    if parts.fragment:
        raise InputError(KEY, f"{shown.partition('#')[0]!r} has a part after '#'", "leave it out")
    return _file(uri, parts) if parts.scheme == FILE else _s3(uri, parts)


def _file(uri: str, parts: SplitResult) -> Address:
    host, path, shown = parts.netloc, unquote(parts.path), uri.partition("?")[0]
    if host not in ("", "localhost"):
        raise InputError(KEY, f"{shown!r} is no absolute folder", f"use file:///{host}{path}")
    if parts.query:
        raise InputError(KEY, f"{shown!r} has options", "a folder takes none: leave '?...' out")
    _check_names(shown, path)
    return Address(uri, FILE, path.rstrip("/") or "/")


def _s3(uri: str, parts: SplitResult) -> Address:
    bucket, path, shown = parts.netloc, unquote(parts.path), uri.partition("?")[0]
    if not bucket:
        raise InputError(KEY, f"{shown!r} names no bucket", "use s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        remedy = "3 to 63 of a-z, 0-9, '.' and '-'; a server goes into ?endpoint_override=HOST:PORT"
        raise InputError(KEY, f"{bucket!r} is no name of a bucket", remedy)
    _check_names(shown, path)
    options = _options(shown, parts.query)
    transport = options.get("scheme", "https")
    if transport not in ("http", "https"):
        raise InputError(KEY, f"scheme={transport}", "use scheme=http or scheme=https")
    endpoint = options.get("endpoint_override", "")
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        host = endpoint.rpartition("@")[2]
        raise InputError(
            KEY, f"endpoint_override={host}", "use HOST:PORT, and scheme=http or scheme=https"
        )
    path = "/".join([bucket, *[name for name in path.split("/") if name]])
    return Address(uri, S3, path, endpoint, transport, options.get("region", ""))


def _options(shown: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InputError(
            KEY, f"the options of {shown!r} cannot be read", "write ?key=value&key=value"
        ) from error
    options: dict[str, str] = {}
    for name, value in pairs:
        if name not in _OPTIONS:
            raise InputError(KEY, f"unknown option {name!r} of {shown!r}", f"use {list(_OPTIONS)}")
        if not value or name in options:
            raise InputError(KEY, f"option {name!r} of {shown!r} has not one value", "give one")
        options[name] = value
    return options


def _check_names(shown: str, path: str) -> None:
    if {".", ".."} & set(path.split("/")):
        raise InputError(KEY, f"{shown!r} has '.' or '..' in it", "write the whole path")
