"""A peer's node config, in the syntax of `flower-supernode --node-config`."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .files import write_private

Value = bool | int | float | str
INDEX, NUMBER = "partition-id", "num-partitions"
_PAIR = re.compile(r"(\S+?)=('[^']*'|\"[^\"]*\"|\S+)")  # Flower's own


def parse(text: str) -> dict[str, Value]:
    """`key=value` pairs with spaces between them, or the name of a .toml file.

    Values are TOML: 3, 0.1, true, "text". The keys of tables are joined by dots, as Flower does.
    ValueError for anything else; Flower passes over what it cannot read.
    """
    if text.endswith(".toml"):
        try:
            return dict(_flat(tomllib.loads(Path(text).expanduser().read_text())))
        except OSError as error:
            raise ValueError(f"cannot read {text} ({error.strerror})") from error
    if rest := _PAIR.sub("", text).strip():
        raise ValueError(f"{rest!r} is no key=value")
    pairs = _PAIR.findall(text)
    return dict(_flat(tomllib.loads("\n".join(f"{key} = {value}" for key, value in pairs))))


def write(path: Path, config: Mapping[str, Value]) -> Path:
    """As a .toml file, which `flower-supernode` takes; returns `path`. OSError if it cannot be written."""
    lines = [f"{_toml(key)} = {_toml(value)}\n" for key, value in config.items()]
    write_private(path, "".join(lines).encode())
    return path


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Value):
            yield f"{prefix}{key}", value
        else:
            raise ValueError(f"{prefix}{key} is {value!r}: a number, a text, true or false")


def _toml(value: Value) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()  # of a float too: its exponent, inf and nan
