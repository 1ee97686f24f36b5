"""Which Flower apps this peer runs: the aggregator sends the code, the peer's operator says which may run.

Otherwise an aggregator that lies would send an app without `secure_mod`. Runs inside the SuperNode's process
(`smpcfl.daemon`), where Flower verifies an app before its first use.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Error
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import ErrorCode
from flwr.supercore.fab import Fab
from flwr.supernode import start_client_internal as supernode

from ..config import ANY_APP, BUNDLED_APP
from ..protocol.errors import LocalError
from ..tasks import BUNDLED

log = logging.getLogger("smpcfl.apps")


def hash_of(app: Path) -> str:
    """SHA-256, in hex, of the bundle that `flwr run` makes of the app in this folder."""
    return hashlib.sha256(build_fab_from_disk(app)).hexdigest()


def install(setting: str) -> None:
    """`setting`: as in `Settings.apps`. LocalError if this Flower does not verify apps as we know it."""
    items = setting.split(",")
    if ANY_APP in items:
        log.warning("this peer runs whatever app the aggregator sends: see --apps")
        return
    allowed = frozenset(hash_of(BUNDLED) if item == BUNDLED_APP else item for item in items)
    receive = supernode._pull_and_store_message
    wanted = {"get_fab", "trusted_entities"}
    if not wanted <= inspect.signature(receive).parameters.keys():
        raise LocalError("this version of flwr verifies apps in another way: see pyproject.toml")

    def verified(fab: Fab, trusted: object) -> bool:
        found = hashlib.sha256(fab.content).hexdigest()
        if found in allowed:
            return True
        text = f"this peer does not run app {found}: its operator allows it with SMPCFL_APPS"
        log.error(text)
        supernode.FAB_VERIFICATION_ERROR = Error(ErrorCode.INVALID_FAB, text)
        return False

    def to_verify(get_fab: Callable[[str, int], Fab]) -> Callable[[str, int], Fab]:
        """Flower asks for a licence, which nobody here gives, before it verifies."""

        def get(fab_hash: str, run_id: int) -> Fab:
            fab = get_fab(fab_hash, run_id)
            return Fab(fab.hash_str, fab.content, {"valid_license": "none is needed"})

        return get

    def pull_and_store(*, get_fab: Any, trusted_entities: Any, **others: Any) -> int | None:
        return receive(get_fab=to_verify(get_fab), trusted_entities={"smpcfl": ""}, **others)

    supernode._verify_fab = verified  # type: ignore[assignment]
    supernode._pull_and_store_message = pull_and_store  # type: ignore[assignment]
