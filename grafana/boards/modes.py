"""Board: modes compared, from runs that were made one after another."""

from __future__ import annotations

from collections.abc import Mapping

from . import look
from .cost import COLUMNS, ratio
from .panels import Ask, Panel, Words, against_round, gauges, stacks

AGAINST = "Against the number of the round"
BESIDE = "Side by side"

# A mode that no longer runs has no series now, so each query looks back over the range of time.
AGGREGATOR = 'job="aggregator"'
NO_RUN = (
    "No round in the range of time: run a mode, then another, and choose a range that holds both"
)
LATEST = (
    " Of each mode the latest run in the range of time. Prometheus looks every 5 s: a shorter"
    " round may be missing."
)
SINCE = "the mean over all rounds since the aggregator started in that mode"


def against() -> list[Panel]:
    return [
        against_round(
            Words(
                11,
                "Accuracy by round",
                "Of the global model after each round, on data that no peer trained on." + LATEST,
                look.SHARE,
                NO_RUN,
            ),
            _by_round("smpcfl_model_accuracy"),
        ),
        against_round(
            Words(
                12,
                "Loss by round",
                "Of the global model after each round, on data that no peer trained on; lower is"
                " better." + LATEST,
                look.COUNT,
                NO_RUN,
            ),
            _by_round("smpcfl_model_loss"),
        ),
    ]


def beside() -> list[Panel]:
    sent = {"flower": "in", "unmask": "in", "p2p": "out"}
    received = {"flower": "out", "unmask": "out", "p2p": "in"}
    return [
        gauges(
            Words(
                21,
                "Accuracy at last",
                "Of the global model after the last round of each mode.",
                look.SHARE,
                NO_RUN,
            ),
            Ask(_last("smpcfl_model_accuracy"), "{{mode}}"),
            most=1,
        ),
        gauges(
            Words(
                22,
                "Loss at last",
                "Of the global model after the last round of each mode.",
                look.COUNT,
                NO_RUN,
            ),
            Ask(_last("smpcfl_model_loss"), "{{mode}}"),
        ),
        gauges(
            Words(
                23,
                "Time of a round",
                f"From the ticket to the sum: {SINCE}.",
                look.SECONDS,
                NO_RUN,
            ),
            Ask(
                f"{_last('smpcfl_round_duration_seconds_sum')}"
                f" / {_last('smpcfl_round_duration_seconds_count')}",
                "{{mode}}",
            ),
        ),
        stacks(
            Words(
                24,
                "Sent by one peer in a round",
                "In the last round of each mode, the mean over its cohort. Through Flower: the"
                " update, masked or not. Unmasking: what lets the aggregator take the masks off"
                " the sum only. Peer to peer: what peers exchange to agree on masks.",
                look.BYTES,
                NO_RUN,
            ),
            *_channels(sent),
            across="mode",
            columns=COLUMNS,
        ),
        stacks(
            Words(
                25,
                "Received by one peer in a round",
                "In the last round of each mode, the mean over its cohort. Through Flower: the"
                " global model.",
                look.BYTES,
                NO_RUN,
            ),
            *_channels(received),
            across="mode",
            columns=COLUMNS,
        ),
        gauges(
            Words(
                26,
                "Sent, to a plain update",
                "What one peer sends in the last round of each mode, in proportion to its update"
                " in the clear: (bytes_up + bytes_p2p) / plain_bytes of the round's record.",
                look.TIMES,
                NO_RUN,
            ),
            Ask(ratio(AGGREGATOR, "$__range"), "{{mode}}"),
        ),
        gauges(
            Words(
                27,
                "Survivors of the cohort",
                "The share of the cohort whose update is in the sum: the mean over the range of"
                " time.",
                look.SHARE,
                NO_RUN,
            ),
            Ask(
                f"avg by (mode) (avg_over_time((smpcfl_survivors{{{AGGREGATOR}}}"
                f" / smpcfl_cohort_peers{{{AGGREGATOR}}})[$__range:5s]))",
                "{{mode}}",
            ),
            most=1,
        ),
        stacks(
            Words(
                28,
                "Rounds by outcome",
                "Since the aggregator started in that mode. A void round leaves the model as it"
                " was.",
                look.COUNT,
                NO_RUN,
            ),
            *(
                Ask(
                    "sum by (mode) (last_over_time("
                    f'smpcfl_rounds_total{{{AGGREGATOR}, outcome="{outcome}"}}[$__range]))',
                    outcome,
                    ref=outcome,
                )
                for outcome in look.OUTCOMES
            ),
            across="mode",
            columns={outcome: (outcome, colour) for outcome, colour in look.OUTCOMES.items()},
            width=8,
            height=7,
        ),
    ]


def _by_round(metric: str) -> str:
    """The number of the round, which is a value, as a label; with what `metric` was at that time."""
    chosen = f'{{{AGGREGATOR}, mode="MODE"}}'
    return (
        f'max by (round) (last_over_time((count_values by (mode) ("round", smpcfl_round{chosen})'
        f" * on (mode) group_left () {metric}{chosen})[$__range:5s]))"
    )


def _last(metric: str) -> str:
    return f"max by (mode) (last_over_time({metric}{{{AGGREGATOR}}}[$__range]))"


def _channels(directions: Mapping[str, str]) -> list[Ask]:
    """Of one peer; the directions are as the aggregator sees them, but for `p2p`."""
    return [
        Ask(
            "max by (mode) (last_over_time(smpcfl_peer_round_bytes"
            f'{{{AGGREGATOR}, channel="{channel}", direction="{direction}"}}[$__range]))',
            COLUMNS[channel][0],
            ref=channel,
        )
        for channel, direction in directions.items()
    ]
