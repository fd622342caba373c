"""What MLflow is told, kept in the run's folder while the store is away and sent when it is back."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from pathlib import Path

from pydantic import ValidationError

from geminga import storage
from geminga.errors import InputError
from geminga.files import atomic, read_json, write_json
from geminga.tracking.operations import (
    RECORDS,
    LogArtifacts,
    LogModel,
    Record,
    Register,
    StartRun,
)
from geminga.tracking.store import Session, StoreAwayError, StoreRefusedError, asking

logger = logging.getLogger(__name__)

IDS_FILE = "ids.json"
_FILES = "files"


class Journal:
    """Sends records to a store in order; keeps them while it is away.

    Parameters
    ----------
    session : Session
        The store.
    root : Path
        Folder of the run; what is kept lies in a folder of its own inside, for each store.

    Attributes
    ----------
    away : bool
        Whether the store did not answer the last time it was asked.
    sent : int
        Records sent that were kept before.
    """

    def __init__(self, session: Session, root: Path) -> None:
        self.session = session
        digest = hashlib.sha256(f"{session.uri} {session.experiment}".encode()).hexdigest()[:8]
        self.folder = root / "tracking" / digest
        self.away = False
        self.sent = 0
        self._lock = threading.RLock()
        if storage.exists(self.folder / IDS_FILE):
            session.ids.update(read_json(storage.here(self.folder / IDS_FILE)))
        self._next = 1 + max((int(name[:6]) for name in self._names()), default=0)

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._names())

    def send(self, record: Record, first: bool = False) -> None:
        """Send a record, or keep it: nothing is sent before what was said earlier.

        Parameters
        ----------
        record : Record
        first : bool
            Whether no work was done yet that is worth keeping: what the store does not allow is
            an error then.

        Raises
        ------
        InputError
            If it is the first, and the store does not allow it.
        """
        with self._lock:
            if not self.away and self._deliver(record, first):
                return
            self._keep(record)

    def leave(self, reason: str) -> None:
        """Take the store to be away, which is said once."""
        if not self.away:
            logger.warning(
                "MLflow at %s does not answer (%s): the work goes on, what it would be told is kept "
                "in %s and sent when it is back",
                self.session.uri,
                reason,
                self.folder,
            )
        self.away = True

    def flush(self) -> None:
        """Send what waits, as far as the store takes it."""
        with self._lock:
            names = self._names()
            for name in names:
                record = self._read(name)
                if not self._deliver(record.model_copy(update={"again": True})):
                    return
                storage.remove(self.folder / name)
                storage.remove(self.folder / _FILES / name[:6])
                self.sent += 1
            if names:
                logger.info(
                    "MLflow at %s was sent %d records kept before", self.session.uri, len(names)
                )
            self.away = False

    def holds(self, handle: str) -> bool:
        """Return whether the start of a run is among what waits."""
        records = (self._read(name) for name in self._names())
        return any(isinstance(record, StartRun) and record.handle == handle for record in records)

    def say_what_waits(self) -> None:
        """Say in the log how much is kept, if anything is."""
        waiting = len(self)
        if waiting:
            logger.warning(
                "%d records for MLflow at %s wait in %s: the next run of this configuration sends "
                "them, or 'geminga sync-tracking --config FILE'",
                waiting,
                self.session.uri,
                self.folder,
            )

    def forget(self, handle: str) -> None:
        """Forget an identifier that the store does not know any more."""
        self.session.ids.pop(handle, None)

    def _deliver(self, record: Record, first: bool = False) -> bool:
        """Return whether a record is done with: taken, or refused, which is said."""
        before = dict(self.session.ids)
        try:
            with asking(self.session.uri):
                record.send(self.session)
        except StoreAwayError as error:
            self.leave(str(error))
            return False
        except InputError as error:
            if first:
                raise
            if isinstance(record, Register):
                # Somebody else's model: kept, it would hold up all that comes after it.
                self._left_out(record, error.problem)
                return True
            # The log-in was changed, or the experiment deleted, in mid-run.
            self.leave(f"{error.where}: {error.problem}")
            return False
        except StoreRefusedError as error:
            self._left_out(record, error)
            if isinstance(record, LogModel):
                # It may be there without its files: no version is made of it.
                self.forget(record.handle)
        except KeyError as error:
            # What it belongs to was refused.
            logger.warning(
                "MLflow has no run or model %s: a record (%s) left out", error, record.do
            )
        finally:
            if self.session.ids != before:
                write_json(self.folder / IDS_FILE, self.session.ids)
        return True

    def _left_out(self, record: Record, reason: object) -> None:
        logger.warning("MLflow refused a record (%s), left out: %s", record.do, reason)

    def _keep(self, record: Record) -> None:
        """Write a record to a file of its own, and beside it the files it is about."""
        number, self._next = f"{self._next:06d}", self._next + 1
        if isinstance(record, LogArtifacts | LogModel):
            source = Path(record.path)
            copy = self.folder / _FILES / number
            with atomic(copy) as temporary:
                temporary.mkdir()
                if source.is_dir():
                    shutil.copytree(source, temporary / source.name)
                else:
                    shutil.copyfile(source, temporary / source.name)
            record = record.model_copy(update={"path": f"{_FILES}/{number}/{source.name}"})
        write_json(self.folder / f"{number}.json", record.model_dump(mode="json"))

    def _read(self, name: str) -> Record:
        path = self.folder / name
        try:
            record = RECORDS.validate_python(read_json(storage.here(path)))
        except ValidationError as error:
            raise InputError(
                str(path), "is no record for MLflow", "remove it, what it says is lost"
            ) from error
        if isinstance(record, LogArtifacts | LogModel):
            copy = storage.here(self.folder / _FILES / name[:6]) / Path(record.path).name
            return record.model_copy(update={"path": str(copy)})
        return record

    def _names(self) -> list[str]:
        return [n for n in storage.names(self.folder) if n[:6].isdigit() and n.endswith(".json")]
