"""What a peer uploads looks uniform, whatever its update; without masks the same tests fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from smpcfl.protocol import trailer
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from support.network import Network, Round, entropy_from, make_ticket
from support.statistics import CHI_SQUARE_LIMIT, chi_square, correlation, correlation_limit
from support.weakened import Unmasked, UnmaskedAdditive

ROUNDS = 60
VICTIM = "peer-00001"


@dataclass
class FreshSecrets(Network):
    """Every peer draws its secrets from `entropy`, by default the system's."""

    entropy: Callable[[int], bytes] = os.urandom

    def _round(self, peer: str) -> Round:
        if self.ticket.mode == ADDITIVE:
            return self.additive_class(self.signed, peer, self.signer_of(peer), self.entropy)
        return self.round_class(
            self.signed, peer, self.policy, self.signer_of(peer), self.keyring, self.entropy
        )


def constant_update(width: int, body: int) -> RingVector:
    """Small signed numbers, as updates are; the same ones in every round."""
    values = np.random.default_rng(1).normal(0, 300, body).astype(np.int64)
    return RingVector.of(
        values.astype(np.uint64).astype(np.dtype(f"<u{width // 8}")),
        trailer.encode(trailer.Trailer(1, 1, 1, 10, 10, 0, 1, 0), 10),
    )


def uploads_of_victim(mode: str, width: int, **options: Any) -> tuple[bytes, bytes]:
    """All uploads of the victim, and its updates, each of ROUNDS rounds joined."""
    uploads, updates = [], []
    for number in range(1, ROUNDS + 1):
        signed = make_ticket(4, mode=mode, width=width, body=400, serial=number)
        network = FreshSecrets(signed, seed=number, cheap=True, **options)
        network.addends[VICTIM] = constant_update(width, 400)
        network.until("upload")
        uploads.append(network.uploads[VICTIM].vector)
        updates.append(network.addends[VICTIM].tobytes())
    assert len(set(updates)) == 1
    return b"".join(uploads), b"".join(updates)


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_uploads_are_uniform_and_independent_of_the_update(mode: str, width: int) -> None:
    uploads, updates = uploads_of_victim(mode, width)
    assert chi_square(uploads) < CHI_SQUARE_LIMIT
    assert abs(correlation(uploads, updates)) < correlation_limit(len(uploads))


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_the_same_tests_fail_without_masks(mode: str, width: int) -> None:
    weakened: dict[str, Any] = {"round_class": Unmasked, "additive_class": UnmaskedAdditive}
    uploads, updates = uploads_of_victim(mode, width, **weakened)
    assert chi_square(uploads) > 10 * CHI_SQUARE_LIMIT
    assert correlation(uploads, updates) > 10 * correlation_limit(len(uploads))


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_no_upload_repeats(mode: str) -> None:
    uploads, _ = uploads_of_victim(mode, 16)
    size = len(uploads) // ROUNDS
    assert len({uploads[i * size : (i + 1) * size] for i in range(ROUNDS)}) == ROUNDS


class SelfMaskAlone(PeerRound):
    """Pair masks left out: uniform to a statistician, bare to an aggregator that gets b."""

    def masks(self, *arguments: Any, **options: Any) -> Any:
        masks, header = super().masks(*arguments, **options)
        return type(masks)(masks.self_key, (), ()), header


def test_statistics_alone_do_not_prove_the_pair_masks() -> None:
    # Why tests/adversary exists: each mask alone passes this file.
    uploads, _ = uploads_of_victim(SEEDED, 16, round_class=SelfMaskAlone)
    assert chi_square(uploads) < CHI_SQUARE_LIMIT


def test_even_with_the_same_entropy_another_ticket_gives_other_masks() -> None:
    seen = set()
    for serial in (1, 2):
        signed = make_ticket(4, serial=serial, body=400)
        network = FreshSecrets(signed, cheap=True, entropy=entropy_from("stuck"))
        network.addends[VICTIM] = constant_update(16, 400)
        network.until("upload")
        seen.add(network.uploads[VICTIM].vector)
    assert len(seen) == 2
