"""Services of several versions in one deployment train together, or are left out by name: real processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from smpcfl import __version__
from smpcfl.aggregator import rounds_service
from smpcfl.cli.stack import LOOPBACK
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.protocol.encoding import VERSION
from support.light_app import light_app, running
from support.mixed import Mixed, another_version
from support.processes import option, page

PEERS, ROUNDS = 6, 2
OLDER, NEWER = "0.0.9", "0.2.0"


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_rounds_go_on_without_who_speaks_another_protocol(tmp_path: Path) -> None:
    """Peer 4 tells so. Peer 5 does not: it is asked once a round, and refuses."""
    same = another_version(tmp_path / "newer", NEWER, VERSION)
    first = {
        "registry": another_version(tmp_path / "older", OLDER, VERSION),
        "peer-1": same,
        "peer-4": another_version(tmp_path / "told", NEWER, VERSION + 1),
        "peer-5": another_version(tmp_path / "silent", NEWER, VERSION + 1, silent=True),
    }
    app = light_app(tmp_path / "app", ROUNDS)
    stack = Mixed(tmp_path / "stack", "seeded", PEERS, 0, 1, hash_of(app), first=first, absent=2)
    with stack, running(stack, app):
        stack.wait(lambda: len(rounds_service.read(stack.records)) == ROUNDS, 500, "training")
        records = rounds_service.read(stack.records)
        status = subprocess.run(
            [
                *(sys.executable, "-m", "smpcfl", "status", "--state", str(stack.aggregator.path)),
                *("--registry", f"{LOOPBACK}:{option(stack, 'registry', '--port')}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        counted = page(option(stack, "peer-5", "--metrics-port"), "/metrics")
        logs = {
            name: stack.log(name) for name in ("aggregator", "peer-1", "peer-4", "peer-5", "run")
        }

    told, silent = stack.peer_id(4), stack.peer_id(5)
    assert all(r.outcome == "complete" and r.survivors == 4 for r in records), logs["aggregator"]
    assert all(told not in r.lost for r in records)
    left_out = (
        f"left out, as they speak another protocol than this aggregator (smpcfl {__version__}, protocol"
        f" {VERSION}): {told} (smpcfl {NEWER}, protocol {VERSION + 1})"
    )
    assert logs["aggregator"].count(left_out) == 1, "named, and once"
    assert left_out in logs["run"], "on the screen of whoever started the run"
    assert f"{told} (smpcfl {NEWER}, protocol {VERSION + 1})" in status
    assert f"the aggregator is smpcfl {__version__}, protocol {VERSION}" in logs["peer-4"]
    assert "the aggregator is" not in logs["peer-1"]

    refused = (
        f"other_protocol: this ticket is of protocol version {VERSION}, this peer (smpcfl {NEWER}) speaks"
        f" {VERSION + 1}: upgrade the aggregator"
    )
    assert f"{silent} did not upload: {refused}" in logs["aggregator"]
    assert refused in logs["run"]
    assert f"refused: {refused}" in logs["peer-5"]
    number = re.search(
        r'smpcfl_rejected_total{mode="seeded",reason="other_protocol"} (\S+)', counted
    )
    assert number is not None
    assert float(number[1]) >= 1
