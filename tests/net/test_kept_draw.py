"""The draw as a party keeps it: what is on disk is gone by after a restart, and nothing older ever again."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.base import files
from smpcfl.base.files import StorageError
from smpcfl.base.state import State
from smpcfl.net import kept_draw
from smpcfl.net.kept_draw import KeptDraw
from smpcfl.protocol.draw import LIFE_S
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.registry.draws import Draws
from support.enrolled import Deployment, draws_of
from support.network import peer_ids

PEERS = {peer: bytes([index]) * 32 for index, peer in enumerate(peer_ids(10))}
ME = "peer-00003"


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path / "deployment")


@pytest.fixture
def draws(deployment: Deployment, tmp_path: Path, clock: Clock) -> Draws:
    return draws_of(deployment.authority, tmp_path / "registry", 5, clock=clock)


def draw(draws: Draws) -> pb.DrawReply:
    """By the operator's hand."""
    files.write_private(draws._paths.draw_wanted, b"")
    assert draws.keep(PEERS, lambda: PEERS)
    return draws.told(ME)


def kept(deployment: Deployment, tmp_path: Path, clock: Clock) -> KeptDraw:
    return KeptDraw(State(tmp_path).draw, deployment.ca, clock)


def test_a_draw_is_known_after_a_restart(
    deployment: Deployment, draws: Draws, tmp_path: Path, clock: Clock
) -> None:
    one = kept(deployment, tmp_path, clock)
    assert (one.number, one.groups) == (0, ())
    reply = draw(draws)
    assert one.take(reply)
    assert not one.take(reply)
    again = kept(deployment, tmp_path, clock)
    assert again == one
    own = again.group_of(ME)
    assert own is not None
    assert dict(own.members)[ME] == PEERS[ME]


def test_an_older_draw_is_never_gone_by_again(
    deployment: Deployment, draws: Draws, tmp_path: Path, clock: Clock
) -> None:
    older, newer = draw(draws), draw(draws)
    kept(deployment, tmp_path, clock).take(newer)
    with pytest.raises(RemoteError) as error:
        kept(deployment, tmp_path, clock).take(older)
    assert error.value.reason is Reason.STALE_DRAW
    assert kept(deployment, tmp_path, clock).number == newer.draw


def test_what_cannot_be_kept_is_not_gone_by(
    deployment: Deployment,
    draws: Draws,
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reply, one = draw(draws), kept(deployment, tmp_path, clock)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_draw, "write_private", full)
    with pytest.raises(OSError, match="No space"):
        one.take(reply)
    assert (one.number, one.groups) == (0, ())


def test_only_the_deployments_ca_signs_a_draw(
    deployment: Deployment, draws: Draws, tmp_path: Path, clock: Clock
) -> None:
    reply = draw(draws)
    other = Deployment(tmp_path / "other")
    forged = pb.DrawReply.FromString(reply.SerializeToString())
    forged.groups[0].roster += 1
    forged.groups[0].left_out += 1
    for wrong, ca in ((forged, deployment.ca), (reply, other.ca)):
        with pytest.raises(RemoteError) as error:
            KeptDraw(State(tmp_path).draw, ca, clock).take(wrong)
        assert error.value.reason is Reason.BAD_SIGNATURE
    renamed = pb.DrawReply.FromString(reply.SerializeToString())
    renamed.draw += 1
    with pytest.raises(RemoteError) as error:
        kept(deployment, tmp_path, clock).take(renamed)
    assert error.value.reason is Reason.MALFORMED
    clock.now += LIFE_S
    with pytest.raises(RemoteError) as error:
        kept(deployment, tmp_path, clock).take(reply)
    assert error.value.reason is Reason.EXPIRED_DRAW


def test_a_damaged_file_is_no_empty_one(
    deployment: Deployment, draws: Draws, tmp_path: Path, clock: Clock
) -> None:
    kept(deployment, tmp_path, clock).take(draw(draws))
    path = State(tmp_path).draw
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StorageError, match="damaged"):
        kept(deployment, tmp_path, clock)
