"""Mirrors against a real S3 server, and what it refuses."""

from __future__ import annotations

import pickle
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs
from servers import S3Server, free_ports, s3_server

from geminga import storage
from geminga.errors import InputError, StorageError
from geminga.files import atomic, read_json, write_json

pytestmark = pytest.mark.cluster


@pytest.fixture
def keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in {**s3.environment, storage.VARIABLE: ""}.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    # Connections keep the keys they were opened with.
    storage._open_mirror.cache_clear()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket(f"b-{secrets.token_hex(4)}")


@pytest.fixture
def root(s3: S3Server, bucket: str, keys: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    opened = storage.open_root(s3.uri(f"{bucket}/runs"), "out", str(tmp_path / "mirror"))
    storage.check(opened)
    return opened


def files(s3: S3Server, bucket: str) -> list[str]:
    found = s3.filesystem().get_file_info(fs.FileSelector(bucket, recursive=True))
    return sorted(info.path for info in found if info.type == fs.FileType.File)


def test_there_and_back(s3: S3Server, bucket: str, root: Path) -> None:
    big = bytes(range(256)) * 60_000  # more than S3 takes in one part
    with atomic(root / "tiny" / "big") as temporary:
        temporary.write_bytes(big)
    write_json(root / "tiny" / "a.json", {"x": 1})
    with atomic(root / "tiny" / "empty") as temporary:
        temporary.touch()
    assert files(s3, bucket) == [
        f"{bucket}/runs/tiny/{name}" for name in ("a.json", "big", "empty")
    ]
    inode = (root / "tiny" / "big").stat().st_ino
    assert storage.here(root / "tiny" / "big").stat().st_ino == inode
    shutil.rmtree(root)
    assert storage.here(root / "tiny" / "big").read_bytes() == big
    assert storage.here(root / "tiny" / "empty").read_bytes() == b""
    assert read_json(root / "tiny" / "a.json") == {"x": 1}
    assert storage.place(root / "tiny") == f"s3://{bucket}/runs/tiny"


def test_as_many_bytes_within_the_same_second_are_told_apart(
    s3: S3Server, bucket: str, root: Path
) -> None:
    path = root / "a.json"
    for number in range(5):
        write_json(path, number)
        with s3.filesystem().open_output_stream(f"{bucket}/runs/a.json") as stream:
            stream.write(f"{number + 1}\n".encode())
        assert read_json(path) == number + 1


def test_a_stage_gets_its_name(s3: S3Server, bucket: str, root: Path) -> None:
    work, final = root / "tiny" / ".s.k.partial", root / "tiny" / "s"
    for number in range(20):
        write_json(work / "pieces" / f"{number}.json", number)
    with atomic(work / "sky") as temporary:
        temporary.mkdir()
        write_json(temporary / "a.json", 1)
    write_json(work / "stage.json", {})
    write_json(final / "old.json", {})
    storage.finish(work, final, "stage.json")
    assert storage.exists(final / "sky")
    assert not storage.exists(work / "sky")
    inode = (final / "pieces" / "7.json").stat().st_ino
    assert storage.here(final / "pieces" / "7.json").stat().st_ino == inode, (
        "it need not be fetched"
    )
    found = files(s3, bucket)
    assert len(found) == 20 + 2 + 1
    assert all(name.startswith(f"{bucket}/runs/tiny/s/") for name in found)
    shutil.rmtree(root)
    storage.here(final)
    assert read_json(final / "pieces" / "7.json") == 7
    storage.remove(final)
    assert not files(s3, bucket)


def test_ray_train_gets_no_secret(s3: S3Server, root: Path) -> None:
    path, filesystem = storage.train_storage(root / "tiny" / "checkpoints")
    assert path.endswith("/runs/tiny/checkpoints")
    carried = pickle.dumps(filesystem)
    assert s3.secret.encode() not in carried
    assert s3.key.encode() not in carried
    assert pickle.loads(carried).get_file_info("nowhere-at-all").type == fs.FileType.NotFound  # noqa: S301


@pytest.mark.parametrize(
    ("key", "secret", "message"),
    [
        ("right", "wrong", "refused the credentials: the secret does not belong to the key"),
        ("wrong", "wrong", "refused the credentials: unknown access key"),
    ],
)
def test_wrong_credentials_are_refused(
    key: str,
    secret: str,
    message: str,
    s3: S3Server,
    bucket: str,
    keys: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    keys.setenv("AWS_ACCESS_KEY_ID", s3.key if key == "right" else "nobody")
    keys.setenv("AWS_SECRET_ACCESS_KEY", "guessed")
    root = storage.open_root(s3.uri(f"{bucket}/runs"), "out", str(tmp_path))
    with pytest.raises(StorageError, match=message) as error:
        storage.check(root)
    assert "guessed" not in str(error.value)
    with pytest.raises(StorageError, match="refused"):
        write_json(root / "a.json", 1)
    assert not (root / "a.json").exists()
    with pytest.raises(StorageError, match="refused"):
        storage.exists(root / "a.json")


def test_a_store_that_takes_no_write(
    s3: S3Server, bucket: str, keys: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys.setenv("AWS_ACCESS_KEY_ID", s3.reader)
    keys.setenv("AWS_SECRET_ACCESS_KEY", s3.reader_secret)
    root = storage.open_root(s3.uri(f"{bucket}/runs"), "out", str(tmp_path))
    storage.check(root)
    with s3.filesystem().open_output_stream(f"{bucket}/runs/a.json") as stream:
        stream.write(b"[1]\n")
    # As long as the object that is there: a refusal must not be taken for success.
    with pytest.raises(StorageError, match=r"refused access \(PutObject of runs/a\.json\)"):
        write_json(root / "a.json", 123)
    assert read_json(root / "a.json") == [1]


def test_no_such_bucket(s3: S3Server, keys: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = storage.open_root(s3.uri("never-made/runs"), "out", str(tmp_path))
    with pytest.raises(InputError, match="has no such bucket; make never-made"):
        storage.check(root)


def test_nobody_listens(keys: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    uri = f"s3://bkt/runs?endpoint_override=127.0.0.1:{port}&scheme=http"
    root = storage.open_root(uri, "out", str(tmp_path))
    with pytest.raises(StorageError, match=r"does not answer .*check endpoint_override"):
        storage.check(root)


def test_a_server_that_goes_away(keys: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with s3_server(tmp_path / "server") as server:
        for name, value in server.environment.items():
            keys.setenv(name, value)
        keys.setattr(storage, "_ATTEMPTS", 1)
        server.make_bucket("bkt")
        root = storage.open_root(server.uri("bkt/runs"), "out", str(tmp_path / "mirror"))
        write_json(root / "a.json", [1])
    with pytest.raises(StorageError, match="does not answer"):
        read_json(root / "a.json")
    with pytest.raises(StorageError, match="finished pieces are kept"):
        write_json(root / "a.json", [2])
    assert (root / "a.json").read_text() == "[\n 1\n]\n", "what stood there still does"


def test_a_store_that_is_full(keys: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with s3_server(tmp_path / "server", volumes=7) as server:
        for name, value in server.environment.items():
            keys.setenv(name, value)
        keys.setattr(storage, "_ATTEMPTS", 1)
        server.make_bucket("bkt")
        root = storage.open_root(server.uri("bkt/runs"), "out", str(tmp_path / "mirror"))
        storage.check(root)
        with pytest.raises(
            StorageError, match=r"is full or in trouble .*of runs/a.json.*make room"
        ):
            write_json(root / "a.json", [1])
        assert not storage.exists(root / "a.json")
        assert not (root / "a.json").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of one megabyte; only root may make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    write_json(small_disk / "a.json", [1])
    with pytest.raises(InputError, match=r"cannot be written .No space left on device"):
        write_json(small_disk / "a.json", list(range(500_000)))
    assert read_json(small_disk / "a.json") == [1]
    assert [path.name for path in small_disk.iterdir()] == ["a.json"]


def test_a_full_mirror(
    s3: S3Server, bucket: str, keys: pytest.MonkeyPatch, small_disk: Path
) -> None:
    root = storage.open_root(s3.uri(f"{bucket}/runs"), "out", str(small_disk))
    with s3.filesystem().open_output_stream(f"{bucket}/runs/big") as stream:
        stream.write(bytes(3_000_000))
    with pytest.raises(StorageError, match=r"No space left on device.*run\.mirror"):
        storage.here(root / "big")
    assert not [path for path in root.iterdir() if path.is_file()]
    assert storage.exists(root / "big"), "the object is as it was"
