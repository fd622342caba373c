"""How a run finds its store, and its place in it again."""

from __future__ import annotations

import uuid
from pathlib import Path

from geminga import storage
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import read_json, write_json
from geminga.tracking.journal import Journal
from geminga.tracking.store import KEY, StoreAwayError, StoreRefusedError, asking, session_of

NOTE = "tracking.json"
"""File in a run's folder that says which MLflow run it is."""


def reach(config: Config, root: Path) -> Journal:
    """Return the journal of a run, what waited in it sent if the store answers.

    Raises
    ------
    InputError
        If the store cannot be used, refuses the log-in, or the experiment was deleted in it.
    """
    session = session_of(config)
    journal = Journal(session, root)
    remedy = "name a server that answers, or none for a store in the output folder"
    try:
        with asking(session.uri):
            _ = session.experiment_id
    except StoreAwayError as error:
        if session.uri.startswith("sqlite"):
            problem = f"the MLflow store {session.uri} cannot be used ({error})"
            raise InputError(KEY, problem, remedy) from error
        journal.leave(str(error))
    except StoreRefusedError as error:
        problem = f"the MLflow store {session.uri} cannot be used ({error})"
        raise InputError(KEY, problem, remedy) from error
    else:
        journal.flush()
    return journal


def handle_of(config: Config, root: Path, journal: Journal) -> str:
    """Return the name of this folder's run of these settings in this store, or a new one."""
    path = root / NOTE
    note = read_json(storage.here(path)) if storage.exists(path) else {}
    same = (note.get("config_hash"), note.get("uri")) == (config.hash(), journal.session.uri)
    if not same:
        return f"{config.name}-{uuid.uuid4().hex}"
    handle = note.get("handle")
    if handle is None:
        # A folder of before runs had names of our own.
        handle = f"{config.name}-{note['run_id']}"
        journal.session.ids[handle] = note["run_id"]
    known = journal.session.ids.get(handle)
    if known is not None and not journal.away and not _is_there(journal, known):
        return f"{config.name}-{uuid.uuid4().hex}"
    return str(handle)


def _is_there(journal: Journal, run_id: str) -> bool:
    """Return whether the store has a run; a store that went away just now may have it."""
    session = journal.session
    try:
        with asking(session.uri):
            found = session.client.search_runs(
                [session.experiment_id], f"attributes.run_id = '{run_id}'", max_results=1
            )
    except StoreAwayError as error:
        journal.leave(str(error))
        return True
    except StoreRefusedError as error:
        raise InputError(
            KEY, f"the MLflow store {session.uri} cannot be used ({error})", "see its log"
        ) from error
    return bool(found)


def write_note(config: Config, root: Path, journal: Journal, handle: str) -> None:
    """Write down in a run's folder which MLflow run it is."""
    note = {
        "run_id": journal.session.ids.get(handle),
        "handle": handle,
        "config_hash": config.hash(),
        "uri": journal.session.uri,
    }
    path = root / NOTE
    if not storage.exists(path) or read_json(storage.here(path)) != note:
        write_json(path, note)


def renew_note(root: Path, journal: Journal) -> None:
    """Add to the note in a run's folder the identifier that the store has given it by now."""
    note = read_json(storage.here(root / NOTE))
    run_id = journal.session.ids.get(note.get("handle"))
    if note.get("uri") == journal.session.uri and run_id not in (None, note["run_id"]):
        write_json(root / NOTE, {**note, "run_id": run_id})
