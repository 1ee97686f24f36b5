"""What was checked when it was built stays as it was: only the state of a round can be changed."""

from __future__ import annotations

import pkgutil
from dataclasses import is_dataclass
from importlib import import_module

from smpcfl import protocol

STATE = {"Drawn", "Floor", "Neighbour", "Retries", "Secrets", "_Doubt", "_Found"}


def test_all_but_state_is_frozen() -> None:
    modules = [
        import_module(f"{protocol.__name__}.{m.name}")
        for m in pkgutil.iter_modules(protocol.__path__)
    ]
    kinds = {k for module in modules for k in vars(module).values() if is_dataclass(k)}
    assert len(kinds) > 20
    assert {k.__name__ for k in kinds if not k.__dataclass_params__.frozen} == STATE
