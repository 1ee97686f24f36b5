"""Calls to other peers: who is taken for whom."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smpc.v1 import peer_pb2 as pb
from smpcfl.base.metrics import Metrics
from smpcfl.net.certificates import Members, Role
from smpcfl.peer.agent import CallFailed
from smpcfl.peer.peer_link import PeerLink
from support.enrolled import Deployment


@pytest.mark.parametrize(("role", "name"), [(Role.PEER, "peer-c"), (Role.AGGREGATOR, "aggregator")])
async def test_the_certificate_of_somebody_else_is_not_kept(
    tmp_path: Path, role: Role, name: str
) -> None:
    deployment = Deployment(tmp_path)
    shown = deployment.certificate(role, name)

    async def show(request: pb.Empty, **_: float) -> pb.Certificate:
        return pb.Certificate(der=shown)

    members = Members(deployment.ca)
    directory = SimpleNamespace(members=members)
    link = PeerLink(cast(Any, None), cast(Any, directory), Metrics("seeded"))
    with pytest.raises(CallFailed, match=f"peer-b showed a certificate of {name}"):
        await link._identify(cast(Any, SimpleNamespace(Identify=show)), "peer-b")
    assert members.get(name) is None
