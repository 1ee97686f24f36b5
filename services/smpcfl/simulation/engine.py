"""Runs one app in Flower's simulation engine, as Flower's own process does for `flwr run . local-simulation`.

A process of its own, which `smpcfl simulate` starts with the variable FLWR_HOME set to a folder that it will
remove again: the app is installed there, because ServerApp and ClientApps read their configuration from it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from flwr.app.user_config import UserConfig
from flwr.cli.config_utils import get_fab_metadata
from flwr.cli.install import install_from_fab
from flwr.common.config import get_fused_config_from_dir, get_project_config, get_project_dir
from flwr.simulation.run_simulation import _run_simulation
from flwr.supercore.constant import NOOP_FEDERATION_ID
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supercore.telemetry import EventType

from ..daemons import app_files

_RUN = 1
_BACKEND: dict[str, Any] = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {}}


def run(app: Path, peers: int, changes: UserConfig) -> None:
    """Until the ServerApp has ended. `changes`: what is changed in the app's own configuration.

    Raises what the ServerApp raised. LocalError if there is no Flower app in this folder.
    """
    bundle = app_files.bundle_of(app)
    install_from_fab(bundle, skip_prompt=True)
    name, version = get_fab_metadata(bundle)
    found = Run.create_empty(_RUN)
    found.fab_id, found.fab_version, found.fab_hash = name, version, app_files.hash_of(bundle)
    found.override_config = changes
    found.primary_task_id, found.federation_id = _RUN, NOOP_FEDERATION_ID
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = _RUN
    installed = get_project_dir(name, version, found.fab_hash)
    components = get_project_config(installed)["tool"]["flwr"]["app"]["components"]
    _run_simulation(
        num_supernodes=peers,
        exit_event=EventType.FLWR_SIMULATION_RUN_LEAVE,
        client_app_attr=components["clientapp"],
        server_app_attr=components["serverapp"],
        server_app_context=Context(
            run_id=_RUN,
            node_id=_RUN,
            node_config={},
            state=RecordDict(),
            run_config=get_fused_config_from_dir(installed, changes),
        ),
        backend_config=_BACKEND,
        app_dir=str(installed),
        run=found,
        is_app=True,
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
