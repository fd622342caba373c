"""Taking a run's folder for oneself: one driver at a time, and no mix of settings by mistake."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from geminga import storage
from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.files import read_json, write_json
from geminga.tracking import tracking_uri

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"
HOLDER_FILE = ".holder.json"
_SHOWN = 3
_LONGEST = 40


@contextmanager
def take_run(
    root: Path, config: Config, keys: Mapping[str, str], stage_file: str
) -> Iterator[None]:
    """Hold the folder of a run while the block works in it, and write its settings there.

    Parameters
    ----------
    root : Path
        Folder of the run.
    config : Config
        Settings of the run.
    keys : mapping
        Key of every stage with these settings.
    stage_file : str
        Where a finished stage keeps its key.

    Raises
    ------
    InputError
        If another driver that is alive works on the run; if stages of it were made with other
        settings and ``run.replace`` is not set; if the folder cannot be written; if
        ``run.tracking_uri`` is no address, or holds a password.

    Notes
    -----
    The lock is one of the file system: it goes with the process that holds it, however it ends
    (where a file system has none, `filelock` warns and keeps a file with the process instead). An
    object store has none; there it keeps drivers of one machine apart, and no others.
    """
    lock = FileLock(root / LOCK_FILE)
    where = f"run {config.name!r} in {config.run.storage or config.run.output}"
    # A password in it would be in the settings that are written below.
    tracking_uri(config)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            where,
            f"is being worked on by {_holder(root)}",
            "wait until it is done, or choose another name with --set name=NAME",
        ) from error
    except OSError as error:
        raise InputError(
            str(root),
            f"cannot be written ({error.strerror})",
            "choose a writable folder with --set run.output=FOLDER or run.storage",
        ) from error
    try:
        if storage.is_mirrored(root):
            logger.info("an object store has no locks: other machines are not kept from this run")
        else:
            write_json(root / HOLDER_FILE, {"process": os.getpid(), "host": socket.gethostname()})
        _check_settings(root, config, keys, stage_file, where)
        write_json(root / CONFIG_FILE, config.model_dump(mode="json"))
        yield
    finally:
        lock.release()


def _holder(root: Path) -> str:
    path = root / HOLDER_FILE
    if not path.is_file():
        return "another process"
    note = read_json(path)
    return f"process {note['process']} on {note['host']}"


def _check_settings(
    root: Path, config: Config, keys: Mapping[str, str], stage_file: str, where: str
) -> None:
    """Refuse settings that would make stages of the run again, unless that is asked for."""
    if not storage.exists(root / CONFIG_FILE):
        return
    changes = _changes(_result_tree(read_json(root / CONFIG_FILE)), _result_tree(config))
    again = _stale(root, keys, stage_file) if changes else []
    if not again:
        return
    if config.run.replace:
        logger.warning("other settings (%s): made again are %s", _told(changes), ", ".join(again))
        return
    raise InputError(
        where,
        f"was made with other settings ({_told(changes)})",
        "choose another name with --set name=NAME, or --set run.replace=true to make again the "
        f"stages that depend on them ({', '.join(again)})",
    )


def _stale(root: Path, keys: Mapping[str, str], stage_file: str) -> list[str]:
    """Return the stages that are finished, or begun, with another key than theirs now."""
    there = storage.names(root)
    stale = []
    for name, key in keys.items():
        note = root / name / stage_file
        finished = storage.exists(note) and read_json(note).get("key") != key
        begun = set(fnmatch.filter(there, f".{name}.*.partial")) - {f".{name}.{key}.partial"}
        if finished or begun:
            stale.append(name)
    return stale


def _result_tree(settings: Config | dict[str, Any]) -> dict[str, str]:
    """Return every setting that can change a result, as JSON by its dotted key."""
    if isinstance(settings, dict):
        try:
            settings = config_from_tree(settings, CONFIG_FILE)
        except InputError:
            # Of another version, with keys or values this one does not have.
            tree = dict(settings)
        else:
            return _result_tree(settings)
    else:
        tree = settings.model_dump(mode="json")
    return _flat({key: value for key, value in tree.items() if key not in ("run", "name")})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            flat |= _flat({str(n): part for n, part in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value, sort_keys=True)
    return flat


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    keys = [*now, *(key for key in before if key not in now)]
    return [
        f"{key} {_short(before.get(key))}, now {_short(now.get(key))}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def _short(value: str | None) -> str:
    if value is None:
        return "not there"
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."


def _told(changes: list[str]) -> str:
    more = len(changes) - _SHOWN
    return "; ".join(changes[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
