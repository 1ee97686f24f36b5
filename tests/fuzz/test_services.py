"""Every method of every service takes any request, from anybody, in every phase of a live round.

It replies, refuses with a declared reason, or waits; and the round then completes with the exact sum.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from smpc.v1 import local_pb2, peer_pb2, registry_pb2
from smpcfl.aggregator.live_feed import LiveFeed
from smpcfl.aggregator.rounds_service import RoundsService
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net import certificates
from smpcfl.net.callers import Callers
from smpcfl.net.certificates import Role
from smpcfl.net.directory import Directory
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.ticket import ADDITIVE
from smpcfl.registry.registry_service import EnrolmentService, RegistryService
from smpcfl.registry.roster import Roster
from smpcfl.reports.record import RoundRecord
from smpcfl.runs.run_events import record_to_proto
from support.enrolled import Deployment, draws_of

from .budget import (
    ADDITIVE_ROUND,
    ENROLMENT,
    LOCAL_AGENT,
    RECORDS,
    REGISTRY,
    SEEDED_ROUND,
    inputs,
    rng_of,
)
from .files import RECORD_LINE
from .live import LOCAL, OUTSIDER, REQUESTS, STREAMED, UNLIMITED, Context, Live
from .onslaught import anybody, attack, bad_calls

PHASES = 7  # of the seeded round below


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A line for each bad call is not what is tested."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(900)
async def test_a_seeded_round_survives_any_call(tmp_path: Path) -> None:
    live, rng, count = Live(tmp_path, 4), rng_of("seeded"), inputs(SEEDED_ROUND / PHASES)

    async def onslaught(*own: str) -> None:
        await attack(live, rng, count, own=own)

    await onslaught("Agree")
    live.start()
    await onslaught("Agree")
    live.let("Offer", "Exchange")
    await live.until(lambda round_: len(round_._of.held) == 3)
    await onslaught("Agree")
    live.let("Ready", "List")
    await live.until(lambda round_: round_.phase is Phase.READY and round_.all_count)
    await onslaught("Agree")
    await live.upload()
    await onslaught("Agree")
    asked = live.unmask()
    await live.until(lambda round_: round_.phase is Phase.AGREED)
    await onslaught("Agree")
    live.let("Agree")
    await asyncio.wait_for(asyncio.gather(*asked), 30)
    await onslaught()
    live.assert_exact()
    live.close()


async def test_an_additive_round_survives_any_call(tmp_path: Path) -> None:
    live, rng, count = Live(tmp_path, 3, ADDITIVE), rng_of("additive"), inputs(ADDITIVE_ROUND / 3)
    live.start()
    live.let("Offer")
    # A share of the right length is taken from the peer whose turn it is, whatever it holds.
    cohort = set(live.peers)
    strangers = [c for c in anybody(live) if not cohort & set(_names(c))]
    await attack(live, rng, count, strangers)
    live.let("Share")
    await live.until(lambda round_: round_.all_count)
    await attack(live, rng, count)
    await live.upload()
    await attack(live, rng, count)
    live.assert_exact()
    live.close()


def _names(context: Context) -> list[str]:
    found = context.auth_context()["x509_subject_alternative_name"]
    return [name.decode().partition(".")[0] for name in found]


async def test_the_agent_of_a_client_app(tmp_path: Path) -> None:
    live, rng, count = Live(tmp_path, 3), rng_of("local"), inputs(LOCAL_AGENT / 3)
    digest = live.ticket.digest
    known: list[tuple[str, Any]] = [
        ("Frozen", local_pb2.FrozenRequest(ticket_digest=digest)),
        ("Masks", local_pb2.MasksRequest(ticket_digest=digest, released_ms=7)),
        ("Freeze", local_pb2.FreezeChunk(ticket_digest=digest, vector=bytes(84))),
        ("Report", local_pb2.ReportRequest(bytes_in=1, bytes_out=2)),
    ]
    seeds = {method: [message.SerializeToString()] for method, message in known}
    seeds |= {"Begin": [live.beginning().SerializeToString()], "Identity": [b""]}
    services = list(live.local.values())
    await bad_calls(rng, count, services, LOCAL, seeds, [Context()])
    live.start()
    live.let("Offer", "Exchange", "Ready", "List")
    await bad_calls(rng, count, services, LOCAL, seeds, [Context()])
    await live.until(lambda round_: round_.phase is not Phase.EXCHANGE)
    await bad_calls(rng, count, services, LOCAL, seeds, [Context()])
    live.close()


async def test_the_registry(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    authority = deployment.authority
    roster = Roster(State(tmp_path).indices, 1)
    metrics = Metrics("seeded")
    registry = RegistryService(
        authority.own_identity([]),
        authority,
        roster,
        draws_of(authority, tmp_path),
        metrics,
        Callers(UNLIMITED),
    )
    pem = certificates.pem(authority.certificate)
    contexts = [
        *(Context(f"peer-{number}.peer.smpcfl", pem=pem) for number in range(3)),
        Context("aggregator.aggregator.smpcfl", pem=pem),
        Context(OUTSIDER, OUTSIDER, pem=pem),
    ]
    pb = registry_pb2
    csr = certificates.signing_request(certificates.new_key(), Role.PEER, "peer-1")
    requests: dict[str, Any] = {
        "Register": pb.RegisterRequest(address="a:1", metrics_address="a:2"),
        "Heartbeat": pb.HeartbeatRequest(roster_version=1),
        "Lookup": pb.LookupRequest(),
        "Goodbye": pb.GoodbyeRequest(),
        "Renew": pb.RenewRequest(csr=csr),
        "Draw": pb.DrawRequest(),
    }
    seeds = {method: [message.SerializeToString()] for method, message in requests.items()}
    methods = {method: type(message) for method, message in requests.items()}
    await bad_calls(rng_of("registry"), inputs(REGISTRY), [registry], methods, seeds, contexts)

    token = (tmp_path / "join" / "peer" / "token").read_text()
    enrol = pb.EnrolRequest(token=token, csr=csr, role="peer", name="peer-1")
    check = pb.CheckTokenRequest(token=token, role="peer", name="peer-1")
    seeds = {"Enrol": [enrol.SerializeToString()], "CheckToken": [check.SerializeToString()]}
    service = EnrolmentService(authority, metrics)
    methods = {"Enrol": pb.EnrolRequest, "CheckToken": pb.CheckTokenRequest}
    await bad_calls(rng_of("enrolment"), inputs(ENROLMENT), [service], methods, seeds, [Context()])


async def test_the_records_of_a_run(tmp_path: Path) -> None:
    live = LiveFeed("seeded", [], cast(Directory, None))
    service = RoundsService(State(tmp_path).records, Metrics("seeded"), live.hear)
    record = record_to_proto(RoundRecord.from_json(RECORD_LINE))
    other, nan = local_pb2.RoundRecord(), local_pb2.RoundRecord()
    other.CopyFrom(record)
    other.outcome = "lunch"
    nan.CopyFrom(record)
    nan.phase_seconds["train"] = nan.seconds = float("nan")
    event = local_pb2.RunEvent
    events = [
        event(),
        event(start=local_pb2.RunStart(run=1, rounds=3, done=0)),
        event(start=local_pb2.RunStart(run=2**64 - 1, rounds=0, done=2**32 - 1)),
        event(line=local_pb2.LogLine(level=20, text="text")),
        event(line=local_pb2.LogLine(level=2**32 - 1)),
        event(refusal=local_pb2.Refusal(reason="bad_share")),
        event(refusal=local_pb2.Refusal(reason="lunch")),
        event(phase=local_pb2.RoundPhase(round=2**32 - 1, phase="lunch", cohort=["a", ""])),
        event(replies=local_pb2.Replies(count=2**32 - 1)),
        event(record=record),
        event(record=other),
        event(record=nan),
    ]
    seeds = {"Record": [one.SerializeToString() for one in events]}
    methods = {"Record": local_pb2.RunEvent}
    for raw in seeds["Record"]:
        rng = rng_of("known events")
        await bad_calls(rng, 1, [service], {"Record": _As(raw)}, seeds, [Context()])
    await bad_calls(rng_of("records"), inputs(RECORDS), [service], methods, seeds, [Context()])


class _As:
    """In place of a kind of message: always this one."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def FromString(self, _: bytes) -> local_pb2.RunEvent:
        return local_pb2.RunEvent.FromString(self._raw)


def test_all_methods_are_called() -> None:
    assert set(REQUESTS) == set(peer_pb2.DESCRIPTOR.services_by_name["Peer"].methods_by_name)
    assert set(LOCAL) == set(local_pb2.DESCRIPTOR.services_by_name["Agent"].methods_by_name)
    assert set(STREAMED) <= REQUESTS.keys() | LOCAL.keys()
