"""The scripts beside the manifests: secrets, and the nightly update of the catalogue."""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
UPDATE = ROOT / "k8s" / "base" / "update-catalogue.sh"
CONFIG = "/app/jobs/configs/front.yaml"

Made = Callable[[Path], dict[str, Any]]


def values(made: dict[str, Any], name: str) -> dict[str, str]:
    return {
        key: base64.b64decode(value).decode()
        for key, value in made["secrets"][name]["data"].items()
    }


def test_secrets_are_drawn_and_agree_with_each_other(make_secrets: Made, tmp_path: Path) -> None:
    made = make_secrets(tmp_path / "a")
    store, mlflow = values(made, "geminga-store"), values(made, "geminga-mlflow")
    identities = {
        identity["name"]: identity for identity in json.loads(store["s3.json"])["identities"]
    }
    for who in ("admin", "runs", "mlflow"):
        (credentials,) = identities[who]["credentials"]
        assert credentials == {
            "accessKey": store[f"{who}-access-key"], "secretKey": store[f"{who}-secret-key"]
        }  # fmt: skip
    # Each may touch its own bucket alone.
    assert {a.partition(":")[2] for a in identities["runs"]["actions"]} == {"geminga-runs"}
    assert {a.partition(":")[2] for a in identities["mlflow"]["actions"]} == {"geminga-mlflow"}
    settings = configparser.ConfigParser()
    settings.read_string(mlflow["basic_auth.ini"])
    password = values(made, "geminga-postgres")["password"]
    assert f":{password}@geminga-postgres:5432/" in settings["mlflow"]["database_uri"]
    assert settings["mlflow"]["admin_username"] == mlflow["username"]
    assert settings["mlflow"]["admin_password"] == mlflow["password"]
    drawn = [
        value
        for name in made["secrets"]
        for key, value in values(made, name).items()
        if key not in ("username", "s3.json", "basic_auth.ini")
    ]
    assert len(set(drawn)) == len(drawn)
    assert all(len(value) == 48 for value in drawn)
    assert not any(value in made["output"] for value in drawn)
    again = make_secrets(tmp_path / "b")
    assert values(again, "geminga-ray") != values(made, "geminga-ray")


def test_secrets_that_are_there_are_kept(make_secrets: Made, tmp_path: Path) -> None:
    first = make_secrets(tmp_path)
    second = make_secrets(tmp_path)
    assert second["secrets"] == first["secrets"]
    assert second["output"].count(": kept") == 5
    # A database whose password is known gets settings of MLflow that fit it.
    (tmp_path / "geminga-mlflow").unlink()
    third = make_secrets(tmp_path)
    password = values(first, "geminga-postgres")["password"]
    assert f":{password}@" in values(third, "geminga-mlflow")["basic_auth.ini"]


@pytest.mark.parametrize("document", ["docs/operations.md", "k8s/README.md"])
def test_documents_name_what_is_there(document: str, secret_keys: dict[str, set[str]]) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"(?<![\w/])(?:k8s|tests|scripts|mlflow|jobs|docs)/[\w./-]*[\w]", text))
    assert len(named) > 3
    assert not [name for name in named if not (ROOT / name).exists()]
    for name in re.findall(r"^ *\| `(geminga-[a-z]+)` \| `", text, re.MULTILINE):
        assert name in secret_keys
    for name, keys in secret_keys.items():
        if document.startswith("docs"):
            (row,) = re.findall(rf"\| `{name}` \| (.*) \|", text)
            for key in keys:
                assert key in row or key.partition("-")[2] in row


FAKES = {
    # Runs what is submitted, as the head would.
    "ray": """#!/usr/bin/env bash
case "$2" in
submit)
  echo "$*" >> "$STATE/submitted"
  if [[ -e "$STATE/slow" ]]; then exec sleep 60; fi
  while [[ $1 != -- ]]; do shift; done
  shift
  "$@"
  ;;
stop) echo "${*: -1}" > "$STATE/stopped" ;;
esac
""",
    "python": """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$STATE/call.$(basename "$1")"
case "$1" in
*detect.py) mkdir -p "$STATE/data/catalogue" && touch "$STATE/data/catalogue/catalog.fits" ;;
*ingest.py)
  if [[ -e "$STATE/broken" ]]; then exit 2; fi
  mkdir -p "$STATE/data/ingested/counts"
  touch "$STATE/data/ingested/counts/"{counts_a.fits,counts_b.fits,provenance.json} ;;
esac
""",
}


class Update:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "data" / "events").mkdir(parents=True)
        for name, text in FAKES.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.script = folder / "update.sh"
        self.script.write_text(UPDATE.read_text().replace("/data/", f"{folder}/data/"))
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STATE": str(folder),
            "JOB_NAME": "update-catalogue-1", "RAY_HEAD": "http://geminga-head-svc:8265",
            "CONFIG": CONFIG,
        }  # fmt: skip

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.script)],
            capture_output=True, text=True, check=False, env=self.environment,
        )  # fmt: skip

    def call(self, script: str) -> list[str] | None:
        path = self.folder / f"call.{script}"
        if not path.exists():
            return None
        words = path.read_text().splitlines()
        path.unlink()
        return ["python", *words]


@pytest.fixture
def update(tmp_path: Path) -> Update:
    return Update(tmp_path)


def test_no_event_files_is_no_error(update: Update) -> None:
    done = update.run()
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    assert update.call("ingest.py") is None


def test_update_counts_what_came_and_renews_the_catalogue(update: Update, checks: Any) -> None:
    for name in ("week1.fits", "week 2.fits.gz", "notes.txt"):
        (update.folder / "data" / "events" / name).touch()
    done = update.run()
    assert done.returncode == 0, done.stderr
    submitted = (update.folder / "submitted").read_text()
    assert "--submission-id update-catalogue-1" in submitted
    assert "--address http://geminga-head-svc:8265" in submitted
    # Without these, Ray would look for a worker node to run the driver on.
    assert "--entrypoint-num-cpus" not in submitted
    config, options = checks.parse_words(update.call("ingest.py"))
    assert config.name == "front"
    assert [path.name for path in options["events"]] == ["week1.fits", "week 2.fits.gz"]
    # At night there may be no worker: stages ask for as many cores as one has.
    (cluster,) = (d for d in checks.render("cpu") if d["kind"] == "RayCluster")
    worker = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    cores = int(worker["resources"]["requests"]["cpu"])
    assert config.run.workers == cores
    ingested = options["out"]
    _, options = checks.parse_words(update.call("detect.py"))
    assert options["overrides"] == [f"run.workers={cores}"]
    assert [path.parent.parent for path in options["counts"]] == [ingested, ingested]
    assert options["exposure"] == ["builtin"]
    assert options["out"].name == "catalogue"


def test_update_puts_aside_what_it_counted(update: Update) -> None:
    inbox = update.folder / "data" / "events"
    (inbox / "week1.fits").touch()
    assert update.run().returncode == 0
    assert [p.name for p in (inbox / "counted").iterdir()] == ["week1.fits"]
    assert not list(inbox.glob("*.fits"))


def test_update_leaves_a_catalogue_that_nothing_was_added_to(update: Update) -> None:
    (update.folder / "data" / "events" / "week1.fits").touch()
    assert update.run().returncode == 0
    maps = update.folder / "data" / "ingested" / "counts" / "provenance.json"
    os.utime(maps, (1, 1))
    update.call("ingest.py")
    update.call("detect.py")
    done = update.run()
    assert done.returncode == 0
    assert "no new event files" in done.stdout
    assert update.call("ingest.py") is None
    assert update.call("detect.py") is None


def test_update_searches_what_an_earlier_one_only_counted(update: Update) -> None:
    (update.folder / "data" / "events" / "week1.fits").touch()
    assert update.run().returncode == 0
    update.call("ingest.py")
    update.call("detect.py")
    os.utime(update.folder / "data" / "catalogue" / "catalog.fits", (1, 1))
    assert update.run().returncode == 0
    assert update.call("ingest.py") is None
    assert update.call("detect.py") is not None


def test_update_that_cannot_read_a_file_leaves_the_catalogue(update: Update) -> None:
    (update.folder / "data" / "events" / "week1.fits").touch()
    (update.folder / "broken").touch()
    assert update.run().returncode != 0
    assert update.call("detect.py") is None
    assert (update.folder / "data" / "events" / "week1.fits").is_file()


def test_update_that_is_stopped_stops_its_job(update: Update) -> None:
    (update.folder / "slow").touch()
    process = subprocess.Popen(
        ["bash", str(update.script)], env=update.environment, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 20
        while not (update.folder / "submitted").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert (update.folder / "stopped").read_text().strip() == "update-catalogue-1"


def test_update_needs_its_settings(update: Update) -> None:
    del update.environment["JOB_NAME"]
    done = update.run()
    assert done.returncode != 0
    assert "JOB_NAME" in done.stderr
