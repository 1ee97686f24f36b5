"""The messages of one seeded round on the wire: what inputs are made from.

`python -m fuzz.recorded`, in tests/, writes them to corpus/ anew after a change of the wire.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from smpcfl.net import wire
from smpcfl.net.kinds import KINDS
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.messages import Answer, Exchange, PeerMessage
from support.network import Network, make_ticket
from support.two_faced import TwoFaced
from support.weakened import one_is

CORPUS = Path(__file__).parent / "corpus"
LOST = "peer-00004"


class Recording(Network):
    """Keeps the first two of each kind of message, as bytes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: dict[str, list[bytes]] = {}

    def keep(self, kind: str, message: object) -> None:
        raw = message.SerializeToString()  # type: ignore[attr-defined]
        kept = self.seen.setdefault(kind, [])
        if len(kept) < 2 and raw not in kept:
            kept.append(raw)

    def handle(self, to: str, sender: str, message: PeerMessage) -> PeerMessage | None:
        reply = super().handle(to, sender, message)
        row = KINDS[type(message)]
        for codec, item in ((row.request, message), (row.reply, reply)):
            if item is not None:
                self.keep(codec.proto.DESCRIPTOR.name, codec.write(item))
            if isinstance(item, Exchange):
                self.keep("Announcement", wire.announcement_to_proto(item.announcement))
        return reply

    def take_answer(self, peer: str, answer: Answer) -> None:
        super().take_answer(peer, answer)
        self.keep("Answer", wire.answer_to_proto(answer))


class RecordingAll(Recording):
    """Keeps all messages of each kind."""

    def keep(self, kind: str, message: object) -> None:
        self.seen.setdefault(kind, []).append(message.SerializeToString())  # type: ignore[attr-defined]


def troubled() -> dict[str, list[bytes]]:
    """The two longest messages of each kind of ready: with relays, proofs, announcements and lists.

    Of eight peers of which two cannot reach each other, and one has two announcements.
    """
    pair = {("peer-00000", "peer-00001"), ("peer-00001", "peer-00000")}
    network = RecordingAll(make_ticket(8), cut=pair, round_class=one_is(LOST, TwoFaced))
    assert network.run() == network.expected()
    kinds = ("Ready", "ReadyReply", "ListRequest", "ListReply")
    return {
        kind: sorted(set(network.seen[kind]), key=lambda raw: (len(raw), raw))[-2:]
        for kind in kinds
    }


@cache
def played() -> Recording:
    """A round of five peers of which one is lost after its ready, so that all kinds of share are shown."""
    network = Recording(make_ticket(5), lost={LOST: "upload"})
    network.keep("SignedTicket", wire.ticket_to_proto(network.signed))
    assert network.run() == network.expected()
    assert [error for _, error in network.errors if error.reason is not Reason.WRONG_PHASE] == []
    for peer in network.survivors[:2]:
        upload = network.uploads[peer]
        network.keep("UploadMeta", wire.upload_meta_to_proto(upload.header, upload.announcement))
        network.keep("Header", wire.header_to_proto(upload.header))
        network.keep("Survivors", wire.survivors_to_proto(network.shown(peer), network.ticket))
    return network


def corpus() -> dict[str, list[bytes]]:
    """As kept in the repository."""
    found: dict[str, list[str]] = json.loads((CORPUS / "round.json").read_text())
    return {kind: [bytes.fromhex(item) for item in items] for kind, items in found.items()}


def found_before() -> dict[str, list[bytes]]:
    """Inputs that broke something once, by target."""
    found: dict[str, list[str]] = json.loads((CORPUS / "found.json").read_text())
    return {name: [bytes.fromhex(item) for item in items] for name, items in found.items()}


def recorded() -> dict[str, list[bytes]]:
    """What is to be in the corpus."""
    seen, more = played().seen, troubled()
    return {kind: seen.get(kind, []) + more.get(kind, []) for kind in sorted({*seen, *more})}


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    texts = {kind: [raw.hex() for raw in kept] for kind, kept in recorded().items()}
    (CORPUS / "round.json").write_text(json.dumps(texts, indent=1) + "\n")
