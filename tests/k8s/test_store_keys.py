"""The store as the manifests start it, with the secrets that the script draws."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import S3FileSystem

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.cluster


def free_ports(number: int) -> list[int]:
    """Return ports below 55000: SeaweedFS adds 10000 for its gRPC."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < number:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            if one.getsockname()[1] < 55000:
                found.append(one.getsockname()[1])
    return found


@pytest.fixture(scope="module")
def keys(
    make_secrets: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    data = make_secrets(tmp_path_factory.mktemp("drawn"))["secrets"]["geminga-store"]["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.fixture(scope="module")
def store(
    checks: Any, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Start the command of the manifest on loopback; its S3 side has an address of its own."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(keys["s3.json"])
    (pod,) = (p for p in checks.pods(checks.render("cpu")) if p.component == "store")
    s3, *others = free_ports(4)
    moved = {
        "weed": str(Path(sys.executable).with_name("weed")),
        "-dir=/data": f"-dir={folder / 'data'}",
        "-s3.ip.bind=0.0.0.0": "-s3.ip.bind=127.0.0.2",
        "-s3.port=8333": f"-s3.port={s3}",
        "-s3.config=/etc/store/s3.json": f"-s3.config={folder / 's3.json'}",
    }
    command = pod.spec["containers"][0]["command"]
    assert set(moved) <= set(command)
    ports = zip(("master", "volume", "filer"), others, strict=True)
    words = [moved.get(w, w) for w in command] + [f"-{name}.port={port}" for name, port in ports]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.2:{s3}/healthz", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"127.0.0.2:{s3}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder)


def test_each_key_opens_its_own_bucket_alone(store: str, keys: dict[str, str]) -> None:
    def credentials(who: str) -> dict[str, str]:
        return {"access_key": keys[f"{who}-access-key"], "secret_key": keys[f"{who}-secret-key"]}

    admin = credentials("admin")
    environment = {
        **os.environ, "AWS_ACCESS_KEY_ID": admin["access_key"],
        "AWS_SECRET_ACCESS_KEY": admin["secret_key"], "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    script = ROOT / "k8s" / "base" / "make_buckets.py"
    for _ in range(2):  # as often as it is applied
        done = subprocess.run(
            [sys.executable, str(script), f"http://{store}", "geminga-runs", "geminga-mlflow"],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for who, other in (("runs", "mlflow"), ("mlflow", "runs")):
        server = S3FileSystem(
            endpoint_override=store, scheme="http", region="us-east-1", **credentials(who)
        )
        with server.open_output_stream(f"geminga-{who}/a/b") as stream:
            stream.write(b"1")
        with server.open_input_stream(f"geminga-{who}/a/b") as stream:
            assert stream.read() == b"1"
        server.delete_file(f"geminga-{who}/a/b")
        with (
            pytest.raises(OSError, match="ACCESS_DENIED"),
            server.open_output_stream(f"geminga-{other}/a/b") as stream,
        ):
            stream.write(b"1")
