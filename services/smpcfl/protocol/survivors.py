"""The survivor set: how the aggregator chooses it, and what each peer requires of it.

A pair within U must list each other, under the same announcements, or its masks would not cancel; and
each survivor needs t mutual neighbours within U, or a poor U would isolate it (section 9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import permutations

from . import failures
from .encoding import digest
from .errors import Reason, RemoteError
from .ledger import MAX_SETS
from .messages import (
    Agreement,
    Header,
    Survivors,
    headers_digest,
    survivors_bytes,
)
from .policy import Policy
from .signing import AGGREGATOR, Keyring, check_signature
from .ticket import Ticket


def mutual(one: Header, other: Header) -> bool:
    """Whether both list each other, each under the announcement that the other named itself."""
    return (
        one.counts.get(other.sender) == other.announcement_hash
        and other.counts.get(one.sender) == one.announcement_hash
    )


def one_sided(one: Header, other: Header) -> bool:
    """Whether either lists the other without being mutual."""
    lists = other.sender in one.counts or one.sender in other.counts
    return lists and not mutual(one, other)


def _all_mutual(headers: Mapping[int, Header]) -> bool:
    """Whether no pair of these is one-sided: n comparisons of sets instead of n² of pairs."""
    named = {i: header.announcement_hash for i, header in headers.items()}
    apart = {
        (i, j)
        for i, header in headers.items()
        for j, _ in named.items() - header.counts.items()
        if j != i
    }
    return all((j, i) in apart and j not in headers[i].counts for i, j in apart)


def choose_survivors(ticket: Ticket, headers: Mapping[int, Header]) -> dict[int, Header]:
    """The largest set that the rule below leaves; possibly none.

    Of a one-sided pair, and of two that name different announcements of a third, the one with fewer
    mutual neighbours goes; then whoever has fewer than t mutual neighbours left, until none has; then, while
    fewer than t + 1 can count the failures, whoever is not everybody's mutual neighbour. Ties are broken by
    all headers together, so that nobody who sends one can choose whom it evicts.
    """
    chosen = dict(headers)
    lot = [[header.signed_bytes, header.signature] for _, header in sorted(headers.items())]
    seed = digest("ties", lot)
    while chosen:
        degree = {
            i: sum(j in chosen and mutual(h, chosen[j]) for j in h.counts)
            for i, h in chosen.items()
        }
        candidates = (
            {i for pair in _conflicts(chosen) for i in pair}
            or {i for i in chosen if degree[i] < ticket.threshold}
            or _cannot_be_counted(ticket, chosen, headers)
        )
        if not candidates:
            return chosen
        del chosen[min(candidates, key=lambda i: (degree[i], digest("tie", seed, i)))]
    return chosen


def _cannot_be_counted(
    ticket: Ticket, chosen: Mapping[int, Header], headers: Mapping[int, Header]
) -> set[int]:
    """Those of `chosen` whom another one does not list, if too few list all: they count the failures."""

    def unlisted(i: int) -> set[int]:
        return chosen.keys() - headers[i].counts.keys() - {i}

    if sum(not unlisted(i) for i in headers) > ticket.threshold:
        return set()
    return {j for i in chosen for j in unlisted(i)}


def _conflicts(headers: Mapping[int, Header]) -> list[tuple[int, int]]:
    found = []
    first: dict[int, tuple[bytes, int]] = {}
    for i, header in headers.items():
        for j, announcement_hash in header.counting:
            if j in headers:
                if one_sided(header, headers[j]):
                    found.append((i, j))
                continue
            known, by = first.setdefault(j, (announcement_hash, i))
            if known != announcement_hash:
                found.append((i, by))
    return found


def survivors_digest(ticket: Ticket, message: Survivors) -> bytes:
    """What an agreement signs: domain, ticket digest, U, headers."""
    signed = survivors_bytes(ticket, message.survivors, message.headers_digest)
    return digest("survivors digest", signed)


def check_origin(ticket: Ticket, keyring: Keyring, message: Survivors) -> None:
    """RemoteError(BAD_SIGNATURE) unless the aggregator signed this set for this ticket."""
    signed = survivors_bytes(ticket, message.survivors, message.headers_digest)
    check_signature(keyring, AGGREGATOR, signed, message.signature, "survivors")


def fewest(ticket: Ticket, policy: Policy) -> int:
    """Survivors that a peer accepts, and contributors among them."""
    return max(ticket.min_survivors, policy.min_survivors)


def check_survivors(
    ticket: Ticket,
    policy: Policy,
    keyring: Keyring,
    message: Survivors,
    known: Mapping[int, bytes],
    own: Header | None = None,
) -> bytes:
    """`survivors_digest` if a peer may agree to this set, RemoteError with the reason if not.

    `known`: hashes of the announcements that this peer holds, its own included. `own`: its own header, whose
    signature it knows.
    """
    if message.ticket_digest != ticket.digest:
        raise RemoteError(Reason.UNKNOWN_TICKET, "survivors")
    if any(index >= len(ticket.cohort) for index in message.survivors):
        raise RemoteError(Reason.NOT_IN_COHORT, "survivors")
    check_origin(ticket, keyring, message)
    floor = fewest(ticket, policy)
    if len(message.survivors) < floor:
        raise RemoteError(
            Reason.TOO_FEW_SURVIVORS, expected=f">= {floor}", found=len(message.survivors)
        )
    headers = {header.sender: header for header in message.headers}
    _check_complete(ticket, message, headers)
    for header in message.headers:
        if header != own:
            header.check(ticket, keyring)
        _check_announcements(ticket, header, known)
    for i, j in [] if _all_mutual(headers) else permutations(headers, 2):
        if one_sided(headers[i], headers[j]):
            raise RemoteError(Reason.ONE_SIDED_PAIR, f"{ticket.cohort[i]} and {ticket.cohort[j]}")
    for i, header in headers.items():
        partners = header.counts.keys() & headers.keys()
        if len(partners) < ticket.threshold:
            raise RemoteError(
                Reason.ISOLATED_SURVIVOR,
                peer=ticket.cohort[i],
                expected=f">= {ticket.threshold} mutual neighbours",
                found=len(partners),
            )
    return survivors_digest(ticket, message)


def check_earlier(agreements: Iterable[Agreement]) -> None:
    """RemoteError(CONFLICTING_SURVIVORS) where those who agree know of two other sets over this model.

    Any two sets that were agreed to have an honest peer in common, any three need not.
    """
    earlier = {item.earlier for item in agreements} - {b""}
    if len(earlier) >= MAX_SETS:
        raise RemoteError(
            Reason.CONFLICTING_SURVIVORS,
            "peers agreed to other sets over this model",
            expected=f"< {MAX_SETS}",
            found=len(earlier),
        )


def count_failures(ticket: Ticket, message: Survivors, sums: Mapping[int, int]) -> int:
    """On how many survivors training failed; any number if somebody lied.

    `sums`: at least t + 1 sums of failure shares, by cohort index.
    """
    needed = dict(sorted(sums.items())[: ticket.threshold + 1])
    return failures.opened((header.masked_failure for header in message.headers), needed)


def check_contributors(ticket: Ticket, policy: Policy, message: Survivors, failed: int) -> None:
    """RemoteError(TOO_FEW_CONTRIBUTORS) where training failed on too many survivors."""
    floor, size = fewest(ticket, policy), len(message.survivors)
    if failed > size:
        raise RemoteError(Reason.TOO_FEW_CONTRIBUTORS, "the count of failed trainings is none")
    if size - failed < floor:
        # Not how many: who hears this has no sum.
        raise RemoteError(Reason.TOO_FEW_CONTRIBUTORS, f"at least {floor} are needed")


def _check_complete(ticket: Ticket, message: Survivors, headers: Mapping[int, Header]) -> None:
    if headers_digest(message.headers) != message.headers_digest:
        raise RemoteError(Reason.BAD_HEADER, "digest of the headers")
    if missing := set(message.survivors) - headers.keys():
        raise RemoteError(Reason.BAD_HEADER, "header missing", peer=ticket.cohort[min(missing)])


def _check_announcements(ticket: Ticket, header: Header, known: Mapping[int, bytes]) -> None:
    if header.counts.items() <= known.items() and (
        known.get(header.sender) == header.announcement_hash
    ):
        return
    peer = ticket.cohort[header.sender]
    for index, announcement_hash in ((header.sender, header.announcement_hash), *header.counting):
        if known.get(index, announcement_hash) != announcement_hash:
            # Of another than the sender: either of the two may have lied, so neither is named for it.
            raise RemoteError(
                Reason.BAD_HEADER,
                f"another announcement of {ticket.cohort[index]}, in the header of {peer}",
                peer=peer if index == header.sender else "",
            )
