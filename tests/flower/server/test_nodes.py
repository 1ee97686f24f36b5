"""Who is in the next round: new nodes, silent ones, and those that came back as another node."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from smpcfl.flower.server import nodes
from smpcfl.flower.server.nodes import PeerNodes
from smpcfl.flower.shared.records import RECORD, identity_of
from smpcfl.net.certificates import Role
from smpcfl.net.node_proof import node_bytes
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.signing import signer
from support.enrolled import Deployment


class Flower:
    """A grid and the replies from it: nodes answer at once who they are, but for the mute."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.claims: dict[int, tuple[int, str]] = {}  # whose answer a node gives instead of its own
        self.peers: dict[int, tuple[str, bytes]] = {}
        self.mute: set[int] = set()
        self.refusals: dict[int, str] = {}
        self.asked: list[int] = []
        self.now = 0.0
        self._unanswered: dict[int, Message] = {}

    def get_node_ids(self) -> list[int]:
        return list(self.peers)

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            node = message.metadata.dst_node_id
            self.asked.append(node)
            message.metadata.__dict__["_message_id"] = str(node)
            self._unanswered[node] = message

    def take(self, seconds: float) -> list[tuple[int, Message]]:
        self.now += seconds
        return [
            (node, self._answer(node, self._unanswered.pop(node)))
            for node in self._unanswered.keys() - self.mute
        ]

    def close(self) -> None:
        """No more replies are awaited."""

    def _answer(self, node: int, message: Message) -> Message:
        peer, instance = self.peers[node]
        if not peer:
            return Message(Error(1, self.refusals.get(node, "no agent")), reply_to=message)
        signed, claimed = self.claims.get(node, (node, peer))
        answer = {
            "start": instance,
            "certificate": self.deployment.certificate(Role.PEER, claimed),
            "signature": signer(self.deployment.key(peer))(node_bytes(signed, instance)),
        }
        return Message(RecordDict({RECORD: ConfigRecord(answer)}), reply_to=message)


class Peers:
    """The nodes of `flower` under a fake clock; `agents` are those that answer a probe."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        deployment = Deployment(folder)
        self.flower = Flower(deployment)
        self.agents: dict[str, bytes] = {}
        self.probed: list[str] = []
        self.late = ""  # does not answer the next probe
        self.nodes = PeerNodes(deployment.ca, lambda: self.flower.now, least=3)
        monkeypatch.setattr(nodes, "Replies", lambda grid: grid)
        for name in ("_task_id", "_run_id", "_node_id"):  # Flower's messages want to know
            monkeypatch.setattr(TaskIdentity, name, 1)

    def start(self, node: int, peer: str, instance: bytes = b"1") -> None:
        self.flower.peers[node] = (peer, instance)
        self.agents[peer] = instance

    def probe(self, peers: Iterable[str]) -> dict[str, bytes]:
        asked = list(peers)
        self.probed += asked
        late, self.late = self.late, ""
        return {peer: self.agents[peer] for peer in asked if peer in self.agents.keys() - {late}}

    def present(self) -> dict[int, str]:
        return self.nodes.present(cast(Grid, cast(Any, self.flower)), self.probe)


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peers:
    made = Peers(tmp_path, monkeypatch)
    for node, name in enumerate("abc", 1):
        made.start(node, name)
    return made


def test_each_node_is_asked_once(peers: Peers) -> None:
    assert peers.present() == {1: "a", 2: "b", 3: "c"}
    peers.start(4, "d")
    assert peers.present() == {1: "a", 2: "b", 3: "c", 4: "d"}
    assert peers.flower.asked == [1, 2, 3, 4]


def test_a_node_that_is_no_peer_is_left_out(peers: Peers) -> None:
    peers.start(4, "")
    assert peers.present() == {1: "a", 2: "b", 3: "c"}


def test_why_peers_refuse_is_logged_once_each(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="smpcfl")
    caplog.clear()
    for node in (4, 5):
        peers.start(node, "")
        peers.flower.refusals[node] = "not this app"
    for _ in range(3):
        peers.present()
    assert caplog.messages == ["2 of 5 connected peers refuse: not this app"]
    peers.start(6, "")
    peers.flower.refusals[6] = "another \x1b[31mreason"
    peers.present()
    assert caplog.messages[1:] == ["1 of 6 connected peers refuse: another ?[31mreason"]


def test_who_refuses_is_asked_again_later_and_may_think_better_of_it(peers: Peers) -> None:
    peers.start(4, "")
    peers.present()
    for later_s in (4.0, 2.0, 8.0, 3.0):  # from 5 s on, and then from 10 s on
        peers.flower.now += later_s
        peers.present()
    assert peers.flower.asked == [1, 2, 3, 4, 4, 4]
    peers.start(4, "d")
    peers.flower.now += 20.0
    assert peers.present()[4] == "d"


def test_a_run_that_every_peer_refuses_for_one_reason_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = Peers(tmp_path, monkeypatch)
    for node in (1, 2):
        peers.start(node, "")
        assert peers.present() == {}, "fewer than a round needs: others may come"
    peers.start(3, "")
    with pytest.raises(LocalError, match=r"^all 3 peers refuse: no agent$"):
        peers.present()


@pytest.mark.parametrize("other", ["a", ""], ids=["one that does not", "another reason"])
def test_it_goes_on_while_they_do_not_agree(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = Peers(tmp_path, monkeypatch)
    peers.flower.refusals[4] = "another reason"
    for node in (1, 2, 3):
        peers.start(node, "")
    peers.start(4, other)
    assert peers.present() == ({4: "a"} if other else {})


def test_no_node_takes_the_place_of_another_peers(peers: Peers) -> None:
    peers.present()
    # d says that it is a: signs with its own key under the certificate of a; and repeats what a has signed.
    peers.flower.peers |= {4: ("d", b"1"), 5: ("a", b"1")}
    peers.flower.claims = {4: (4, "a"), 5: (1, "a")}
    assert peers.present() == {1: "a", 2: "b", 3: "c"}


def test_a_certificate_of_another_deployment_or_role_is_no_peers(
    peers: Peers, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Deployment(tmp_path / "other")
    for key, certificate in (
        (other.key("d"), other.certificate(Role.PEER, "d")),
        (
            peers.flower.deployment.key("aggregator"),
            peers.flower.deployment.certificate(Role.AGGREGATOR, "aggregator"),
        ),
    ):
        answer = {
            "start": b"1",
            "certificate": certificate,
            "signature": signer(key)(node_bytes(4, b"1")),
        }
        message = Message(RecordDict(), dst_node_id=4, message_type="train")
        reply = Message(RecordDict({RECORD: ConfigRecord(answer)}), reply_to=message)
        with pytest.raises(RemoteError) as caught:
            identity_of(reply, 4, peers.flower.deployment.ca)
        assert caught.value.reason in (Reason.BAD_SIGNATURE, Reason.ROLE)


def test_a_peer_whose_agent_does_not_answer_is_left_out_until_it_does(peers: Peers) -> None:
    peers.present()
    agent = peers.agents.pop("b")
    assert peers.present() == {1: "a", 3: "c"}
    assert peers.probed[-1] == "b", "it is asked a second time"
    peers.agents["b"] = agent
    assert peers.present() == {1: "a", 2: "b", 3: "c"}


def test_an_agent_may_be_late_once(peers: Peers) -> None:
    peers.present()
    peers.late = "b"
    assert peers.present() == {1: "a", 2: "b", 3: "c"}


def test_a_peer_that_only_flower_reaches_takes_part(peers: Peers) -> None:
    del peers.agents["b"]
    assert peers.present() == {1: "a", 2: "b", 3: "c"}
    peers.nodes.missed([2, 3])
    assert peers.present() == {1: "a", 3: "c"}, "b may be gone, and c answers that it is not"
    peers.flower.now += 61
    assert peers.present() == {1: "a", 2: "b", 3: "c"}, "by now Flower would know"


def test_an_agent_that_flower_still_hears_after_a_minute_takes_part_again(peers: Peers) -> None:
    peers.present()
    del peers.agents["b"]
    assert peers.present() == {1: "a", 3: "c"}
    peers.flower.now += 61
    assert peers.present() == {1: "a", 2: "b", 3: "c"}
    assert peers.present() == {1: "a", 2: "b", 3: "c"}


def test_the_node_of_an_agent_that_started_again_is_never_used_again(peers: Peers) -> None:
    peers.present()
    peers.agents["b"] = b"2"
    assert peers.present() == {1: "a", 3: "c"}
    peers.start(9, "b", b"2")
    assert peers.present() == {1: "a", 3: "c", 9: "b"}
    peers.flower.now += 61
    assert peers.present() == {1: "a", 3: "c", 9: "b"}
    assert peers.flower.asked == [1, 2, 3, 9], "Flower still lists the old node for a minute"


def test_a_peer_with_a_new_node_has_left_its_old_one(peers: Peers) -> None:
    peers.present()
    peers.start(9, "b", b"2")
    assert peers.present() == {1: "a", 3: "c", 9: "b"}


def test_a_new_node_that_does_not_answer_holds_up_one_round_only(peers: Peers) -> None:
    peers.present()
    peers.start(4, "d")
    peers.flower.mute.add(4)
    before = peers.flower.now
    assert peers.present() == {1: "a", 2: "b", 3: "c"}
    assert 4 <= peers.flower.now - before <= 6
    before = peers.flower.now
    assert peers.present() == {1: "a", 2: "b", 3: "c"}
    assert peers.flower.now - before <= 1
    peers.flower.mute.clear()
    assert peers.present() == {1: "a", 2: "b", 3: "c", 4: "d"}
    assert peers.flower.asked == [1, 2, 3, 4]


def test_a_node_that_comes_during_a_round_is_known_for_the_next(peers: Peers) -> None:
    peers.present()
    peers.start(4, "d")
    for _ in range(2):
        peers.nodes.ask(cast(Grid, cast(Any, peers.flower)))
    before = peers.flower.now
    assert peers.present() == {1: "a", 2: "b", 3: "c", 4: "d"}
    assert peers.flower.now == before
    assert peers.flower.asked == [1, 2, 3, 4]


def test_nodes_are_lost_if_no_agent_of_theirs_is_there(peers: Peers) -> None:
    peers.present()
    assert not peers.nodes.lost({1, 2}, peers.probe)
    del peers.agents["b"]
    assert not peers.nodes.lost({1, 2}, peers.probe)
    assert peers.nodes.lost({2}, peers.probe)
    assert not peers.nodes.lost({2, 4}, peers.probe), "nobody knows of node 4"
    peers.agents["a"] = b"2"
    assert peers.nodes.lost({1, 2}, peers.probe), (
        "an agent that has started again has lost the round"
    )


def test_in_the_clear_nodes_are_named_as_far_as_they_say_who_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = Peers(tmp_path, monkeypatch)
    flower = peers.flower
    flower.peers = {1: ("a", b"1"), 2: ("", b""), 3: ("c", b"3")}
    flower.mute = {3}
    ca = flower.deployment.ca
    found, trips = nodes.names_of(cast(Grid, flower), [1, 2, 3], ca, 0.05)
    assert found == {1: "a"}
    assert len(trips) == 2
