"""One virtual peer: what the agent of a real one keeps, over the same core."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..net.agent_wire import Round
from ..net.certificates import fingerprint
from ..protocol.additive import AdditivePeerRound
from ..protocol.admission import Admission
from ..protocol.draw import Group
from ..protocol.grouping import Drawn, Grouping
from ..protocol.keystream import Secret, pair_key
from ..protocol.ledger import Ledger
from ..protocol.peer_round import PeerRound
from ..protocol.policy import Policy
from ..protocol.signing import Signer, signer, verify
from ..protocol.ticket import ADDITIVE, SignedTicket
from .costs import Costs


@dataclass
class PublicKeys:
    """Whose key is whose, for all virtual peers together.

    They are all in this process, so what several come to is calculated once: whether a signature is valid,
    and the key of a pair's mask.
    """

    keys: dict[str, ec.EllipticCurvePublicKey] = field(default_factory=dict)
    _known: dict[tuple[str, bytes, bytes], bool] = field(default_factory=dict, repr=False)
    _fingerprints: dict[str, bytes] = field(default_factory=dict, repr=False)
    _pairs: dict[tuple[bytes, frozenset[str]], Secret] = field(default_factory=dict, repr=False)

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        what = (name, hashlib.sha256(message).digest(), signature)
        if (found := self._known.get(what)) is None:
            key = self.keys.get(name)
            found = self._known[what] = key is not None and verify(key, message, signature)
        return found

    def fingerprint(self, name: str) -> bytes | None:
        """SHA-256 of this peer's key; None if there is no such peer."""
        if name not in self._fingerprints and name in self.keys:
            self._fingerprints[name] = bytes.fromhex(fingerprint(self.keys[name]))
        return self._fingerprints.get(name)

    def pair_key(
        self, private: X25519PrivateKey, public: bytes, ticket_digest: bytes, one: str, other: str
    ) -> Secret:
        """As `keystream.pair_key`; for the other one of the pair, what the first came to."""
        pair = ticket_digest, frozenset((one, other))
        if (found := self._pairs.pop(pair, None)) is None:
            found = self._pairs[pair] = pair_key(private, public, ticket_digest, one, other)
        return found

    def forget(self) -> None:
        """Nothing calculated so far will be asked for again."""
        self._known.clear()
        self._pairs.clear()


class VirtualPeer:
    """Its round is driven by a `VirtualCohort`. `node`: Flower's number of it.

    `policy`: its limits; `keys`: everybody's, to which its own is added; `needs_groups`: whether the
    deployment is large enough for groups.
    """

    def __init__(
        self,
        node: int,
        name: str,
        policy: Policy,
        keys: PublicKeys,
        needs_groups: Callable[[], bool],
    ) -> None:
        self.node = node
        self.name = name
        self.policy = policy
        self.round: Round | None = None
        self.costs = Costs()
        self.round_bytes = 0  # of `costs.p2p_bytes`, those of the open round
        self._keys = keys
        self._ledger = Ledger()
        self._drawn = Drawn()
        grouping = Grouping(name, self._drawn, needs_groups, keys.fingerprint)
        self._admission = Admission(name, policy, self, self._ledger, grouping)
        self._highest = 0
        key = ec.generate_private_key(ec.SECP256R1())
        keys.keys[name] = key.public_key()
        self._sign: Signer = signer(key)

    @property
    def fingerprint(self) -> bytes:
        """Of its key, as in a draw."""
        found = self._keys.fingerprint(self.name)
        assert found is not None
        return found

    def learn(self, group: Group) -> None:
        """Its own group, of the newest draw."""
        self._drawn.number, self._drawn.groups = group.draw, (group,)

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        """As this peer's keyring."""
        self.costs.verified += 1
        return self._keys.verify(name, message, signature)

    def _signed(self, message: bytes) -> bytes:
        self.costs.signed += 1
        return self._sign(message)

    def sent(self, count: int) -> None:
        """So many bytes went to another peer."""
        self.costs.p2p_bytes += count
        self.round_bytes += count

    def open_round(
        self,
        ticket: SignedTicket,
        now_ms: int,
        *,
        spread: bool,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Opens this ticket's round in place of the one before. RemoteError if the ticket is refused.

        `now_ms`: Unix milliseconds; `spread`: this is the peer that passes it on to all others.
        """
        self._admission.check(ticket, highest_serial=self._highest, running=None, now_ms=now_ms)
        self._highest = ticket.ticket.serial
        self._ledger.accept(ticket.ticket, now_ms)
        self.close_round()
        self.round_bytes = 0
        delay = 0.0 if spread else None
        if ticket.ticket.mode == ADDITIVE:
            self.round = AdditivePeerRound(ticket, self.name, self._signed, entropy, spread=delay)
            return
        self.round = PeerRound(
            ticket,
            self.name,
            self.policy,
            self._signed,
            self,
            entropy,
            ledger=self._ledger,
            spread=delay,
            agree=self._keys.pair_key,
        )

    def close_round(self) -> None:
        if self.round is not None:
            self.round.close()
            self.round = None
