"""MLflow: what a run is, what it was made of, what came out; the models that came of it.

The store is a local SQLite database in the output folder unless the configuration names a server.
"""

from __future__ import annotations

from geminga.tracking.opening import NOTE, reach, renew_note
from geminga.tracking.operations import METRICS_AT_ONCE
from geminga.tracking.reading import read_run_json
from geminga.tracking.store import checked_uri, tracking_uri
from geminga.tracking.tracker import MAX_PARAM_LENGTH, STEP, Child, Tracker

__all__ = [
    "MAX_PARAM_LENGTH",
    "METRICS_AT_ONCE",
    "NOTE",
    "STEP",
    "Child",
    "Tracker",
    "checked_uri",
    "reach",
    "read_run_json",
    "renew_note",
    "tracking_uri",
]
