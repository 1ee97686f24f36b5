"""Row of the home board: who takes part, how they were found, and whether they are there."""

from __future__ import annotations

from . import look
from .panels import Ask, Column, Panel, Words, gauges, lines, rows
from .training import of_aggregator

TITLE = "Peers"

SERVICES = 'job=~"aggregator|registry|peer"'
NO_PEER = "No peer in the registry's roster: docker compose logs peer"


def panels() -> list[Panel]:
    return [
        lines(
            Words(
                51,
                "Peers, from the roster to the sum",
                "Roster: those that the registry hears. Cohort: those of the last round."
                " Survivors: those whose update is in its sum. Trained: survivors whose training"
                " succeeded; nobody learns which ones.",
                look.COUNT,
                NO_PEER,
            ),
            Ask(
                'max by (mode) (smpcfl_roster_peers{job="registry", mode=~"$mode"})',
                "roster ({{mode}})",
            ),
            Ask(of_aggregator("smpcfl_cohort_peers"), "cohort ({{mode}})"),
            Ask(of_aggregator("smpcfl_survivors"), "survivors ({{mode}})"),
            Ask(of_aggregator("smpcfl_contributors"), "trained ({{mode}})"),
            colours={
                "roster": look.GREY,
                "cohort": look.SKY,
                "survivors": look.ORANGE,
                "trained": look.PURPLE,
            },
            steps=True,
            width=8,
        ),
        lines(
            Words(
                52,
                "Peers that each peer finds",
                "By mDNS on its own network, and by the registry's roster, itself included: the"
                " fewest and the most that a peer finds. All equal: everyone sees everyone. None"
                " by mDNS: multicast does not arrive, and the registry's roster is used.",
                look.COUNT,
                NO_PEER,
            ),
            *(
                Ask(
                    f'{least} by (via) (smpcfl_peers_discovered{{job="peer", mode=~"$mode"}})',
                    f"{{{{via}}}}: {word}",
                )
                for least, word in (("min", "fewest"), ("max", "most"))
            ),
            colours={"mdns": look.SKY, "registry": look.ORANGE},
            steps=True,
            dashed="most",
            width=8,
        ),
        lines(
            Words(
                53,
                "Services that answer Prometheus",
                "How many of each service. A peer that leaves is off the list of targets, so a"
                " line that falls is a peer that left; one that lives but does not answer fires"
                " SmpcflTargetDown.",
                look.COUNT,
                "Nothing answers: http://127.0.0.1:9090/targets says why",
            ),
            Ask(f"sum by (job) (up{{{SERVICES}}})", "{{job}}"),
            colours={
                "aggregator": look.SKY,
                "registry": look.ORANGE,
                "peer": look.PURPLE,
            },
            steps=True,
            width=8,
        ),
        rows(
            Words(
                54,
                "Who is there",
                "Each peer that was scraped in the range of time; a click on its name leads to"
                " its own board. Found by mDNS or by registry: how many peers it finds by that"
                " way, itself included, if it is there now. Bytes are those of the range of time.",
                look.COUNT,
                NO_PEER,
            ),
            # The time at which it last answered, as Grafana takes it, in milliseconds.
            Ask(
                "max by (peer) (max_over_time("
                '(1000 * timestamp(up{job="peer"}) and up{job="peer"} == 1)[$__range:$__interval]))',
                "last seen",
                ref="seen",
            ),
            Ask(_finds("mdns"), "finds by mDNS", ref="mdns"),
            Ask(_finds("registry"), "finds by registry", ref="registry"),
            Ask(
                'min by (peer) (smpcfl_certificate_expiry_timestamp_seconds{job="peer"}) - time()',
                "certificate left",
                ref="certificate",
            ),
            Ask(_p2p("out"), "sent peer to peer", ref="sent"),
            Ask(_p2p("in"), "received peer to peer", ref="received"),
            columns=(
                Column(
                    "peer",
                    "Peer",
                    link=(
                        "This peer's own board",
                        "/d/smpcfl-peer?var-peer=${__value.raw}&${__url_time_range}",
                    ),
                ),
                Column("Value #seen", "Last seen", look.AGO),
                Column("Value #mdns", "Finds by mDNS", look.COUNT),
                Column("Value #registry", "Finds by registry", look.COUNT),
                Column("Value #certificate", "Certificate left", look.SECONDS),
                Column("Value #sent", "Sent peer to peer", look.BYTES),
                Column("Value #received", "Received peer to peer", look.BYTES),
            ),
            width=16,
        ),
        gauges(
            Words(
                55,
                "Certificates: time left",
                "Of each service, for peers the shortest. A certificate lives a day by default"
                " and is renewed after two thirds of it: less than a few hours means that renewal"
                " fails.",
                look.SECONDS,
                "No service has a certificate yet: docker compose logs registry",
            ),
            Ask(
                "min by (job)"
                f" (smpcfl_certificate_expiry_timestamp_seconds{{{SERVICES}}}) - time()",
                "{{job}}",
            ),
            colours={"aggregator": look.SKY, "registry": look.ORANGE, "peer": look.PURPLE},
            height=8,
        ),
    ]


def _finds(via: str) -> str:
    return f'max by (peer) (smpcfl_peers_discovered{{job="peer", via="{via}"}})'


def _p2p(direction: str) -> str:
    return (
        f'sum by (peer) (increase(smpcfl_bytes_total{{job="peer", channel="p2p",'
        f' direction="{direction}"}}[$__range]))'
    )
