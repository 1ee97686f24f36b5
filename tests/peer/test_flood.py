"""One neighbour with a good certificate and bad manners: the others complete their round."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smpcfl.base.state import State
from smpcfl.net import certificates, wire
from smpcfl.net.callers import Allowance
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, Deadlines, SignedTicket
from support.loopback import HOST, Loopback

ALLOWANCE = Allowance()
# So late that none passes by itself, however busy the machine: the network skips what nobody waits for.
DEADLINES = Deadlines(500_000, 1_000_000, 3_000_000, 3_100_000, 3_200_000, 3_300_000)


@contextlib.asynccontextmanager
async def flood(network: Loopback, folder: Path, signed: SignedTicket) -> AsyncIterator[list[int]]:
    """By the last peer, from a process of its own. The number of its calls is there at the end."""
    attacker, made = network.peers[-1], list[int]()
    certificates.save(folder, network.identities[attacker])
    State(folder).ca.write_bytes(certificates.pem(network.members.ca))
    (folder / "ticket").write_bytes(wire.ticket_to_proto(signed).SerializeToString())
    others = [f"{peer}={HOST}:{network.ports[peer]}" for peer in network.peers[:-1]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.flooder", str(folder), *others),
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"flooding\n"
        yield made
        output, _ = await process.communicate(b"")
        made.append(int(output))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
async def test_a_round_during_a_flood(tmp_path: Path, mode: str) -> None:
    async with Loopback(tmp_path, 5) as network:
        others = network.peers[:-1]
        # In `seeded` it is a neighbour that may be lost; in `additive`, where none may, it only has a
        # certificate of the deployment.
        changes = {"cohort": others, "threshold": 3} if mode == ADDITIVE else {}
        signed = network.ticket(mode, deadlines=DEADLINES, **changes)
        start = time.monotonic()
        async with flood(network, tmp_path / "flooder", signed) as made:
            difference = await network.round(signed, others)
            # The flood goes on until it is held back: the round may well be the faster one.
            while not any(network.limited(peer) for peer in others):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            served = {peer: network.served(peer) for peer in others}
        seconds = time.monotonic() - start
        assert difference == signed.ticket.layout.zeros()
        # On a busy machine the flood is slower too.
        assert made[0] > 200
        for count in served.values():
            # What the round takes, and what the limits leave to the flood.
            assert count < 100 + ALLOWANCE.burst + ALLOWANCE.per_second * seconds
