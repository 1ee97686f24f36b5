"""How many peers may collude with the aggregator, in the round of one ticket."""

from __future__ import annotations

from .ticket import Ticket


def withstands(ticket: Ticket) -> int:
    """The most peers that, together with a lying aggregator, learn the sum only.

    Two sets of survivors, each with t agreements, must share an honest peer: c < 2t − k, of which
    n >= 3c + 2 is enough at the default threshold. And of a sum's contributors two must be honest.
    """
    n, k, t = len(ticket.cohort), ticket.degree, ticket.threshold
    if not ticket.recovers:
        return n - 2
    return max(min((n - 2) // 3, 2 * t - k - 1, ticket.min_survivors - 2), 0)


def guarantee(colluders: int, peers: int) -> str:
    """`withstands`, in words."""
    if not colluders:
        return f"an aggregator that colludes with none of the {peers} peers learns the sum only"
    return f"an aggregator and {colluders} of the {peers} peers together learn the sum only"
