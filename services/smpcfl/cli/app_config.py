"""What a Flower app declares in [tool.flwr.app.config], and what of it is changed for a run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..aggregator.current_run import ROUNDS_KEYS
from ..protocol.errors import LocalError

_SEED = ("seed",)


def declared(app: Path) -> dict[str, Any]:
    """The app's own configuration. LocalError if there is no Flower app in this folder."""
    path = app / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text())["tool"]["flwr"]["app"]
        return dict(table.get("config", {}))
    except KeyError as error:
        raise LocalError(f"{app} is no Flower app: {path} has no [tool.flwr.app]") from error
    except OSError as error:
        raise LocalError(f"{app} is no Flower app: {path}: {error.strerror}") from error
    except ValueError as error:
        raise LocalError(f"{app} is no Flower app: {path}: {error}") from error


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
