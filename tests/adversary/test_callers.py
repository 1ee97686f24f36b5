"""Who may call what: roles, other peers' names, streams without end, strangers; over gRPC and TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from smpc.v1 import messages_pb2 as messages
from smpc.v1 import peer_pb2 as pb
from smpcfl import rpc, wire
from smpcfl.identity import Identity, Role, key_pem, pem, tls_name
from smpcfl.peer.agent import SerialStore
from smpcfl.peer.service import PeerService
from smpcfl.protocol.dealing import deal
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Exchange
from smpcfl.protocol.peer import PeerRound
from smpcfl.protocol.ticket import ADDITIVE, Admission
from support.agents import Agents, agents, refusal
from support.enrolled import Deployment
from support.forge import survivors
from support.network import entropy_from, peer_ids
from support.unchecked import check, removed

PEERS = peer_ids(5)
EVERYONE = tuple(range(5))
VICTIM, LIAR = PEERS[4], PEERS[1]  # an exchange goes from lower to higher id
ROLE_CHECKED = check(rpc, "require", Reason.ROLE)


# -- roles ----------------------------------------------------------------------------------------------


async def peer_unmasks(folder: Path) -> Reason | None:
    """A peer that got hold of the aggregator's survivor set asks for the shares itself."""
    async with agents(folder) as cohort:
        await cohort.begin()
        await cohort.upload()
        message = survivors(cohort.network, EVERYONE)
        for peer in PEERS[:4]:
            cohort.rounds[peer].survivors(message, 0.0)  # type: ignore[union-attr]
            cohort.parties[peer].agent.wake()
        return await refusal(cohort.unmask(VICTIM, message, cohort.parties[LIAR].own))


async def test_a_peer_may_not_unmask(tmp_path: Path) -> None:
    assert await peer_unmasks(tmp_path / "sound") is Reason.ROLE
    with removed(ROLE_CHECKED):
        assert await peer_unmasks(tmp_path / "weak") is None


def exchange_of(cohort: Agents, index: int, to: int) -> Exchange:
    """What this peer would deal: an announcement and two shares, all valid."""
    signer = cohort.signer_of(PEERS[index])
    announcement, secrets = deal(cohort.ticket, index, signer, entropy_from(index))
    return Exchange(announcement, secrets.dealt[to])


async def aggregator_exchanges(folder: Path) -> Reason | None:
    async with agents(folder) as cohort:
        await cohort.begin()
        stub = cohort.stub(cohort.aggregator, VICTIM)
        request = wire.exchange_to_proto(exchange_of(cohort, 1, 4))
        return await refusal(stub.Exchange(request, timeout=20))


async def test_the_aggregator_may_not_exchange(tmp_path: Path) -> None:
    assert await aggregator_exchanges(tmp_path / "sound") is Reason.ROLE
    with removed(ROLE_CHECKED):
        # Nor is it ever in a cohort; test_graph_choice.py takes that out as well.
        assert await aggregator_exchanges(tmp_path / "weak") is Reason.NOT_IN_COHORT


@pytest.mark.parametrize("method", ["Offer", "Acknowledge", "Ready", "Share"])
async def test_what_peers_tell_each_other_the_aggregator_may_not(
    tmp_path: Path, method: str
) -> None:
    async with agents(tmp_path, 3) as cohort:
        await cohort.begin()
        digest = cohort.ticket.digest
        requests: dict[str, Any] = {
            "Offer": wire.ticket_to_proto(cohort.signed),
            "Acknowledge": messages.Acknowledge(ticket=wire.tag(digest)),
            "Ready": messages.Ready(ticket=wire.tag(digest)),
            "Share": iter([pb.ShareChunk(ticket_digest=digest)]),
        }
        stub = cohort.stub(cohort.aggregator, PEERS[2])
        assert await refusal(getattr(stub, method)(requests[method], timeout=20)) is Reason.ROLE
        assert cohort.parties[PEERS[2]].rejected(Reason.ROLE) == 1


# -- somebody else's name -------------------------------------------------------------------------------


async def anothers_announcement(folder: Path) -> Reason | None:
    """Under its own certificate the liar shows the announcement and the shares of peer 0."""
    async with agents(folder) as cohort:
        await cohort.begin()
        cohort.parties[LIAR].agent.close_round()  # it does not call by itself
        message = exchange_of(cohort, 0, 4)
        stub = cohort.stub(cohort.parties[LIAR].own, VICTIM)
        return await refusal(stub.Exchange(wire.exchange_to_proto(message), timeout=20))


async def test_an_announcement_of_another_dealer_is_refused(tmp_path: Path) -> None:
    assert await anothers_announcement(tmp_path / "sound") is Reason.MALFORMED
    with removed(check(PeerRound, "_know", Reason.MALFORMED)):
        assert await anothers_announcement(tmp_path / "weak") is None


async def answer_at_the_address_of(folder: Path, name: str, expected: str) -> str:
    """Whose certificate is shown at the victim's address, to one who expects to find `expected`."""
    async with agents(folder) as cohort:
        own = cohort.parties[LIAR].own
        made = rpc.channel(own, cohort.parties[name].address, Role.PEER, expected)
        reply = await cohort.stub_of(made).Identify(pb.Empty(), timeout=20)
        return cohort.parties[LIAR].directory.members.add(reply.der).name


async def test_an_address_that_lies_reaches_nobody(tmp_path: Path) -> None:
    assert await answer_at_the_address_of(tmp_path / "true", VICTIM, VICTIM) == VICTIM
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer_at_the_address_of(tmp_path / "lie", VICTIM, PEERS[3])
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


# -- a stream that is too long, or never ends -----------------------------------------------------------


async def long_share(folder: Path, chunks: int | None) -> tuple[Reason | None, float, int]:
    """How the share of `chunks` pieces (None: without end) is refused, what was taken, what is right."""
    async with agents(folder, 3) as cohort:
        await cohort.begin(mode=ADDITIVE, body=50_000)
        digest = cohort.ticket.digest

        async def stream() -> AsyncIterator[pb.ShareChunk]:
            sent = 0
            while chunks is None or sent < chunks:
                yield pb.ShareChunk(ticket_digest=digest, data=bytes(60_000))
                sent += 1

        for peer in PEERS[:2]:
            cohort.parties[peer].agent.close_round()  # so that their true shares are not counted
        receiver = cohort.parties[PEERS[2]]
        before = taken(receiver.metrics)
        stub = cohort.stub(cohort.parties[LIAR].own, PEERS[2])
        reason = await refusal(stub.Share(stream(), timeout=30))
        return reason, taken(receiver.metrics) - before, cohort.ticket.layout.nbytes


def taken(metrics: Any) -> float:
    return metrics.bytes.labels(direction="in", channel="p2p")._value.get()


async def test_a_share_without_end_is_cut_off(tmp_path: Path) -> None:
    reason, received, right = await long_share(tmp_path, None)
    assert reason is Reason.WRONG_LENGTH
    assert received < right


async def test_a_share_that_is_too_long_is_taken_whole_where_nobody_counts(tmp_path: Path) -> None:
    with removed(check(PeerService, "_collect", Reason.WRONG_LENGTH)):
        reason, received, right = await long_share(tmp_path, 100)
    assert reason is Reason.WRONG_LENGTH  # at the end, by its length
    assert received > 50 * right


async def test_a_message_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    async with agents(tmp_path, 3) as cohort:
        await cohort.begin(mode=ADDITIVE)
        chunk = pb.ShareChunk(ticket_digest=cohort.ticket.digest, data=bytes(9 << 20))
        made = grpc.aio.secure_channel(
            cohort.parties[PEERS[2]].address,
            cohort.parties[LIAR].own.channel_credentials(),
            [("grpc.ssl_target_name_override", tls_name(Role.PEER, PEERS[2]))],
        )
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await cohort.stub_of(made).Share(iter([chunk]), timeout=30)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# -- strangers ------------------------------------------------------------------------------------------


def foreign(cohort: Agents, folder: Path) -> grpc.ChannelCredentials:
    """The same peer id, certified by another deployment's CA."""
    other = Deployment(folder / "other").identity(Role.PEER, LIAR)
    return grpc.ssl_channel_credentials(
        pem(cohort.deployment.ca), key_pem(other.key), pem(other.certificate)
    )


def nameless(cohort: Agents, folder: Path) -> grpc.ChannelCredentials:
    """The right CA, and no certificate of one's own."""
    return grpc.ssl_channel_credentials(pem(cohort.deployment.ca))


Credentials = Callable[[Agents, Path], grpc.ChannelCredentials]


async def identify(cohort: Agents, credentials: grpc.ChannelCredentials | None) -> Any:
    address = cohort.parties[VICTIM].address
    options = [("grpc.ssl_target_name_override", tls_name(Role.PEER, VICTIM))]
    made = (
        grpc.aio.insecure_channel(address)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options)
    )
    return await cohort.stub_of(made).Identify(pb.Empty(), timeout=20)


@pytest.mark.parametrize("credentials", [foreign, nameless])
async def test_strangers_are_not_let_in(tmp_path: Path, credentials: Credentials) -> None:
    async with agents(tmp_path) as cohort:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await identify(cohort, credentials(cohort, tmp_path))
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_nothing_is_answered_in_the_clear(tmp_path: Path) -> None:
    async with agents(tmp_path) as cohort:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await identify(cohort, None)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_that_asks_for_no_certificate_finds_the_caller_without_a_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Identity, "server_credentials", asks_for_none)
    async with agents(tmp_path) as cohort:
        call = identify(cohort, nameless(cohort, tmp_path))
        assert await refusal(call) is Reason.ROLE
    monkeypatch.setattr(rpc, "caller", lambda context: (Role.PEER, LIAR))
    async with agents(tmp_path / "weaker") as cohort:
        reply = await identify(cohort, nameless(cohort, tmp_path))
        assert cohort.parties[LIAR].directory.members.add(reply.der).name == VICTIM


def asks_for_none(self: Identity) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(key_pem(self.key), pem(self.certificate))])


# -- a restarted agent ----------------------------------------------------------------------------------


async def test_a_restarted_agent_takes_no_further_part_in_the_round(tmp_path: Path) -> None:
    async with agents(tmp_path) as cohort:
        await cohort.begin()
        party = cohort.parties[VICTIM]
        party.agent.close_round()
        party.agent._serials = SerialStore(party.serial_path)  # as it is found on disk
        with pytest.raises(RemoteError) as error:
            party.agent.take_ticket(cohort.signed)
        assert error.value.reason is Reason.STALE_SERIAL
        with removed(check(Admission, "check", Reason.STALE_SERIAL)):
            again = party.agent.take_ticket(cohort.signed)
        assert again.ticket.digest == cohort.ticket.digest
