"""Registered models in an MLflow store: versions by alias, what they are made of, their files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from geminga.errors import InputError
from geminga.tracking.models import DATA, DIGEST, folder_digest
from geminga.tracking.reading import OPTION
from geminga.tracking.store import StoreAwayError, StoreRefusedError, asking, checked_uri, quiet

_NONE = frozenset(("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"))
"""What MLflow answers where there is no such model, version or alias."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes
    ----------
    name : str
    number : str
    run_id : str
        The run it came of.
    digest : str
        `folder_digest` of its files, as the registry has it.
    """

    name: str
    number: str
    run_id: str
    digest: str

    @property
    def text(self) -> str:
        """Name and number for people."""
        return f"{self.name} version {self.number}"


class Registry:
    """The registry of a store.

    Parameters
    ----------
    uri : str, optional
        Address of the store; MLFLOW_TRACKING_URI if not given.

    Raises
    ------
    InputError
        If none is given, or it is no address.
    """

    def __init__(self, uri: str | None) -> None:
        uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            raise InputError(
                OPTION, "is not given", "name the MLflow store, or set MLFLOW_TRACKING_URI"
            )
        self.uri = checked_uri(uri, OPTION)
        quiet()
        self._client = mlflow.MlflowClient(self.uri, self.uri)

    def by_alias(self, name: str, alias: str) -> Version | None:
        """Return the version of a model that has an alias; None if none has.

        Raises
        ------
        InputError
            If the store cannot be asked.
        """
        found: Version | None = None
        with self._asking(missing=_NONE):
            found = _version(self._client.get_model_version_by_alias(name, alias))
        return found

    def of_run(self, name: str, run_id: str) -> Version | None:
        """Return the newest version of a model that came of a run; None if there is none.

        Raises
        ------
        InputError
            If the store cannot be asked.
        """
        with self._asking():
            found = self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        newest = max(found, key=lambda one: int(one.version), default=None)
        return None if newest is None else _version(newest)

    def numbered(self, name: str, number: str) -> Version | None:
        """Return a version of a model; None if it does not exist.

        Raises
        ------
        InputError
            If the store cannot be asked.
        """
        found: Version | None = None
        with self._asking(missing=_NONE):
            found = _version(self._client.get_model_version(name, number))
        return found

    def set_alias(self, version: Version, alias: str, tags: dict[str, str]) -> None:
        """Give a version an alias, which another loses, and tags.

        Raises
        ------
        InputError
            If the store cannot be asked, or does not allow it.
        """
        with self._asking():
            self._client.set_registered_model_alias(version.name, alias, version.number)
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, version.number, key, value)

    @contextmanager
    def files(self, version: Version) -> Iterator[Path]:
        """Give a folder with the files of a version, found to be those that were registered.

        Raises
        ------
        InputError
            If they cannot be had, or are others.
        """
        # Of a local store MLflow asks that of the process, whatever a client was given.
        mlflow.set_tracking_uri(self.uri)
        with tempfile.TemporaryDirectory() as temporary:
            with self._asking(f"{version.text} cannot be had", "register it again"):
                source = f"models:/{version.name}/{version.number}"
                mlflow.artifacts.download_artifacts(
                    source, dst_path=temporary, tracking_uri=self.uri, registry_uri=self.uri
                )
            folder = Path(temporary) / DATA
            if folder_digest(folder) != version.digest:
                raise InputError(
                    version.text,
                    "its files are not those that were registered (another SHA-256)",
                    "find out who changed the artifact store, then register it again",
                )
            named = folder.rename(folder.with_name(f"{version.name}-{version.number}"))
            yield named

    @contextmanager
    def _asking(
        self,
        problem: str = "this cannot be asked of it",
        remedy: str = "correct what was asked for",
        missing: frozenset[str] = frozenset(),
    ) -> Iterator[None]:
        """Turn what goes wrong into one line; pass over the codes that say that there is nothing."""
        try:
            with asking(self.uri, OPTION):
                yield
        except StoreAwayError as error:
            raise InputError(
                OPTION, f"the MLflow store {self.uri} does not answer ({error})", "start it"
            ) from error
        except StoreRefusedError as error:
            if error.code not in missing:
                raise InputError(self.uri, f"{problem} ({error})", remedy) from error


def _version(one: ModelVersion) -> Version:
    return Version(str(one.name), str(one.version), str(one.run_id), str(one.tags.get(DIGEST, "")))
