"""No peer follows a ticket that is stale, of another signer, for others, or beyond its own policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smpcfl.protocol.admission import Admission
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import ADDITIVE, HOUR_MS, SEEDED, SignedTicket
from support.network import keyring_of, make_ticket, sign

BASE = make_ticket(8).ticket
ME = BASE.cohort[3]
POLICY = Policy(modes=(SEEDED, ADDITIVE), min_cohort=3)
NOW_MS = 10**12


def admit(
    signed: SignedTicket,
    *,
    me: str = ME,
    policy: Policy = POLICY,
    highest: int = 0,
    running: bytes | None = None,
) -> bool:
    admission = Admission(me, policy, keyring_of(signed.ticket.cohort))
    return admission.check(signed, highest_serial=highest, running=running, now_ms=NOW_MS)


def test_a_new_ticket_is_followed() -> None:
    assert admit(sign(replace(BASE, serial=NOW_MS)))


def test_the_running_ticket_may_come_again() -> None:
    signed = make_ticket(8, serial=5)
    assert not admit(signed, highest=5, running=signed.ticket.digest)


def test_a_ticket_of_a_closed_round_may_not() -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8, serial=5), highest=5, running=None)
    assert error.value.reason is Reason.STALE_SERIAL


@pytest.mark.parametrize("change", [{"clip": 2.0}, {"nonce": bytes(32)}, {"threshold": 6}])
def test_other_contents_under_the_running_serial_are_refused(change: dict[str, Any]) -> None:
    signed = make_ticket(8, serial=5)
    with pytest.raises(RemoteError) as error:
        admit(sign(replace(signed.ticket, **change)), highest=5, running=signed.ticket.digest)
    assert error.value.reason is Reason.STALE_SERIAL


@pytest.mark.parametrize("serial", [1, 6, 7])
def test_a_stale_serial_is_refused_and_the_highest_named(serial: int) -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8, serial=serial), highest=7)
    assert error.value.reason is Reason.STALE_SERIAL
    assert "> 7" in str(error.value)


@pytest.mark.parametrize(("ahead", "good"), [(HOUR_MS, True), (HOUR_MS + 1, False)])
def test_a_serial_may_be_an_hour_ahead(ahead: int, good: bool) -> None:
    signed = sign(replace(BASE, serial=NOW_MS + ahead))
    if good:
        assert admit(signed)
        return
    with pytest.raises(RemoteError) as error:
        admit(signed)
    assert error.value.reason is Reason.FUTURE_SERIAL
    assert f"<= {NOW_MS + HOUR_MS}, found {NOW_MS + ahead}" in str(error.value)


@pytest.mark.parametrize("name", [ME, "registry", "stranger"])
def test_only_the_aggregator_signs_tickets(name: str) -> None:
    with pytest.raises(RemoteError) as error:
        admit(sign(BASE, name))
    assert error.value.reason is Reason.BAD_SIGNATURE


def test_a_changed_ticket_under_an_old_signature_is_refused() -> None:
    signed = make_ticket(8, serial=9)
    with pytest.raises(RemoteError) as error:
        admit(replace(signed, ticket=replace(signed.ticket, clip=3.0)))
    assert error.value.reason is Reason.BAD_SIGNATURE


def test_a_peer_outside_the_cohort_takes_no_part() -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8), me="peer-99999")
    assert error.value.reason is Reason.NOT_IN_COHORT


def test_policy_is_asked() -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8), policy=replace(POLICY, min_cohort=9))
    assert error.value.reason is Reason.POLICY_COHORT
