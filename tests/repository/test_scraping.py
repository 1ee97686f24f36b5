"""What Prometheus takes from whom it scrapes, and whose word it is."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import generate_latest

from smpc.v1 import local_pb2, peer_pb2, registry_pb2
from smpcfl.base.metrics import Metrics
from smpcfl.net.rpc import RPC_OUTCOMES
from smpcfl.protocol.errors import Reason

PROMETHEUS = Path(__file__).resolve().parents[2] / "prometheus/prometheus.yml"
CONFIG: Any = yaml.safe_load(PROMETHEUS.read_text())
ADDRESS = 255  # characters of the longest one that the registry takes


def test_prometheus_configuration() -> None:
    assert all((PROMETHEUS.parent / name).is_file() for name in CONFIG["rule_files"])
    jobs = {job["job_name"]: job for job in CONFIG["scrape_configs"]}
    assert jobs.keys() == {"aggregator", "registry", "peer"}


def test_nobody_who_is_scraped_says_which_job_it_is() -> None:
    for job in CONFIG["scrape_configs"]:
        assert not job.get("honor_labels"), job["job_name"]
        assert "metric_relabel_configs" not in job
        if "http_sd_configs" in job:
            (relabel,) = job["relabel_configs"]
            assert relabel == {"target_label": "job", "replacement": job["job_name"]}


def test_scrapes_are_bounded_well_above_all_that_a_service_shows() -> None:
    metrics = Metrics("seeded")
    for reason in Reason:
        metrics.rejected.inc(reason=reason.value)
    for method, outcome in product(rpc_methods(), RPC_OUTCOMES):
        metrics.rpc_duration.observe(1.0, method=method, outcome=outcome)
    for family in metrics.families:
        if None not in family.values.values():
            names = [name for name in family.values if name != "mode"]
            for values in product(*(family.values[name] or () for name in names)):
                family.labels(**dict(zip(names, values, strict=True)))
    body = generate_latest(metrics.registry)
    samples = [line for line in body.decode().splitlines() if not line.startswith("#")]
    labels = [re.findall(r'(\w+)="([^"]*)"', line) for line in samples]
    added = 4  # by Prometheus: __name__, job, instance, peer
    names = [name for line in labels for name, _ in line]
    print(f"{len(samples)} samples, {len(body)} bytes, {max(map(len, labels)) + added} labels")
    limits = CONFIG["global"]
    assert 2 * len(samples) < limits["sample_limit"] < 20 * len(samples)
    assert re.fullmatch(r"\d+MB", limits["body_size_limit"])
    assert 2 * len(body) < int(limits["body_size_limit"][:-2]) << 20 < 40 * len(body)
    assert 2 * (max(map(len, labels)) + added) < limits["label_limit"] < 50
    assert 2 * max(map(len, names)) < limits["label_name_length_limit"] < 200
    assert 2 * ADDRESS < limits["label_value_length_limit"] < 2000
    for job in CONFIG["scrape_configs"]:
        assert not limits.keys() & job.keys(), "the limits hold for every job"


def rpc_methods() -> list[str]:
    """Of all services together."""
    modules = (peer_pb2, registry_pb2, local_pb2)
    services = [s for m in modules for s in m.DESCRIPTOR.services_by_name.values()]
    names = {method.name for service in services for method in service.methods}
    return sorted(
        names
        | {f"{method.name}.out" for method in peer_pb2.DESCRIPTOR.services_by_name["Peer"].methods}
    )
