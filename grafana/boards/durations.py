"""Row of the home board: where the time of a round goes."""

from __future__ import annotations

from . import look
from .panels import Ask, Panel, Words, lines
from .training import AGGREGATOR, NO_ROUND, of_aggregator

TITLE = "Where the time goes"

PEERS = 'job="peer", mode=~"$mode"'
AT_THE_AGGREGATOR = ("train", "unmask", "sum", "evaluate")
AT_A_PEER = ("exchange", "ready", "agree")
WINDOW = "5m"


def panels() -> list[Panel]:
    return [
        lines(
            Words(
                41,
                "A round by phase, as the aggregator sees it",
                "Mean seconds of each phase in a round, over the rounds of the last 5 minutes,"
                " stacked. train: from the ticket to the last upload, so it holds Flower's way to"
                " the peers, the exchange and the training. unmask: taking the masks off the sum."
                " sum: the sum itself. evaluate: the peers evaluate the model, if the app asks"
                " for that.",
                look.SECONDS,
                NO_ROUND,
            ),
            Ask(_mean(AGGREGATOR, AT_THE_AGGREGATOR), "{{phase}} ({{mode}})"),
            colours=look.PHASES,
            stacked=True,
            width=8,
        ),
        lines(
            Words(
                42,
                "Inside it, what the peers wait for",
                "Mean seconds of each phase at a peer, over the rounds of the last 5 minutes,"
                " stacked. exchange: secrets to and from other peers. ready: until all have what"
                " they need. agree: on whose updates are in"
                " the sum. The rest of a round is training, and Flower.",
                look.SECONDS,
                "No round yet, or mode normal: there peers exchange nothing",
            ),
            Ask(_mean(PEERS, AT_A_PEER), "{{phase}} ({{mode}})"),
            colours=look.PHASES,
            stacked=True,
            width=8,
        ),
        lines(
            Words(
                43,
                "Time of a round, and of an empty message",
                "The mean over the rounds of the last 5 minutes, and the slowest of twenty."
                " Beside it what a message through Flower took at the start of the run, when"
                " there was nothing to do: polls, and the start of a process at all peers at"
                " once. Later messages may be faster than that.",
                look.SECONDS,
                NO_ROUND,
            ),
            Ask(
                "sum by (mode) (rate(smpcfl_round_duration_seconds_sum"
                f"{{{AGGREGATOR}}}[{WINDOW}]))"
                " / (sum by (mode) (rate(smpcfl_round_duration_seconds_count"
                f"{{{AGGREGATOR}}}[{WINDOW}])) > 0)",
                "{{mode}}: mean",
            ),
            Ask(
                "histogram_quantile(0.95, sum by (mode, le) (rate("
                f"smpcfl_round_duration_seconds_bucket{{{AGGREGATOR}}}[{WINDOW}]))) >= 0",
                "{{mode}}: slowest of twenty",
            ),
            Ask(of_aggregator("smpcfl_flower_seconds"), "empty message ({{mode}})"),
            colours=look.MODES | {"empty message": look.GREY},
            dashed="slowest of twenty",
            width=8,
        ),
    ]


def _mean(labels: str, phases: tuple[str, ...]) -> str:
    """`> 0`: where no round ended there is nothing, and not 0 / 0.

    Of the mode that runs: the last rounds of the one before would be stacked below it.
    """
    chosen = f'{labels}, phase=~"{"|".join(phases)}"'
    return (
        f"sum by (mode, phase) (rate(smpcfl_phase_duration_seconds_sum{{{chosen}}}[{WINDOW}]))"
        " / (sum by (mode, phase)"
        f" (rate(smpcfl_phase_duration_seconds_count{{{chosen}}}[{WINDOW}])) > 0)"
        f" and on (mode) smpcfl_build_info{{{AGGREGATOR}}}"
    )
