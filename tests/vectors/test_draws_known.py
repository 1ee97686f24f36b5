"""Known answers of draws."""

from __future__ import annotations

from typing import Any

import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.net.kept_draw import group_from_proto, group_to_proto
from smpcfl.protocol.draw import Group, SignedGroup, cohort_digest, cut
from smpcfl.protocol.grouping import check_group
from vectors import reference
from vectors.files import Json, bad, good
from vectors.reading import keyring, raw, refuses, tape

GOOD, BAD = ("given", "found"), ("given", "reason")


def group_of(fields: Json) -> Group:
    members = tuple((peer, raw(key)) for peer, key in fields["members"])
    plain: dict[str, Any] = {
        name: raw(value) if name in ("ca", "cohort_digest") else int(value)
        for name, value in fields.items()
        if name != "members"
    }
    return Group(**plain, members=members)


@pytest.mark.parametrize(GOOD, good("draw", "cut"))
def test_cuts(given: Json, found: Json) -> None:
    assert [
        list(group) for group in cut(given["peers"], given["group_size"], tape(given["entropy"]))
    ] == found["groups"]
    assert (
        reference.cut(given["peers"], given["group_size"], tape(given["entropy"]))
        == (found["groups"])
    )


@pytest.mark.parametrize(BAD, bad("draw", "cut"))
def test_too_few_to_cut(given: Json, reason: str) -> None:
    refuses(reason, lambda: cut(given["peers"], given["group_size"], tape(given["entropy"])))


@pytest.mark.parametrize(GOOD, good("draw", "cohort"))
def test_who_is_in_a_draw(given: Json, found: Json) -> None:
    assert cohort_digest(given["groups"]).hex() == found["digest"]
    everyone = sorted(peer for group in given["groups"] for peer in group)
    assert reference.digest("draw cohort", everyone).hex() == found["digest"]


@pytest.mark.parametrize(GOOD, good("draw", "group"))
def test_statements(given: Json, found: Json) -> None:
    group = group_of(given["fields"])
    assert group.signed_bytes.hex() == found["signed"]
    assert keyring().verify("ca", raw(found["signed"]), raw(found["signature"]))
    signed = SignedGroup(group, raw(found["signature"]))
    assert group_to_proto(signed).SerializeToString(deterministic=True).hex() == found["wire"]
    assert group_from_proto(pb.SignedGroup.FromString(raw(found["wire"]))) == signed
    assert reference.group(given["fields"]).hex() == found["signed"]


@pytest.mark.parametrize(BAD, bad("draw", "group"))
def test_statements_that_are_malformed(given: Json, reason: str) -> None:
    refuses(reason, lambda: group_of(given["fields"]))


@pytest.mark.parametrize(BAD, bad("draw", "check"))
def test_statements_that_a_peer_does_not_go_by(given: Json, reason: str) -> None:
    group = group_of(given["fields"])
    refuses(reason, lambda: check_group(group, raw(given["ca"]), given["newest"], given["now"]))
