"""`smpcfl status`: who is there, how the last round went, and what holds in it; once, or as it changes."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from smpc.v1 import local_pb2, local_pb2_grpc
from smpc.v1 import registry_pb2 as pb

from ..aggregator import rounds_service
from ..base.config import Settings
from ..base.state import JoinFolder, State
from ..net import certificates, rpc
from ..net.certificates import Identity, IdentityError, Role
from ..net.directory import Directory
from ..net.versions import Spoken
from ..protocol.errors import LocalError, ProtocolError, clean
from ..protocol.guarantee import guarantee
from ..reports.record import RoundRecord
from .status_view import RosterRow, Status, below, changes, table

EVERY_S = 2.0


async def show(settings: Settings, *, as_json: bool = False) -> int:
    """As it is now."""
    status = await _look(settings)
    if as_json:
        print(json.dumps(status.to_members(), indent=2))
        return 0
    console = Console()
    console.print(table(status, console.width))
    console.print("\n".join(below(status)), highlight=False, markup=False, soft_wrap=True)
    return 0


async def watch(settings: Settings, *, as_json: bool = False) -> int:
    """Until Ctrl-C: a screen, or where there is no terminal a line for each change.

    As JSON an object a line, whenever anything in it is another.
    """
    console = Console()
    if console.is_terminal and not as_json:
        with Live(console=console, auto_refresh=False) as live:
            async for status, problem in _looks(settings):
                lines = [*below(status), problem]
                live.update(Group(table(status, console.width), *map(Text, lines)), refresh=True)
        return 0
    before, said = None, ""
    async for status, problem in _looks(settings):
        if problem != said and problem:
            print(f"smpcfl status: {problem}", file=sys.stderr, flush=True)
        said = problem
        if as_json and status != before:
            print(json.dumps(status.to_members()), flush=True)
        elif not as_json:
            for text in changes(before, status):
                print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
        before = status
    return 0


async def _looks(settings: Settings) -> AsyncIterator[tuple[Status, str]]:
    """One every two seconds. If one fails, the last one and why; the first has to work."""
    status = await _look(settings)
    problem = ""
    while True:
        yield status, problem
        await asyncio.sleep(EVERY_S)
        try:
            status, problem = await _look(settings), ""
        except (ProtocolError, OSError) as error:
            problem = str(error)


async def _look(settings: Settings) -> Status:
    """Asks the registry with the identity of the service whose state folder this is."""
    ca_paths = State(settings.state).ca, JoinFolder(settings.join).ca
    ca_path = next((path for path in ca_paths if path.exists()), None)
    own = certificates.load(settings.state, certificates.load_ca(ca_path)) if ca_path else None
    if own is None:
        raise LocalError(
            f"no certificate in {settings.state}: run this where a peer or the aggregator runs"
            " (docker compose exec aggregator smpcfl status), or give --state"
        )
    directory = Directory(own, settings.registry, State(settings.state).roster)
    try:
        roster = await directory.registry.Lookup(pb.LookupRequest(), timeout=5.0)
    except grpc.aio.AioRpcError as error:
        raise LocalError(
            f"no registry at {settings.registry} ({error.details()}): give its address with --registry"
        ) from error
    finally:
        await directory.close()
    records = rounds_service.read(State(settings.state).records)
    in_force, why_not = _guarantee(settings, own, records)
    return Status(
        role=own.role,
        name=own.name,
        registry=settings.registry,
        roster=tuple(_row(entry, own) for entry in roster.entries),
        last=records[-1] if records and own.role is Role.AGGREGATOR else None,
        guarantee=in_force,
        no_guarantee=why_not,
        aggregator=Spoken(roster.aggregator_software, roster.aggregator_protocol),
    )


def _row(entry: pb.Entry, own: Identity) -> RosterRow:
    fingerprint = problem = ""
    try:
        # Of the key: what SMPCFL_MEMBERS pins.
        fingerprint = certificates.check_certificate(entry.certificate, own.ca).fingerprint
    except IdentityError as error:
        problem = str(error)
    return RosterRow(
        peer=clean(entry.peer),
        address=clean(entry.address),
        data_slice=entry.index,
        by_mdns=entry.mdns,
        fingerprint=fingerprint,
        problem=problem,
        spoken=Spoken(entry.software, entry.protocol),
    )


def _guarantee(settings: Settings, own: Identity, records: list[RoundRecord]) -> tuple[str, str]:
    """What holds in the last round, as the service here knows it; if nothing does, why."""
    if own.role is Role.AGGREGATOR:
        last = records[-1] if records else None
        if last is None or last.withstood is None:
            return "", "no secure round yet"
        return guarantee(last.withstood, last.cohort, last.mode), ""
    with rpc.local_channel(str(State(settings.state).socket("agent"))) as channel:
        try:
            reply = local_pb2_grpc.AgentStub(channel).Identity(
                local_pb2.IdentityRequest(), timeout=5.0
            )
        except grpc.RpcError:
            return "", "the peer here does not run"
    return reply.guarantee, "" if reply.guarantee else "no round yet"
