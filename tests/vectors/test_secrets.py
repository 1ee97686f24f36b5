"""Keys, keystreams and shares of known answers, by the code and by the protocol's text once more."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from smpcfl.protocol import failures, shamir
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.keystream import (
    Secret,
    check_public_key,
    commitment,
    expand,
    pair_key,
    self_key,
)
from smpcfl.protocol.masks import SeededMasks
from vectors import reference
from vectors.files import Json, bad, good
from vectors.reading import (
    layout,
    raw,
    raws,
    refuses,
    tape,
    whole,
)

GOOD = ("given", "found")
BAD = ("given", "reason")


@pytest.mark.parametrize(GOOD, good("keys", "public"))
def test_public_keys(given: Json, found: Json) -> None:
    assert reference.public_key(raw(given["private"])).hex() == found["public"]
    check_public_key(raw(found["public"]), "anyone")


@pytest.mark.parametrize(GOOD, good("keys", "self_key"))
def test_the_key_of_the_self_mask(given: Json, found: Json) -> None:
    parts = raw(given["self_seed"]), raw(given["ticket_digest"]), given["peer"]
    assert bytes(self_key(*parts)).hex() == found["key"]
    assert reference.self_key(*parts).hex() == found["key"]


@pytest.mark.parametrize(GOOD, good("keys", "commitment"))
def test_the_commitment_to_the_self_seed(given: Json, found: Json) -> None:
    parts = raw(given["self_seed"]), raw(given["ticket_digest"]), given["peer"]
    assert commitment(*parts).hex() == found["hash"]
    assert reference.commitment(*parts).hex() == found["hash"]


@pytest.mark.parametrize(BAD, bad("keys", "commitment"))
def test_a_seed_that_is_not_what_was_committed_to(given: Json, reason: str) -> None:
    assert reason == Reason.BAD_COMMITMENT
    parts = raw(given["self_seed"]), raw(given["ticket_digest"]), given["peer"]
    for commit in (commitment, reference.commitment):
        assert commit(*parts).hex() != given["hash"]


@pytest.mark.parametrize(GOOD, good("keys", "pair_key"))
def test_the_key_of_a_pair_mask(given: Json, found: Json) -> None:
    private, rest = raw(given["private"]), (raw(given["public"]), raw(given["ticket_digest"]))
    ids = given["me"], given["other"]
    ours = pair_key(X25519PrivateKey.from_private_bytes(private), *rest, *ids)
    assert bytes(ours).hex() == found["key"]
    assert reference.pair_key(private, *rest, *ids).hex() == found["key"]


@pytest.mark.parametrize(BAD, bad("keys", "pair_key"))
def test_public_keys_that_are_refused(given: Json, reason: str) -> None:
    private = X25519PrivateKey.from_private_bytes(raw(given["private"]))
    public = raw(given["public"])
    refuses(reason, lambda: check_public_key(public, "anyone"))
    top_bit = public[:-1] + bytes([public[-1] | 128])  # X25519 does not look at it
    refuses(reason, lambda: check_public_key(top_bit, "anyone"))
    refuses(reason, lambda: pair_key(private, public, raw(given["ticket_digest"]), "a", "b"))


@pytest.mark.parametrize(GOOD, good("keystream", "expand"))
def test_keystreams_of_every_width(given: Json, found: Json) -> None:
    shape, key = layout(given["layout"]), raw(given["key"])
    ours = expand(Secret(key), shape)
    assert ours.tobytes().hex() == found["bytes"]
    assert shape.nbytes == found["nbytes"]
    assert shape.parse(raw(found["bytes"])) == ours
    parts = [[whole(x) for x in found[part]] for part in ("body", "wide")]
    assert [ours.body.tolist(), ours.wide.tolist()] == parts
    stream = reference.keystream(key, shape.width, shape.body, shape.wide)
    assert list(stream) == parts
    assert reference.joined(stream, shape.width).hex() == found["bytes"]


@pytest.mark.parametrize(GOOD, good("keystream", "mask"))
def test_a_vector_with_its_masks(given: Json, found: Json) -> None:
    shape = layout(given["layout"])
    plus, minus = raws(given["plus"]), raws(given["minus"])
    own = raw(given["self_key"])
    masks = SeededMasks(Secret(own), tuple(map(Secret, plus)), tuple(map(Secret, minus)))
    assert (
        masks.apply(shape.parse(bytearray(raw(given["addend"])))).tobytes().hex() == found["bytes"]
    )
    total = reference.elements(raw(given["addend"]), shape.width, shape.body)
    for sign, keys in ((1, [own, *plus]), (-1, minus)):
        for key in keys:
            stream = reference.keystream(key, shape.width, shape.body, shape.wide)
            total = reference.added(total, stream, shape.width, sign)
    assert reference.joined(total, shape.width).hex() == found["bytes"]


@pytest.mark.parametrize(BAD, bad("keystream", "parse") + bad("keystream", "layout"))
def test_vectors_that_are_refused(given: Json, reason: str) -> None:
    refuses(reason, lambda: layout(given["layout"]).parse(raw(given["bytes"])))


@pytest.mark.parametrize(GOOD, good("shamir", "split"))
def test_shares_of_a_secret_and_back(given: Json, found: Json) -> None:
    secret, threshold, holders = raw(given["secret"]), given["threshold"], given["holders"]
    shares = raws(found["shares"])
    assert shamir.split(secret, threshold, holders, tape(given["entropy"])) == shares
    for first in range(holders - threshold + 1):
        chosen = {x: shares[x - 1] for x in range(first + 1, first + 1 + threshold)}
        assert shamir.combine(chosen) == secret
        points = {x: int.from_bytes(share, "big") for x, share in chosen.items()}
        back = reference.at_zero(points, reference.SHARE_PRIME)
        assert back.to_bytes(32, "big") == secret
    coefficients = reference.drawn(raw(given["entropy"]), 48, reference.SHARE_PRIME)
    curve = [int.from_bytes(secret, "big"), *coefficients]
    for x, share in enumerate(shares, 1):
        value = reference.polynomial(curve, x, reference.SHARE_PRIME)
        assert value.to_bytes(33, "big") == share


@pytest.mark.parametrize(BAD, bad("shamir", "combine"))
def test_shares_that_are_refused(given: Json, reason: str) -> None:
    shares = {int(x): raw(share) for x, share in given["shares"].items()}
    refuses(reason, lambda: shamir.combine(shares))


@pytest.mark.parametrize(BAD, bad("shamir", "split"))
def test_what_cannot_be_shared(given: Json, reason: str) -> None:
    parts = raw(given["secret"]), given["threshold"], given["holders"], tape(given["entropy"])
    refuses(reason, lambda: shamir.split(*parts))


@pytest.mark.parametrize(GOOD, good("failures", "draw"))
def test_elements_of_the_small_field(given: Json, found: Json) -> None:
    assert failures.draw(tape(given["entropy"])) == whole(found["element"])
    (element,) = reference.drawn(raw(given["entropy"]), 24, reference.FAILURE_PRIME)
    assert element == whole(found["element"])


@pytest.mark.parametrize(GOOD, good("failures", "split"))
def test_shares_of_an_element(given: Json, found: Json) -> None:
    secret, shares = whole(given["secret"]), [whole(share) for share in found["shares"]]
    entropy = given["entropy"]
    assert failures.split(secret, given["threshold"], given["peers"], tape(entropy)) == shares
    curve = [secret, *reference.drawn(raw(entropy), 24, reference.FAILURE_PRIME)]
    prime = reference.FAILURE_PRIME
    assert [reference.polynomial(curve, j + 1, prime) for j in range(given["peers"])] == shares
    assert reference.at_zero({j + 1: shares[j] for j in (0, 1, 3, 4)}, prime) == secret


@pytest.mark.parametrize(GOOD, good("failures", "hide"))
def test_a_failure_that_is_hidden(given: Json, found: Json) -> None:
    secret, hidden = whole(given["secret"]), whole(found["masked_failure"])
    assert failures.hide(given["failed"], secret) == hidden
    assert (hidden + secret) % reference.FAILURE_PRIME == given["failed"]


@pytest.mark.parametrize(GOOD, good("failures", "opened"))
def test_failures_that_are_counted(given: Json, found: Json) -> None:
    hidden = [whole(value) for value in given["hidden"]]
    sums = {int(j): whole(value) for j, value in given["sums"].items()}
    assert failures.opened(hidden, sums) == found["failed"]
    prime = reference.FAILURE_PRIME
    masks = reference.at_zero({j + 1: value for j, value in sums.items()}, prime)
    assert (sum(hidden) + masks) % prime == found["failed"]
