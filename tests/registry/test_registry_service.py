"""What the registry takes from a peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.config import ConfigError, Settings
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net.callers import Allowance, Callers
from smpcfl.net.certificates import Role
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.registry import registry_service
from smpcfl.registry.registry_service import RegistryService
from smpcfl.registry.roster import Roster
from smpcfl.registry.targets import targets
from support.enrolled import Deployment, draws_of


async def test_a_peer_is_scraped_where_it_is_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_service.rpc, "caller", lambda context: (Role.PEER, "peer-a"))
    monkeypatch.setattr(registry_service.rpc, "caller_certificate", lambda context: b"")
    roster = Roster(State(tmp_path).indices, 1)
    authority = Deployment(tmp_path).authority
    registry = RegistryService(
        authority.own_identity([]),
        authority,
        roster,
        draws_of(authority, tmp_path),
        Metrics("seeded"),
    )

    async def register(address: str, metrics_address: str) -> pb.RegisterReply:
        request = pb.RegisterRequest(address=address, metrics_address=metrics_address)
        return await registry._register(request, cast(Any, None))

    for elsewhere in ("10.0.0.9:9100", "169.254.169.254:80", "10.0.0.2.example.org:9100"):
        with pytest.raises(RemoteError, match="host of the metrics") as caught:
            await register("10.0.0.2:9300", elsewhere)
        assert caught.value.reason is Reason.MALFORMED
    assert targets(roster) == b"[]"
    assert (await register("10.0.0.2:9300", "10.0.0.2:9100")).index == 0
    assert b"10.0.0.2:9100" in targets(roster)
    await register("[2001:db8::2]:19300", "[2001:db8::2]:9100")
    assert b'"[2001:db8::2]:9100"' in targets(roster)
    for none in ("2001:db8::2:9300", "[fe80::2%eth0]:9300", "10.0.0.2/x:9300", "10.0.0.2", ""):
        with pytest.raises(RemoteError, match="address"):
            await register(none, none)


@pytest.mark.parametrize("port", ["0", "65536", "²", "٣", "9" * 5000])
async def test_an_address_needs_a_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setattr(registry_service.rpc, "caller", lambda context: (Role.PEER, "peer-a"))
    authority = Deployment(tmp_path).authority
    roster = Roster(State(tmp_path).indices, 1)
    registry = RegistryService(
        authority.own_identity([]),
        authority,
        roster,
        draws_of(authority, tmp_path),
        Metrics("seeded"),
    )
    request = pb.RegisterRequest(address=f"a:{port}", metrics_address=f"a:{port}")
    with pytest.raises(RemoteError, match="address"):
        await registry._register(request, cast(Any, None))
    with pytest.raises(ConfigError, match="host:port is needed"):
        Settings(registry=f"a:{port}")


class Refused(Exception):
    pass


class Context:
    """What the handlers use of gRPC's when they refuse."""

    def set_trailing_metadata(self, metadata: Any) -> None:
        pass

    async def abort(self, code: Any, details: str) -> None:
        raise Refused(details)


async def test_one_caller_asks_so_much_of_it_and_takes_nothing_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowance = Allowance(burst=3, pause_s=0.0)
    monkeypatch.setattr(registry_service, "Callers", lambda: Callers(allowance, lambda: 0.0))
    shown = [(Role.PEER, "peer-a")]
    monkeypatch.setattr(registry_service.rpc, "caller", lambda context: shown[0])
    roster, authority = Roster(State(tmp_path).indices, 1), Deployment(tmp_path).authority
    metrics = Metrics("seeded", CollectorRegistry())
    registry: Any = RegistryService(
        authority.own_identity([]), authority, roster, draws_of(authority, tmp_path), metrics
    )
    calls: dict[str, Any] = {
        "Register": pb.RegisterRequest(),
        "Heartbeat": pb.HeartbeatRequest(),
        "Lookup": pb.LookupRequest(),
        "Goodbye": pb.GoodbyeRequest(),
        "Renew": pb.RenewRequest(),
        "Draw": pb.DrawRequest(),
    }
    for _ in range(allowance.burst):
        await registry.Lookup(pb.LookupRequest(), Context())
    for method, request in calls.items():
        with pytest.raises(Refused, match="rate_limited"):
            await getattr(registry, method)(request, Context())
    shown[0] = (Role.PEER, "peer-b")
    await registry.Lookup(pb.LookupRequest(), Context())
    limited = metrics.registry.get_sample_value(
        "smpcfl_rejected_total", {"mode": "seeded", "reason": "rate_limited"}
    )
    assert limited == len(calls)


async def test_the_roster_tells_which_protocol_peers_and_the_aggregator_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_service.rpc, "caller_certificate", lambda context: b"")
    authority = Deployment(tmp_path).authority
    registry = RegistryService(
        authority.own_identity([]),
        authority,
        Roster(State(tmp_path).indices, 1),
        draws_of(authority, tmp_path),
        Metrics("seeded"),
    )

    def calls_as(role: Role, name: str) -> None:
        monkeypatch.setattr(registry_service.rpc, "caller", lambda context: (role, name))

    calls_as(Role.PEER, "peer-a")
    where = {"address": "a:1", "metrics_address": "a:2"}
    request = pb.RegisterRequest(**where, software="v" * 50, protocol=2**32 - 1)
    await registry._register(request, cast(Any, None))
    # A peer says nothing of the aggregator.
    told = await registry._lookup(pb.LookupRequest(software="0.3.0", protocol=4), cast(Any, None))
    (entry,) = told.entries
    assert (entry.software, entry.protocol) == ("v" * 40, 2**32 - 1)
    assert (told.aggregator_software, told.aggregator_protocol) == ("", 0)

    calls_as(Role.AGGREGATOR, "aggregator")
    for request in (pb.LookupRequest(software="0.2.0", protocol=3), pb.LookupRequest()):
        now = await registry._lookup(request, cast(Any, None))
        assert (now.aggregator_software, now.aggregator_protocol) == ("0.2.0", 3)
    assert now.version > told.version, "else a peer would not be told"
