"""What holds in every round, whatever goes wrong in it."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.phases import Phase
from support.timed import Timed

_PLAIN = {bytes, str, int, float, bool, type(None)}


def secrets_in(value: object, seen: set[int] | None = None) -> list[object]:
    """Every secret that can be reached from an object's attributes and containers."""
    seen = set() if seen is None else seen
    found, waiting = list[object](), [value]
    while waiting:
        item = waiting.pop()
        if type(item) in _PLAIN or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Secret | X25519PrivateKey):
            found.append(item)
        elif isinstance(item, dict):
            waiting += (*item.keys(), *item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
        elif _is_ours(type(item)):
            waiting += getattr(item, "__dict__", {}).values()
    return found


@cache
def _is_ours(kind: type) -> bool:
    return any(base.__module__.startswith("smpcfl") for base in kind.__mro__)


def play(network: Timed) -> str:
    """Plays the round and holds it to the invariants; "complete", or the reason why it is void.

    The sum is bit for bit that of the survivors' updates or the round is void; all is decided by the unmask
    deadline and nobody waits on; nobody shows both kinds of share of a neighbour, and nobody's secrets
    are both shown to the aggregator; no peer keeps a secret.
    """
    try:
        assert network.play() == network.expected(), "the sum is not the survivors' sum"
        outcome = "complete"
    except RemoteError as error:
        outcome = error.reason.value
    check_end(network)
    check_answers(network)
    return outcome


def check_end(network: Timed) -> None:
    assert network.decided is not None
    assert network.decided <= network.ticket.deadlines.unmask / 1000, "decided too late"
    assert not network.waiting_for_masks, "a ClientApp waits for masks after the end"
    assert not network.waiting_to_answer, "an unmask call is open after the end"
    seen = {id(network.ticket)}
    for peer, round_ in network.rounds_ever:
        if network.rounds.get(peer) is round_:
            assert round_.phase is Phase.CLOSED, f"{peer} is {round_.phase} after the end"
            assert round_.next_event(network.time_of(peer)) is None
            assert not secrets_in(round_, seen), f"{peer} keeps secrets of a closed round"


def check_answers(network: Timed) -> None:
    shown: dict[tuple[str, int], set[int]] = {}
    for peer, answer in network.answers:
        assert answer.holder == network.ticket.index(peer)
        for kind, shares in (("self", answer.self_shares), ("pair", answer.pair_shares)):
            for share in shares:
                assert share.dealer != answer.holder, f"{peer} shows a share of its own"
                shown.setdefault((kind, share.dealer), set()).add(answer.holder)
    for dealer in range(len(network.ticket.cohort)):
        kinds = shown.get(("self", dealer), set()), shown.get(("pair", dealer), set())
        both = kinds[0] & kinds[1]
        assert not both, f"{both} showed both kinds of share of {dealer}"
        fewest = min(len(holders) for holders in kinds)
        assert fewest < network.ticket.threshold, f"both secrets of {dealer} were shown"
