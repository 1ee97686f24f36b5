"""The hub at its Unix socket, as ClientApps call it: each reaches its own peer's agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from smpcfl.flower.client.agent_client import VARIABLE, AgentClient
from smpcfl.net import hub_socket, wire
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.simulation.hub_service import serve
from support.virtual import CONTENT, Simulated

pytestmark = pytest.mark.sockets
RUN = 77


@pytest.fixture
def simulated(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Simulated]:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(hub_socket.tempfile, "tempdir", str(tmp_path_factory.mktemp("s")))
    found = Simulated(5)
    server = serve(found.hub, hub_socket.make(RUN)[0])
    yield found
    server.stop(None).wait()


def agent(node: int) -> AgentClient:
    """As the ClientApp of this node reaches it."""
    return AgentClient.of(Context(RUN, node, {"partition-id": node - 1}, RecordDict(), {}))


def test_each_client_reaches_its_own_peer(simulated: Simulated) -> None:
    for node, name in simulated.names.items():
        with agent(node) as client:
            assert client.simulated
            assert client.identity().peer == name


def test_a_round_over_the_socket(simulated: Simulated) -> None:
    signed = simulated.ticket()
    ticket = signed.ticket
    with agent(2) as client:
        begun = client.begin(wire.ticket_to_proto(signed), ticket.model_digest, CONTENT, RUN)
        assert (begun.frozen, begun.floor_ms, begun.given_seed) == (False, 0, True)
        _, meta = client.masks(ticket.digest, 0, "", "")
        vector = bytes(ticket.layout.nbytes)
        assert client.freeze(ticket.digest, vector) > 0
        assert client.frozen(ticket.digest) == (meta, vector)


def test_a_refusal_carries_its_reason(simulated: Simulated) -> None:
    signed = simulated.ticket()
    proto = wire.ticket_to_proto(signed)
    with pytest.raises(RemoteError, match="the model is not the one") as raised, agent(2) as client:
        client.begin(proto, b"another", CONTENT, RUN)
    assert raised.value.reason is Reason.MODEL_MISMATCH


def test_who_does_not_say_which_node_it_is_is_refused(simulated: Simulated) -> None:
    nobody = agent(2)
    nobody.metadata = ()
    with pytest.raises(RemoteError) as raised, nobody as client:
        client.identity()
    assert raised.value.reason is Reason.MALFORMED


def test_a_peer_with_an_agent_of_its_own_asks_that_alone(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a deployment no run's number, which its aggregator gives, leads anywhere else."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "agent.sock"))
    client = agent(2)
    assert not client.simulated
    assert client._socket == str(tmp_path / "agent.sock")


def test_without_a_hub_the_remedy_is_named(simulated: Simulated) -> None:
    other = Context(RUN + 1, 2, {"partition-id": 1}, RecordDict(), {})
    with pytest.raises(LocalError, match="the ServerApp has to use SecureStrategy"):
        AgentClient.of(other)
