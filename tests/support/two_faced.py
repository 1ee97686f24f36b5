"""Peers that announce one public key to some of their neighbours, and another to the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from smpcfl.protocol.announcement import Announcement, sign_announcement
from smpcfl.protocol.dealing import Secrets
from smpcfl.protocol.messages import Call, Exchange, Ready, ReadyReply
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.receipts import ListReply, ListRequest, Receipt, receipt_bytes


class TwoFaced(PeerRound):
    """Half of its neighbours see one face, half the other, in all messages. The shares are the same."""

    def second_face(self, to: int) -> bool:
        """Whether neighbour `to` sees the second one."""
        return self.neighbours.index(to) >= len(self.neighbours) // 2

    def _deal(self, entropy: Callable[[int], bytes]) -> Secrets:
        secrets, true = super()._deal(entropy), self.announcement
        key = bytes([9, *bytes(30), self.me])
        self.second = sign_announcement(
            self.ticket, self.me, key, true.commitment, true.shares_root, self._signer
        )
        return secrets

    def face(self, to: int) -> Announcement:
        return self.second if self.second_face(to) else self.announcement

    def exchange(self, sender: str, message: Exchange, now: float) -> Exchange:
        reply = super().exchange(sender, message, now)
        return replace(reply, announcement=self.face(self.ticket.index(sender)))

    def ready(self, sender: str, message: Ready, now: float) -> ReadyReply:
        return self._turned(super().ready(sender, message, now), self.ticket.index(sender))

    def calls(self, now: float) -> list[Call]:
        return [
            replace(call, message=self._turned(call.message, self.ticket.index(call.to)))
            for call in super().calls(now)
        ]

    def show_list(self, sender: str, message: ListRequest, now: float) -> ListReply:
        reply = super().show_list(sender, message, now)
        face = self.face(self.ticket.index(sender))
        shown = [face if item.dealer == self.me else item for item in reply.announcements]
        return ListReply(tuple(shown))

    def _turned(self, message: Any, to: int) -> Any:
        """The message with the face that `to` sees."""
        if isinstance(message, Exchange):
            return replace(message, announcement=self.face(to))
        if isinstance(message, Ready | ReadyReply):
            announcement = message.announcement and self.face(to)
            receipt = message.receipt and self._under(message.receipt, self.face(to))
            return replace(message, announcement=announcement, receipt=receipt)
        return message

    def _under(self, receipt: Receipt, face: Announcement) -> Receipt:
        """Its own receipt, as signed by somebody with this face."""
        listed = self._receipts._lists[self.me, receipt.number] | {self.me: face.hash}
        signed = receipt_bytes(self.ticket, self.me, receipt.number, listed)
        return replace(receipt, signature=self._signer(signed))


class TwoFacedToFew(TwoFaced):
    """As many as the threshold see one face, the last two the other."""

    def second_face(self, to: int) -> bool:
        return to in self.neighbours[self.ticket.threshold :]
