"""What a Flower app declares in [tool.flwr.app.config], and what of it is changed for a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..daemons import app_files
from ..protocol.errors import LocalError
from ..runs.current_run import ROUNDS_KEYS

_SEED = ("seed",)


def declared(app: Path) -> dict[str, Any]:
    """The app's own configuration. LocalError if there is no Flower app in this folder."""
    return dict(app_files.table_of(app).get("config", {}))


def app_config(app: Path, number: int | None, seed: int | None) -> dict[str, int]:
    """What to change in the app's own configuration; LocalError if it has no key for it."""
    known = declared(app)
    changes = {}
    for option, value, keys in (("--rounds", number, ROUNDS_KEYS), ("--seed", seed, _SEED)):
        if value is None:
            continue
        key = next((key for key in keys if key in known), None)
        if key is None:
            raise LocalError(
                f"{option} {value}: the app does not declare {' or '.join(keys)} in"
                f" [tool.flwr.app.config] of {app / 'pyproject.toml'}; declare it there, or leave"
                f" {option} out"
            )
        changes[key] = value
    return changes


def rounds_of(config: Mapping[str, Any]) -> int | None:
    """As an app's configuration has it; None if it does not say."""
    return _number(config, ROUNDS_KEYS)


def seed_of(config: Mapping[str, Any]) -> int | None:
    """As an app's configuration has it; None if it does not say."""
    return _number(config, _SEED)


def _number(config: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    found = (config[key] for key in keys if type(config.get(key)) is int)
    return next(found, None)
