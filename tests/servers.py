"""Servers that tests start on loopback: an S3 server (SeaweedFS) with keys made for the occasion."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow import fs

WEED = Path(sys.executable).parent / "weed"
REGION = "us-east-1"


def free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started in a session of its own, and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@dataclass(frozen=True)
class S3Server:
    """A running S3 server.

    Attributes
    ----------
    port : int
        Of 127.0.0.1.
    key, secret : str
        Of somebody who may do everything.
    reader, reader_secret : str
        Of somebody who may only read.
    """

    port: int
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    secret: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    reader: str = field(default_factory=lambda: secrets.token_hex(8))
    reader_secret: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    @property
    def endpoint(self) -> str:
        """Return host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the address for clients like boto3 and MLflow."""
        return f"http://{self.endpoint}"

    def uri(self, path: str) -> str:
        """Return the address of ``bucket/prefix`` for ``run.storage``."""
        return f"s3://{path}?endpoint_override={self.endpoint}&scheme=http&region={REGION}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables with the credentials."""
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def filesystem(self) -> fs.S3FileSystem:
        """Return a file system of somebody who may do everything, buckets included."""
        return fs.S3FileSystem(
            access_key=self.key, secret_key=self.secret, endpoint_override=self.endpoint,
            scheme="http", region=REGION, allow_bucket_creation=True,
        )  # fmt: skip

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its name."""
        self.filesystem().create_dir(name)
        return name

    def _identities(self) -> Mapping[str, object]:
        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        people = (
            ("writer", self.key, self.secret, everything),
            ("reader", self.reader, self.reader_secret, ["Read", "List"]),
        )
        return {
            "identities": [
                {
                    "name": name,
                    "credentials": [{"accessKey": key, "secretKey": secret}],
                    "actions": actions,
                }
                for name, key, secret, actions in people
            ]
        }


@contextmanager
def s3_server(folder: Path, seconds: float = 60, volumes: int = 500) -> Iterator[S3Server]:
    """Run an S3 server that keeps its objects in a folder, until the block ends.

    Parameters
    ----------
    folder : Path
        An empty folder; secrets, objects and the server's log are in it.
    seconds : float
        How long to wait for it.
    volumes : int
        Parts of its store; a bucket takes seven at once, and with none left it is full.
    """
    port, *others = free_ports(8)
    server = S3Server(port)
    names = (
        "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
        "filer.port", "filer.port.grpc",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    secret_file = folder / "s3.json"
    secret_file.touch(mode=0o600)
    secret_file.write_text(json.dumps(server._identities()), encoding="utf-8")
    (folder / "objects").mkdir()
    command = [
        str(WEED), "server", f"-dir={folder / 'objects'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", f"-s3.config={secret_file}", f"-s3.port={port}",
        *(f"-{name}={number}" for name, number in zip(names, others, strict=True)),
        # Catalogues of tables, on ports of their own: two servers would want the same.
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64", f"-volume.max={volumes}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder
        )
    try:
        _wait(server, process, folder / "log", time.monotonic() + seconds)
        yield server
    finally:
        # It takes ten seconds to end of itself, for objects that nobody wants any more.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(server: S3Server, process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    """Wait until an object can be written: the door opens before the rooms behind it are ready."""
    while True:
        try:
            filesystem = server.filesystem()
            filesystem.create_dir("ready")
            with filesystem.open_output_stream("ready/object") as stream:
                stream.write(b"ready")
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"no S3 server: {error}\n{tail}") from error
            time.sleep(0.2)
