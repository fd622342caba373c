"""Pods without rights that they do not need, and who may talk to whom."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(
    str(p.parent.relative_to(ROOT / "k8s" / "overlays"))
    for p in (ROOT / "k8s" / "overlays").rglob("kustomization.yaml")
)
PLATFORMS = [name for name in OVERLAYS if "/" not in name]
LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_run_without_privileges(overlay: str, checks: Any) -> None:
    for pod in checks.pods(checks.render(overlay)):
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"] is True, pod.name
        assert context["runAsUser"] > 0
        assert context["runAsGroup"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
        for container in pod.containers():
            assert container["securityContext"] == LOCKED, f"{pod.name} {container['name']}"
            for volume in pod.spec.get("volumes", []):
                assert not {"hostPath", "nfs"} & set(volume)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_say_what_they_need_and_how_they_are(overlay: str, checks: Any) -> None:
    for pod in checks.pods(checks.render(overlay)):
        for container in pod.containers():
            for side in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][side]), pod.name
            mounts = {m["mountPath"] for m in container["volumeMounts"]}
            assert "/tmp" in mounts, f"{pod.name} has no place to write"
            if pod.component in ("submitter", "store-buckets"):
                continue
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert probe in container, f"{pod.name} {container['name']}: {probe}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_shared_memory_of_ray_fits_its_object_store(overlay: str, checks: Any) -> None:
    """Ray takes 0.3 of a pod's memory; if /dev/shm is smaller it goes to disk, slowly."""
    for pod in checks.pods(checks.render(overlay)):
        if pod.component in ("ray-head", "ray-worker"):
            (volume,) = (v["emptyDir"] for v in pod.spec["volumes"] if v["name"] == "shm")
            memory = pod.spec["containers"][0]["resources"]["limits"]["memory"]
            assert volume["medium"] == "Memory"
            assert int(volume["sizeLimit"][:-2]) >= 0.3 * int(memory[:-2])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_a_manifest(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    assert not [d for d in documents if d["kind"] == "Secret"]
    for pod in checks.pods(documents):
        for container in pod.containers():
            for variable in container.get("env", []):
                if re.search(r"PASSWORD|TOKEN|SECRET|_KEY", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]
            words = " ".join([*container.get("command", []), *container.get("args", [])])
            # What a command line holds, everybody on the node may read.
            assert "$(POSTGRES_PASSWORD)" not in words


@pytest.mark.parametrize("overlay", [name for name in PLATFORMS if name != "dev"])
def test_only_the_autoscaler_has_a_token_of_kubernetes(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    (cluster,) = (d["spec"] for d in documents if d["kind"] == "RayCluster")
    options = cluster["autoscalerOptions"]
    assert options["securityContext"] == LOCKED
    assert {"cpu", "memory"} <= set(options["resources"]["limits"])
    volumes = cluster["headGroupSpec"]["template"]["spec"]["volumes"]
    tokens = {v["name"] for v in volumes if "serviceAccountToken" in str(v)}
    assert tokens == {"api-token"}
    assert {m["name"] for m in options["volumeMounts"]} == {"tmp", "api-token"}
    for pod in checks.pods(documents):
        for container in pod.containers():
            assert not tokens & {m["name"] for m in container["volumeMounts"]}


def test_jobs_bring_no_token_of_kubernetes(checks: Any) -> None:
    for overlay in OVERLAYS:
        if "/" in overlay:
            assert "serviceAccountToken" not in str(checks.render(overlay))


def chosen(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return whether a selector of Kubernetes takes a pod with these labels."""
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def allows(
    policies: list[dict[str, Any]], side: str, pod: dict[str, str], peer: dict[str, str], port: int
) -> bool:
    """Return whether policies let a pod have traffic on one side with a pod of the namespace."""
    direction, end = ("Ingress", "from") if side == "ingress" else ("Egress", "to")
    mine = [p for p in policies if chosen(p["podSelector"], pod) and direction in p["policyTypes"]]
    if not mine:
        return True
    return any(
        any("podSelector" in p and "namespaceSelector" not in p and chosen(p["podSelector"], peer)
            for p in rule[end])
        and ("ports" not in rule or port in {p["port"] for p in rule["ports"]})
        for policy in mine
        for rule in policy.get(side, [])
    )  # fmt: skip


RAY = {"ray-head", "ray-worker"}
PORTS = {"mlflow": 5000, "postgres": 5432, "store": 8333, "redis": 6379}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_may_talk_to_whom(overlay: str, checks: Any) -> None:
    documents = checks.together(overlay)
    policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]
    labels = {pod.component: pod.labels for pod in checks.pods(documents)}
    ports = {22, 6379, 8265, 8888, 9333, 10001, *PORTS.values()}
    wanted = {
        # Ray chooses its ports itself.
        *((a, b, port) for a in RAY for b in RAY for port in ports),
        *((a, "mlflow", 5000) for a in RAY),
        *((a, "store", 8333) for a in (*RAY, "mlflow", "store-buckets")),
        ("mlflow", "postgres", 5432),
        ("submitter", "ray-head", 8265),
    }
    if overlay == "fault-tolerant":
        wanted.add(("ray-head", "redis", 6379))
    found = {
        (a, b, port)
        for a, b in itertools.product(labels, repeat=2)
        for port in ports
        if allows(policies, "egress", labels[a], labels[b], port)
        and allows(policies, "ingress", labels[b], labels[a], port)
    }
    assert found == wanted


@pytest.mark.parametrize("overlay", PLATFORMS)
def test_every_pod_may_ask_for_names_and_heads_for_workers(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]
    for pod in checks.pods(documents):
        mine = [
            (peer, {(p["protocol"], p["port"]) for p in rule["ports"]})
            for policy in policies
            if "Egress" in policy["policyTypes"] and chosen(policy["podSelector"], pod.labels)
            for rule in policy.get("egress", [])
            if "ports" in rule
            for peer in rule["to"]
        ]
        names = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
        }
        assert (names, {("UDP", 53), ("TCP", 53)}) in mine, pod.name
        # The autoscaler asks the API server, whose address is the cluster's own.
        api = [ports for peer, ports in mine if "ipBlock" in peer]
        assert bool(api) is (pod.component == "ray-head"), pod.name
        assert all(ports == {("TCP", 443), ("TCP", 6443)} for ports in api)


@pytest.mark.parametrize("overlay", PLATFORMS)
def test_a_stranger_reaches_nothing(overlay: str, checks: Any) -> None:
    documents = checks.render(overlay)
    policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]
    for pod in checks.pods(documents):
        for port in (22, 6379, 8265, 10001, *PORTS.values()):
            assert not allows(policies, "ingress", pod.labels, {"app": "stranger"}, port)
            assert not allows(policies, "egress", pod.labels, {"app": "stranger"}, port)


@pytest.mark.parametrize("overlay", PLATFORMS)
def test_from_outside_the_namespace_only_the_operator_comes_in(overlay: str, checks: Any) -> None:
    policies = [d["spec"] for d in checks.render(overlay) if d["kind"] == "NetworkPolicy"]
    foreign = [
        (policy["podSelector"], peer, rule["ports"])
        for policy in policies
        for rule in policy.get("ingress", [])
        for peer in rule["from"]
        if "namespaceSelector" in peer or "ipBlock" in peer
    ]
    ((selector, peer, ports),) = foreign
    assert selector == {"matchLabels": {"app.kubernetes.io/component": "ray-head"}}
    assert peer["namespaceSelector"] == {
        "matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}
    }
    assert "podSelector" in peer
    assert [p["port"] for p in ports] == [8265]


def test_the_namespace_refuses_pods_with_privileges(checks: Any) -> None:
    for overlay in PLATFORMS:
        (namespace,) = (d for d in checks.render(overlay) if d["kind"] == "Namespace")
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_store_shows_only_what_asks_for_keys(checks: Any) -> None:
    for overlay in PLATFORMS:
        (store,) = (p for p in checks.pods(checks.render(overlay)) if p.component == "store")
        words = store.spec["containers"][0]["command"]
        assert "-ip.bind=127.0.0.1" in words
        assert "-s3.ip.bind=0.0.0.0" in words
        assert "-s3.config=/etc/store/s3.json" in words
