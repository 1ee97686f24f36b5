"""Messages check themselves when they are built: no malformed one reaches the state machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from smpcfl.protocol.announcement import Announcement, Dealt, Equivocation
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.messages import (
    AdditiveShare,
    Agreement,
    Answer,
    Header,
    Ready,
    ReadyReply,
    ShownShare,
    Survivors,
    header_bytes,
)
from smpcfl.protocol.receipts import ListRequest, Receipt
from support.network import keyring_of, make_ticket, signer_of

D, S, SHARE, NODE = bytes(32), bytes(64), Secret(bytes(33)), bytes(16)

ANNOUNCEMENT = Announcement(D, 0, D, D, NODE, S)
DEALT = Dealt(SHARE, SHARE, (NODE,))
RECEIPT = Receipt(1, 1, (0, 1, 3), S)
READY = Ready(D, RECEIPT)
REPLY = ReadyReply(RECEIPT)
QUESTION = ListRequest(D, 1, 1, ((0, NODE), (3, NODE)))
HEADER = Header(D, 0, D, ((1, D), (2, D)), S, 0)
SURVIVORS = Survivors(D, (0, 1, 2), (HEADER, replace(HEADER, sender=1, counting=())), D, S)
AGREEMENT = Agreement(D, D, 1, S)
SHOWN = ShownShare(0, SHARE, D, (NODE,))
ANSWER = Answer(D, 0, (SHOWN,), (), ())

MALFORMED: dict[str, Callable[[], object]] = {
    **{
        f"announcement {name} {length}": lambda name=name, length=length: replace(
            ANNOUNCEMENT, **{name: bytes(length)}
        )
        for name in ("ticket_digest", "public_key", "commitment", "shares_root")
        for length in (0, 15, 17, 31, 33)
    },
    "announcement signature": lambda: replace(ANNOUNCEMENT, signature=bytes(63)),
    "announcement dealer -1": lambda: replace(ANNOUNCEMENT, dealer=-1),
    "announcement dealer 65536": lambda: replace(ANNOUNCEMENT, dealer=2**16),
    "short self share": lambda: replace(DEALT, self_share=Secret(bytes(32))),
    "long pair share": lambda: replace(DEALT, pair_share=Secret(bytes(34))),
    "endless path": lambda: replace(DEALT, path=(NODE,) * 17),
    "path of short nodes": lambda: replace(DEALT, path=(NODE, bytes(15))),
    "receipt holder": lambda: replace(RECEIPT, holder=2**16),
    "receipt 0": lambda: replace(RECEIPT, number=0),
    "receipt 4": lambda: replace(RECEIPT, number=4),
    "receipt signature": lambda: replace(RECEIPT, signature=bytes(63)),
    "receipt of dealers out of order": lambda: replace(RECEIPT, dealers=(1, 0)),
    "receipt of a dealer twice": lambda: replace(RECEIPT, dealers=(0, 1, 1)),
    "receipt of nobody known": lambda: replace(RECEIPT, dealers=(1, 2**16)),
    "receipt without its holder": lambda: replace(RECEIPT, dealers=(0, 3)),
    "receipt of nobody": lambda: replace(RECEIPT, dealers=()),
    "two announcements that are one": lambda: Equivocation(ANNOUNCEMENT, ANNOUNCEMENT),
    "two announcements that differ in their signatures": lambda: Equivocation(
        ANNOUNCEMENT, replace(ANNOUNCEMENT, signature=bytes([1] * 64))
    ),
    "two announcements of two": lambda: Equivocation(ANNOUNCEMENT, replace(ANNOUNCEMENT, dealer=1)),
    "question ticket": lambda: replace(QUESTION, ticket_digest=b""),
    "question holder": lambda: replace(QUESTION, holder=-1),
    "question with a short hash": lambda: replace(QUESTION, known=((0, bytes(8)),)),
    "question out of order": lambda: replace(QUESTION, known=QUESTION.known[::-1]),
    "ready failure share": lambda: replace(READY, failure_share=2**61 - 1),
    "ready reply failure share": lambda: replace(REPLY, failure_share=2**61 - 1),
    "ready ticket": lambda: replace(READY, ticket_digest=b""),
    "header sender": lambda: replace(HEADER, sender=-1),
    "header hash": lambda: replace(HEADER, announcement_hash=bytes(31)),
    "header counts out of order": lambda: replace(HEADER, counting=((2, D), (1, D))),
    "header counts twice": lambda: replace(HEADER, counting=((1, D), (1, D))),
    "header counts its sender": lambda: replace(HEADER, counting=((0, D), (1, D))),
    "header counts nobody known": lambda: replace(HEADER, counting=((2**16, D),)),
    "header counts by no hash": lambda: replace(HEADER, counting=((1, b""),)),
    "survivors ticket": lambda: replace(SURVIVORS, ticket_digest=b""),
    "survivors headers digest": lambda: replace(SURVIVORS, headers_digest=b""),
    "survivors signature": lambda: replace(SURVIVORS, signature=b""),
    "survivors header twice": lambda: replace(SURVIVORS, headers=(HEADER, HEADER)),
    "survivors headers out of order": lambda: replace(
        SURVIVORS, headers=tuple(reversed(SURVIVORS.headers))
    ),
    "survivors header of the dropped": lambda: replace(
        SURVIVORS, headers=(replace(HEADER, sender=3),)
    ),
    "agreement digest": lambda: replace(AGREEMENT, survivors_digest=b""),
    "agreement peer": lambda: replace(AGREEMENT, peer=-1),
    "agreement signature": lambda: replace(AGREEMENT, signature=b""),
    "shown dealer": lambda: replace(SHOWN, dealer=-1),
    "shown share": lambda: replace(SHOWN, share=Secret(b"")),
    "shown sibling": lambda: replace(SHOWN, sibling=b""),
    "shown path": lambda: replace(SHOWN, path=(NODE,) * 17),
    "answer ticket": lambda: replace(ANSWER, ticket_digest=b""),
    "answer holder": lambda: replace(ANSWER, holder=2**16),
    "additive share ticket": lambda: AdditiveShare(b"", b""),
}


@pytest.mark.parametrize("build", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_message_cannot_be_built(build: Callable[[], object]) -> None:
    with pytest.raises(RemoteError) as error:
        build()
    assert error.value.reason is Reason.MALFORMED


def test_the_edges_are_good() -> None:
    assert replace(ANNOUNCEMENT, dealer=2**16 - 1).dealer == 2**16 - 1
    assert len(replace(DEALT, path=(NODE,) * 16).path) == 16


def test_an_announcement_from_beyond_the_cohort_is_refused() -> None:
    ticket = make_ticket(3).ticket
    stranger = replace(ANNOUNCEMENT, ticket_digest=ticket.digest, dealer=3)
    with pytest.raises(RemoteError) as error:
        stranger.check(ticket, keyring_of(ticket.cohort))
    assert error.value.reason is Reason.NOT_IN_COHORT


def test_a_header_from_beyond_the_cohort_is_refused() -> None:
    ticket = make_ticket(3).ticket
    signature = signer_of("peer-00003")(header_bytes(ticket.digest, 3, D, (), 0))
    with pytest.raises(RemoteError) as error:
        Header(ticket.digest, 3, D, (), signature, 0).check(ticket, keyring_of(ticket.cohort))
    assert error.value.reason is Reason.NOT_IN_COHORT


def test_an_announcements_hash_binds_all_but_the_signature() -> None:
    changed = [
        replace(ANNOUNCEMENT, **{name: b"\x01" * len(getattr(ANNOUNCEMENT, name))})
        for name in ("ticket_digest", "public_key", "commitment", "shares_root")
    ]
    hashes = {item.hash for item in [ANNOUNCEMENT, replace(ANNOUNCEMENT, dealer=1), *changed]}
    assert len(hashes) == 6
    assert replace(ANNOUNCEMENT, signature=b"\x01" * 64).hash == ANNOUNCEMENT.hash
