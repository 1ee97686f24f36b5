"""Which room of the package imports which, and a picture of it: `python -m support.rooms`, in tests/."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# From the top floor down. An import goes to a lower floor, never up, and never to another room of its own.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"bench", "tasks"}),
    frozenset({"flower"}),
    frozenset({"flower/client", "flower/server"}),
    frozenset({"flower/shared", "registry", "peer", "aggregator", "simulation"}),
    frozenset({"daemons", "runs"}),
    frozenset({"reports"}),
    frozenset({"net"}),
    frozenset({"base"}),
    frozenset({"protocol"}),
)
ROOMS = frozenset(room for floor in LAYERS for room in floor)


@dataclass(frozen=True)
class Import:
    """`path`, in `room`, imports something of the room `to`."""

    path: str
    room: str
    to: str


def room_of(path: Path) -> str:
    """The deepest room that `path`, relative to the package, is in; empty for the root."""
    folders = [str(parent) for parent in path.parents if str(parent) in ROOMS]
    return folders[0] if folders else ""


def imports(package: Path) -> list[Import]:
    """All imports from one room to another, each pair once a file."""
    found = set[Import]()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = room_of(relative)
        if not room:
            continue
        for target in _targets(path, relative, package):
            to = room_of(target)
            if to and to != room:
                found.add(Import(str(relative), room, to))
    return sorted(found, key=lambda item: (item.path, item.to))


def _targets(path: Path, relative: Path, package: Path) -> Iterable[Path]:
    """Files, relative to the package, that `path` imports from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(relative.parent.parts)
            start = ["smpcfl", *base[: len(base) - node.level + 1]] if node.level else []
            module = start + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] != "smpcfl":
                continue
            target = Path(*name[1:]) if len(name) > 1 else Path()
            if (package / target).is_dir():
                yield target / "__init__.py"
            elif (package / target).with_suffix(".py").is_file():
                yield target.with_suffix(".py")
            else:  # a name in a module, or in a package
                parent = target.parent
                inside = (package / parent).is_dir()
                yield parent / "__init__.py" if inside else parent.with_suffix(".py")


def arrows(found: Iterable[Import]) -> list[tuple[str, str]]:
    return sorted({(item.room, item.to) for item in found})


def picture(pairs: Iterable[tuple[str, str]]) -> str:
    """A Mermaid diagram. Arrows to `base` and `protocol`, which nearly all have, are left out."""
    lines = ["```mermaid", "flowchart TD"]
    for number, floor in enumerate(LAYERS):
        lines.append(f"    subgraph floor{number} [ ]")
        lines += [f"        {_id(room)}[{room}/]" for room in sorted(floor)]
        lines.append("    end")
    lines += [
        f"    {_id(room)} --> {_id(to)}" for room, to in pairs if to not in ("base", "protocol")
    ]
    return "\n".join([*lines, "```", ""])


def _id(room: str) -> str:
    return room.replace("/", "_")


if __name__ == "__main__":
    import smpcfl

    print(picture(arrows(imports(Path(smpcfl.__file__).parent))), end="")
