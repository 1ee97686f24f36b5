"""Board: one peer, for its own operator. Every number is that peer's own word, and about itself."""

from __future__ import annotations

from . import look
from .panels import Ask, Panel, Words, bars, gauges, lines, single

STATE = "This peer"
TRAFFIC = "Its traffic"
TIME = "Its time"
TROUBLE = "Its refusals, and its process"

PEER = 'job="peer", peer="$peer"'
NO_PEER = "This peer is not scraped now: its log, and http://127.0.0.1:9090/targets"
NO_TICKET = "No ticket yet, or mode normal, which has none: docker compose logs peer"


def state() -> list[Panel]:
    return [
        single(
            Words(
                11,
                "Answers Prometheus",
                "1: yes, 0: it is in the roster, but its metrics cannot be fetched.",
                look.COUNT,
                NO_PEER,
            ),
            Ask(f"max by (instance) (up{{{PEER}}})", "{{instance}}"),
        ),
        single(
            Words(
                12,
                "Mode",
                "The mode that this peer is set to; it refuses tickets of another one.",
                look.COUNT,
                NO_PEER,
            ),
            Ask(f"max by (mode, version) (smpcfl_build_info{{{PEER}}})", "{{mode}}"),
            names=True,
        ),
        single(
            Words(
                13,
                "Round",
                "Number of the last round for which it took a ticket, and the peers in that"
                " round's cohort.",
                look.COUNT,
                NO_TICKET,
            ),
            Ask(f"max by (peer) (smpcfl_round{{{PEER}}})", "round"),
            Ask(f"max by (peer) (smpcfl_cohort_peers{{{PEER}}})", "cohort"),
        ),
        single(
            Words(
                14,
                "May collude",
                "So many peers of its cohort may tell the aggregator all they know, and together"
                " they still do not learn this peer's update. It computes that from its own"
                " ticket.",
                look.COUNT,
                "None in mode normal: the aggregator sees each update. Else: no ticket yet",
            ),
            Ask(f"min by (peer) (smpcfl_withstood_colluders{{{PEER}}})", "peers"),
        ),
        single(
            Words(
                15,
                "Peers that it finds",
                "By mDNS on its own network, and by the registry's roster, itself included. None"
                " by mDNS: multicast does not arrive, and the roster is used.",
                look.COUNT,
                NO_PEER,
            ),
            Ask(f"max by (via) (smpcfl_peers_discovered{{{PEER}}})", "{{via}}"),
        ),
        single(
            Words(
                16,
                "Certificate left",
                "A certificate lives a day by default and is renewed after two thirds of it. If"
                " it runs out, the service ends; started again, it enrols again.",
                look.SECONDS,
                NO_PEER,
            ),
            Ask(
                f"min by (peer) (smpcfl_certificate_expiry_timestamp_seconds{{{PEER}}}) - time()",
                "left",
            ),
        ),
    ]


def traffic() -> list[Panel]:
    colours = {
        "through Flower": look.CHANNELS["flower"],
        "unmasking": look.CHANNELS["unmask"],
        "peer to peer": look.CHANNELS["p2p"],
    }
    words = {"out": "Sent", "in": "Received"}
    found = [
        bars(
            Words(
                21 + number,
                f"{words[direction]}, each second",
                "Bytes of messages by channel. Through Flower: updates and models. Unmasking:"
                " with the aggregator, at the end of a round. Peer to peer: to agree on masks.",
                look.BYTES_EACH_SECOND,
                NO_PEER,
            ),
            *(
                Ask(
                    f'sum by (peer) (rate(smpcfl_bytes_total{{{PEER}, channel="{channel}",'
                    f' direction="{direction}"}}[$__rate_interval]))',
                    name,
                )
                for channel, name in zip(look.CHANNELS, colours, strict=True)
            ),
            colours=colours,
            width=9,
        )
        for number, direction in enumerate(words)
    ]
    return [
        *found,
        gauges(
            Words(
                23,
                "In the range of time",
                "All bytes that it sent and received, by channel.",
                look.BYTES,
                NO_PEER,
            ),
            *(
                Ask(
                    f'sum by (peer) (increase(smpcfl_bytes_total{{{PEER}, channel="{channel}",'
                    f' direction="{direction}"}}[$__range]))',
                    f"{name}, {words[direction].lower()}",
                )
                for channel, name in zip(look.CHANNELS, colours, strict=True)
                for direction in words
            ),
            colours=colours,
            width=6,
            height=8,
        ),
    ]


def time() -> list[Panel]:
    return [
        lines(
            Words(
                31,
                "Its part of a round, by phase",
                "Mean seconds over the rounds of the last 5 minutes, stacked. exchange: secrets"
                " to and from other peers. ready: until all have what they need. upload: the"
                " masked update on its way. agree: on whose updates are in the sum.",
                look.SECONDS,
                "No round in the last 5 minutes, or mode normal: there peers exchange nothing",
            ),
            Ask(
                f"sum by (phase) (rate(smpcfl_phase_duration_seconds_sum{{{PEER}}}[5m]))"
                f" / (sum by (phase) (rate(smpcfl_phase_duration_seconds_count{{{PEER}}}[5m])) > 0)",
                "{{phase}}",
            ),
            colours=look.PHASES,
            stacked=True,
        ),
        gauges(
            Words(
                32,
                "Deadlines of the round",
                "Set by the aggregator in the ticket, counted from when this peer first saw it."
                " What comes later does not count in the round.",
                look.SECONDS,
                NO_TICKET,
            ),
            Ask(f"max by (phase) (smpcfl_deadline_seconds{{{PEER}}})", "{{phase}}"),
            colours=look.PHASES,
            width=12,
            height=8,
        ),
    ]


def trouble() -> list[Panel]:
    return [
        bars(
            Words(
                41,
                "What it refused, by reason",
                "Messages that this peer did not accept, and answers of others that it did not,"
                " in the minute before each moment. docs/operations.md, “Messages rejected”,"
                " explains each reason.",
                look.COUNT,
                "Nothing was refused in the range of time",
            ),
            Ask(
                f"sum by (reason) (increase(smpcfl_rejected_total{{{PEER}}}[1m])) > 0",
                "{{reason}}",
            ),
            colours={},
            width=8,
        ),
        lines(
            Words(
                42,
                "Its calls, by outcome",
                "Those that it makes and those that it answers. refused: the answer was a reason."
                " error: no answer, such as a peer that is gone.",
                look.CALLS_EACH_SECOND,
                "No call in the range of time",
            ),
            Ask(
                "sum by (outcome)"
                f" (rate(smpcfl_rpc_duration_seconds_count{{{PEER}}}[$__rate_interval]))",
                "{{outcome}}",
            ),
            colours={"ok": look.SKY, "refused": look.ORANGE, "error": look.PURPLE},
            width=8,
        ),
        lines(
            Words(
                43,
                "Memory",
                "Of the peer's own process; training runs in another one, which starts for each"
                " message.",
                look.BYTES,
                NO_PEER,
            ),
            Ask(f"max by (instance) (process_resident_memory_bytes{{{PEER}}})", "{{instance}}"),
            colours={},
            width=8,
        ),
    ]
