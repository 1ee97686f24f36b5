"""How many peers may collude with the aggregator, in the round of one ticket."""

from __future__ import annotations

from .ticket import MODES, Ticket


def withstands(ticket: Ticket) -> int:
    """The most peers that, together with a lying aggregator, learn the sum only.

    Two sets of survivors, each with t agreements, must share an honest peer: c < 2t − k, of which
    n >= 3c + 2 is enough at the default threshold. And of a sum's contributors two must be honest.
    """
    n = len(ticket.cohort)
    if not ticket.recovers:
        return n - 2
    return most_colluders(n, ticket.threshold, ticket.min_survivors)


def most_colluders(peers: int, threshold: int, min_survivors: int) -> int:
    """`withstands`, of a cohort that recovers lost peers."""
    return max(min((peers - 2) // 3, 2 * threshold - peers, min_survivors - 2), 0)


def guarantee(colluders: int, peers: int, mode: str) -> str:
    """`withstands` in words, for a round of this mode."""
    who = f"that colludes with none of the {peers} peers learns"
    if colluders:
        who = f"and {colluders} of the {peers} peers together learn"
    if MODES[mode].recovers:
        return f"an aggregator {who} the sum only"
    # Where nobody agrees on survivors, nothing binds the sums over one model (docs/protocol.md, section 12).
    return f"a curious aggregator {who} the sum only; one that picks cohorts learns more"
