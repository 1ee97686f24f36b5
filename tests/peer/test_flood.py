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
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, Deadlines, SignedTicket
from support.deployed import Deployed
from support.deployed_peer import DeployedPeer

pytestmark = pytest.mark.processes

ALLOWANCE = Allowance()
# So late that none passes by itself, however busy the machine: the clock skips what nobody waits for.
DEADLINES = Deadlines(500_000, 1_000_000, 3_000_000, 3_100_000, 3_200_000, 3_300_000)


@contextlib.asynccontextmanager
async def flood(net: Deployed, folder: Path, signed: SignedTicket) -> AsyncIterator[list[int]]:
    """By the last peer, from a process of its own. The number of its calls is there at the end."""
    attacker, made = net.cohort[-1], list[int]()
    certificates.save(folder, net.peers[attacker].own)
    State(folder).ca.write_bytes(certificates.pem(net.enrolled.ca))
    (folder / "ticket").write_bytes(wire.ticket_to_proto(signed).SerializeToString())
    others = [f"{name}={at}" for name, at in net.addresses().items() if name != attacker]
    log = folder / "log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "support.flooder", str(folder), *others),
            env={"PYTHONPATH": ":".join(sys.path)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"flooding\n", log.read_text()
        yield made
        output, _ = await process.communicate(b"")
        made.append(int(output))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def served(peer: DeployedPeer) -> int:
    """Calls to `peer` that were looked at."""
    counts = [
        sample.value
        for family in peer.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "smpcfl_rpc_duration_seconds_count"
        and not sample.labels["method"].endswith(".out")
    ]
    return int(sum(counts)) - peer.rejected(Reason.RATE_LIMITED)


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
async def test_a_round_during_a_flood(tmp_path: Path, mode: str) -> None:
    async with Deployed(tmp_path, 5) as net:
        attacker, others = 4, range(4)
        # In `seeded` it is a neighbour that may be lost; in `additive`, where none may, it only has a
        # certificate of the deployment.
        changes = {"cohort": net.cohort[:-1], "threshold": 3} if mode == ADDITIVE else {}
        signed = net.make_ticket(mode=mode, deadlines=DEADLINES, **changes)
        await net.peer(attacker).server.stop(0)  # all that comes of it is the flood
        began = time.monotonic()
        async with flood(net, tmp_path / "flooder", signed) as made:
            await net.begin(signed, without=[attacker])
            if mode == SEEDED:
                await net.pass_deadlines(others)
            await net.upload()
            total = await net.finish()
            # The flood goes on until it is held back: the round may well be the faster one.
            while not any(net.peer(i).rejected(Reason.RATE_LIMITED) for i in others):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            counts = [served(net.peer(i)) for i in others]
        seconds = time.monotonic() - began
        assert total == net.true_sum(net.cohort[:-1])
        # On a busy machine the flood is slower too.
        assert made[0] > 200
        for count in counts:
            # What the round takes, and what the limits leave to the flood.
            assert count < 100 + ALLOWANCE.burst + ALLOWANCE.per_second * seconds
