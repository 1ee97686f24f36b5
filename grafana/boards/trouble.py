"""Rows of the home board: what went wrong; and, folded, the groups of a large deployment and all calls."""

from __future__ import annotations

from . import look
from .panels import Ask, Column, Panel, Words, bars, lines, rows, single
from .training import AGGREGATOR, NO_AGGREGATOR, of_aggregator

TITLE = "Trouble"
GROUPS = "Groups of a large deployment"
CALLS = "Calls between the services"

# An alert on a service has its `job`. What a peer shows as `ALERTS` has job="peer" as well, so of the
# peers only the alerts count that are about one service: it can raise those on itself anyway.
ABOUT_ONE_SERVICE = "SmpcflTargetDown|SmpcflMessagesRejected|SmpcflCertificateExpiring"
FIRING = (
    'ALERTS{alertstate="firing", job=~"|aggregator|registry"}'
    f' or ALERTS{{alertstate="firing", job="peer", alertname=~"{ABOUT_ONE_SERVICE}"}}'
)
BY_MODE = 'job=~"aggregator|registry|peer", mode=~"$mode"'


def panels() -> list[Panel]:
    return [
        rows(
            Words(
                61,
                "Alerts that fire",
                "From prometheus/alerts.yml. docs/operations.md has a section for each: what it"
                " means, what to look at, what to do. In Prometheus, under Alerts, each names its"
                " section and its panel here.",
                look.COUNT,
                "No alert fires",
            ),
            Ask(
                f"count by (alertname, severity, mode, job, peer, reason) ({FIRING})",
                "{{alertname}}",
            ),
            columns=(
                Column("alertname", "Alert"),
                Column("severity", "Severity"),
                Column("mode", "Mode"),
                Column("job", "Service"),
                Column("peer", "Peer"),
                Column("reason", "Reason"),
                Column("Value", "How many", look.COUNT),
            ),
            width=12,
        ),
        lines(
            Words(
                62,
                "Void rounds, by reason",
                "How many there were since the aggregator started. A void round leaves the model"
                " as it was, and nothing leaks. docs/operations.md, “Rounds void”, has the usual"
                " cause of each reason; `docker compose logs aggregator` the whole sentence.",
                look.COUNT,
                "No round was void since the aggregator started",
            ),
            Ask(
                f"sum by (mode, reason) (smpcfl_void_rounds_total{{{AGGREGATOR}}})",
                "{{reason}} ({{mode}})",
            ),
            colours={},
            steps=True,
        ),
        bars(
            Words(
                63,
                "Peers lost from their round, by phase",
                "Of the cohort, in the minute before each moment. A peer that is lost counts in"
                " that round only. report.json and `docker compose logs aggregator` say who, and"
                " what is known of why.",
                look.COUNT,
                "No peer was lost in the range of time",
            ),
            Ask(
                f"sum by (mode, phase) (increase(smpcfl_dropouts_total{{{AGGREGATOR}}}[1m])) > 0",
                "{{phase}} ({{mode}})",
            ),
            colours=look.PHASES,
            width=8,
        ),
        bars(
            Words(
                64,
                "Refusals, by reason",
                "Messages that a service did not accept, in the minute before each moment. A few"
                " around restarts are normal. docs/operations.md, “Messages rejected”, explains"
                " each reason.",
                look.COUNT,
                "Nothing was refused in the range of time",
            ),
            Ask(
                "sum by (mode, job, reason)"
                f" (increase(smpcfl_rejected_total{{{BY_MODE}}}[1m])) > 0",
                "{{reason}}, at {{job}} ({{mode}})",
            ),
            colours={},
            width=8,
        ),
        single(
            Words(
                65,
                "Failed trainings",
                "Survivors whose training failed, summed over all complete rounds since the"
                " aggregator started. The sum alone shows it: nobody learns which peer it was,"
                " but the peer itself, whose own log has the reason.",
                look.COUNT,
                NO_AGGREGATOR,
            ),
            Ask(
                f"sum by (mode) (smpcfl_failed_trainings_total{{{AGGREGATOR}}})",
                "{{mode}}",
            ),
            height=8,
        ),
        single(
            Words(
                66,
                "Void and complete rounds",
                "Since the aggregator started.",
                look.COUNT,
                NO_AGGREGATOR,
            ),
            Ask(
                f"sum by (mode, outcome) (smpcfl_rounds_total{{{AGGREGATOR}}})",
                "{{outcome}} ({{mode}})",
            ),
            height=8,
        ),
    ]


def groups() -> list[Panel]:
    none = "No groups: fewer than 2 x SMPCFL_GROUP_SIZE peers, so the cohort is one"
    return [
        bars(
            Words(
                71,
                "Groups by outcome",
                "From 2 x SMPCFL_GROUP_SIZE peers on a cohort is cut into groups, each summed for"
                " itself. Their parts of rounds that ended in the minute before each moment: a"
                " round is complete if one of its groups is.",
                look.COUNT,
                none,
            ),
            # From the start there is a 0 for each outcome: where there are no groups that says nothing.
            Ask(
                f"sum by (mode, outcome) (increase(smpcfl_group_rounds_total{{{AGGREGATOR}}}[1m]))"
                f" and on (mode) sum by (mode) (smpcfl_group_rounds_total{{{AGGREGATOR}}}) > 0",
                "{{outcome}} ({{mode}})",
            ),
            colours=look.OUTCOMES,
        ),
        lines(
            Words(
                72,
                "Suspected peers",
                "Peers whose groups keep ending void while others complete. The aggregator's log"
                " and `smpcfl status` name them; docs/operations.md, “Groups”, says what to do.",
                look.COUNT,
                "No round yet: docker compose logs aggregator says what it waits for",
            ),
            Ask(of_aggregator("smpcfl_suspected_peers"), "{{mode}}"),
            steps=True,
        ),
    ]


def calls() -> list[Panel]:
    return [
        lines(
            Words(
                81,
                "Time of a call, by method",
                "The slowest of twenty calls in the last 5 minutes, of all services together. A"
                " method that ends in .out is a call that a peer makes; the same without it is"
                " one that it answers.",
                look.SECONDS,
                "No call in the last 5 minutes: in mode normal there are next to none",
            ),
            Ask(
                "histogram_quantile(0.95, sum by (method, le)"
                f" (rate(smpcfl_rpc_duration_seconds_bucket{{{BY_MODE}}}[5m]))) >= 0",
                "{{method}}",
            ),
            colours={},
        ),
        lines(
            Words(
                82,
                "Calls by outcome",
                "Each second, of all services together. refused: the answer was a reason, counted"
                " above under refusals. error: no answer, such as a peer that is gone.",
                look.CALLS_EACH_SECOND,
                "No call in the range of time",
            ),
            Ask(
                "sum by (job, outcome)"
                f" (rate(smpcfl_rpc_duration_seconds_count{{{BY_MODE}}}[$__rate_interval]))",
                "{{outcome}}, at {{job}}",
            ),
            colours={"ok": look.SKY, "refused": look.ORANGE, "error": look.PURPLE},
        ),
    ]
