"""The component for a cluster with the operator of Prometheus says what prometheus/ and grafana/ say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.manifests import (
    FOLDER,
    ROOT,
    build,
    labels,
    of_kind,
    rendered,
    selects,
    service,
    services,
)

PROMETHEUS = ROOT / "prometheus"
MONITORING = FOLDER / "components/monitoring"
# Client-side `kubectl apply` keeps a copy in an annotation, which holds so much.
MOST_BYTES = 262144
LIMITS = {
    "sample_limit": "sampleLimit",
    "body_size_limit": "bodySizeLimit",
    "label_limit": "labelLimit",
    "label_name_length_limit": "labelNameLengthLimit",
    "label_value_length_limit": "labelValueLengthLimit",
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_alerts_are_the_committed_ones() -> None:
    assert load(MONITORING / "prometheus-rule.yaml")["spec"] == load(PROMETHEUS / "alerts.yml")


def test_scrapes_are_bounded_as_in_compose() -> None:
    monitor = load(MONITORING / "pod-monitor.yaml")["spec"]
    scraping = load(PROMETHEUS / "prometheus.yml")["global"]
    assert {LIMITS[key]: value for key, value in scraping.items() if key in LIMITS} == {
        key: monitor[key] for key in LIMITS.values()
    }
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["interval"] == scraping["scrape_interval"]
    assert endpoint["scrapeTimeout"] == scraping["scrape_timeout"]
    assert endpoint["honorLabels"] is False


@pytest.mark.commands
def test_each_service_is_scraped_under_the_job_that_queries_name() -> None:
    monitor = load(MONITORING / "pod-monitor.yaml")["spec"]
    jobs = set()
    for workload in services(rendered("demo")):
        assert selects(monitor["selector"], labels(workload))
        ports = {port["name"] for port in service(workload)["ports"]}
        assert monitor["podMetricsEndpoints"][0]["port"] in ports
        jobs.add(labels(workload)[monitor["jobLabel"]])
    assert jobs == {
        job["job_name"] for job in load(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    }


@pytest.mark.commands
def test_an_overlay_takes_the_component(tmp_path: Path) -> None:
    # kustomize takes relative paths only.
    up = Path(*[".."] * len(tmp_path.resolve().parts[1:]))
    folders = {
        name: str(up / path.relative_to("/"))
        for name, path in (("o", FOLDER / "overlays/demo"), ("m", MONITORING))
    }
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {"namespace": "smpcfl", "resources": [folders["o"]], "components": [folders["m"]]}
        )
    )
    more = [item for item in build(tmp_path) if item not in rendered("demo")]
    assert {item["metadata"]["namespace"] for item in more} == {"smpcfl"}
    assert len(of_kind(more, "PodMonitor")) == len(of_kind(more, "PrometheusRule")) == 1
    boards = of_kind(more, "ConfigMap")
    committed = {
        path.name: json.loads(path.read_text()) for path in (ROOT / "grafana/dashboards").iterdir()
    }
    assert len(boards) == len(committed)
    shown: dict[str, Any] = {}
    for board in boards:
        assert board["metadata"]["labels"] == {"grafana_dashboard": "1"}
        assert len(json.dumps(board)) < 0.9 * MOST_BYTES
        shown |= {name: json.loads(text) for name, text in board["data"].items()}
    assert shown == committed
