"""The NetworkPolicies let pass what the table of flows in docs/security.md has, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from smpcfl.base.config import Settings
from smpcfl.peer import serve_peer
from smpcfl.registry import serve_registry
from support.flows import ELSEWHERE, NO_FLOW, Flow, let_through, seen_from, table
from support.manifests import OVERLAYS, Manifest, of_kind, rendered

JOB = "authority"
API_SERVER = "API server"
HERE = {"federation": {"registry", "aggregator"}, "peer-only": {"peer"}}


def expected(overlay: str) -> set[Flow]:
    flows = table()
    if overlay in HERE:
        return set(seen_from(HERE[overlay], flows))
    if overlay == "demo":  # no selector names the API server
        return {flow._replace(to=ELSEWHERE) if flow.to == API_SERVER else flow for flow in flows}
    return {flow for flow in flows if flow.source != JOB}


@pytest.mark.commands
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_passes_is_what_the_table_has(overlay: str) -> None:
    assert let_through(rendered(overlay)) == expected(overlay)


@pytest.mark.commands
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_that_no_other_policy_names_is_shut_in(overlay: str) -> None:
    assert policy(rendered(overlay), "default-deny") == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_the_table_has_the_ports_of_the_services() -> None:
    ports = {
        (flow.to, flow.port) for flow in table() if flow.to in ("registry", "aggregator", "peer")
    }
    registry = {serve_registry.PORT, Settings.enrolment_port, Settings.targets_port}
    assert ports == {
        *(("registry", port) for port in (*registry, Settings.metrics_port)),
        *(("aggregator", port) for port in (Settings.superlink_port, Settings.metrics_port)),
        *(("peer", port) for port in (serve_peer.PORT, Settings.metrics_port)),
    }


def policy(manifests: list[Manifest], name: str) -> Any:
    (found,) = (
        item for item in of_kind(manifests, "NetworkPolicy") if item["metadata"]["name"] == name
    )
    return found["spec"]


@pytest.mark.commands
def test_a_policy_that_lets_more_or_less_pass_is_noticed() -> None:
    whole = rendered("production")
    planted = copy.deepcopy(whole)
    policy(planted, "peer")["ingress"][0].pop("from")
    assert Flow(ELSEWHERE, "peer", 9300, "TCP") in let_through(planted) - let_through(whole)

    planted = copy.deepcopy(whole)
    policy(planted, "peer")["egress"].append({})
    more = let_through(planted) - let_through(whole)
    assert Flow("peer", ELSEWHERE, NO_FLOW, "UDP") in more

    planted = copy.deepcopy(whole)
    del policy(planted, "aggregator")["egress"][1]
    assert let_through(whole) - let_through(planted) == {Flow("aggregator", "peer", 9300, "TCP")}

    planted = [item for item in whole if item["metadata"]["name"] != "default-deny"]
    assert Flow("registry", ELSEWHERE, NO_FLOW, "TCP") not in let_through(planted)
    planted = [item for item in planted if item["metadata"]["name"] != "dns"]
    assert Flow("registry", ELSEWHERE, NO_FLOW, "TCP") in let_through(planted)
