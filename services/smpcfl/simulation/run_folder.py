"""What `smpcfl simulate` asks of a simulated run, and the folder in which it follows it.

A run that was started otherwise, with `flwr run`, has no such folder, and leaves nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..protocol.errors import LocalError

SAID = "a simulation: no TLS, all peers in one process; it keeps nothing secret"
"""Printed on every start."""
FOLDER = "SMPCFL_SIMULATION"
"""The variable of the environment that names the folder."""
LOST = "SMPCFL_SIMULATED_LOST"
"""That of the share of peers that are lost in each round, 0 to less than 1; for a `flwr run` as well."""
PEERS = "SMPCFL_SIMULATED_PEERS"
"""That of how many virtual peers there will be: the engine makes them while the ServerApp starts."""
_RECORDS = "records.jsonl"
_PROGRESS = "progress.json"


def lost() -> float:
    """As the environment has it, 0 by default. LocalError for what is no share."""
    text = os.environ.get(LOST, "0")
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 1.0:
        raise LocalError(
            f"{LOST} is {text!r}: a share from 0 to less than 1 is needed, such as 0.1"
        )
    return share


def peers() -> int:
    """How many there will be; 0 where nobody said so."""
    return int(os.environ.get(PEERS, "0"))


def add(record: Mapping[str, Any], costs: Mapping[str, Any]) -> None:
    """A round that ended: a RoundRecord's members, and what it would have cost each peer."""
    if folder := os.environ.get(FOLDER):
        with (Path(folder) / _RECORDS).open("a") as file:
            file.write(json.dumps({"record": record, "costs": costs}) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All that was added, in order, each with `record` and `costs`; without a line that is not whole yet."""
    try:
        text = (folder / _RECORDS).read_text()
    except FileNotFoundError:
        return []
    return [json.loads(row) for row in text.splitlines(keepends=True) if row.endswith("\n")]


def show_progress(replied: int, asked: int) -> None:
    """How many peers have replied, of how many that were asked."""
    if folder := os.environ.get(FOLDER):
        path = Path(folder) / _PROGRESS
        path.with_suffix(".new").write_text(json.dumps([replied, asked]))
        path.with_suffix(".new").replace(path)


def progress(folder: Path) -> tuple[int, int] | None:
    """What was shown last; None before."""
    try:
        replied, asked = json.loads((folder / _PROGRESS).read_text())
    except FileNotFoundError:
        return None
    return int(replied), int(asked)
