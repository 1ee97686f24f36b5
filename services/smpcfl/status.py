"""`smpcfl status`: who is there, and how the last round went."""

from __future__ import annotations

import grpc.aio
from rich.console import Console
from rich.table import Table

from smpc.v1 import registry_pb2 as pb

from . import identity
from .aggregator import rounds
from .config import Settings
from .directory import Directory
from .protocol.errors import LocalError
from .report import line


async def show(settings: Settings) -> int:
    """Asks the registry with the identity of the service whose state folder this is."""
    ca_path = next(
        (path for path in (settings.state / "ca.pem", settings.join / "ca.pem") if path.exists()),
        None,
    )
    own = identity.load(settings.state, identity.load_ca(ca_path)) if ca_path else None
    if own is None:
        raise LocalError(
            f"no certificate in {settings.state}: run this where a peer or the aggregator runs"
            " (docker compose exec aggregator smpcfl status), or give --state"
        )
    console = Console()
    directory = Directory(own, settings.registry, settings.state / "roster.bin")
    try:
        roster = await directory.registry.Lookup(pb.LookupRequest(), timeout=5.0)
    except grpc.aio.AioRpcError as error:
        raise LocalError(
            f"no registry at {settings.registry} ({error.details()}): give its address with --registry"
        ) from error
    finally:
        await directory.close()
    table = Table("peer", "address", "data slice", "seen by mDNS", title="roster")
    for entry in roster.entries:
        table.add_row(entry.peer, entry.address, str(entry.index), "yes" if entry.mdns else "no")
    console.print(table)
    records = rounds.read(rounds.records_path(settings.state))
    console.print(line(records[-1]) if records else "no round yet", highlight=False)
    return 0
