"""A local folder kept like an object store: what is written goes there, what is read comes from it.

The object store has the truth. A file in the mirror is used if it is the object's: its size is the
object's, and its modification time, to the nanosecond, is made of the object's time and ETag. So
no list of what was fetched can be lost or torn; a mirror may be deleted at any time.

A folder that is there wholly or not at all (a sky, a network) is its files and, put last, a list of
them: `MANIFEST`. A stage is there when its ``stage.json`` is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from geminga.errors import InputError
from geminga.storage.address import Address
from geminga.storage.failures import failure

MANIFEST = ".files.json"
LOCKS = ".locks"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.(tmp|old)")
"""Names that `files.atomic` gives to what is not finished."""
_THREADS = 8
_MOST_COPIED = 5 * 10**9
"""S3 copies objects up to 5 GB by itself; larger ones pass through this machine."""


@dataclass(frozen=True)
class _Object:
    size: int
    stamp_ns: int


@dataclass(frozen=True)
class Mirror:
    """One local folder and the place in an object store that it mirrors.

    Attributes
    ----------
    root : Path
        Absolute local folder.
    address : Address
        Where the objects are, for messages.
    filesystem : pyarrow FileSystem
        Of the objects.
    prefix : str
        Path of the root in it.
    """

    root: Path
    address: Address
    filesystem: Any
    prefix: str

    def key(self, path: Path) -> str:
        """Return the object of a path below the root."""
        relative = path.relative_to(self.root).as_posix()
        return self.prefix if relative == "." else f"{self.prefix}/{relative}"

    def exists(self, path: Path) -> bool:
        """Return whether a file, or a folder with its list of files, is in the object store."""
        with failure(self.address):
            key = self.key(path)
            return self._head(key) is not None or self._head(f"{key}/{MANIFEST}") is not None

    def here(self, path: Path) -> Path:
        """Fetch a file, or all files of a folder, as far as the mirror has not the newest.

        What the object store has not is removed from the mirror.
        """
        with failure(self.address):
            if self._fetch(path):
                return path
            keys = self._listed(path)
            wanted = {self.root / key.removeprefix(f"{self.prefix}/") for key in keys}
            if path.is_dir():
                for old in [p for p in path.rglob("*") if p.is_file() and p not in wanted]:
                    if not is_temporary(old):  # somebody is writing it
                        old.unlink(missing_ok=True)
            self._all(
                lambda key: self._fetch(self.root / key.removeprefix(f"{self.prefix}/")), keys
            )
        return path

    def publish(self, source: Path, path: Path) -> None:
        """Put a file or folder into the object store under the name of `path`.

        Parameters
        ----------
        source : Path
            What was written, still under a temporary name. Its files get the times that mark them
            as the objects'.
        path : Path
            Where it belongs below the root.
        """
        with failure(self.address):
            key = self.key(path)
            if not source.is_dir():
                self._put(source, key)
                return
            files = {p.relative_to(source).as_posix(): p for p in source.rglob("*") if p.is_file()}
            listed = json.dumps(sorted(files), indent=1)
            (source / MANIFEST).write_text(listed + "\n", encoding="utf-8")
            # A reader sees the old folder, none, or the new one.
            self._delete(f"{key}/{MANIFEST}")
            old = [other for other in self._listed(path) if other[len(key) + 1 :] not in files]
            self._all(self._delete, old)
            self._all(lambda name: self._put(files[name], f"{key}/{name}"), files)
            self._put(source / MANIFEST, f"{key}/{MANIFEST}")

    def remove(self, path: Path) -> None:
        """Remove a file or folder, here and in the object store; the list of a folder first."""
        with failure(self.address):
            self._delete(f"{self.key(path)}/{MANIFEST}")
            self._delete(self.key(path))
            self._delete_tree(self.key(path))
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def names(self, folder: Path) -> list[str]:
        """Return the names of what is in a folder of the object store, sorted."""
        with failure(self.address):
            chosen = fs.FileSelector(self.key(folder), allow_not_found=True)
            return sorted(info.base_name for info in self.filesystem.get_file_info(chosen))

    def finish(self, work: Path, final: Path, last: str) -> None:
        """Give a folder its final name; `final` is there once the file `last` is in it.

        Objects cannot be renamed: they are copied inside the store. Killed in between, `work` is
        still whole and `final` is not there.
        """
        with failure(self.address):
            self._delete(f"{self.key(final)}/{last}")
            self._delete_tree(self.key(final))
            old, new = self.key(work), self.key(final)
            names = [key[len(old) + 1 :] for key in self._listed(work)]
            others = [name for name in names if name != last]

            copies: dict[str, _Object] = {}

            def copy(name: str) -> None:
                made = self._copy(f"{old}/{name}", f"{new}/{name}", work / name)
                if made is not None:
                    copies[name] = made

            self._all(copy, others)
            copy(last)
            # What this machine has of the folder now counts as what it was copied to.
            for name, made in copies.items():
                os.utime(work / name, ns=(made.stamp_ns, made.stamp_ns))
            if final.exists():
                shutil.rmtree(final)
            work.mkdir(parents=True, exist_ok=True)
            work.rename(final)
            self._delete_tree(old)

    def _head(self, key: str) -> _Object | None:
        """Return size and mark of an object; None if there is no such object."""
        try:
            with self.filesystem.open_input_file(key) as stream:
                about = {str(k).lower(): v for k, v in (stream.metadata() or {}).items()}
                size = int(stream.size())
        except (FileNotFoundError, IsADirectoryError):
            return None
        except OSError:
            # A local file system refuses to open a folder with errors of many kinds.
            if self.filesystem.get_file_info(key).type == fs.FileType.File:
                raise
            return None
        if "etag" not in about:
            return _Object(size, int(self.filesystem.get_file_info(key).mtime_ns))
        moment = datetime.fromisoformat(about["last-modified"].decode())
        tag = int.from_bytes(hashlib.blake2b(about["etag"], digest_size=8).digest(), "big")
        return _Object(size, int(moment.timestamp()) * 10**9 + tag % 10**9)

    def _fetch(self, path: Path) -> bool:
        """Bring one file up to date; return whether the object store has it."""
        key = self.key(path)
        found = self._head(key)
        if found is None:
            # A leftover of another time must not be taken for the file.
            if path.is_file():
                path.unlink(missing_ok=True)
            return False
        if _is(path, found):
            return True
        with self._locked(key):
            if _is(path, found):
                return True
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
            try:
                fs.copy_files(
                    key,
                    str(temporary),
                    source_filesystem=self.filesystem,
                    destination_filesystem=fs.LocalFileSystem(),
                )
                after = self._head(key)
                if after != found or temporary.stat().st_size != found.size:
                    raise OSError(f"{key} changed while it was read")
                os.utime(temporary, ns=(found.stamp_ns, found.stamp_ns))
                temporary.replace(path)
            finally:
                with suppress(FileNotFoundError):
                    temporary.unlink()
        return True

    def _put(self, source: Path, key: str) -> None:
        self._make_parent(key)
        with pa.memory_map(str(source)) as stream:
            content = stream.read_buffer()
            # Closed here: `copy_files` leaves that to a destructor, which swallows what goes wrong.
            target = self.filesystem.open_output_stream(key)
            try:
                target.write(content)
                target.close()
            except OSError:
                raise  # what stood there still does
            except BaseException:
                # The library may finish what was interrupted.
                with suppress(OSError):
                    self._delete(key)
                raise
        self._mark(source, key)

    def _copy(self, key: str, other: str, local: Path) -> _Object | None:
        """Copy an object; return the second one if the mirror has the first."""
        before = self._head(key)
        if before is None:
            raise OSError(f"{key} vanished")
        self._make_parent(other)
        if before.size > _MOST_COPIED:
            fs.copy_files(
                key,
                other,
                source_filesystem=self.filesystem,
                destination_filesystem=self.filesystem,
            )
        else:
            self.filesystem.copy_file(key, other)
        made = self._head(other)
        if made is None or made.size != before.size:
            raise OSError(f"{other} did not arrive whole")
        return made if _is(local, before) else None

    def _mark(self, local: Path, key: str) -> None:
        """Mark a local file as the object's; an object that is not whole does not stay."""
        made = self._head(key)
        if made is None or made.size != local.stat().st_size:
            self._delete(key)
            raise OSError(f"{key} did not arrive whole")
        os.utime(local, ns=(made.stamp_ns, made.stamp_ns))

    def _make_parent(self, key: str) -> None:
        # An object store has no folders; other file systems want them.
        if self.filesystem.type_name != "s3":
            self.filesystem.create_dir(key.rpartition("/")[0], recursive=True)

    def _delete(self, key: str) -> None:
        if self._head(key) is not None:
            self.filesystem.delete_file(key)

    def _delete_tree(self, key: str) -> None:
        if self.filesystem.get_file_info(key).type == fs.FileType.Directory:
            # A folder without objects may have gone by itself.
            with suppress(FileNotFoundError):
                self.filesystem.delete_dir(key)

    def _listed(self, folder: Path) -> list[str]:
        """Return all objects below a folder, sorted."""
        chosen = fs.FileSelector(self.key(folder), recursive=True, allow_not_found=True)
        found = self.filesystem.get_file_info(chosen)
        return sorted(info.path for info in found if info.type == fs.FileType.File)

    @staticmethod
    def _all(act: Callable[[str], object], keys: Iterable[str]) -> None:
        """Do the same to many objects, several at a time."""
        with ThreadPoolExecutor(_THREADS) as threads:
            for _ in threads.map(act, list(keys)):
                pass

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Let one process of this machine fetch an object; the others then share the file."""
        folder = self.root / LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
        with (folder / name).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def is_temporary(path: Path) -> bool:
    """Return whether a path is, or lies in, something that is not finished."""
    return any(_TEMPORARY.fullmatch(part) for part in path.parts)


def _is(path: Path, found: _Object) -> bool:
    """Return whether a local file is that object."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return status.st_size == found.size and status.st_mtime_ns == found.stamp_ns


def check_owner(root: Path) -> None:
    """Make a mirror's folder for this user alone.

    Raises
    ------
    InputError
        If it cannot be made, is somebody else's, or a link, which somebody else may have made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = root.lstat()
        mine = status.st_uid == os.getuid() and not stat.S_ISLNK(status.st_mode)
    except OSError as error:
        raise InputError(
            str(root), f"cannot be made ({error.strerror})", "choose another with run.mirror"
        ) from error
    if not mine:
        raise InputError(
            str(root), "belongs to another user, or is a link", "choose another with run.mirror"
        )
