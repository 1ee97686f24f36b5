"""Signatures: only the signer's, over the very message; whatever else is given is False, never raised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.signing import KeyTable, signer, verify
from support.network import key_of, signer_of

KEY = key_of("peer-1")


def test_a_signature_verifies_for_its_message_and_signer_alone() -> None:
    signature = signer_of("peer-1")(b"message")
    table = KeyTable({"peer-1": KEY.public_key(), "peer-2": key_of("peer-2").public_key()})
    assert table.verify("peer-1", b"message", signature)
    assert not table.verify("peer-1", b"messagf", signature)
    assert not table.verify("peer-2", b"message", signature)
    assert not table.verify("nobody", b"message", signature)


def test_signatures_are_randomised_unless_asked_otherwise() -> None:
    assert signer(KEY)(b"m") != signer(KEY)(b"m")
    assert signer_of("peer-1")(b"m") == signer_of("peer-1")(b"m")


@given(st.one_of(st.binary(max_size=80), st.binary(min_size=64, max_size=64)))
def test_garbage_is_no_signature(garbage: bytes) -> None:
    assert not verify(KEY.public_key(), b"message", garbage)


def test_edges_of_the_scalar_range_are_no_signature() -> None:
    zero, one, top = bytes(32), bytes(31) + b"\x01", b"\xff" * 32
    for r in (zero, one, top):
        for s in (zero, one, top):
            assert not verify(KEY.public_key(), b"message", r + s)
