"""The Kubernetes manifests as `kubectl kustomize` renders them; no cluster is needed for that."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("demo", "production", "federation", "peer-only")
_LEAST_MINOR = 27  # the first kubectl with version 5 of kustomize
Manifest = dict[str, Any]


@functools.cache
def missing() -> str:
    """Why nothing can be rendered here; empty if it can."""
    if shutil.which("kubectl") is None:
        return "no kubectl command"
    version = json.loads(_kubectl("version", "--client", "-o", "json"))["clientVersion"]
    if int(version["minor"].rstrip("+")) < _LEAST_MINOR:
        return f"kubectl {version['gitVersion']} is older than 1.{_LEAST_MINOR}"
    return ""


def rendered(overlay: str) -> list[Manifest]:
    """Everything in that overlay; skips the test that asks if there is no kubectl for it."""
    return build(FOLDER / "overlays" / overlay)


@functools.cache
def build(folder: Path) -> list[Manifest]:
    if reason := missing():
        pytest.skip(reason)
    return list(yaml.safe_load_all(_kubectl("kustomize", str(folder))))


def _kubectl(*arguments: str) -> str:
    done = subprocess.run(
        ["kubectl", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def names(manifests: list[Manifest], *kinds: str) -> set[str]:
    return {manifest["metadata"]["name"] for manifest in of_kind(manifests, *kinds)}


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    """What makes pods."""
    found = [item for item in manifests if "template" in item.get("spec", {})]
    assert found == of_kind(manifests, "Deployment", "StatefulSet", "Job")
    return found


def services(manifests: list[Manifest]) -> list[Manifest]:
    """Of these, what runs on and on: registry, aggregator and peers."""
    return of_kind(workloads(manifests), "Deployment", "StatefulSet")


def pod(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def labels(workload: Manifest) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def selects(selector: Mapping[str, Any], given: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels. Of expressions, `In` alone is in use here."""
    assert not selector.keys() - {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert all(item["operator"] == "In" for item in expressions)
    return all(
        given.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    ) and all(given.get(item["key"]) in item["values"] for item in expressions)


def service(workload: Manifest) -> Manifest:
    """The container of the service itself."""
    name = workload["metadata"]["name"]
    found: list[Manifest] = [item for item in pod(workload)["containers"] if item["name"] == name]
    (container,) = found
    return container


def references(spec: Manifest) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that a pod needs to be there."""
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec["volumes"]:
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if "secret" in source:
                yield "Secret", source["secret"].get("secretName") or source["secret"]["name"]
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            if "persistentVolumeClaim" in source:
                yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]
    for container in containers(spec):
        for source in container.get("envFrom", []):
            yield from _of_environment(source, "Ref")
        for variable in container.get("env", []):
            yield from _of_environment(variable.get("valueFrom", {}), "KeyRef")


def _of_environment(source: Manifest, suffix: str) -> Iterator[tuple[str, str]]:
    for kind in ("Secret", "ConfigMap"):
        key = kind[0].lower() + kind[1:] + suffix
        if key in source:
            yield kind, source[key]["name"]


def environment(container: Manifest, manifests: list[Manifest]) -> dict[str, str]:
    """What the container starts with; a field of the pod is empty here."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        (settings,) = (
            item
            for item in of_kind(manifests, "ConfigMap")
            if item["metadata"]["name"] == source["configMapRef"]["name"]
        )
        found |= settings["data"]
    return found | {item["name"]: item.get("value", "") for item in container.get("env", [])}
