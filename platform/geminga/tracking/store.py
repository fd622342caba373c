"""The MLflow store of a run: its address, how it is asked, and what its errors mean."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from geminga.config import Config
from geminga.errors import InputError

KEY = "run.tracking_uri"
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_PATIENCE = {
    # A store that is down must not hold the work up: one retry, and answers within seconds.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_AWAY = frozenset(
    ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "IO_ERROR", "SERVICE_UNDER_MAINTENANCE",
     "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "ABORTED", "REQUEST_LIMIT_EXCEEDED",
     "RESOURCE_LIMIT_EXCEEDED", "QUOTA_EXCEEDED", "UNPARSEABLE_HTTP_ERROR")
)  # fmt: skip
_STRANGER = frozenset(("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"))
_FORBIDDEN = "PERMISSION_DENIED"
_THERE = "RESOURCE_ALREADY_EXISTS"
_LATER = (408, 429)
"""The answers 4xx that another time may change: a timeout, too many requests."""
_SECRETS = ("password", "passwd", "pwd", "token")


class StoreAwayError(Exception):
    """The store does not answer, or not in a way that has anything to do with what was asked."""


class StoreRefusedError(Exception):
    """The store answered that it does not want what was sent.

    Parameters
    ----------
    text : str
        What it said.
    code : str
        MLflow's name for the reason; empty without one.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


def tracking_uri(config: Config) -> str:
    """Return the address of the MLflow store of a run.

    Raises
    ------
    InputError
        If the configured one is no address, or holds a password.
    """
    if config.run.tracking_uri is not None:
        return checked_uri(config.run.tracking_uri, KEY)
    return f"sqlite:///{config.run.folder().resolve() / 'mlflow.db'}"


def checked_uri(uri: str, where: str) -> str:
    """Return an address of a store, found to be one.

    Raises
    ------
    InputError
        Of `where`, if it is of an unknown kind, names no host, or holds a password.
    """
    try:
        parts = urlsplit(uri)
        host, _, password = parts.hostname, parts.port, parts.password
    except ValueError as error:
        # A slash or a '#' in a password ends up here: neither it nor what it says is quoted then.
        told = "the address" if "@" in uri else f"{uri!r} ({error})"
        raise InputError(where, f"{told} is no address of a store", "write http://HOST:PORT") from (
            None if "@" in uri else error
        )
    kind = parts.scheme.partition("+")[0]
    given = {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if password is not None or given.intersection(_SECRETS):
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        if kind in _DATABASES:
            remedy = "name an MLflow server in front of the database"
        user = "" if parts.username is None else f"{parts.username}:***@"
        raise InputError(
            where, f"holds a password ({kind}://{user}{host})", f"leave it out, and {remedy}"
        )
    if kind not in (*_SERVERS, *_DATABASES):
        raise InputError(
            where,
            f"the MLflow store {uri} cannot be used (no address starts with {parts.scheme or uri!r})",
            "start it with http://, https://, sqlite:/// or postgresql://, or name none for a store "
            "in the output folder",
        )
    if kind in _SERVERS and not host:
        raise InputError(where, f"{uri!r} names no host", "write http://HOST:PORT")
    return uri


def quiet() -> None:
    """Set how long MLflow waits for a server, unless the user has, and keep its chatter down."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of every retry it says a line; the journal says one for the whole outage.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


@contextmanager
def asking(uri: str, where: str = KEY) -> Iterator[None]:
    """Turn what goes wrong with a store into the three things it can mean.

    Raises
    ------
    InputError
        Of `where`: the log-in is wrong or not enough.
    StoreAwayError
        The store does not answer.
    StoreRefusedError
        It answers that it does not take this.
    """
    try:
        yield
    except MlflowException as error:
        line = _line(error)
        if error.error_code in _STRANGER:
            given = "was refused" if os.environ.get("MLFLOW_TRACKING_USERNAME") else "is missing"
            raise InputError(
                where,
                f"the log-in to {uri} {given}",
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of an account",
            ) from error
        if error.error_code == _FORBIDDEN:
            raise InputError(
                where, f"{uri} does not allow this ({line})", "ask its administrator for permission"
            ) from error
        if error.error_code in _AWAY:
            raise StoreAwayError(line) from error
        raise StoreRefusedError(line, error.error_code) from error
    except (RequestException, SQLAlchemyError, OSError) as error:
        # Artifacts are sent without MLflow's own errors around them.
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise InputError(
                where, f"the log-in to {uri} was refused", "set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD to those of an account",
            ) from error  # fmt: skip
        if status is not None and 400 <= status < 500 and status not in _LATER:
            # Too large for a proxy, say: sent again it would hold up all that comes after it.
            raise StoreRefusedError(_line(error)) from error
        raise StoreAwayError(_line(error)) from error
    except Exception as error:
        # Of stores that clients put artifacts into themselves; no error of theirs is an OSError.
        if type(error).__module__.partition(".")[0] not in ("boto3", "botocore"):
            raise
        raise StoreAwayError(_line(error)) from error


@dataclass
class Session:
    """A store with what is known of it.

    Attributes
    ----------
    uri : str
    experiment : str
        Name of the experiment.
    artifacts : Path or None
        Folder of the artifacts of an experiment made here; None leaves them to the server.
    ids : dict of str
        Identifiers that the store gave, by our own names for runs and models.
    """

    uri: str
    experiment: str
    artifacts: Path | None = None
    ids: dict[str, str] = field(default_factory=dict)
    _experiment_id: str | None = None

    @property
    def client(self) -> mlflow.MlflowClient:
        """The client of the store."""
        return mlflow.MlflowClient(self.uri, self.uri)

    @property
    def experiment_id(self) -> str:
        """Identifier of the experiment, made if it is not there yet.

        Raises
        ------
        InputError
            If the experiment was deleted.
        """
        if self._experiment_id is None:
            found = self.client.get_experiment_by_name(self.experiment)
            if found is not None and found.lifecycle_stage != "active":
                raise InputError(
                    "run.experiment",
                    f"{self.experiment!r} was deleted in the MLflow store",
                    f"name another, or run: mlflow experiments restore -x {found.experiment_id}",
                )
            self._experiment_id = self._make() if found is None else str(found.experiment_id)
        return self._experiment_id

    def _make(self) -> str:
        place = None if self.artifacts is None else self.artifacts.as_uri()
        try:
            return str(self.client.create_experiment(self.experiment, place))
        except MlflowException as error:
            if error.error_code != _THERE:
                raise
        # Another run was faster.
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            raise StoreAwayError(f"experiment {self.experiment!r} was made and removed just now")
        return str(found.experiment_id)


def session_of(config: Config) -> Session:
    """Return the store of a run, not yet asked for anything.

    Raises
    ------
    InputError
        If its address is no address.
    """
    quiet()
    uri = tracking_uri(config)
    mlflow.set_tracking_uri(uri)
    local = config.run.tracking_uri is None
    folder = config.run.folder().resolve() / "mlartifacts" if local else None
    return Session(uri, config.run.experiment, folder)


def _line(error: Exception) -> str:
    """Return what an error says, in a line; of a refused connection the part that tells."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    for sign in (
        "Connection refused",
        "timed out",
        "Name or service not known",
        "No route to host",
    ):
        if sign in first:
            return sign
    with suppress(ValueError, AttributeError):
        first = str(json.loads(first).get("message", first))
    return first[:200]
