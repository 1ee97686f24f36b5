"""What we add to Flower's SuperNode, inside its process (`smpcfl.daemon`): it looks at each app before its
first use, and at each reply before it leaves."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from flwr.app import Error
from flwr.common.constant import ErrorCode
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as supernode

from ..protocol.errors import LocalError
from . import outgoing
from .apps import Apps

log = logging.getLogger("smpcfl.supernode")


def install(setting: str) -> None:
    """`setting`: as in `Settings.apps`. LocalError if this Flower is another than we know."""
    _verify_apps(Apps(setting))
    outgoing.install()


def _verify_apps(apps: Apps) -> None:
    receive = supernode._pull_and_store_message
    wanted = {"get_run", "get_fab", "trusted_entities"}
    if not wanted <= inspect.signature(receive).parameters.keys():
        raise LocalError("this version of flwr verifies apps in another way: see pyproject.toml")

    told: list[Run] = []  # what the SuperLink last told of a run

    def verified(fab: Fab, trusted: object) -> bool:
        refusal = apps.refusal(told[-1], fab.content)
        if not refusal:
            return True
        log.error(refusal)
        supernode.FAB_VERIFICATION_ERROR = Error(ErrorCode.INVALID_FAB, refusal)
        return False

    def to_verify(get_fab: Callable[[str, int], Fab]) -> Callable[[str, int], Fab]:
        """Flower asks for a licence, which nobody here gives, before it verifies."""

        def get(fab_hash: str, run_id: int) -> Fab:
            fab = get_fab(fab_hash, run_id)
            return Fab(fab.hash_str, fab.content, {"valid_license": "none is needed"})

        return get

    def pull_and_store(
        *, get_run: Any, get_fab: Any, trusted_entities: Any, **others: Any
    ) -> int | None:
        def get(run_id: int) -> Run:
            told[:] = [get_run(run_id)]
            return told[-1]

        return receive(
            get_run=get, get_fab=to_verify(get_fab), trusted_entities={"smpcfl": ""}, **others
        )

    supernode._verify_fab = verified  # type: ignore[assignment]
    supernode._pull_and_store_message = pull_and_store  # type: ignore[assignment]
