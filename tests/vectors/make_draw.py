"""Known answers of draws: the cut, what is signed of each group, and what a peer goes by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smpcfl.net.kept_draw import group_to_proto
from smpcfl.protocol.draw import Group, SignedGroup, cohort_digest, cut, make_groups
from vectors.files import Json, case, refused, topic
from vectors.given import Tape, message_json, signer_of, some

CA = "ca"
ISSUED = 1_760_000_000
PEERS = tuple(f"peer-{number:02}" for number in range(11))
FINGERPRINTS = {peer: some(f"fingerprint {peer}", 32) for peer in PEERS}


def groups() -> list[Group]:
    """Of eleven peers, one of whom is away."""
    return make_groups(
        FINGERPRINTS,
        PEERS[:-1],
        ca=some("ca certificate", 32),
        draw=ISSUED,
        issued=ISSUED,
        group_size=5,
        entropy=Tape(some("entropy draw", 8 * 200)),
    )


def draw() -> Json:
    entropy = some("entropy cut", 8 * 40)
    given = {"peers": list(PEERS), "group_size": 5, "entropy": entropy.hex()}
    vectors = [
        case(
            "cut",
            "eleven peers",
            given,
            {"groups": [list(group) for group in cut(PEERS, 5, Tape(entropy))]},
        ),
        case(
            "cohort",
            "all groups together",
            {"groups": [list(group.cohort) for group in groups()]},
            {"digest": cohort_digest([group.cohort for group in groups()]).hex()},
        ),
        *(_group(f"group {group.group} of eleven peers", group) for group in groups()),
    ]
    one = groups()[0]
    members = message_json(one)["members"]
    changes: dict[str, Json] = {
        "number 0": {"draw": 0},
        "a day and a second": {"expires": ISSUED + 86_401},
        "no life": {"expires": ISSUED},
        "group 0": {"group": 0},
        "a group beyond the last": {"group": 3},
        "members out of order": {"members": members[::-1]},
        "a member twice": {"members": [members[0], *members[:-1]]},
        "a fingerprint of 31 bytes": {"members": [[members[0][0], "00" * 31], *members[1:]]},
        "a group that is too small": {"members": members[:-2]},
        "a CA of 20 bytes": {"ca": "00" * 20},
        "nobody on the roster": {"roster": 0, "left_out": 0},
        "all left out": {"left_out": 11},
    }
    bad = [
        refused("group", name, {"fields": message_json(one) | change}, "malformed")
        for name, change in changes.items()
    ]
    bad.append(refused("cut", "nine peers", given | {"peers": list(PEERS[:9])}, "local_error"))
    bad += [
        refused("check", name, {"fields": message_json(changed), **known}, reason)
        for name, (changed, known, reason) in _checked(one).items()
    ]
    what = "Draws: random cuts into groups (entropy in draws of 8 bytes), and what the CA signs."
    return topic(what, "14", vectors, bad)


def _group(name: str, group: Group) -> Json:
    signature = signer_of(CA)(group.signed_bytes)
    wire = group_to_proto(SignedGroup(group, signature))
    return case(
        "group",
        name,
        {"fields": message_json(group)},
        {
            "signed": group.signed_bytes.hex(),
            "signature": signature.hex(),
            "wire": wire.SerializeToString(deterministic=True).hex(),
        },
    )


def _checked(one: Group) -> dict[str, tuple[Group, Json, str]]:
    def known(**changes: Any) -> Json:
        return {"ca": one.ca.hex(), "newest": 0, "now": ISSUED, **changes}

    left_out = replace(one, roster=12, left_out=1)
    return {
        "another deployment's": (one, known(ca="00" * 32), "bad_signature"),
        "an older draw": (one, known(newest=ISSUED + 1), "stale_draw"),
        "after a day": (one, known(now=ISSUED + 86_400), "expired_draw"),
        "one of twelve left out": (left_out, known(), "too_many_left_out"),
    }


TOPICS = {"draw": draw}
