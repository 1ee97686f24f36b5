"""Whoever calls a peer without the right to: another role, another CA, no certificate, no TLS.

And whoever answers in its place. Under each of these a round is open; what is refused changes nothing in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from smpc.v1 import messages_pb2 as messages
from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc
from smpcfl.net import certificates, ready_wire, rpc, wire
from smpcfl.net.certificates import Identity, Role
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Answer, Exchange, Ready
from smpcfl.protocol.receipts import ListRequest
from smpcfl.registry.authority import Authority
from support.deployed import Deployed, outcome
from support.enrolled import Deployment
from support.forge import round_of, survivors
from support.unchecked import check, removed

pytestmark = pytest.mark.sockets

PEERS = 4
EVERYONE = tuple(range(PEERS))
TO = 3  # the highest id: every other one calls it
CALL_S = 10.0


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with Deployed(tmp_path, PEERS) as net:
        await net.begin()
        await net.upload()
        yield net


async def completes(net: Deployed) -> None:
    assert await net.finish() == net.true_sum(net.cohort)


def registry(net: Deployed) -> Identity:
    return net.enrolled.authority.own_identity(())


# -- roles ---------------------------------------------------------------------------------------------------

Call = Callable[[Deployed, Identity], Awaitable[Any]]


async def unmask(net: Deployed, caller: Identity) -> Any:
    """The aggregator's own survivor set, with its signature, in another's hands."""
    return await net.unmask(TO, survivors(net, EVERYONE), caller)


async def offer(net: Deployed, caller: Identity) -> Any:
    fresh = wire.ticket_to_proto(net.make_ticket())  # which would close the open round
    return await outcome(net.stub(caller, TO).Offer(fresh, timeout=CALL_S))


async def exchange(net: Deployed, caller: Identity) -> Any:
    found = Exchange(round_of(net, 0).announcement, round_of(net, TO)._of[0].dealt)
    request = wire.exchange_to_proto(found)
    return await outcome(net.stub(caller, TO).Exchange(request, timeout=CALL_S))


async def ready(net: Deployed, caller: Identity) -> Any:
    request = ready_wire.ready_to_proto(Ready(net.ticket.digest))
    return await outcome(net.stub(caller, TO).Ready(request, timeout=CALL_S))


async def ask_list(net: Deployed, caller: Identity) -> Any:
    request = ready_wire.list_request_to_proto(ListRequest(net.ticket.digest, TO, 1, ()))
    return await outcome(net.stub(caller, TO).List(request, timeout=CALL_S))


async def agree(net: Deployed, caller: Identity) -> Any:
    request = messages.Agreement(ticket=wire.tag(net.ticket.digest))
    return await outcome(net.stub(caller, TO).Agree(request, timeout=CALL_S))


async def share(net: Deployed, caller: Identity) -> Any:
    chunk = pb.ShareChunk(ticket_digest=net.ticket.digest, data=bytes(net.ticket.layout.nbytes))
    return await outcome(net.stub(caller, TO).Share(iter([chunk]), timeout=CALL_S))


def of_aggregator(net: Deployed) -> Identity:
    return net.aggregator


def of_peer(net: Deployed) -> Identity:
    return net.peer(0).own


@pytest.mark.parametrize(
    ("who", "calls"),
    [
        (of_peer, [unmask]),
        (of_aggregator, [offer, exchange, ready, ask_list, share]),
        (registry, [unmask, offer, exchange, ready, ask_list, agree, share]),
    ],
)
async def test_the_calls_of_another_role_are_refused(
    net: Deployed, who: Callable[[Deployed], Identity], calls: list[Call]
) -> None:
    for count, call in enumerate(calls, 1):
        assert await call(net, who(net)) is Reason.ROLE
        assert net.peer(TO).rejected(Reason.ROLE) == count
    await completes(net)


async def test_without_the_role_check_a_peer_collects_the_shares(net: Deployed) -> None:
    with removed(check(rpc, "require", Reason.ROLE)):
        asked = [net.unmask(index, survivors(net, EVERYONE), of_peer(net)) for index in EVERYONE]
        assert all(isinstance(found, Answer) for found in await asyncio.gather(*asked))


async def test_without_the_role_check_an_aggregator_sets_off_rounds(net: Deployed) -> None:
    with removed(check(rpc, "require", Reason.ROLE)):
        assert await exchange(net, net.aggregator) is Reason.NOT_IN_COHORT  # this stops it anyway
        assert await offer(net, net.aggregator) == pb.Empty()
    with pytest.raises(RemoteError):
        net.peer(TO).agent.round_of(net.ticket.digest)  # the open round gave way to another


# -- certificates --------------------------------------------------------------------------------------------


async def is_let_in(net: Deployed, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether such a client gets as far as a handler; without credentials it speaks no TLS."""
    name = certificates.tls_name(Role.PEER, net.cohort[TO])
    options = [("grpc.ssl_target_name_override", name)]
    address = net.peer(TO).address
    channel = (
        grpc.aio.insecure_channel(address)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options)
    )
    async with channel:
        return await reaches(channel)


async def reaches(channel: grpc.aio.Channel) -> bool:
    try:
        await pb_grpc.PeerStub(channel).Identify(pb.Empty(), timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def expired(net: Deployed, tmp_path: Path) -> Identity:
    """Of this CA, for a life that ended a second ago."""
    own = net.peer(0).own
    authority = Authority(tmp_path / "state", tmp_path / "join", certificate_s=-1)
    token = (tmp_path / "join" / Role.PEER / "token").read_text()
    request = certificates.signing_request(own.key, Role.PEER, own.name)
    return replace(own, certificate=authority.enrol(token, request, Role.PEER, own.name))


def foreign(net: Deployed, tmp_path: Path) -> Identity:
    """A peer of the same name, of another deployment. It knows this one's CA, which is no secret."""
    other = Deployment(tmp_path / "other")
    return replace(other.identity(Role.PEER, net.cohort[0]), ca=net.enrolled.ca)


def anonymous(net: Deployed) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(certificates.pem(net.enrolled.ca))


async def test_only_a_certificate_of_this_deployment_that_stands_is_let_in(
    net: Deployed, tmp_path: Path
) -> None:
    assert await is_let_in(net, net.peer(0).own.channel_credentials())
    assert not await is_let_in(net, foreign(net, tmp_path).channel_credentials())
    assert not await is_let_in(net, expired(net, tmp_path).channel_credentials())
    assert not await is_let_in(net, anonymous(net))
    assert not await is_let_in(net, None)
    await completes(net)


async def test_where_tls_asks_for_no_certificate_nobody_has_a_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = Identity.server_credentials
    monkeypatch.setattr(Identity, "server_credentials", lambda own: credentials(own, mutual=False))
    async with Deployed(tmp_path, PEERS) as net:
        name = ("grpc.ssl_target_name_override", certificates.tls_name(Role.PEER, net.cohort[TO]))
        async with grpc.aio.secure_channel(net.peer(TO).address, anonymous(net), [name]) as channel:
            call = pb_grpc.PeerStub(channel).Identify(pb.Empty(), timeout=CALL_S)
            assert await outcome(call) is Reason.ROLE
            monkeypatch.setattr(rpc, "caller", lambda context: (Role.PEER, net.cohort[0]))
            assert await pb_grpc.PeerStub(channel).Identify(pb.Empty(), timeout=CALL_S)


# -- addresses -----------------------------------------------------------------------------------------------


async def answers_as(net: Deployed, expected: str) -> bool:
    """Whether one who looks for `expected` takes what answers at the address of TO for it."""
    own, address = net.peer(0).own, net.peer(TO).address
    async with rpc.channel(own, address, Role.PEER, expected) as channel:
        return await reaches(channel)


async def test_an_address_that_lies_reaches_nobody(
    net: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await answers_as(net, net.cohort[TO])
    assert not await answers_as(net, net.cohort[1])
    await completes(net)
    # Where a caller takes whatever name is shown, it is taken in.
    shown = certificates.tls_name(Role.PEER, net.cohort[TO])
    monkeypatch.setattr(rpc, "tls_name", lambda role, expected: shown)
    assert await answers_as(net, net.cohort[1])


# -- revocation ----------------------------------------------------------------------------------------------


async def revoked_calls(net: Deployed) -> tuple[Any, Any]:
    """On the connection that the caller had before it was revoked at one peer."""
    await net.begin()
    await net.upload()
    caller = net.peer(0).own
    stub = net.stub(caller, TO)
    assert (await stub.Identify(pb.Empty(), timeout=CALL_S)).der
    net.peer(TO).members.revoked = frozenset({caller.name})
    # The service alone stands in its way: that they count one another was settled before it was revoked.
    again = ready_wire.ready_to_proto(Ready(net.ticket.digest))
    return (
        await outcome(stub.Identify(pb.Empty(), timeout=CALL_S)),
        await outcome(stub.Ready(again, timeout=CALL_S)),
    )


async def test_a_revoked_peer_is_refused_on_its_open_connection(tmp_path: Path) -> None:
    async with Deployed(tmp_path, 5) as net:
        assert await revoked_calls(net) == (Reason.REVOKED, Reason.REVOKED)
        assert net.peer(TO).rejected(Reason.REVOKED) == 2
        await completes(net)  # the one that heard of it takes no part, which this cohort can bear


async def test_without_the_check_a_revoked_peer_goes_on(tmp_path: Path) -> None:
    with removed(check(rpc, "check_standing", Reason.REVOKED)):
        async with Deployed(tmp_path, 5) as net:
            certificate, reply = await revoked_calls(net)
    assert certificate.der
    assert reply.counts
