"""What a round costs each party as the cohort grows, with some of the peers lost: the table in parties.md.

    python benchmarks/parties.py --parties 100 --entries 100000
    python benchmarks/parties.py --parties 10 30 100

Each round loses a part of its peers, at random phases, and has to give the survivors' sum bit for bit.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time

from smpcfl.bench.round_costs import PHASES, RoundFigures, play
from smpcfl.protocol.ticket import SEEDED

HEADS = ("parties", "survivors", "ticket", "peer to peer", "a neighbour, bytes", "upload")
HEADS += ("survivor set", "answer", "verified", "a peer, s", "aggregator, s")


def run(parties: int, entries: int, lost: float, *, seed: int = 0) -> RoundFigures:
    """One round of vectors of `entries` 32-bit ring elements. RemoteError if it is void."""
    rng = random.Random(seed)
    gone = rng.sample(range(parties), round(lost * parties))
    phases = {index: rng.choice(PHASES) for index in gone}
    return play(SEEDED, parties, entries, width=32, lost=phases)


def table(rounds: list[RoundFigures]) -> str:
    """In Markdown, a line for each; bytes in kB."""
    lines = [HEADS, tuple("---:" for _ in HEADS), *map(_row, rounds)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(figures: RoundFigures) -> tuple[str, ...]:
    sent = figures.sent
    return (
        f"{len(figures.ticket.cohort):,}",
        f"{figures.survivors:,}",
        *(f"{size / 1000:.1f}" for size in (figures.ticket_in, sent["p2p"])),
        f"{figures.neighbour_bytes:.0f}",
        *(f"{size / 1000:.1f}" for size in (sent["upload"], figures.unmask_in, sent["unmask"])),
        f"{figures.verified:,}",
        f"{sum(figures.peer_s.values()):.3f}",
        f"{sum(figures.aggregator_s.values()):.2f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parties", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--lost", type=float, default=0.1, help="part of the peers (0.1)")
    parser.add_argument("--entries", type=int, default=10, help="of the vector, 32 bits each (10)")
    given = parser.parse_args()
    rounds = []
    for parties in given.parties:
        start = time.perf_counter()
        rounds.append(run(parties, given.entries, given.lost))
        seconds = time.perf_counter() - start
        print(f"{parties} parties: {seconds:.0f} s", file=sys.stderr, flush=True)
    print(table(rounds))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\n{given.entries:,} entries, {given.lost:.0%} lost, peak memory {peak:.1f} GB")


if __name__ == "__main__":
    main()
