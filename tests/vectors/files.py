"""The files of known answers: where they are, how they are written, and how a test reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "v2"
LOCAL = "local_error"
"""The reason of what never leaves its own party: misuse, not a refusal of another's message."""
Json = dict[str, Any]

used: set[tuple[str, str]] = set()


def load(topic: str) -> Json:
    content = json.loads((FOLDER / f"{topic}.json").read_text(encoding="utf-8"))
    assert content["version"] == 2
    return content


def topics() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def good(topic: str, op: str) -> list[Any]:
    """Parameters (input, output) of the vectors of one operation."""
    return _of(topic, op, "vectors", "output")


def bad(topic: str, op: str) -> list[Any]:
    """Parameters (input, reason) of what one operation must refuse."""
    return _of(topic, op, "bad", "reason")


def _of(topic: str, op: str, part: str, last: str) -> list[Any]:
    used.add((topic, op))
    found = [item for item in load(topic)[part] if item["op"] == op]
    return [pytest.param(item["input"], item[last], id=item["name"]) for item in found]


def named(topic: str, name: str) -> Json:
    """The one vector of this name."""
    (found,) = (item for item in load(topic)["vectors"] if item["name"] == name)
    return found


# -- writing ----------------------------------------------------------------------------------------


def number(value: int) -> int | str:
    """A JSON number where every reader keeps it exactly, decimal digits in a string otherwise."""
    return value if abs(value) <= 2**53 else str(value)


def numbers(values: Iterable[int]) -> list[int | str]:
    return [number(int(value)) for value in values]


def floats(values: Iterable[float]) -> list[str]:
    return [float(value).hex() for value in values]


def hexes(values: Iterable[bytes]) -> list[str]:
    return [value.hex() for value in values]


def case(op: str, name: str, given: Json, output: Json) -> Json:
    return {"op": op, "name": name, "input": given, "output": output}


def refused(op: str, name: str, given: Json, reason: str) -> Json:
    return {"op": op, "name": name, "input": given, "reason": reason}


def topic(what: str, section: str, vectors: list[Json], bad: Iterable[Json] = ()) -> Json:
    protocol = f"docs/protocol.md, section {section}"
    return {
        "version": 2,
        "what": what,
        "protocol": protocol,
        "vectors": vectors,
        "bad": list(bad),
    }


def text(value: Any, indent: str = "") -> str:
    """JSON to be read: what fits on a line stands on one."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(flat) + len(indent) <= 110:
        return flat
    inner = indent + "  "
    if isinstance(value, list):
        parts = [text(item, inner) for item in value]
    else:
        parts = [f"{json.dumps(key)}: {text(item, inner)}" for key, item in value.items()]
    left, right = "[]" if isinstance(value, list) else "{}"
    return f"{left}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{right}"
