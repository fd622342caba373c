"""Addresses of storage, and what is refused before anything is done."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from geminga import storage
from geminga.config import Config, load_config
from geminga.errors import InputError
from geminga.storage.address import Address, parse

TINY = Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml"


def test_a_folder() -> None:
    assert parse("file:///data/my%20runs/").path == "/data/my runs"
    assert storage.open_root("file:///data/runs", "out") == Path("/data/runs")
    assert storage.open_root(None, "out") == Path("out")


def test_an_object_store() -> None:
    uri = "s3://bkt/a//b/?endpoint_override=127.0.0.1:8333&scheme=http&region=us-east-1"
    expected = Address(uri, "s3", "bkt/a/b", "127.0.0.1:8333", "http", "us-east-1")
    assert parse(uri) == expected
    assert expected.bucket == "bkt"
    assert expected.place == "s3://bkt/a/b"
    assert parse("s3://bkt").path == "bkt"
    assert parse("s3://bkt").transport == "https"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s4://bkt/x", "scheme 's4'"),
        ("gs://bkt/x", "scheme 'gs'"),
        ("/data/runs", "has no scheme"),
        ("s3//bkt/x", "has no scheme"),
        ("s3:/bkt/x", "has no '//' after s3:"),
        ("file:runs", "has no '//' after file:"),
        ("file://runs/here", "is no absolute folder; use file:///runs/here"),
        ("file:///runs/../x", "has '.' or '..' in it"),
        ("file:///runs?scheme=http", "takes none"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://127.0.0.1:8333/bkt", "a server goes into"),
        ("s3://Big_Bucket/x", "'Big_Bucket' is no name of a bucket"),
        ("s3://bkt/x?endpoint=127.0.0.1", "unknown option 'endpoint'"),
        ("s3://bkt/x?scheme=htp", "use scheme=http or scheme=https"),
        ("s3://bkt/x?scheme", "write .key=value"),
        ("s3://bkt/x?region=", "has not one value"),
        ("s3://bkt/x?region=a&region=b", "has not one value"),
        ("s3://bkt/x?endpoint_override=http://h:1", "use HOST:PORT"),
        ("s3://bkt/x#part", "'#'"),
        ("s3://[bkt/x", "is no address"),
    ],
)
def test_a_typo_is_found_when_the_settings_are_read(uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_config(TINY, [f"run.storage={uri}"])
    assert str(error.value).count("\n") == 0
    assert "run.storage" in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKEY:hushhush@bkt/x",
        "s3://AKEY:hush/hush@bkt/x",  # a secret may hold a slash
        "s3://bkt/x?access_key=AKEY&secret_key=hushhush",
        "s3://bkt/x?region&secret_key=hushhush",
        "s3://bkt/../x?secret_key=hushhush",
        "s3://bkt/x?secret_key=hushhush#part",
        "s3://bkt/x?endpoint_override=http://AKEY:hushhush@h:1",
        "gs://AKEY:hushhush@bkt/x",
        "gs://bkt/x?secret_key=hushhush",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(InputError) as error:
        parse(uri)
    assert "hush" not in str(error.value)
    assert "AKEY" not in str(error.value)


def test_credentials_in_an_address_belong_into_the_environment() -> None:
    for uri in ("s3://AKEY:hush/hush@bkt/x", "s3://AKEY:hush@bkt/x"):
        with pytest.raises(InputError, match="set AWS_ACCESS_KEY_ID"):
            parse(uri)


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    with pytest.raises(InputError, match="no credentials: AWS_SECRET_ACCESS_KEY not set"):
        storage.open_root("s3://bkt/x", "out", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_where_runs_are_kept_changes_no_result(config2: Config) -> None:
    run = config2.run.model_copy(update={"storage": "s3://bkt/x", "mirror": "/scratch"})
    assert config2.model_copy(update={"run": run}).hash() == config2.hash()


def test_a_mirror_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(storage.VARIABLE, "")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"choose another with run\.mirror"):
        storage.open_root("s3://bkt/x", "out", str(tmp_path / "file"))


def test_a_mirror_that_somebody_else_may_change_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everybody writes into the temporary folder, and can guess the name of a mirror in it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(storage.VARIABLE, "")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    root = storage.open_root("s3://bkt/x", "out")
    assert root.parent.stat().st_mode & 0o777 == 0o700
    assert storage.place(root / "a") == "s3://bkt/x/a"
    storage._open_mirror.cache_clear()
    home = tmp_path / "home"
    root.rename(home)
    root.symlink_to(home)
    for use in (
        lambda: storage.open_root("s3://bkt/x", "out"),
        lambda: storage.exists(root / "a"),
    ):
        with pytest.raises(InputError, match=r"bkt-\w+: belongs to another user, or is a link"):
            use()
    # The folder around it is another user's, the mirror itself one's own.
    root.unlink()
    home.rename(root)
    uid = os.getuid()
    status = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        found = list(status(path))
        if path == root.parent:
            found[stat.ST_UID] = uid + 1
        return os.stat_result(found)

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(InputError, match=rf"geminga-{uid}: belongs to another user"):
        storage.exists(root / "a")


def test_two_addresses_have_two_mirrors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(storage.VARIABLE, "")
    first = storage.open_root("s3://bkt/x", "out", str(tmp_path))
    second = storage.open_root("s3://bkt/y", "out", str(tmp_path))
    assert first != second
    assert storage.place(first / "tiny") == "s3://bkt/x/tiny"
    assert storage.place(second / "tiny") == "s3://bkt/y/tiny"
    handed_on = storage.environment()[storage.VARIABLE]
    assert "bkt/x" in handed_on
    assert "secret" not in handed_on
