"""Which Flower apps this peer runs: the aggregator sends the code, the peer's operator says which may run.

Otherwise an aggregator that lies would send an app without `secure_mod`.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from flwr.common.config import get_fab_config, get_metadata_from_config
from flwr.supercore.constant import TaskType
from flwr.supercore.run import Run

from ..base.config import ANY_APP, BUNDLED_APP
from . import app_files
from .bundled import BUNDLED

log = logging.getLogger("smpcfl.apps")

# Of what an app may bring; Flower 1.41 knows `agentapp` besides, which runs on a SuperNode without any mod.
COMPONENTS = {"serverapp", "clientapp"}
_ONLY = "this peer runs ClientApps only"


def hash_of(app: Path) -> str:
    """SHA-256, in hex, of the bundle that `smpcfl run` makes of the app in this folder.

    LocalError if there is none.
    """
    return app_files.hash_of(app_files.bundle_of(app))


class Apps:
    """The apps that a peer's operator allowed. `setting`: as in `Settings.apps`."""

    def __init__(self, setting: str) -> None:
        items = setting.split(",")
        self._any = ANY_APP in items
        if self._any:
            log.warning("this peer runs whatever app the aggregator sends: see --apps")
        self._allowed = frozenset(
            hash_of(BUNDLED) if item == BUNDLED_APP else item for item in items
        )

    def refusal(self, run: Run, bundle: bytes) -> str:
        """Why this peer does not run `bundle` for `run`; empty if it does. It depends on these two alone."""
        if run.primary_task_type != TaskType.SERVER_APP:
            return f"{_ONLY}; the run asks for {_kind(run.primary_task_type)}"
        found = hashlib.sha256(bundle).hexdigest()
        if run.fab_hash != found:
            return f"run {run.run_id} is reported to be of app {run.fab_hash[:64]}, and has app {found}"
        if not self._any and found not in self._allowed:
            return f"this peer does not run app {found}: its operator allows it with SMPCFL_APPS"
        try:
            config = get_fab_config(bundle)
            named = get_metadata_from_config(config)
            others = sorted(config["tool"]["flwr"]["app"]["components"].keys() - COMPONENTS)
        except Exception as error:  # whatever a bundle that is none makes of Flower's reader
            return f"app {found} is no bundle of an app: {type(error).__name__}: {error}"
        if others:
            return f"{_ONLY}; app {found} brings {', '.join(others)}"
        # The folder that the app is loaded from has these names.
        if (run.fab_id, run.fab_version) != named:
            reported = f"{run.fab_id!r} {run.fab_version!r}"
            return f"app {found} is {named[0]!r} {named[1]!r}, and reported to be {reported[:100]}"
        return ""


def _kind(task: str) -> str:
    return "an agent app" if task == TaskType.AGENT_APP else f"a task of type {task[:40]!r}"
