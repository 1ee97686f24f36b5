"""What a round costs one peer as the deployment grows: the table and the chart in groups.md.

    python benchmarks/groups.py
    python benchmarks/groups.py --peers 20 200 2000 --group-size 8

The deployment is cut into groups as the registry does it, and a tenth of its peers is lost, at random phases.
Groups have nothing to do with one another: of a large deployment a few are played, the largest and the
smallest among them, each whole and in memory. Each has to give its survivors' sum, bit for bit. Counted are
bytes and signatures, so the machine does not matter.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from dataclasses import dataclass
from statistics import fmean

from smpcfl.bench.round_costs import PHASES, RoundFigures, play
from smpcfl.protocol.draw import GROUP_SIZE, cut, may_be_cut
from smpcfl.protocol.ticket import SEEDED

HEADS = (
    "peers",
    "groups",
    "of",
    "played",
    "lost in them",
    "peer to peer, kB",
    "all sent, kB",
    "verified",
)


@dataclass(frozen=True)
class Costs:
    """Of one peer and round, the mean over the groups played. `lost`: in each of these."""

    peers: int
    sizes: list[int]
    lost: list[int]
    p2p_bytes: float
    sent_bytes: float
    verified: float


def cost(peers: int, group_size: int, play_groups: int, lost: float, seed: int = 0) -> Costs:
    """Of a deployment of `peers`. RemoteError if a group is void."""
    rng = random.Random(seed)
    names = [f"{number:06d}" for number in range(peers)]
    gone = set(rng.sample(names, round(lost * peers)))
    groups = [tuple(names)]
    if may_be_cut(peers, group_size):
        groups = cut(names, group_size, rng.randbytes)
    order = sorted(groups, key=len)
    chosen = [
        order[0],
        order[-1],
        *rng.sample(order[1:-1], min(play_groups, max(len(order) - 2, 0))),
    ]
    figures: list[RoundFigures] = []
    for group in chosen[: max(min(play_groups, len(groups)), 1)]:
        phases = {place: rng.choice(PHASES) for place, name in enumerate(group) if name in gone}
        figures.append(play(SEEDED, len(group), 10, width=32, lost=phases))
    return Costs(
        peers,
        sorted(map(len, groups)),
        [sum(name in gone for name in group) for group in chosen[: len(figures)]],
        fmean(found.sent["p2p"] for found in figures),
        fmean(sum(found.sent.values()) for found in figures),
        fmean(found.verified for found in figures),
    )


def slope(costs: list[Costs], what: str) -> float:
    """Of a line fitted to the logarithms: 0 where the number of peers makes no difference, 1 for n."""
    x = [math.log(item.peers) for item in costs]
    y = [math.log(getattr(item, what)) for item in costs]
    mx, my = fmean(x), fmean(y)
    rise = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return rise / sum((a - mx) ** 2 for a in x)


def table(costs: list[Costs]) -> str:
    """In Markdown."""
    lines = [HEADS, tuple("---:" for _ in HEADS), *map(_row, costs)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(item: Costs) -> tuple[str, ...]:
    least, most = item.sizes[0], item.sizes[-1]
    return (
        f"{item.peers:,}",
        f"{len(item.sizes)}",
        str(most) if least == most else f"{least} to {most}",
        str(len(item.lost)),
        ", ".join(map(str, item.lost)),
        f"{item.p2p_bytes / 1000:.1f}",
        f"{item.sent_bytes / 1000:.1f}",
        f"{item.verified:,.0f}",
    )


def chart(costs: list[Costs]) -> str:
    """Mermaid's, which GitHub draws."""
    names = ", ".join(f'"{item.peers:,}"' for item in costs)
    most = max(item.sent_bytes for item in costs) / 1000
    return "\n".join(
        [
            "```mermaid",
            "xychart-beta",
            f'    title "What one peer sends in a round, kB (slope {slope(costs, "sent_bytes"):+.2f})"',
            f'    x-axis "peers of the deployment" [{names}]',
            f'    y-axis "kB" 0 --> {math.ceil(most / 50) * 50}',
            f"    line [{', '.join(f'{item.sent_bytes / 1000:.1f}' for item in costs)}]",
            "```",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peers", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--group-size", type=int, default=GROUP_SIZE, help=f"[{GROUP_SIZE}]")
    parser.add_argument("--play", type=int, default=3, help="so many groups of each (3)")
    parser.add_argument("--lost", type=float, default=0.1, help="part of the peers (0.1)")
    given = parser.parse_args()
    costs = []
    for peers in given.peers:
        costs.append(cost(peers, given.group_size, given.play, given.lost))
        print(f"{peers} peers", file=sys.stderr, flush=True)
    print(f"{table(costs)}\n\n{chart(costs)}\n")
    for what in ("p2p_bytes", "sent_bytes", "verified"):
        print(f"- slope of `{what}`: {slope(costs, what):+.3f}")


if __name__ == "__main__":
    main()
