"""Rows of the home board: how training stands, and the guarantee in force."""

from __future__ import annotations

from . import look
from .panels import Ask, Panel, Words, bars, lines, single

# The aggregator's word on what only it knows; a peer may claim what it likes about rounds and models.
AGGREGATOR = 'job="aggregator", mode=~"$mode"'
NO_ROUND = "No round yet: docker compose logs aggregator says what it waits for"
NO_AGGREGATOR = "No aggregator answers Prometheus: docker compose ps"

STATE = "Training"
GUARANTEE = "Guarantee in force"


def of_aggregator(metric: str) -> str:
    return f"max by (mode) ({metric}{{{AGGREGATOR}}})"


def state() -> list[Panel]:
    return [
        single(
            Words(
                11,
                "Mode",
                "How updates are summed. normal: plain Flower, the aggregator sees each update."
                " additive and seeded: peers mask what they upload, and the aggregator learns the"
                " sum only.",
                look.COUNT,
                NO_AGGREGATOR,
            ),
            Ask(of_aggregator("smpcfl_build_info"), "{{mode}}"),
            names=True,
        ),
        single(
            Words(
                12,
                "Round",
                "Number of the last round that ended, complete or void, and how many rounds of"
                " this run are still to come.",
                look.COUNT,
                NO_ROUND,
            ),
            Ask(of_aggregator("smpcfl_round"), "{{mode}}: round"),
            Ask(of_aggregator("smpcfl_rounds_left"), "{{mode}}: still to come"),
        ),
        single(
            Words(
                13,
                "Accuracy",
                "Of the global model after the last round, on data that no peer trained on: the"
                " share of correct predictions.",
                look.SHARE,
                f"{NO_ROUND}; or the app does not report an accuracy",
            ),
            Ask(of_aggregator("smpcfl_model_accuracy"), "{{mode}}"),
        ),
        single(
            Words(
                14,
                "Loss",
                "Of the global model after the last round, on data that no peer trained on. Lower"
                " is better; the scale is that of the app.",
                look.COUNT,
                f"{NO_ROUND}; or the app does not report a loss",
            ),
            Ask(of_aggregator("smpcfl_model_loss"), "{{mode}}"),
        ),
        single(
            Words(
                15,
                "Survivors of the cohort",
                "The cohort are the peers of the last round; its survivors are those whose update"
                " is in the sum.",
                look.COUNT,
                NO_ROUND,
            ),
            Ask(of_aggregator("smpcfl_survivors"), "{{mode}}: survivors"),
            Ask(of_aggregator("smpcfl_cohort_peers"), "{{mode}}: cohort"),
        ),
        single(
            Words(
                16,
                "Time of a round",
                "From the ticket that announces a round to its sum: the mean over all rounds"
                " since the aggregator started.",
                look.SECONDS,
                NO_ROUND,
            ),
            Ask(
                f"{_sum('smpcfl_round_duration_seconds_sum')}"
                f" / {_sum('smpcfl_round_duration_seconds_count')}",
                "{{mode}}",
            ),
        ),
        lines(
            Words(
                17,
                "Accuracy over time",
                "Of the global model, on data that no peer trained on; it changes when a round"
                " ends. Against the number of the round: board “Modes compared”.",
                look.SHARE,
                NO_ROUND,
            ),
            Ask(of_aggregator("smpcfl_model_accuracy"), "{{mode}}"),
            steps=True,
            from_zero=False,
            width=8,
        ),
        lines(
            Words(
                18,
                "Loss over time",
                "Of the global model, on data that no peer trained on; it changes when a round"
                " ends.",
                look.COUNT,
                NO_ROUND,
            ),
            Ask(of_aggregator("smpcfl_model_loss"), "{{mode}}"),
            steps=True,
            from_zero=False,
            width=8,
        ),
        bars(
            Words(
                19,
                "Rounds that ended",
                "In the minute before each moment, complete or void. A void round leaves the"
                " model as it was. Prometheus estimates between its scrapes, so that one round"
                " may show as 1.1.",
                look.COUNT,
                NO_AGGREGATOR,
            ),
            Ask(
                f"sum by (mode, outcome) (increase(smpcfl_rounds_total{{{AGGREGATOR}}}[1m]))",
                "{{outcome}} ({{mode}})",
            ),
            colours=look.OUTCOMES,
            width=8,
        ),
    ]


def guarantee() -> list[Panel]:
    none = "None: in mode normal the aggregator sees each update. In another mode: no round yet"
    return [
        single(
            Words(
                21,
                "May collude",
                "So many peers of the cohort may tell the aggregator all they know, and together"
                " they still learn nothing but the sum. The lowest that any peer computed from"
                " its own ticket: peers take nobody's word for it.",
                look.COUNT,
                none,
            ),
            Ask(_own_word(), "{{mode}}: peers"),
            width=6,
        ),
        single(
            Words(
                22,
                "Share of the cohort that may collude",
                "The same number, in proportion to the cohort.",
                look.SHARE,
                none,
            ),
            Ask(f"{_own_word()} / on (mode) {of_aggregator('smpcfl_cohort_peers')}", "{{mode}}"),
            width=6,
        ),
        lines(
            Words(
                23,
                "Guarantee over time",
                "How many peers may collude with the aggregator: as the peers compute it (the"
                " lowest), and as the aggregator records it at the end of a round. It falls with"
                " the cohort. A difference that stays for longer than a round is worth a look at"
                " the peers' logs.",
                look.COUNT,
                none,
            ),
            Ask(_own_word(), "{{mode}}: peers' own word"),
            Ask(of_aggregator("smpcfl_withstood_colluders"), "{{mode}}: aggregator's word"),
            steps=True,
            dashed="aggregator's word",
            height=4,
        ),
    ]


def _own_word() -> str:
    return 'min by (mode) (smpcfl_withstood_colluders{job="peer", mode=~"$mode"})'


def _sum(metric: str) -> str:
    return f"sum by (mode) ({metric}{{{AGGREGATOR}}})"
