"""A peer's policy and its ledger allow and refuse what the files of known answers say."""

from __future__ import annotations

import pytest

from smpcfl.protocol.admission import Admission
from smpcfl.protocol.ledger import Latest, Ledger, Seen
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import Ticket
from vectors.files import Json, bad, good
from vectors.reading import keyring, raw, raws, refuses, ticket, ticket_fields, ticket_of

GOOD = ("given", "found")
BAD = ("given", "reason")
NOW_MS = 1_700_000_000_000


def policy_of(given: Json) -> Policy:
    members = frozenset(given.get("members", ()))
    rest = {name: value for name, value in given.items() if name != "members"}
    return Policy(
        members=members, **{n: tuple(v) if isinstance(v, list) else v for n, v in rest.items()}
    )


def admitted(given: Json) -> bool:
    signed = ticket_of(ticket_fields(given["ticket"]) | given["change"], given["signature"])
    seen = Seen(configurations=tuple(raws(given["configurations"])))
    ledger = Ledger({signed.ticket.model_digest: seen}, given["tickets"])
    admission = Admission(given["me"], policy_of(given["policy"]), keyring(), ledger)
    running = raw(given["running"]) or None
    return admission.check(
        signed, highest_serial=given["highest_serial"], running=running, now_ms=given["now_ms"]
    )


@pytest.mark.parametrize(GOOD, good("policy", "admit"))
def test_tickets_that_a_peer_follows(given: Json, found: Json) -> None:
    assert admitted(given) is found["new"]


@pytest.mark.parametrize(BAD, bad("policy", "admit"))
def test_tickets_that_a_peer_does_not_follow(given: Json, reason: str) -> None:
    refuses(reason, lambda: admitted(given))


def ledger_of(given: Json, one: Ticket) -> Ledger:
    sets = tuple(frozenset(given["cohort"][j] for j in members) for members in given["sets"])
    return Ledger({one.model_digest: Seen(sets=sets)})


def agreed(given: Json) -> None:
    changes = {"cohort": given["cohort"], "threshold": 5}
    one = ticket_of(ticket_fields("five peers") | changes).ticket
    ledger_of(given, one).agree(one, given["survivors"], Policy())


@pytest.mark.parametrize(GOOD, good("ledger", "agree"))
def test_survivor_sets_that_a_ledger_allows(given: Json, found: Json) -> None:
    assert found == {}
    agreed(given)


@pytest.mark.parametrize(BAD, bad("ledger", "agree"))
def test_survivor_sets_that_a_ledger_refuses(given: Json, reason: str) -> None:
    refuses(reason, lambda: agreed(given))


@pytest.mark.parametrize(GOOD, good("ledger", "history"))
def test_what_a_peer_follows_of_one_ticket_after_another(given: Json, found: Json) -> None:
    ledger, policy = Ledger(), Policy()
    base = ticket_fields("five peers") | {"cohort": given["cohort"], "threshold": 7}
    for item, reason in zip(given["tickets"], found["refused"], strict=True):
        changes: Json = {"task": item["task"], "model_digest": f"{item['model']:02x}" * 32}
        if item["task"] == "evaluate":
            changes |= {"body": 0, "wide": 12}
        one, at_ms = ticket_of(base | changes).ticket, NOW_MS + item["at_ms"]

        def follow(one: Ticket = one, at_ms: int = at_ms, item: Json = item) -> None:
            ledger.check(one, policy, at_ms)
            ledger.accept(one, at_ms)
            ledger.agree(one, item["survivors"], policy)
            ledger.answer(one, item["failed"])

        if reason:
            refuses(reason, follow)
        else:
            follow()


@pytest.mark.parametrize(GOOD, good("ledger", "evaluators"))
def test_the_cohort_that_may_evaluate(given: Json, found: Json) -> None:
    latest = Latest(survivors=frozenset(given["cohort"][j] for j in given["trained"]))
    peers = [given["cohort"][j] for j in given["peers"]]
    ours = Ledger(latest=latest).evaluators(peers, Policy())
    assert sorted(ours) == [given["cohort"][j] for j in found["cohort"]]


@pytest.mark.parametrize(GOOD, good("ledger", "apart"))
def test_the_cohort_that_may_be_asked(given: Json, found: Json) -> None:
    one = ticket("five peers")
    peers = [given["cohort"][j] for j in given["peers"]]
    ours = ledger_of(given, one).apart(one.model_digest, peers, Policy())
    assert sorted(ours) == [given["cohort"][j] for j in found["cohort"]]
