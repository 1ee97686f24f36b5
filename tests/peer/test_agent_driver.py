"""A bug in a round ends that round, in sight."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.peer.agent import PeerAgent
from smpcfl.peer.serial_store import SerialStore
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.peer_round import PeerRound
from support.logged import logged
from support.network import POLICY, keyring_of, make_ticket, peer_ids, sign, signer_of

PEERS = peer_ids(3)


def an_agent(folder: Path) -> PeerAgent:
    return PeerAgent(
        cast(Any, SimpleNamespace(name=PEERS[0], signer=signer_of(PEERS[0]))),
        POLICY,
        keyring_of(PEERS),
        SerialStore(State(folder).serial),
        Ledger(),
        cast(Any, None),
        Metrics("seeded"),
    )


async def test_a_round_that_cannot_be_driven_is_closed_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    agent = an_agent(tmp_path)

    def broken(round_: PeerRound, now: float) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(PeerRound, "calls", broken)
    signed = sign(replace(make_ticket(3).ticket, serial=int(time.time() * 1000)))
    agent.take_ticket(signed)
    with logged() as lines, pytest.raises(RemoteError) as caught:
        async with asyncio.timeout(5.0):
            await agent.masks(signed.ticket.digest, 0)
    assert [(line.event, line.fields) for line in lines] == [
        ("round_broken", {"run": signed.ticket.run, "round": signed.ticket.round})
    ]
    assert caught.value.reason is Reason.ROUND_CLOSED
    assert "cannot go on and is closed" in caplog.text
    assert "KeyError: 'a bug'" in caplog.text
    with pytest.raises(RemoteError):
        agent.round_of(signed.ticket.digest)


async def test_a_refusal_is_of_the_round_that_is_open_and_of_who_is_at_fault(
    tmp_path: Path,
) -> None:
    agent = an_agent(tmp_path)
    ticket = replace(make_ticket(3).ticket, serial=int(time.time() * 1000))
    with logged() as lines:
        agent.refused(RemoteError(Reason.STALE_SERIAL))
        agent.take_ticket(sign(ticket))
        agent.refused(RemoteError(Reason.BAD_SHARE, peer=PEERS[1]))
        agent.close_round()
    about = {"run": ticket.run, "round": ticket.round}
    assert [(line.event, line.fields) for line in lines] == [
        ("refused", {}),
        ("round_opened", about),
        ("refused", {**about, "peer": PEERS[1]}),
    ]
