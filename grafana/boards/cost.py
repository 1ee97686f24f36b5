"""Row of the home board: what privacy costs in bytes."""

from __future__ import annotations

from . import look
from .panels import Ask, Panel, Words, lines, single, stacks
from .training import AGGREGATOR, NO_ROUND

TITLE = "Cost of privacy"

COLUMNS = {
    "flower": ("through Flower", look.CHANNELS["flower"]),
    "unmask": ("unmasking", look.CHANNELS["unmask"]),
    "p2p": ("peer to peer", look.CHANNELS["p2p"]),
}


def panels() -> list[Panel]:
    return [
        single(
            Words(
                31,
                "Sent, to a plain update",
                "What one peer sends in a round, in proportion to its update in the clear: the"
                " bytes that reach the aggregator, through Flower and to unmask the sum, and"
                " those to other peers, by the size of a plain update; the mean over the cohort."
                " As (bytes_up + bytes_p2p) / plain_bytes of the round's record. Below 1 where an"
                " update is sent in fewer bits than it has.",
                look.TIMES,
                NO_ROUND,
            ),
            Ask(ratio(AGGREGATOR), "{{mode}}"),
        ),
        single(
            Words(
                32,
                "A plain update",
                "What the update of one peer takes in the clear.",
                look.BYTES,
                NO_ROUND,
            ),
            Ask(f"max by (mode) (smpcfl_plain_update_bytes{{{AGGREGATOR}}})", "{{mode}}"),
        ),
        lines(
            Words(
                33,
                "Sent by one peer in a round",
                "In the last round, as the mean over its cohort. Through Flower: the update,"
                " masked or not. Unmasking: what lets the aggregator take the masks off the sum,"
                " and only off the sum. Peer to peer: what peers exchange to agree on masks.",
                look.BYTES,
                NO_ROUND,
            ),
            *_channels(flower="in", unmask="in", p2p="out"),
            colours=_colours(),
            stacked=True,
            steps=True,
            width=8,
        ),
        lines(
            Words(
                34,
                "Received by one peer in a round",
                "In the last round, as the mean over its cohort. Through Flower: the global"
                " model. Unmasking: what the aggregator asks. Peer to peer: as many bytes as were"
                " sent, as a mean.",
                look.BYTES,
                NO_ROUND,
            ),
            *_channels(flower="out", unmask="out", p2p="in"),
            colours=_colours(),
            stacked=True,
            steps=True,
            width=8,
        ),
        lines(
            Words(
                35,
                "Sent, to a plain update, over time",
                "What one peer sends in a round, in proportion to its update in the clear, as"
                " above.",
                look.TIMES,
                NO_ROUND,
            ),
            Ask(ratio(AGGREGATOR), "{{mode}}"),
            steps=True,
            width=12,
        ),
        stacks(
            Words(
                36,
                "Sent by each peer in a round",
                "As each peer counts it, by channel: the mean over the rounds in the range of"
                " time, of each mode. A peer that sends far less than the others was not in all"
                " cohorts. Prometheus estimates between its scrapes, so the bars are off by a few"
                " percent.",
                look.BYTES,
                "No peer is scraped, or no round ended in the range of time",
            ),
            *(
                Ask(
                    f'avg by (peer) (sum by (mode, peer) (increase(smpcfl_bytes_total{{job="peer",'
                    f' mode=~"$mode", channel="{channel}", direction="out"}}[$__range]))'
                    " / on (mode) group_left () (sum by (mode) (increase("
                    f"smpcfl_rounds_total{{{AGGREGATOR}}}[$__range])) > 0))",
                    title,
                    ref=channel,
                )
                for channel, (title, _) in COLUMNS.items()
            ),
            across="peer",
            columns=COLUMNS,
        ),
    ]


def ratio(labels: str, over: str = "") -> str:
    """By mode. `over`: for a range of time, the last value in it."""

    def value(metric: str, more: str = "") -> str:
        selected = f"{metric}{{{labels}{more}}}"
        return f"last_over_time({selected}[{over}])" if over else selected

    to_aggregator = value("smpcfl_peer_round_bytes", ', direction="in", channel=~"flower|unmask"')
    to_peers = value("smpcfl_peer_round_bytes", ', direction="out", channel="p2p"')
    return (
        f"(sum by (mode) ({to_aggregator}) + on (mode) sum by (mode) ({to_peers}))"
        f" / on (mode) max by (mode) ({value('smpcfl_plain_update_bytes')})"
    )


def _channels(**directions: str) -> list[Ask]:
    """Of one peer; the directions are as the aggregator sees them, but for `p2p`."""
    return [
        Ask(
            f"max by (mode) (smpcfl_peer_round_bytes{{{AGGREGATOR},"
            f' channel="{channel}", direction="{direction}"}})',
            f"{COLUMNS[channel][0]} ({{{{mode}}}})",
        )
        for channel, direction in directions.items()
    ]


def _colours() -> dict[str, str]:
    return dict(COLUMNS.values())
