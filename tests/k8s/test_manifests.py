"""The manifests against the schemas of the objects they make, and against each other."""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASE = ROOT / "k8s" / "base"
CRDS = ROOT.parent / "shared" / "k8s" / "crds"
KUBERNETES = "1.32"


def documents() -> list[dict[str, Any]]:
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    return [
        document
        for name in kustomization["resources"]
        for document in yaml.safe_load_all((BASE / name).read_text())
    ]


def rayjob() -> dict[str, Any]:
    (job,) = (d for d in documents() if d["kind"] == "RayJob")
    return job


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


@pytest.fixture(scope="module")
def check_rayjob() -> jsonschema.Draft202012Validator:
    if not CRDS.is_dir():
        message = f"no KubeRay schemas at {CRDS}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    crd = yaml.safe_load((CRDS / "ray.io_rayjobs.yaml").read_text())
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    # A CRD says no more of metadata than that it is an object.
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return jsonschema.Draft202012Validator(schema)


def test_kustomization_names_every_manifest() -> None:
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    files = {p.name for p in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files


def test_rayjob_fits_the_schema(check_rayjob: jsonschema.Draft202012Validator) -> None:
    check_rayjob.validate(rayjob())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("spec", "shutdownAfterJobFinish"), True, "shutdownAfterJobFinish"),
        (("spec", "ttlSecondsAfterFinished"), "soon", "is not of type 'integer'"),
        (("spec", "submissionMode"), 3, "3 is not"),
        (("spec", "rayClusterSpec", "rayversion"), "2.60.0", "rayversion"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "password", "password"),
        (
            ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "runAsUser"),
            1000,
            "runAsUser",
        ),
    ],
)
def test_a_slip_in_the_rayjob_is_caught(
    check_rayjob: jsonschema.Draft202012Validator, path: tuple[str, ...], value: Any, message: str
) -> None:
    document = copy.deepcopy(rayjob())
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=message):
        check_rayjob.validate(document)


CORE = [d for d in documents() if d["kind"] != "RayJob"]


@pytest.mark.parametrize("document", CORE, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_core_object_fits_its_schema(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PersistentVolumeClaim"])
def test_a_slip_in_a_core_object_is_caught(kind: str) -> None:
    document = copy.deepcopy(next(d for d in CORE if d["kind"] == kind))
    document["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def pod_specs() -> Iterator[tuple[str, dict[str, Any]]]:
    job = rayjob()["spec"]
    cluster = job["rayClusterSpec"]
    yield "submitter", job["submitterPodTemplate"]["spec"]
    yield "head", cluster["headGroupSpec"]["template"]["spec"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]["spec"]
    for document in CORE:
        if document["kind"] == "Deployment":
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


PODS = dict(pod_specs())


@pytest.mark.parametrize("name", PODS)
def test_pods_run_without_privileges(name: str) -> None:
    spec = PODS[name]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert "memory" in container["resources"]["requests"]


@pytest.mark.parametrize("name", PODS)
def test_mounts_and_claims_exist(name: str) -> None:
    spec = PODS[name]
    claims = {d["metadata"]["name"] for d in CORE if d["kind"] == "PersistentVolumeClaim"}
    volumes = {v["name"]: v for v in spec.get("volumes", [])}
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
    for container in spec["containers"]:
        assert {m["name"] for m in container.get("volumeMounts", [])} <= set(volumes)


def test_the_cluster_goes_when_the_job_ends() -> None:
    spec = rayjob()["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0


def test_entrypoint_names_a_job_and_a_configuration_of_the_repository() -> None:
    words = rayjob()["spec"]["entrypoint"].split()
    assert words[0] == "python"
    assert (ROOT / words[1]).is_file()
    assert (ROOT / words[words.index("--config") + 1]).is_file()


def test_one_ray_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = (d for d in project["dependencies"] if re.match(r"ray\b", d))
    wanted = ray.partition("==")[2]
    assert wanted, "pyproject.toml must pin Ray exactly: cluster and job speak one version"
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={wanted}" in constraints
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == wanted
    # The image takes Ray from these two files and from nowhere else.
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "pip install --constraint constraints.txt ." in dockerfile
    assert not re.search(r"ray==|rayproject/", dockerfile)


def test_one_image_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = {c["image"] for spec in PODS.values() for c in spec["containers"]}
    compose = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())
    images |= {service["image"] for service in compose["services"].values()}
    assert images == {f"geminga:{project['version']}", f"geminga-mlflow:{project['version']}"}


def test_services_select_the_pods_that_serve_them() -> None:
    labels = [
        d["spec"]["template"]["metadata"]["labels"] for d in CORE if d["kind"] == "Deployment"
    ]
    for service in (d for d in CORE if d["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        assert any(selector <= pod.items() for pod in labels)
        name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
        assert f"http://{name}:{port}" in rayjob()["spec"]["entrypoint"]


def test_compose_listens_on_this_machine_only() -> None:
    compose = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])
        assert (ROOT / "mlflow" / service["build"]["context"] / "mlflow" / "Dockerfile").is_file()
