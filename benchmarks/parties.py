"""What a round costs each party, in one process: the core with everything but sockets and Flower.

    python benchmarks/parties.py --parties 100 --entries 100000
    python benchmarks/parties.py --parties 10 30 100 --entries 10

Each round loses a part of its peers at random phases, and has to give the survivors' sum bit for bit.
Bytes are those of the messages as smpcfl.wire encodes them, with gRPC's length prefix, without TLS.
Seconds are of the processor, not of the wall clock. All signatures are real; only a
sample of the peers, whose seconds are shown, also verifies them all.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests")]

from smpcfl.net import rpc, wire  # noqa: E402
from smpcfl.net.kinds import KINDS  # noqa: E402
from smpcfl.protocol.aggregator_round import AggregatorRound  # noqa: E402
from smpcfl.protocol.messages import Answer, PeerMessage, Survivors  # noqa: E402
from smpcfl.protocol.peer_round import PeerRound  # noqa: E402
from smpcfl.protocol.ticket import SignedTicket  # noqa: E402
from support.network import PHASES, Network, Round, entropy_from, make_ticket  # noqa: E402


def clocked(cls: type, *methods: str) -> type:
    """A subclass that keeps the processor seconds spent in these methods, in `seconds`."""

    def clock(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            if getattr(self, "running", False):
                return method(self, *arguments, **options)
            self.running, start = True, time.thread_time()
            try:
                return method(self, *arguments, **options)
            finally:
                self.running = False
                self.seconds = getattr(self, "seconds", 0.0) + time.thread_time() - start

        return call

    return type(f"Clocked{cls.__name__}", (cls,), {m: clock(getattr(cls, m)) for m in methods})


ClockedPeer = clocked(
    PeerRound,
    "__init__",
    "calls",
    "answered",
    "failed",
    "exchange",
    "acknowledge",
    "ready",
    "survivors",
    "agreement",
    "answer",
)
ClockedAggregator = clocked(
    AggregatorRound, "upload", "fix_survivors", "survivors", "answer", "total"
)


class Trusting:
    """A keyring that believes everyone: for the peers that are not in the sample."""

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        return True


class Parties(Network):
    """Counts bytes by kind, over all peers, and clocks a sample of them."""

    def __init__(self, signed: SignedTicket, sample: int, **options: Any) -> None:
        super().__init__(signed, aggregator_class=ClockedAggregator, **options)
        healthy = [peer for peer in self.ticket.cohort if peer not in self.lost]
        self.sample = set(healthy[:: max(1, len(healthy) // sample)][:sample])
        self.bytes: defaultdict[str, int] = defaultdict(int)
        self.masking = 0.0

    def _round(self, peer: str, **options: bool) -> Round:
        self.bytes["ticket"] += rpc.size(wire.ticket_to_proto(self.signed))
        sampled = peer in self.sample
        return (ClockedPeer if sampled else PeerRound)(
            self.signed,
            peer,
            self.policy,
            self.signer_of(peer),
            self.keyring if sampled else Trusting(),
            entropy_from((self.seed, peer, self.ticket.serial)),
        )

    def handle(self, to: str, sender: str, message: PeerMessage) -> PeerMessage | None:
        reply = super().handle(to, sender, message)
        kind = KINDS[type(message)]
        self.bytes["peer to peer"] += kind.size(message) + rpc.size(kind.reply.write(reply))
        return reply

    def mask(self, peer: str) -> bool:
        start = time.thread_time()
        done = super().mask(peer)
        if peer in self.sample:
            self.masking += time.thread_time() - start
        return done

    def upload(self) -> None:
        super().upload()
        for upload in self.uploads.values():
            meta = wire.upload_meta_to_proto(upload.header, upload.announcement)
            self.bytes["upload"] += meta.ByteSize() + len(upload.vector)

    def shown(self, peer: str) -> Survivors:
        message = super().shown(peer)
        self.bytes["survivors"] += rpc.size(wire.survivors_to_proto(message, self.ticket))
        return message

    def take_answer(self, peer: str, answer: Answer) -> None:
        self.bytes["answer"] += rpc.size(wire.answer_to_proto(answer))
        super().take_answer(peer, answer)


@dataclass(frozen=True)
class Cost:
    """Of one round. Bytes and seconds are for one party, those of the peers a mean."""

    parties: int
    survivors: int
    bytes: dict[str, float]
    peer_s: float
    aggregator_s: float
    wall_s: float


def run(parties: int, entries: int, lost: float, *, sample: int = 10, seed: int = 0) -> Cost:
    """One round, whose sum is checked. RemoteError if it is void."""
    start, rng = time.perf_counter(), random.Random(seed)
    signed = make_ticket(parties, width=32, body=entries)
    cohort = signed.ticket.cohort
    gone = rng.sample(cohort, round(lost * parties))
    phases = {peer: rng.choice(PHASES) for peer in gone}
    network = Parties(signed, sample, seed=seed, lost=phases)
    total = network.run()
    if total != network.expected():
        raise SystemExit("the sum is not the survivors' sum")
    clocks = [network.rounds[peer].seconds for peer in network.sample]  # type: ignore[union-attr]
    return Cost(
        parties,
        len(network.survivors),
        {kind: count / parties for kind, count in network.bytes.items()},
        statistics.fmean(clocks) + network.masking / len(network.sample),
        network.aggregator.seconds,  # type: ignore[attr-defined]
        time.perf_counter() - start,
    )


COLUMNS = ("ticket", "peer to peer", "upload", "survivors", "answer")


def table(costs: list[Cost]) -> str:
    """Kilobytes and seconds by size of the cohort, one line a cohort."""
    heads = ("parties", "survivors", *(f"{kind}, kB" for kind in COLUMNS))
    heads += ("a peer, s", "aggregator, s", "all, s (wall)")
    rows = [
        (
            f"{cost.parties:,}",
            f"{cost.survivors:,}",
            *(f"{cost.bytes[kind] / 1000:.1f}" for kind in COLUMNS),
            f"{cost.peer_s:.3f}",
            f"{cost.aggregator_s:.1f}",
            f"{cost.wall_s:.0f}",
        )
        for cost in costs
    ]
    lines = [heads, tuple("---:" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parties", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--lost", type=float, default=0.1, help="part of the peers (0.1)")
    parser.add_argument("--entries", type=int, default=10, help="of the vector, 32 bits each (10)")
    parser.add_argument("--sample", type=int, default=10, help="peers that are clocked (10)")
    given = parser.parse_args()
    costs = []
    for parties in given.parties:
        costs.append(run(parties, given.entries, given.lost, sample=given.sample))
        print(f"{parties} parties: {costs[-1].wall_s:.0f} s", file=sys.stderr, flush=True)
    print(table(costs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\n{given.entries:,} entries, {given.lost:.0%} lost, peak memory {peak:.1f} GB")


if __name__ == "__main__":
    main()
