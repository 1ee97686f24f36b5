"""Printing whatever holds a secret shows none of it."""

from __future__ import annotations

import base64
import pprint
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net.certificates import Members, Role
from smpcfl.peer.agent import PeerAgent
from smpcfl.peer.agent_service import AgentService
from smpcfl.peer.peer_service import PeerService
from smpcfl.peer.serial_store import SerialStore
from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.masks import AdditiveMasks
from smpcfl.protocol.messages import AdditiveShare, Agreement, Call, Exchange, Upload
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.shamir import combine, split
from smpcfl.protocol.ticket import ADDITIVE
from support.enrolled import Deployment
from support.forge import round_of, sent, survivors
from support.network import Network, entropy_from, make_ticket, peer_ids

PEERS = peer_ids(4)


def renderings(secret: bytes) -> Iterator[str]:
    """How a secret may look in a log: any eight bytes of it in hex, base64, repr or decimal."""
    raw = bytes(secret)
    yield str(int.from_bytes(raw, "big"))
    yield str(int.from_bytes(raw, "little"))
    yield base64.b64encode(raw).decode().rstrip("=")
    yield base64.urlsafe_b64encode(raw).decode().rstrip("=")
    for start in range(0, len(raw) - 8):
        part = raw[start : start + 8]
        yield part.hex()
        yield part.hex(" ")
        yield part.hex(":")
        yield repr(part)[2:-1]
        yield ", ".join(str(byte) for byte in part)


def shown(value: object) -> str:
    """All the ways in which text is made of a value."""
    ways = [
        repr(value),
        str(value),
        f"{value}",
        f"{value!r}",
        f"{value:}",
        f"{value!s} {value!r}",
    ]
    ways += [pprint.pformat(value), repr([value]), repr({"key": value}), ascii(value)]
    return "\n".join(ways).lower()


def assert_hidden(value: object, *secrets: bytes) -> None:
    text = shown(value)
    for secret in secrets:
        for rendering in renderings(secret):
            assert rendering.lower() not in text


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(make_ticket(4)).until("ready")


def secrets_of(round_: PeerRound) -> list[bytes]:
    secrets = round_._secrets
    assert secrets is not None
    held = [*secrets.dealt.values(), *round_._of.held.values()]
    raw = secrets.private.private_bytes_raw()
    return [secrets.self_seed, raw, *(s for d in held for s in (d.self_share, d.pair_share))]


def test_this_file_would_notice() -> None:
    secret = bytes(range(100, 132))
    for leak in (secret, secret.hex(), list(secret), base64.b64encode(secret), {"k": secret}):
        with pytest.raises(AssertionError):
            assert_hidden(leak, secret)


def numbers(*values: int) -> list[str]:
    return [form for value in values for form in (str(value), f"{value:x}")]


def test_the_mask_of_a_failure_and_its_shares(network: Network) -> None:
    """Numbers, not `Secret`: what shows them must not."""
    round_ = round_of(network, 0)
    secrets = round_._secrets
    assert secrets is not None
    own = numbers(secrets.failure_mask, secrets.failure_share)
    dealt, held = secrets.dealt.values(), round_._of.held.values()
    shares = numbers(*(item.failure_share for item in (*dealt, *held)))
    message = sent(round_of(Network(make_ticket(4)).until("start"), 0), Exchange, 2, 0.0)
    shares += numbers(message.dealt.failure_share)
    for value in (round_, secrets, *dealt, *held, message, message.dealt, Call(PEERS[2], message)):
        text = shown(value)
        assert not [number for number in own + shares if number in text]
    assert str(secrets.failure_mask) in shown(vars(secrets)), "this test would notice"


def test_a_secret() -> None:
    secret = Secret(bytes(range(32)))
    assert_hidden(secret, secret)
    assert repr(secret) == "<secret, 32 bytes>"


def test_shares_and_what_they_give() -> None:
    secret = entropy_from("s")(32)
    shares = split(secret, 2, 3, entropy_from("c"))
    assert_hidden(shares, secret, *shares)
    assert_hidden(combine({1: shares[0], 2: shares[1]}), secret)


def test_a_secret_is_no_key_of_a_table() -> None:
    with pytest.raises(TypeError):
        hash(Secret(bytes(32)))


def test_secrets_compare_as_bytes() -> None:
    assert Secret(b"a") == Secret(b"a") == b"a"
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != "a"


def test_a_round(network: Network) -> None:
    round_ = round_of(network, 0)
    assert_hidden(round_, *secrets_of(round_))
    assert_hidden(round_._secrets, *secrets_of(round_))


def test_an_identity_and_who_gives_it(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    own = deployment.identity(Role.PEER, "peer-a")
    authority = deployment.authority
    number = own.key.private_numbers().private_value.to_bytes(32, "big")
    ca_number = authority.key.private_numbers().private_value.to_bytes(32, "big")
    tokens = [path.read_bytes() for path in sorted(tmp_path.glob("join/*/token"))]
    assert len(tokens) == 2
    for value in (own, own.signer, authority, vars(authority)["key"], Members(own.ca)):
        assert_hidden(value, number, ca_number, *tokens)
        assert not any(token.decode().lower() in shown(value) for token in tokens)
    with pytest.raises(RemoteError) as error:
        authority.enrol(tokens[0].decode(), b"", "peer", "peer-a")
    for token in tokens:
        assert token.decode().lower() not in shown(error.value)


def test_an_agent_and_what_it_serves(network: Network, tmp_path: Path) -> None:
    own = Deployment(tmp_path).identity(Role.PEER, PEERS[0])
    serials = SerialStore(State(tmp_path).serial)
    metrics = Metrics("seeded")
    send = cast(Any, None)
    agent = PeerAgent(own, network.policy, network.keyring, serials, Ledger(), send, metrics)
    agent._round = round_ = round_of(network, 0)
    services = (
        PeerService(own, agent, Members(own.ca), metrics),
        AgentService(agent, metrics, {}.get),
    )
    for value in (agent, *services):
        assert_hidden(value, *secrets_of(round_))


def test_an_exchange_and_what_it_deals(network: Network) -> None:
    fresh = Network(make_ticket(4)).until("start")
    message = sent(round_of(fresh, 0), Exchange, 2, 0.0)
    secrets = (message.dealt.self_share, message.dealt.pair_share)
    assert_hidden(message, *secrets)
    assert_hidden(message.dealt, *secrets)
    assert_hidden(Call(PEERS[2], message), *secrets)


def test_masks_and_upload() -> None:
    network = Network(make_ticket(4)).until("ready")
    round_of(network, 1).begin(bytes(32), bytes(32))
    masks, header = round_of(network, 1).masks(network.now)
    keys = [masks.self_key, *masks.plus, *masks.minus]
    assert len(keys) == 4
    assert_hidden(masks, *keys)
    vector = masks.apply(network.addends[PEERS[1]].copy())
    assert_hidden(vector, vector.tobytes(), network.addends[PEERS[1]].tobytes())
    assert_hidden(Upload(header, None, vector.tobytes()), vector.tobytes())


def test_an_answer_and_its_shares() -> None:
    network = Network(make_ticket(4), lost={}).until("upload")
    for index in range(4):
        message = survivors(network, range(4))
        round_of(network, index).survivors(message, network.now)
    network.pump((Agreement,))
    answer = round_of(network, 0).answer(network.now)
    assert answer is not None
    secrets = [item.share for item in answer.self_shares]
    assert len(secrets) == 3
    assert_hidden(answer, *secrets)
    assert_hidden(answer.self_shares[0], *secrets)
    network.aggregator.fix_survivors()
    network.aggregator.answer(PEERS[0], answer)
    assert_hidden(network.aggregator, *secrets)
    assert_hidden(network.aggregator._wanted, *secrets)


def test_additive_shares_and_masks() -> None:
    network = Network(make_ticket(4, mode=ADDITIVE)).until("start")
    call = network.rounds[PEERS[0]].calls(0.0)[0]
    assert isinstance(call.message, AdditiveShare)
    assert_hidden(call, call.message.vector)
    assert_hidden(network.rounds[PEERS[0]], call.message.vector)
    assert_hidden(AdditiveMasks(call.message.vector), call.message.vector)


def test_the_error_about_a_bad_share() -> None:
    network = Network(make_ticket(4)).until("start")
    message = sent(round_of(network, 0), Exchange, 2, 0.0)
    with pytest.raises(RemoteError) as error:
        round_of(network, 3).exchange(PEERS[0], message, 0.0)  # it was dealt to 2
    text = "".join(traceback.format_exception(error.value))
    for rendering in renderings(message.dealt.self_share):
        assert rendering not in text
    assert_hidden(error.value, message.dealt.self_share, message.dealt.pair_share)
