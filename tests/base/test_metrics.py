"""The dashboard and the alerts ask only for what `smpcfl.metrics` declares."""

import ast
import json
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from smpcfl.base.config import PortInUse
from smpcfl.base.metrics import CounterFamily, Metrics
from support.promql import problems, selectors, series

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "grafana/dashboards/smpcfl.json"
ALERTS = ROOT / "prometheus/alerts.yml"
DATASOURCE = ROOT / "grafana/provisioning/datasources/prometheus.yml"
PROVIDER = ROOT / "grafana/provisioning/dashboards/smpcfl.yml"

REQUIRED = {
    "smpcfl_model_accuracy": set(),
    "smpcfl_model_loss": set(),
    "smpcfl_round": set(),
    "smpcfl_rounds_total": {"outcome"},
    "smpcfl_phase_duration_seconds": {"phase"},
    "smpcfl_bytes_total": {"direction", "channel"},
    "smpcfl_rpc_duration_seconds": {"method", "outcome"},
    "smpcfl_cohort_peers": set(),
    "smpcfl_survivors": set(),
    "smpcfl_dropouts_total": {"phase"},
    "smpcfl_rejected_total": {"reason"},
    "smpcfl_peers_discovered": {"via"},
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("seeded", CollectorRegistry())


JOBS = "aggregator", "registry", "peer"
ONE = {f'="{job}"' for job in JOBS}
SEVERAL = {f'=~"{"|".join(jobs)}"' for jobs in (JOBS, JOBS[::2])}
# Whose word counts where only one service can know.
AGGREGATORS = {
    "smpcfl_model_accuracy",
    "smpcfl_model_loss",
    "smpcfl_round",
    "smpcfl_rounds_left",
    "smpcfl_rounds_total",
    "smpcfl_cohort_peers",
    "smpcfl_survivors",
    "smpcfl_dropouts_total",
    "smpcfl_build_info",
    *(f"smpcfl_round_duration_seconds_{part}" for part in ("bucket", "sum", "count")),
}


def forgeable(query: str) -> list[str]:
    """Selectors of `query` that take the word of whoever is scraped."""
    found = []
    for name, matchers in selectors(query):
        job = matchers.get("job", "")
        if job not in ONE | SEVERAL or (name in AGGREGATORS and job != '="aggregator"'):
            found.append(f"{name} with job{job or ' of anybody'}")
    return found


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules() -> list[Any]:
    return [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]


def panel_targets() -> list[tuple[str, str, str]]:
    """Title, query and legend of every query of the dashboard."""
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize(("title", "query", "legend"), panel_targets())
def test_dashboard_queries_are_declared(title: str, query: str, legend: str) -> None:
    shown = tuple(re.findall(r"{{\s*(\w+)\s*}}", legend))
    assert not list(problems(query, shown)), title


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alert_queries_are_declared(rule: Any) -> None:
    texts = " ".join(rule["annotations"].values())
    shown = tuple(re.findall(r"\$labels\.(\w+)", texts))
    assert not list(problems(rule["expr"], shown))


@pytest.mark.parametrize(
    "query",
    [
        *(query for _, query, _ in panel_targets()),
        *(rule["expr"] for rule in rules()),
        *(v["query"]["query"] for v in json.loads(DASHBOARD.read_text())["templating"]["list"]),
    ],
)
def test_every_selector_names_the_job_whose_word_it_takes(query: str) -> None:
    assert list(selectors(query)), "the check reads the query"
    assert not forgeable(query)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("smpcfl_rounds_total", ["smpcfl_rounds_total with job of anybody"]),
        ('smpcfl_round{job="aggregator"} and smpcfl_round', ["smpcfl_round with job of anybody"]),
        ('sum by (job) (up{job=~".*"})', ['up with job=~".*"']),
        ('up{job!="x"}', ['up with job!="x"']),
        ('smpcfl_round{job="peer"}', ['smpcfl_round with job="peer"']),
        ('sum(rate(smpcfl_bytes_total{mode="a"}[5m])) by (mode)', None),
        ('smpcfl_bytes_total{channel="p2p", job="peer"} + on (mode) up{job="peer"}', []),
        ('label_values(smpcfl_build_info{job="aggregator"}, mode)', []),
    ],
)
def test_the_check_finds_selectors_of_any_job(query: str, found: list[str] | None) -> None:
    assert forgeable(query) == (
        ["smpcfl_bytes_total with job of anybody"] if found is None else found
    )


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("smpcfl_rouns_total", "metric smpcfl_rouns_total"),
        ("rate(smpcfl_rounds[5m])", "metric smpcfl_rounds"),
        ("smpcfl_survivors_bucket", "metric smpcfl_survivors_bucket"),
        ("smpcfl_phase_duration_seconds", "metric smpcfl_phase_duration_seconds"),
        ('smpcfl_round{phase="sum"}', "label phase of smpcfl_round"),
        ('smpcfl_rounds_total{outcome="lost"}', 'value outcome="lost" of smpcfl_rounds_total'),
        ("sum by (mode, via) (smpcfl_round)", "label via"),
        ("sum(smpcfl_round) without (le)", "label le"),
        ("up and on (reason) smpcfl_round", "label reason"),
    ],
)
def test_the_check_finds(query: str, problem: str) -> None:
    assert list(problems(query)) == [problem]


def test_the_check_reads_legends() -> None:
    assert list(problems("smpcfl_round", ("mode", "peer", "why"))) == ["label why"]


def test_design_metrics_exist_and_mode_comes_first(metrics: Metrics) -> None:
    declared = {family.name: list(family.values) for family in metrics.families}
    assert all(labels[0] == "mode" for labels in declared.values())
    for name, labels in REQUIRED.items():
        assert set(declared[name]) == {"mode"} | labels


def test_declared_names_and_labels_are_those_exposed(metrics: Metrics) -> None:
    for family in metrics.families:
        labels = {name: (v or ("x",))[0] for name, v in family.values.items() if name != "mode"}
        family.labels(**labels)
        assert (family.name.endswith("_total")) == isinstance(family, CounterFamily)
    exposed: dict[str, set[str]] = {}
    for line in generate_latest(metrics.registry).decode().splitlines():
        if match := re.match(r"(\w+){(.*)}", line):
            exposed[match[1]] = set(re.findall(r'(\w+)="', match[2]))
    known = {name: set(labels) for name, labels in series().items() if name != "up"}
    assert {name: exposed[name] for name in known} == known
    assert exposed.keys() == known.keys(), "and no _created, which tells when a phase ended"


def test_no_other_file_declares_a_metric() -> None:
    kinds = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum", "*"}
    for path in (ROOT / "services").rglob("*.py"):
        if path == ROOT / "services/smpcfl/base/metrics.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "prometheus_client":
                assert not kinds & {alias.name for alias in node.names}, path
            if isinstance(node, ast.Import):
                assert "prometheus_client" not in {alias.name for alias in node.names}, path


def test_writing(metrics: Metrics) -> None:
    metrics.round.set(3)
    metrics.rounds.inc(outcome="void")
    metrics.bytes.inc(100, direction="out", channel="p2p")
    metrics.phase_duration.observe(0.2, phase="agree")
    metrics.rejected.start_at_zero(reason=("replay",))
    with metrics.round_duration.time():
        pass

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"mode": "seeded", **labels})

    assert value("smpcfl_round") == 3
    assert value("smpcfl_rounds_total", outcome="void") == 1
    assert value("smpcfl_rounds_total", outcome="complete") == 0
    assert value("smpcfl_bytes_total", direction="out", channel="p2p") == 100
    assert value("smpcfl_phase_duration_seconds_sum", phase="agree") == 0.2
    assert value("smpcfl_rejected_total", reason="replay") == 0
    assert value("smpcfl_round_duration_seconds_count") == 1
    assert value("smpcfl_model_accuracy") is None, "not measured here, so not shown"


def test_undeclared_values_are_refused(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="outcome='lost'"):
        metrics.rounds.inc(outcome="lost")
    with pytest.raises(ValueError, match="peer='p1'"):
        metrics.survivors.set(1, peer="p1")
    with pytest.raises(ValueError, match="mode is 'plain'"):
        Metrics("plain")


@pytest.mark.sockets
def test_serve_and_port_in_use(metrics: Metrics) -> None:
    server, thread = metrics.serve("127.0.0.1", 0)
    try:
        port = server.server_port
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b'smpcfl_build_info{mode="seeded",version=' in answer.read()
        with pytest.raises(PortInUse) as caught:
            Metrics("normal").serve("127.0.0.1", port)
        for part in (f":{port}", "--metrics-port", "SMPCFL_METRICS_PORT"):
            assert part in str(caught.value)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.mark.parametrize("alert", ["SmpcflNoRoundCompleted", "SmpcflSurvivorsNearThreshold"])
def test_alerts_on_a_run_end_with_it(alert: str) -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == alert)
    last = rule["expr"].rpartition(" and on (mode) ")[2]
    assert "smpcfl_rounds_left" in last
    assert last.endswith("> 0")


def test_alerts_say_what_to_do() -> None:
    runbooks = [rule["annotations"]["runbook"] for rule in rules()]
    assert len(set(runbooks)) == len(runbooks)
    for rule in rules():
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert re.fullmatch(r"docs/operations\.md#[a-z0-9-]+", rule["annotations"]["runbook"])


def test_runbook_anchors_exist() -> None:
    page = ROOT / "docs/operations.md"
    if not page.is_file():
        pytest.skip("docs/operations.md is not there")
    text = page.read_text()
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    anchors |= set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for rule in rules():
        assert rule["annotations"]["runbook"].partition("#")[2] in anchors, rule["alert"]


def test_grafana_provisioning() -> None:
    (source,) = load(DATASOURCE)["datasources"]
    (provider,) = load(PROVIDER)["providers"]
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "smpcfl"
    assert provider["options"]["path"].endswith(DASHBOARD.parent.name)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    variables = dashboard["templating"]["list"]
    for part in [*dashboard["panels"], *variables]:
        assert part["datasource"]["uid"] == source["uid"]
    for variable in variables:
        assert variable["definition"] == variable["query"]["query"]
        match = re.fullmatch(r"label_values\((\w+){.*}, (\w+)\)", variable["definition"])
        assert match
        assert match[2] in series()[match[1]]
    used = set(re.findall(r"\$(\w+)", "".join(query for _, query, _ in panel_targets())))
    assert used <= {variable["name"] for variable in variables} | {"__rate_interval"}
