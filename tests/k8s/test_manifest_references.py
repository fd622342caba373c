"""What manifests call by name is there: claims, secrets, services, pods of budgets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(
    str(p.parent.relative_to(ROOT / "k8s" / "overlays"))
    for p in (ROOT / "k8s" / "overlays").rglob("kustomization.yaml")
)
PLATFORMS = [name for name in OVERLAYS if "/" not in name]
# Addresses as http://HOST:PORT, ...@HOST:PORT, endpoint_override=HOST:PORT or redisAddress.
ADDRESS = re.compile(r"(?:://|@|=|redisAddress: )(geminga-[a-z-]+):(\d+)")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_pods_name_is_there(
    overlay: str, checks: Any, secret_keys: dict[str, set[str]]
) -> None:
    checks.references(checks.together(overlay), secret_keys)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_missing_claim_is_caught(
    overlay: str, checks: Any, secret_keys: dict[str, set[str]]
) -> None:
    documents = [d for d in checks.together(overlay) if d["kind"] != "PersistentVolumeClaim"]
    with pytest.raises(AssertionError, match="no PersistentVolumeClaim geminga-data"):
        checks.references(documents, secret_keys)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: geminga-store\n", "name: geminga-stor\n", "no secret geminga-stor"),
        ("key: runs-access-key", "key: runs-acces-key", "no key runs-acces-key"),
        ("name: shm\n", "name: shn\n", "no volume"),
    ],
)
def test_a_wrong_name_is_caught(
    overlay: str, old: str, new: str, message: str, checks: Any, secret_keys: dict[str, set[str]]
) -> None:
    documents = checks.together(overlay)
    rays = [d for d in documents if d["kind"] in ("RayJob", "RayCluster")]
    others = [d for d in documents if d not in rays]
    text = yaml.dump_all(rays, Dumper=yaml.CSafeDumper)
    assert old in text
    changed = list(yaml.load_all(text.replace(old, new, 1), yaml.CSafeLoader))
    with pytest.raises(AssertionError, match=message):
        checks.references(others + changed, secret_keys)


def services(documents: list[dict[str, Any]]) -> set[tuple[str, int]]:
    made = {
        (d["metadata"]["name"], port["port"])
        for d in documents
        if d["kind"] == "Service"
        for port in d["spec"]["ports"]
    }
    # KubeRay makes a service for the head of a cluster.
    heads = {d["metadata"]["name"] for d in documents if d["kind"] == "RayCluster"}
    return made | {(f"{name}-head-svc", 8265) for name in heads}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_addresses_are_those_of_services(overlay: str, checks: Any) -> None:
    documents = checks.together(overlay)
    text = yaml.dump_all(documents, width=10_000, Dumper=yaml.CSafeDumper)
    found = {(host, int(port)) for host, port in ADDRESS.findall(text)}
    expected = {"geminga-store", "geminga-postgres", "geminga-head-svc"}
    if "/" in overlay:
        expected.add("geminga-mlflow")
    assert expected <= {host for host, _ in found}
    assert found <= services(documents)


@pytest.mark.parametrize("overlay", PLATFORMS)
def test_services_reach_a_port_of_a_pod(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    for service in (d for d in documents if d["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        chosen = [pod for pod in checks.pods(documents) if selector <= pod.labels.items()]
        assert len(chosen) == 1, service["metadata"]["name"]
        ports = {p["name"]: p["containerPort"] for c in chosen[0].containers() for p in c["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_budgets_protect_one_kind_of_pod_each(overlay: str, checks: Any) -> None:
    documents = checks.together(overlay)
    protected = set()
    for budget in (d for d in documents if d["kind"] == "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"].items()
        chosen = [pod for pod in checks.pods(documents) if selector <= pod.labels.items()]
        assert len(chosen) == 1, budget["metadata"]["name"]
        protected.add(chosen[0].name)
    heads = {pod.name for pod in checks.pods(documents) if pod.component == "ray-head"}
    stateful = {pod.name for pod in checks.pods(documents) if pod.name.startswith("StatefulSet/")}
    assert heads | stateful | {"Deployment/geminga-mlflow"} <= protected


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_volumes_of_claims_are_written_by_whom_they_are_for(overlay: str, checks: Any) -> None:
    """Jobs read the shared volume; only the cluster of the timetable writes it."""
    for pod in checks.pods(checks.render(overlay)):
        if pod.component in ("ray-head", "ray-worker"):
            (mount,) = (
                m for c in pod.containers() for m in c["volumeMounts"] if m["name"] == "data"
            )
            assert mount.get("readOnly", False) is pod.name.startswith("RayJob/")


@pytest.mark.parametrize("overlay", PLATFORMS)
def test_the_timetable_never_runs_twice_at_once(overlay: str, checks: Any) -> None:
    (timetable,) = (d["spec"] for d in checks.render(overlay) if d["kind"] == "CronJob")
    assert timetable["concurrencyPolicy"] == "Forbid"
    assert timetable["startingDeadlineSeconds"] >= 60
    assert timetable["successfulJobsHistoryLimit"] >= 1
    assert timetable["failedJobsHistoryLimit"] >= 1
    job = timetable["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] < 24 * 3600
    assert job["backoffLimit"] == 0
    assert timetable.get("suspend", False) is (overlay == "dev")
