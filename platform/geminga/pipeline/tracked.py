"""A run's place in MLflow: its identifier, and what still waits to be sent."""

from __future__ import annotations

from geminga import storage
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import read_json
from geminga.pipeline.runner import run_folder
from geminga.tracking import NOTE, reach, renew_note, tracking_uri

TUNINGS = "tuning"
"""Folder of a run with the folders of its tunings."""


def tracked_run(config: Config) -> tuple[str, str]:
    """Return the identifier of a run in MLflow and the address of the store.

    Raises
    ------
    InputError
        If the run is not in this store, or not yet.
    """
    uri, path = tracking_uri(config), run_folder(config) / NOTE
    note = read_json(storage.here(path)) if storage.exists(path) else {}
    if note.get("uri") != uri or note.get("config_hash") != config.hash():
        raise InputError(
            str(path.parent), f"holds no run of this configuration that {uri} knows", "run it first"
        )
    if not note.get("run_id"):
        raise InputError(
            str(path.parent), f"was kept while {uri} was away", "run 'geminga sync-tracking' first"
        )
    return str(note["run_id"]), uri


def sync_tracking(config: Config) -> str:
    """Send what a run kept while its MLflow server was away; return what was done, in words.

    Its tunings are runs of their own inside its folder: what they kept is sent too.

    Raises
    ------
    InputError
        If the store cannot be used or still does not answer, or there is no such run.
    """
    root = run_folder(config)
    tunings = root / TUNINGS
    places = [root, *(tunings / name for name in storage.names(tunings))]
    places = [place for place in places if storage.exists(place / NOTE)]
    if not places:
        raise InputError(str(root), "holds no run", "run it first")
    sent = 0
    for place in places:
        journal = reach(config, place)
        if journal.away:
            raise InputError(
                journal.session.uri, f"does not answer: {len(journal)} records wait", "start it"
            )
        renew_note(place, journal)
        sent += journal.sent
    return f"{sent} records sent to {journal.session.uri}"
