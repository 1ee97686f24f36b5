"""Known answers of what a peer's policy and its ledger refuse."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from smpcfl.protocol import trailer
from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.ledger import Latest, Ledger, Seen
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import EVALUATE, Deadlines
from vectors.files import Json, case, refused, topic
from vectors.given import five, message_json, signed, some

NOW_MS = 1_700_000_000_000
TEN = tuple(f"peer-{place}" for place in range(10))


def _admit(
    changes: dict[str, Any] | None = None,
    *,
    by: str = "aggregator",
    policy: Json | None = None,
    **state: Any,
) -> Json:
    """A ticket, the policy where it is not the default, and what the peer remembers."""
    one = signed(replace(five().ticket, **(changes or {})), by)
    return {
        "ticket": "five peers",
        "change": {name: message_json(value) for name, value in (changes or {}).items()},
        "signature": one.signature.hex(),
        "me": state.get("me", "alpha"),
        "policy": policy or {},
        "highest_serial": state.get("highest_serial", NOW_MS - 1),
        "running": state.get("running", ""),
        "now_ms": NOW_MS,
        "tickets": state.get("tickets", []),
        "configurations": state.get("configurations", []),
    }


def policy() -> Json:
    hour = 3_600_000
    digest = five().ticket.digest.hex()
    full = [NOW_MS - hour + 1 + place for place in range(60)]
    six = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot")
    late = Deadlines(unmask=hour + 1)
    evaluating = {"task": EVALUATE, "body": 0, "wide": 4 + trailer.LENGTH}
    least = replace(five().ticket, clip=2.0**-10, weight_cap=16)
    admitted = {
        "a new ticket": (_admit(), True),
        "the ticket now running": (_admit(running=digest, highest_serial=NOW_MS), False),
        "a serial an hour ahead": (_admit({"serial": NOW_MS + hour}), True),
        "limits at their least": (_admit({"clip": least.clip, "weight_cap": 16}), True),
        "60 tickets, the first an hour ago": (
            _admit(tickets=[NOW_MS - hour, *full[1:]]),
            True,
        ),
        "an evaluation": (_admit(evaluating), True),
        "weighted by a metric that it allows": (
            _admit({"weighted_by": "images"}, policy={"weighted_by": ["images"]}),
            True,
        ),
        "a pinned cohort": (_admit(policy={"members": list(six)}), True),
    }
    vectors = [case("admit", name, given, {"new": new}) for name, (given, new) in admitted.items()]
    cases = [
        ("signed by the registry", _admit(by="registry"), "bad_signature"),
        ("for others", _admit(me="foxtrot"), "not_in_cohort"),
        ("a mode that is not its own", _admit({"mode": "additive"}), "policy_mode"),
        ("a cohort of four", _admit({"cohort": six[:4], "threshold": 3}), "policy_cohort"),
        ("a cohort below its own minimum", _admit(policy={"min_cohort": 6}), "policy_cohort"),
        ("a stranger", _admit(policy={"members": list(six[:4])}), "policy_members"),
        ("two survivors are enough", _admit({"min_survivors": 2}), "policy_survivors"),
        ("fewer survivors than its own", _admit(policy={"min_survivors": 4}), "policy_survivors"),
        ("a threshold of half", _admit({"threshold": 2}), "policy_threshold"),
        (
            "exactly two thirds",
            _admit({"cohort": (*six, "golf"), "threshold": 4}),
            "policy_threshold",
        ),
        ("a width that it does not take", _admit(policy={"widths": [32, 64]}), "policy_range"),
        ("a clip too small", _admit({"clip": 2.0**-11}), "policy_range"),
        ("a clip too large", _admit({"clip": 2.0**17}), "policy_range"),
        ("a weight cap too small", _admit({"weight_cap": 15}), "policy_range"),
        ("a weight cap too large", _admit({"weight_cap": 2**20 + 1}), "policy_range"),
        ("weighted by a loss", _admit({"weighted_by": "loss"}), "policy_range"),
        ("a vector too long", _admit({"body": 2**29}), "policy_range"),
        ("deadlines too late", _admit({"deadlines": late}), "policy_range"),
        ("a serial that it accepted before", _admit(highest_serial=NOW_MS), "stale_serial"),
        (
            "a serial more than an hour ahead",
            _admit({"serial": NOW_MS + hour + 1}),
            "future_serial",
        ),
        ("the 61st ticket in an hour", _admit(tickets=full), "too_many_tickets"),
        (
            "another configuration over this model",
            _admit(configurations=[some("x", 32).hex()]),
            "second_configuration",
        ),
    ]
    bad = [refused("admit", name, given, reason) for name, given, reason in cases]
    what = (
        "Which tickets a peer follows. `policy` holds what differs from the defaults: "
        + ", ".join(f"{name} {_shown(value)}" for name, value in asdict(Policy()).items())
        + ". `tickets`: when it accepted some, Unix ms; `configurations`: digests over this model."
    )
    return topic(what, "5", vectors, bad)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(str(part) for part in value)
    return str(value) if value else "none"


def ledger() -> Json:
    one = five(cohort=TEN, threshold=7, min_survivors=3).ticket
    vectors, bad = [], []
    ten, nine, seven = list(range(10)), list(range(9)), list(range(7))
    for name, sets, asked, reason in (
        ("the first set", [], ten, ""),
        ("the same set again", [ten], ten, ""),
        ("three apart", [ten], seven, ""),
        ("the second of two again", [ten, seven], seven, ""),
        ("one apart", [ten], nine, "conflicting_survivors"),
        ("two apart, of equal size", [nine], [*range(8), 9], "conflicting_survivors"),
        ("three apart, and nothing more", [nine], list(range(6)), ""),
        ("a third set", [ten, seven], [*range(3, 10)], "conflicting_survivors"),
    ):
        given = {"cohort": list(TEN), "sets": sets, "survivors": asked}
        if reason:
            bad.append(refused("agree", name, given, reason))
        else:
            vectors.append(case("agree", name, given, {}))
    for name, sets, peers in (
        ("nothing agreed to yet", [], ten),
        ("all were summed, all are here", [ten], ten),
        ("all were summed, one is missing", [ten], nine),
        ("seven were summed, all are here", [seven], ten),
        ("two sets, one is still here", [ten, seven], nine),
        ("two sets, none is here", [ten, seven], [0, 1, 2, 3]),
    ):
        seen = Seen(sets=tuple(frozenset(TEN[j] for j in members) for members in sets))
        book = Ledger({one.model_digest: seen})
        found = book.apart(one.model_digest, [TEN[j] for j in peers], Policy())
        given = {"cohort": list(TEN), "sets": sets, "peers": peers}
        output = {"cohort": sorted(TEN.index(peer) for peer in found)}
        vectors.append(case("apart", name, given, output))
    vectors += [_history(name, events) for name, events in HISTORIES.items()]
    for name, trained, peers in (
        ("nothing trained yet", [], nine),
        ("all of the last training are here", nine, ten),
        ("one of them is missing", ten, nine),
        ("three of them are missing", ten, seven),
    ):
        latest = Latest(survivors=frozenset(TEN[j] for j in trained))
        found = Ledger(latest=latest).evaluators([TEN[j] for j in peers], Policy())
        given = {"cohort": list(TEN), "trained": trained, "peers": peers}
        output = {"cohort": sorted(TEN.index(peer) for peer in found)}
        vectors.append(case("evaluators", name, given, output))
    what = (
        "Survivor sets over one model, by cohort index: which a peer agrees to, which cohort may be asked."
        " `history`: tickets in order, each with its task, the first byte of its model's digest (all bytes"
        " are the same), the survivors whom the peer is asked to agree to, and how many of them failed; and"
        " why it is refused, if it is."
    )
    return topic(what, "5", vectors, bad)


ALL, LESS_ONE, LESS_THREE = [*range(10)], [*range(9)], [*range(7)]
HOUR = 3_600_000
Event = tuple[str, int, list[int], int, int]
"""Task, model, survivors, failed, milliseconds."""
HISTORIES: dict[str, list[Event]] = {
    "each model is evaluated before it is trained on": [
        ("train", 1, ALL, 0, 0),
        ("evaluate", 2, ALL, 0, 1),
        ("train", 2, ALL, 0, 2),
        ("evaluate", 3, ALL, 0, 3),
        ("train", 3, LESS_ONE, 0, 4),
        ("evaluate", 4, LESS_ONE, 0, 5),
    ],
    "a model is evaluated once": [
        ("evaluate", 1, ALL, 0, 0),
        ("evaluate", 1, ALL, 0, 1),
        ("train", 1, ALL, 0, 2),
        ("evaluate", 1, ALL, 0, 3),
    ],
    "one whose survivors were refused may be asked for again": [
        ("train", 1, ALL, 0, 0),
        ("evaluate", 2, LESS_ONE, 0, 1),
        ("evaluate", 2, ALL, 0, 2),
    ],
    "no other model until the one evaluated is trained on, or an hour is over": [
        ("train", 1, ALL, 0, 0),
        ("evaluate", 2, ALL, 0, 1),
        ("evaluate", 3, ALL, 0, 2),
        ("evaluate", 1, ALL, 0, 3),
        ("train", 4, ALL, 0, 4),
        ("evaluate", 3, ALL, 0, HOUR),
        ("evaluate", 3, ALL, 0, HOUR + 1),
        ("train", 3, ALL, 0, HOUR + 2),
        ("evaluate", 5, ALL, 0, HOUR + 3),
    ],
    "over the survivors of the training before": [
        ("train", 1, ALL, 0, 0),
        ("evaluate", 2, LESS_ONE, 0, 1),
        ("evaluate", 2, LESS_THREE, 0, 2),
    ],
    "and over those of all trainings on the same model": [
        ("train", 1, ALL, 0, 0),
        ("train", 2, LESS_ONE, 0, 1),
        ("evaluate", 1, LESS_ONE, 0, 2),
        ("evaluate", 1, ALL, 0, 3),
    ],
    "an evaluation with a failure, of a model that was trained on": [
        ("train", 1, ALL, 0, 0),
        ("evaluate", 1, ALL, 1, 1),
    ],
    "an evaluation of a model on which a training failed": [
        ("train", 1, ALL, 1, 0),
        ("evaluate", 1, ALL, 0, 1),
    ],
    "an evaluation with a failure binds no training": [
        ("evaluate", 1, ALL, 1, 0),
        ("train", 1, ALL, 0, 1),
        ("train", 1, ALL, 0, 2),
    ],
}


def _history(name: str, events: list[Event]) -> Json:
    book, refusals = Ledger(), []
    train = five(cohort=TEN, threshold=7, min_survivors=3).ticket
    for task, model, survivors, failed, at_ms in events:
        ticket = replace(train, model_digest=bytes([model]) * 32)
        if task == EVALUATE:
            ticket = replace(ticket, task=task, body=0, wide=4 + trailer.LENGTH)
        try:
            book.check(ticket, Policy(), NOW_MS + at_ms)
            book.accept(ticket, NOW_MS + at_ms)
            book.agree(ticket, survivors, Policy())
            book.answer(ticket, failed)
            refusals.append("")
        except RemoteError as error:
            refusals.append(error.reason.value)
    given = {
        "cohort": list(TEN),
        "tickets": [
            dict(zip(("task", "model", "survivors", "failed", "at_ms"), event, strict=True))
            for event in events
        ],
    }
    return case("history", name, given, {"refused": refusals})


TOPICS = {"policy": policy, "ledger": ledger}
