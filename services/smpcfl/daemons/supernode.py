"""What we add to Flower's SuperNode, in its process (`smpcfl.daemons.entry`): it looks at each app before its
first use, and at each reply before it leaves."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import sys
from pathlib import Path
from typing import Any

from flwr.app import Error
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.nodestate import NodeState
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from ..base.log_events import LogEvent, about
from ..protocol.errors import LocalError
from . import run_apps, supernode_replies
from .allowed_apps import Apps

log = logging.getLogger("smpcfl.supernode")


def install(setting: str, folder: Path) -> None:
    """`setting`: as in `Settings.apps`. `folder`: of `run_apps`. LocalError if this Flower is another than
    we know, or the folder cannot be written."""
    run_apps.prepare(folder)
    _run_apps_in_our_process(folder.parent / "bin")
    _verify_apps(Apps(setting), folder)
    _refuse_other_tasks()
    supernode_replies.install()


def _run_apps_in_our_process(folder: Path) -> None:
    """Flower starts `flwr-clientapp` by name: here it finds ours, in `folder`. It can name a missing mod."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / TaskType.CLIENT_APP
        # -P: the working directory of an app is nothing to import from.
        module = "smpcfl.flower.client.app_process"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {module} "$@"\n')
        script.chmod(0o700)
    except OSError as error:
        raise LocalError(f"cannot write to {folder}: {error.strerror}") from error
    os.environ["PATH"] = os.pathsep.join([str(folder.resolve()), os.environ.get("PATH", "")])


def _verify_apps(apps: Apps, folder: Path) -> None:
    receive = supernode._pull_and_store_message
    wanted = {"state", "get_run", "get_fab", "trusted_entities"}
    if not wanted <= inspect.signature(receive).parameters.keys():
        raise LocalError("this version of flwr verifies apps in another way: see pyproject.toml")

    def pull_and_store(
        *, state: Any, get_run: Any, get_fab: Any, trusted_entities: Any, **others: Any
    ) -> int | None:
        reported: list[
            tuple[int, Run]
        ] = []  # the run asked for, and what the SuperLink reports of it

        def run_of(run_id: int) -> Run:
            reported[:] = [(run_id, get_run(run_id))]
            return reported[0][1]

        def fab_of(fab_hash: str, run_id: int) -> Fab:
            """Flower asks for a licence, which nobody here gives, before it verifies."""
            fab = get_fab(fab_hash, run_id)
            return Fab(fab.hash_str, fab.content, {"valid_license": "none is needed"})

        def verified(fab: Fab, trusted: object) -> bool:
            run_id, run = reported[0]
            refusal = (
                _misnamed(run_id, run, state)
                or apps.refusal(run, fab.content)
                or _not_noted(folder, run_id, fab.content)
            )
            if refusal:
                log.error(refusal, extra=about(LogEvent.REFUSED))
                supernode.FAB_VERIFICATION_ERROR = Error(ErrorCode.INVALID_FAB, refusal)
            return not refusal

        supernode._verify_fab = verified  # type: ignore[assignment]
        return receive(
            state=state, get_run=run_of, get_fab=fab_of, trusted_entities={"smpcfl": ""}, **others
        )

    supernode._pull_and_store_message = pull_and_store  # type: ignore[assignment]


def _misnamed(run_id: int, run: Run, state: NodeState) -> str:
    """Why what is reported of `run_id` would reach another run; empty if it would not.

    Flower keeps it under the id that is reported, and one context for all runs of a series: a run could be
    given another run's app, run config or id.
    """
    if run.run_id != run_id:
        return f"run {run_id} is reported to be run {run.run_id}"
    if state.get_run_series_context(run.series_id) is not None:
        return f"run {run_id} goes on with the series of another run: start it as one of its own"
    return ""


def _not_noted(folder: Path, run_id: int, bundle: bytes) -> str:
    """Why the agent does not learn which app the run has; empty if it does."""
    try:
        run_apps.note(folder, run_id, hashlib.sha256(bundle).digest())
    except OSError as error:
        log.error("cannot write to %s: %s", folder, error, extra=about(LogEvent.STORAGE_FAILED))
        return f"this peer could not note the app of run {run_id}: {error.strerror}, see its log"
    return ""


def _refuse_other_tasks() -> None:
    """A ClientApp may ask its SuperNode for tasks of other kinds: models, connectors, agents."""
    create = InMemoryNodeState.create_task
    if "task_type" not in inspect.signature(create).parameters:
        raise LocalError("this version of flwr creates tasks in another way: see pyproject.toml")

    def create_task(
        self: InMemoryNodeState, task_type: str, *rest: Any, **others: Any
    ) -> int | None:
        if task_type != TaskType.CLIENT_APP:
            log.error(
                "this peer runs ClientApps only: no task of type %.40r",
                task_type,
                extra=about(LogEvent.REFUSED),
            )
            return None
        return create(self, task_type, *rest, **others)

    InMemoryNodeState.create_task = create_task  # type: ignore[assignment, method-assign]
