"""`smpcfl status`: who is there, and how the last round went."""

from __future__ import annotations

import grpc
import grpc.aio
from rich.console import Console
from rich.table import Table

from smpc.v1 import local_pb2, local_pb2_grpc
from smpc.v1 import registry_pb2 as pb

from ..aggregator import rounds_service
from ..base.config import Settings
from ..base.state import JoinFolder, State
from ..net import certificates, rpc
from ..net.certificates import Identity, IdentityError, Role
from ..net.directory import Directory
from ..protocol.errors import LocalError
from ..protocol.guarantee import guarantee
from ..reports.record import RoundRecord, group_lines, line


async def show(settings: Settings) -> int:
    """Asks the registry with the identity of the service whose state folder this is."""
    ca_paths = State(settings.state).ca, JoinFolder(settings.join).ca
    ca_path = next((path for path in ca_paths if path.exists()), None)
    own = certificates.load(settings.state, certificates.load_ca(ca_path)) if ca_path else None
    if own is None:
        raise LocalError(
            f"no certificate in {settings.state}: run this where a peer or the aggregator runs"
            " (docker compose exec aggregator smpcfl status), or give --state"
        )
    console = Console()
    directory = Directory(own, settings.registry, State(settings.state).roster)
    try:
        roster = await directory.registry.Lookup(pb.LookupRequest(), timeout=5.0)
    except grpc.aio.AioRpcError as error:
        raise LocalError(
            f"no registry at {settings.registry} ({error.details()}): give its address with --registry"
        ) from error
    finally:
        await directory.close()
    table = Table("peer", "address", "data slice", "seen by mDNS", "fingerprint", title="roster")
    for entry in roster.entries:
        seen = "yes" if entry.mdns else "no"
        shown = _fingerprint(entry.certificate, own)
        table.add_row(entry.peer, entry.address, str(entry.index), seen, shown)
    console.print(table)
    records = rounds_service.read(State(settings.state).records)
    if own.role is Role.AGGREGATOR:
        last = [line(records[-1]), *group_lines(records[-1])] if records else ["no round yet"]
        console.print("\n".join(last), highlight=False, markup=False, soft_wrap=True)
    console.print(_guarantee(settings, own, records), highlight=False, soft_wrap=True)
    return 0


def _fingerprint(certificate: bytes, own: Identity) -> str:
    """Of the key: what SMPCFL_MEMBERS pins."""
    try:
        return certificates.check_certificate(certificate, own.ca).fingerprint
    except IdentityError as error:
        return str(error)


def _guarantee(settings: Settings, own: Identity, records: list[RoundRecord]) -> str:
    """What holds in the last round, as the service here knows it."""
    if own.role is Role.AGGREGATOR:
        last = records[-1] if records else None
        if last is None or last.withstood is None:
            return "no secure round yet"
        return f"in force: {guarantee(last.withstood, last.cohort, last.mode)}"
    with rpc.local_channel(str(State(settings.state).socket("agent"))) as channel:
        try:
            reply = local_pb2_grpc.AgentStub(channel).Identity(
                local_pb2.IdentityRequest(), timeout=5.0
            )
        except grpc.RpcError:
            return "the peer here does not run"
    return f"in force: {reply.guarantee}" if reply.guarantee else "no round yet"
