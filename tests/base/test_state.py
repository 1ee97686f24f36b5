"""The names in state and join folders: a service finds what an earlier version of it left there."""

from __future__ import annotations

from pathlib import Path

from smpcfl.base.state import JoinFolder, State

NAMES = {
    "key": "key.pem",
    "certificate": "certificate.pem",
    "ca": "ca.pem",
    "roster": "roster.bin",
    "seen": "seen.json",
    "serial": "serial",
    "ledger": "ledger.sqlite",
    "draw": "draw.bin",
    "suspects": "suspects.json",
    "floors": "floors.json",
    "flower": "flower",
    "peer_id": "peer-id",
    "node_key": "flower/node-key",
    "run_apps": "flower/run-apps",
    "node_config": "flower/node-config.toml",
    "partitions": "partitions",
    "records": "records.jsonl",
    "runs": "runs.jsonl",
    "apps": "apps.json",
    "current_run": "training.json",
    "checkpoints": "checkpoints",
    "superlink": "superlink.db",
    "results": "results",
    "flower_cli": "flower-cli",
    "ca_key": "ca-key.pem",
    "indices": "indices.json",
    "tokens": "tokens",
    "join_folder_closed": "join-folder-closed",
    "draw_wanted": "draw-wanted",
    "claims": "claims",
    "reserved": "reserved",
    "revoked": "revoked",
    "shared": "shared",
}


def test_what_lies_in_a_state_folder_keeps_its_name() -> None:
    state = State(Path("folder"))
    paths = {name for name, member in vars(State).items() if isinstance(member, property)}
    assert {name: getattr(state, name) for name in paths} == {
        name: Path("folder") / path for name, path in NAMES.items()
    }
    assert state.log("supernode") == Path("folder/log/supernode.log")
    assert state.socket("agent") == Path("folder/run/agent.sock")


def test_what_lies_in_a_join_folder_keeps_its_name() -> None:
    join = JoinFolder(Path("folder"))
    assert (join.ca, join.token) == (Path("folder/ca.pem"), Path("folder/token"))
