"""The dashboards and the alerts ask only for what `smpcfl.base.metrics` declares."""

import ast
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from smpcfl.base.config import PortInUse
from smpcfl.base.metrics import CounterFamily, Metrics
from support.dashboards import boards, targets, variable_query
from support.promql import FOREIGN, problems, selectors, series

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "prometheus/alerts.yml"

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
    "smpcfl_void_rounds_total",
    "smpcfl_failed_trainings_total",
    "smpcfl_group_rounds_total",
    "smpcfl_suspected_peers",
    "smpcfl_cohort_peers",
    "smpcfl_survivors",
    "smpcfl_contributors",
    "smpcfl_peer_round_bytes",
    "smpcfl_plain_update_bytes",
    "smpcfl_flower_seconds",
    "smpcfl_dropouts_total",
    "smpcfl_build_info",
    *(f"smpcfl_round_duration_seconds_{part}" for part in ("bucket", "sum", "count")),
}


# A peer on its own board: it says of itself what it likes, and nobody else's number is shown.
OF_ITSELF = '="$peer"'
# What an alert is about is in its own labels, and none of one that is about no service. Of what has the
# label of a peer, which may be made up, only alerts count that a peer can raise on itself anyway.
OF_ALERTS = {
    '=~"|aggregator|registry"': None,
    '="peer"': '=~"SmpcflTargetDown|SmpcflMessagesRejected|SmpcflCertificateExpiring"',
}


def forgeable(query: str) -> list[str]:
    """Selectors of `query` that take the word of whoever is scraped."""
    return [
        f"{name} with job{matchers.get('job', ' of anybody')}"
        for name, matchers in selectors(query)
        if not takes_the_right_word(name, matchers)
    ]


def takes_the_right_word(name: str, matchers: dict[str, str]) -> bool:
    job = matchers.get("job", "")
    if name == "ALERTS":
        return job in OF_ALERTS and matchers.get("alertname") == OF_ALERTS[job]
    if job == '="peer"' and matchers.get("peer") == OF_ITSELF:
        return True
    return job in ONE | SEVERAL and (name not in AGGREGATORS or job == '="aggregator"')


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules() -> list[Any]:
    return [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]


def panel_targets() -> list[tuple[str, str, str]]:
    """Title, query and legend of every query of the dashboards."""
    return [
        (f"{uid}, {target.title}", target.expr, target.legend)
        for uid, board in boards().items()
        for target in targets(board)
    ]


def choices() -> list[tuple[str, str]]:
    """Selector and label of every variable of the dashboards."""
    return [
        variable_query(variable)
        for board in boards().values()
        for variable in board["templating"]["list"]
    ]


@pytest.mark.parametrize(("title", "query", "legend"), panel_targets())
def test_dashboard_queries_are_declared(title: str, query: str, legend: str) -> None:
    shown = tuple(re.findall(r"{{\s*(\w+)\s*}}", legend))
    assert not list(problems(query, shown)), title


@pytest.mark.parametrize(("selector", "label"), choices())
def test_what_dashboards_choose_from_is_declared(selector: str, label: str) -> None:
    assert not list(problems(selector, (label,)))


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
        *(selector for selector, _ in choices()),
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
        ('smpcfl_round{job="peer", peer="$peer"}', []),
        ('smpcfl_round{job="peer", peer=~"$peer"}', ['smpcfl_round with job="peer"']),
        ('smpcfl_plain_update_bytes{job="peer"}', ['smpcfl_plain_update_bytes with job="peer"']),
        ('ALERTS{alertstate="firing"}', ["ALERTS with job of anybody"]),
        ('ALERTS{job="peer"}', ['ALERTS with job="peer"']),
        ('ALERTS{job=~"|aggregator|registry"}', []),
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
        ('sum by (n) (count_values by (mode) ("round", smpcfl_round))', "label n"),
    ],
)
def test_the_check_finds(query: str, problem: str) -> None:
    assert list(problems(query)) == [problem]


def test_the_check_reads_legends() -> None:
    assert list(problems("smpcfl_round", ("mode", "peer", "why"))) == ["label why"]


def test_the_check_knows_labels_that_a_query_makes() -> None:
    query = 'sum by (round) (count_values by (mode) ("round", smpcfl_round))'
    assert not list(problems(query))


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
    known = {name: set(labels) for name, labels in series().items() if name not in FOREIGN}
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
