"""What the overlays of deploy/kubernetes come to: valid, confined, and with all that they refer to."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import kubernetes_validate
import pytest
from kubernetes_validate.utils import all_versions

from smpcfl import __version__
from smpcfl.base import config
from smpcfl.base.state import AuthorityFolder
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from support.manifests import (
    OVERLAYS,
    ROOT,
    Manifest,
    containers,
    environment,
    labels,
    names,
    of_kind,
    pod,
    references,
    rendered,
    selects,
    service,
    services,
    workloads,
)

DEPLOY = ROOT / "docs/deploy.md"
VERSIONS = ("1.35", "1.36", "1.37")
IN_EVERY_NAMESPACE = {("ConfigMap", "kube-root-ca.crt")}
# What the restricted Pod Security Standard allows, of what is in use here.
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}

pytestmark = pytest.mark.commands
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def test_the_docs_name_the_versions() -> None:
    assert set(VERSIONS) <= {version.rpartition(".")[0] for version in all_versions()}
    assert f"Kubernetes {', '.join(VERSIONS[:-1])} and {VERSIONS[-1]}" in " ".join(
        DEPLOY.read_text().split()
    )


@pytest.mark.parametrize(("overlay", "version"), [*product(OVERLAYS, VERSIONS)])
def test_valid_in_recent_versions(overlay: str, version: str) -> None:
    for manifest in rendered(overlay):
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_a_misspelt_field_is_noticed() -> None:
    (peer,) = of_kind(rendered("demo"), "StatefulSet")
    wrong = {**peer, "spec": {**peer["spec"], "podManagmentPolicy": "Parallel"}}
    with pytest.raises(kubernetes_validate.ValidationError, match="podManagmentPolicy"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@overlays
def test_images_have_the_version_as_their_tag(overlay: str) -> None:
    images = [
        item["image"] for each in workloads(rendered(overlay)) for item in containers(pod(each))
    ]
    assert images
    for image in images:
        assert re.fullmatch(
            rf"(?:registry\.example\.org/)?smpcfl-(registry|aggregator|peer):{re.escape(__version__)}",
            image,
        )


def trouble(spec: Manifest) -> list[str]:
    """Where a pod is not as confined as the restricted Pod Security Standard wants, and we do."""
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    security = spec["securityContext"]
    if (security.get("runAsNonRoot"), security.get("runAsUser")) != (True, 10001):
        found.append("user")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("seccompProfile")
    for volume in spec["volumes"]:
        if not volume.keys() - {"name"} <= VOLUMES:
            found.append(f"volume {volume['name']}")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("automountServiceAccountToken")
    for container in containers(spec):
        if container["securityContext"] != {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }:
            found.append(f"securityContext of {container['name']}")
        if "memory" not in container["resources"]["limits"]:
            found.append(f"memory of {container['name']}")
        found += [f"hostPort {port}" for port in container.get("ports", []) if "hostPort" in port]
    return found


@overlays
def test_pods_are_confined(overlay: str) -> None:
    manifests = rendered(overlay)
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for workload in workloads(manifests):
        assert trouble(pod(workload)) == []
    for workload in services(manifests):
        # A volume's own folder is root's: `smpcfl token` wants the registry's state to be its user's.
        assert environment(service(workload), manifests)["SMPCFL_STATE"].startswith(
            "/var/lib/smpcfl/"
        )


@overlays
def test_the_api_server_hears_of_one_container_alone(overlay: str) -> None:
    manifests = rendered(overlay)
    holders = {
        (workload["metadata"]["name"], container["name"])
        for workload in workloads(manifests)
        for container in containers(pod(workload))
        for mount in container["volumeMounts"]
        if any(
            "serviceAccountToken" in source
            for volume in pod(workload)["volumes"]
            if volume["name"] == mount["name"]
            for source in volume.get("projected", {}).get("sources", [])
        )
    }
    roles = of_kind(manifests, "Role", "ClusterRole")
    if overlay == "demo":
        assert holders == {("authority", "fill-secrets")}
        (role,) = roles
        (rule,) = role["rules"]
        assert (rule["resources"], rule["verbs"]) == (["secrets"], ["get", "patch"])
        assert set(rule["resourceNames"]) == names(manifests, "Secret")
    else:
        assert not holders
        assert not roles
        assert not of_kind(manifests, "Secret", "ServiceAccount")


def mounted(container: Manifest) -> dict[str, str]:
    """The name of the volume at each path."""
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("overlay", ["demo", "production", "federation"])
def test_a_registry_is_given_its_ca_and_makes_no_copy(overlay: str) -> None:
    manifests = rendered(overlay)
    (registry,) = (each for each in services(manifests) if each["metadata"]["name"] == "registry")
    (container,) = containers(pod(registry))
    folder = environment(container, manifests)["SMPCFL_AUTHORITY"]
    (secret,) = (
        volume["secret"]
        for volume in pod(registry)["volumes"]
        if volume["name"] == mounted(container)[folder]
    )
    there = {item["path"] for item in secret.get("items", [])}
    given = AuthorityFolder(Path(folder))
    if overlay == "demo":
        tokens = [given.token(role) for role in (Role.PEER, Role.AGGREGATOR)]
        assert there == {path.name for path in (given.ca_key, given.ca, *tokens)}
    else:
        assert (secret["secretName"], there) == ("registry-ca", set())
    # The registry writes join folders only for tokens that it is not given.
    assert (str(config.Settings.join) in mounted(container)) == (overlay != "demo")


def test_the_job_hands_on_what_it_makes_and_makes_way_for_the_next() -> None:
    manifests = rendered("demo")
    (job,) = of_kind(manifests, "Job")
    assert job["spec"]["ttlSecondsAfterFinished"] <= 60, "its template cannot be changed"
    (make,) = pod(job)["initContainers"]
    (fill,) = pod(job)["containers"]
    command, folder = make["args"]
    assert command == "authority"
    assert mounted(make)[folder] == mounted(fill)[folder] == "made"
    _, script = fill["command"]
    volumes = {volume["name"]: volume for volume in pod(job)["volumes"]}
    source = volumes[mounted(fill)[str(Path(script).parent)]]["configMap"]["name"]
    (config_map,) = (
        item for item in of_kind(manifests, "ConfigMap") if item["metadata"]["name"] == source
    )
    text = config_map["data"][Path(script).name]
    for constant, path in (("MADE", folder), ("RIGHTS", "/api")):
        assert f'{constant} = Path("{path}")' in text
        assert path in mounted(fill)


@overlays
def test_everything_that_is_referred_to_is_there_or_the_operators_to_make(overlay: str) -> None:
    manifests = rendered(overlay)
    there = {(item["kind"], item["metadata"]["name"]) for item in manifests} | IN_EVERY_NAMESPACE
    documented = set(re.findall(r"create secret generic ([a-z-]+)", DEPLOY.read_text()))
    for workload in workloads(manifests):
        needed = set(references(pod(workload)))
        for kind, name in needed - there:
            assert kind == "Secret", f"{overlay}: {kind} {name}"
            assert name in documented, f"{overlay}: {name}"
        mounts = {
            mount["name"] for item in containers(pod(workload)) for mount in item["volumeMounts"]
        }
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes = [*pod(workload)["volumes"], *(claim["metadata"] for claim in claims)]
        assert mounts == {volume["name"] for volume in volumes}
        if workload["kind"] == "StatefulSet":
            assert ("Service", workload["spec"]["serviceName"]) in there
    for binding in of_kind(manifests, "RoleBinding"):
        assert ("Role", binding["roleRef"]["name"]) in there
        assert all((item["kind"], item["name"]) in there for item in binding["subjects"])


@overlays
def test_selectors_find_pods(overlay: str) -> None:
    manifests = rendered(overlay)
    pods = [labels(workload) for workload in workloads(manifests)]
    for workload in services(manifests):
        assert selects(workload["spec"]["selector"], labels(workload))
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        assert any(selects(budget["spec"]["selector"], each) for each in pods)
    for policy in of_kind(manifests, "NetworkPolicy"):
        assert any(selects(policy["spec"]["podSelector"], each) for each in pods), policy[
            "metadata"
        ]
    for item in of_kind(manifests, "Service"):
        chosen = [
            workload
            for workload in workloads(manifests)
            if selects({"matchLabels": item["spec"]["selector"]}, labels(workload))
        ]
        assert len(chosen) == 1
        open_ports = {port["containerPort"] for port in service(chosen[0])["ports"]}
        assert {port["port"] for port in item["spec"]["ports"]} <= open_ports


@overlays
def test_probes_ask_ports_that_are_there(overlay: str) -> None:
    for workload in services(rendered(overlay)):
        container = service(workload)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert container["startupProbe"]["tcpSocket"]["port"] in ports
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/metrics", "port": "metrics"}
        assert ports["metrics"] == config.Settings.metrics_port


@overlays
def test_services_take_their_settings(overlay: str) -> None:
    manifests = rendered(overlay)
    for workload in workloads(manifests):
        for container in containers(pod(workload)):
            given = environment(container, manifests)
            given["SMPCFL_PEER_ID"] = given.get("SMPCFL_PEER_ID") or "peer-0"
            filled = {key: _filled(value, given) for key, value in given.items()}
            # An unknown variable, or a value out of range, is an error.
            settings = config.load(filled, {})
            assert certificates.is_name(settings.peer_id)
        assert pod(workload)["enableServiceLinks"] is False


def _filled(value: str, given: dict[str, str]) -> str:
    """As the kubelet does it, with a name for each field of the pod."""
    return re.sub(r"\$\((\w+)\)", lambda found: given[found[1]] or "field", value)


def test_a_peers_address_is_the_name_that_its_service_gives() -> None:
    manifests = rendered("demo")
    (peers,) = of_kind(manifests, "StatefulSet")
    (headless,) = (
        item
        for item in of_kind(manifests, "Service")
        if item["metadata"]["name"] == peers["spec"]["serviceName"]
    )
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"]
    address = environment(service(peers), manifests)["SMPCFL_ADVERTISE"]
    assert address == f"$(SMPCFL_PEER_ID).{headless['metadata']['name']}.$(NAMESPACE).svc"


def test_default_names_of_registry_and_aggregator_are_those_of_their_services() -> None:
    manifests = rendered("demo")
    ports = {
        f"{item['metadata']['name']}:{port['port']}"
        for item in of_kind(manifests, "Service")
        for port in item["spec"]["ports"]
    }
    defaults = config.Settings()
    assert {defaults.registry, defaults.enrolment, defaults.aggregator} <= ports
