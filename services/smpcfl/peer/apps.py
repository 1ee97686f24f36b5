"""Which Flower apps this peer runs: the aggregator sends the code, the peer's operator says which may run.

Otherwise an aggregator that lies would send an app without `secure_mod`.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import get_fab_metadata
from flwr.supercore.run import Run

from ..config import ANY_APP, BUNDLED_APP
from ..tasks import BUNDLED

log = logging.getLogger("smpcfl.apps")


def hash_of(app: Path) -> str:
    """SHA-256, in hex, of the bundle that `flwr run` makes of the app in this folder."""
    return hashlib.sha256(build_fab_from_disk(app)).hexdigest()


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
        """Why this peer does not run `bundle` for `run`; empty if it does."""
        found = hashlib.sha256(bundle).hexdigest()
        # Name and version are the SuperLink's word, and name the folder that the app is loaded from.
        named = (run.fab_id, run.fab_version)
        if not (self._any or (found in self._allowed and named == get_fab_metadata(bundle))):
            return f"this peer does not run app {found}: its operator allows it with SMPCFL_APPS"
        return ""
