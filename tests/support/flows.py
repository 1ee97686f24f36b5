"""Who may open connections to whom: by the table in docs/security.md, and by a set of NetworkPolicies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from support.manifests import ROOT, Manifest, labels, of_kind, selects, workloads

SECURITY = ROOT / "docs/security.md"
ELSEWHERE = "elsewhere"
"""Any address that is no pod of ours."""
NO_FLOW = 12345
"""A port of no service: what is let through there is let through at any port."""


class Flow(NamedTuple):
    source: str
    to: str
    port: int
    protocol: str


class Party(NamedTuple):
    """A kind of pods: whether in our own namespace, its labels, and those of its namespace."""

    ours: bool
    labels: Mapping[str, str]
    namespace: Mapping[str, str]


# As they are where the Helm charts put Prometheus, and where every cluster has its DNS.
OUTSIDE = {
    "Prometheus": Party(
        False,
        {"app.kubernetes.io/name": "prometheus"},
        {"kubernetes.io/metadata.name": "monitoring"},
    ),
    "DNS": Party(False, {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}),
    ELSEWHERE: Party(False, {}, {}),
}


def table() -> list[Flow]:
    """The rows of "Flows", one flow a port and protocol."""
    section = SECURITY.read_text().split("\n## Flows\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in re.findall(r"^\|.*\|$", section, re.M)
    ]
    assert cells[0] == ["from", "to", "port", "protocol", "what", "TLS"]
    return [
        Flow(source, to, int(port), protocol)
        for source, to, ports, protocols, *_ in cells[2:]
        for port in ports.split(", ")
        for protocol in protocols.split(", ")
    ]


def let_through(manifests: list[Manifest]) -> set[Flow]:
    """By the NetworkPolicies. What may go to or come from any address is one flow, with `elsewhere`."""
    policies = [policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")]
    ours = {
        item["metadata"]["name"]: Party(True, labels(item), {}) for item in workloads(manifests)
    }
    parties = ours | OUTSIDE
    found = {
        Flow(source, to, port, protocol)
        for source, a in parties.items()
        for to, b in parties.items()
        for port in (*_ports(policies), NO_FLOW)
        for protocol in ("TCP", "UDP")
        if (a.ours or b.ours)
        and (not a.ours or _passes(policies, "Egress", a, b, port, protocol))
        and (not b.ours or _passes(policies, "Ingress", b, a, port, protocol))
    }
    implied = {flow for flow in found if ELSEWHERE not in flow and _is_implied(flow, found)}
    return found - implied


def _is_implied(flow: Flow, found: set[Flow]) -> bool:
    """Whether each end that is ours is open to any address at that port anyway."""
    return (flow.source in OUTSIDE or flow._replace(to=ELSEWHERE) in found) and (
        flow.to in OUTSIDE or flow._replace(source=ELSEWHERE) in found
    )


def _ports(policies: list[Any]) -> set[int]:
    rules = [
        rule for item in policies for side in ("ingress", "egress") for rule in item.get(side, [])
    ]
    return {port["port"] for rule in rules for port in rule.get("ports", [])}


def _passes(
    policies: list[Any], side: str, pod: Party, other: Party, port: int, protocol: str
) -> bool:
    """Whether `pod` may be called by `other` (Ingress) or call it (Egress)."""
    chosen = [
        item
        for item in policies
        if side in item["policyTypes"] and selects(item["podSelector"], pod.labels)
    ]
    return not chosen or any(
        _names(rule, side, other) and _opens(rule, port, protocol)
        for item in chosen
        for rule in item.get(side.lower(), [])
    )


def _opens(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(
        item["port"] == port and item.get("protocol", "TCP") == protocol for item in ports
    )


def _names(rule: Mapping[str, Any], side: str, other: Party) -> bool:
    named = rule.get("from" if side == "Ingress" else "to")
    return not named or any(_is(item, other) for item in named)


def _is(item: Mapping[str, Any], other: Party) -> bool:
    assert not item.keys() - {"podSelector", "namespaceSelector"}, "this test knows no more"
    if "namespaceSelector" not in item:
        return other.ours and selects(item["podSelector"], other.labels)
    if other.ours or not other.namespace:
        return False
    return selects(item["namespaceSelector"], other.namespace) and selects(
        item.get("podSelector", {}), other.labels
    )


def seen_from(here: set[str], flows: list[Flow]) -> Iterator[Flow]:
    """The flows of the services that are `here`, where the others, and other peers, are elsewhere."""
    for flow in flows:
        source, to = (
            end if end in here or end in OUTSIDE else ELSEWHERE for end in (flow.source, flow.to)
        )
        if source == to and source in here:
            yield flow._replace(to=ELSEWHERE)
            yield flow._replace(source=ELSEWHERE)
        elif here & {source, to}:
            yield flow._replace(source=source, to=to)
