"""Threshold sharing: any t shares give the secret, t-1 say nothing about it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.shamir import PRIME, SHARE_BYTES, combine, split
from support.network import entropy_from

secrets = st.binary(min_size=32, max_size=32)
EDGES = [bytes(32), bytes(31) + b"\x01", b"\xff" * 32]


def is_probable_prime(n: int, rounds: int = 40) -> bool:
    """Miller-Rabin: a composite passes with probability at most 4^-rounds."""
    if n % 2 == 0 or n < 3:
        return n == 2
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    rng = random.Random(n)
    for _ in range(rounds):
        x = pow(rng.randrange(2, n - 1), odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def evaluate(points: dict[int, int], at: int) -> int:
    """The value at `at` of the polynomial of least degree through `points`, mod PRIME."""
    total = 0
    for x, y in points.items():
        top = bottom = 1
        for other in points.keys() - {x}:
            top = top * (at - other) % PRIME
            bottom = bottom * (x - other) % PRIME
        total += y * top * pow(bottom, -1, PRIME)
    return total % PRIME


def outcome(shares: Mapping[int, bytes]) -> Secret | Reason:
    """What the shares give: a secret, or why they give none."""
    try:
        return combine(shares)
    except RemoteError as error:
        return error.reason


def test_prime_is_the_least_above_every_32_byte_secret() -> None:
    assert is_probable_prime(PRIME)
    assert not any(is_probable_prime(n) for n in range(2**256 + 1, PRIME))
    assert PRIME < 256**SHARE_BYTES


@pytest.mark.parametrize("secret", EDGES)
@pytest.mark.parametrize(("threshold", "holders"), [(1, 1), (1, 3), (2, 2), (3, 4), (5, 7)])
def test_any_threshold_of_holders_reconstructs(secret: bytes, threshold: int, holders: int) -> None:
    shares = dict(enumerate(split(secret, threshold, holders, entropy_from(secret)), 1))
    for chosen in combinations(shares, threshold):
        assert combine({x: shares[x] for x in chosen}) == secret


@given(secrets, st.integers(1, 30), st.data())
def test_more_than_the_threshold_reconstructs_too(
    secret: bytes, holders: int, data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(1, holders))
    shares = dict(enumerate(split(secret, threshold, holders, entropy_from(secret)), 1))
    order = data.draw(st.permutations(list(shares)))
    count = data.draw(st.integers(threshold, holders))
    assert combine({x: shares[x] for x in order[:count]}) == secret


@given(secrets, secrets, st.integers(2, 12))
def test_one_share_too_few_is_consistent_with_every_secret(
    secret: bytes, candidate: bytes, threshold: int
) -> None:
    shares = split(secret, threshold, threshold, entropy_from(secret))
    seen = {x: int.from_bytes(share, "big") for x, share in enumerate(shares[:-1], 1)}
    # The one polynomial of degree t-1 through all that is seen and through the candidate:
    last = evaluate({0: int.from_bytes(candidate, "big"), **seen}, threshold)
    completed = {x: y.to_bytes(SHARE_BYTES, "big") for x, y in {**seen, threshold: last}.items()}
    assert combine(completed) == candidate


def test_one_share_too_few_does_not_reconstruct() -> None:
    secret = bytes(range(32))
    shares = dict(enumerate(split(secret, 4, 6, entropy_from(1)), 1))
    for chosen in combinations(shares, 3):
        assert outcome({x: shares[x] for x in chosen}) != secret


def test_every_coefficient_is_drawn() -> None:
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        return bytes(count)

    shares = split(b"\x07" * 32, 5, 6, entropy)
    assert drawn == [48] * 4  # 384 bits, so the reduction mod p is uniform up to 2^-127
    assert len(set(map(bytes, shares))) == 1  # all-zero coefficients: a constant polynomial


@pytest.mark.parametrize(("threshold", "holders"), [(0, 3), (4, 3), (-1, 1), (1, 0)])
def test_an_impossible_threshold_is_refused(threshold: int, holders: int) -> None:
    with pytest.raises(LocalError, match="threshold"):
        split(bytes(32), threshold, holders, entropy_from(1))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(LocalError, match="32 bytes"):
        split(bytes(length), 1, 1, entropy_from(1))


def test_shares_of_no_32_byte_secret_are_refused() -> None:
    with pytest.raises(RemoteError) as error:
        combine({1: (2**256).to_bytes(SHARE_BYTES, "big")})
    assert error.value.reason is Reason.BAD_SHARE


@given(st.dictionaries(st.integers(1, 40), st.binary(max_size=40), min_size=1, max_size=8))
def test_garbage_gives_a_secret_or_a_refusal_and_nothing_else(shares: dict[int, bytes]) -> None:
    found = outcome(shares)
    assert found is Reason.BAD_SHARE or (isinstance(found, Secret) and len(found) == 32)


def test_one_changed_share_changes_the_secret() -> None:
    secret = bytes(range(32))
    shares = dict(enumerate(split(secret, 3, 3, entropy_from(2)), 1))
    changed = {**shares, 2: (int.from_bytes(shares[2], "big") ^ 1).to_bytes(SHARE_BYTES, "big")}
    assert combine(changed) != secret
